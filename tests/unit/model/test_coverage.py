"""How much of a segment has a label, why the rest has none, and where in the sheet: of small segments made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.model.coverage import REASONS, Coverage, coverage_of, lost_by_field, together
from mms_regions.physics.samples import QUALITY_BITS

ELECTRONS, IONS, NO_E = (QUALITY_BITS[f"{name}_missing"] for name in ("electrons", "ions", "electric_field"))
BACKGROUND, ABSENT = QUALITY_BITS["ion_background_exceeds_density"], QUALITY_BITS["no_electron_sample"]


def found(label: list[int], quality: list[int], bx: list[float] | None = None) -> Coverage:
    features = np.zeros((len(label), 14), np.float32)
    features[:, 0] = 0 if bx is None else bx
    return coverage_of("A/mms4", np.array(label, np.int8), np.array(quality, np.uint32), features)


def test_each_sample_without_a_label_has_one_reason_the_first_that_holds() -> None:
    one = found(
        [0, -1, -1, -1, -1, -1, 5, -1],
        [ELECTRONS, ABSENT | ELECTRONS, ELECTRONS | NO_E, IONS | BACKGROUND, IONS, NO_E, BACKGROUND, BACKGROUND],
    )
    assert (one.samples, one.labelled) == (8, 2)
    reasons = dict.fromkeys(
        ["no_electron_sample", "electrons_missing", "ion_background", "ions_missing", "electric_field_missing"], 1
    )
    assert dict(one.without) == reasons | {"after_gap": 1}


def test_a_feature_that_is_not_finite_without_a_flag_says_so() -> None:
    assert dict(found([-1, -1], [0, 0], [np.nan, 0]).without) == {"not_finite": 1, "after_gap": 1}


def test_it_is_said_in_one_line_with_the_most_frequent_reason_first() -> None:
    one = Coverage("A/mms4", 1000, 870, (("electric_field_missing", 40), ("electrons_missing", 90)))
    assert str(one) == "87.0% labelled; electrons missing 9.0%, no E 4.0%"
    assert str(Coverage("", 10, 10)) == "100% labelled"
    assert one.to_json() == {
        "samples": 1000,
        "labelled": 0.87,
        "without_label": {"electrons_missing": 0.09, "electric_field_missing": 0.04},
    }


def test_numbers_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="does not add up"):
        Coverage("", 10, 9, (("after_gap", 2),))


BITS = st.sampled_from([0, *(QUALITY_BITS[name] for name in REASONS if name in QUALITY_BITS), BACKGROUND])
SAMPLES = st.lists(st.tuples(st.integers(-1, 5), BITS, st.sampled_from([0.1, 0.5, 3.0, np.nan])), min_size=1)


@given(SAMPLES, st.integers(0, 100))
def test_parts_add_up_to_the_whole_and_shares_to_one(samples: list[tuple[int, int, float]], cut: int) -> None:
    label, quality, bx = (list(column) for column in zip(*samples, strict=True))
    whole = found(label, quality, bx)
    parts = [found(label[some], quality[some], bx[some]) for some in (slice(cut), slice(cut, None))]
    put = together(parts, whole.key)
    assert (put.samples, put.labelled, dict(put.without)) == (whole.samples, whole.labelled, dict(whole.without))
    assert whole.share + sum(whole.shares_without.values()) == pytest.approx(1)


def test_unfamiliar_samples_are_counted_among_those_with_a_label_where_the_model_can_say() -> None:
    label, quality = np.array([0, 1, -1, 2], np.int8), np.zeros(4, np.uint32)
    strange = coverage_of("a", label, quality, np.ones((4, 14), np.float32), np.array([True, False, True, False]))
    unknown = coverage_of("b", label, quality, np.ones((4, 14), np.float32))
    assert (strange.unfamiliar, strange.share_unfamiliar) == (1, pytest.approx(1 / 3))
    assert (unknown.unfamiliar, unknown.share_unfamiliar) == (None, None)
    assert together([strange, strange]).unfamiliar == 2 and together([unknown]).unfamiliar is None
    assert "33.3% of these unfamiliar" in str(strange) and "unfamiliar" not in str(unknown)
    assert strange.to_json()["unfamiliar"] == pytest.approx(1 / 3) and "unfamiliar" not in unknown.to_json()
    with pytest.raises(ValueError, match="more unfamiliar samples than"):
        Coverage("", 10, 4, (("after_gap", 6),), unfamiliar=5)


def test_what_is_lost_is_given_by_the_distance_from_the_middle_of_the_sheet() -> None:
    features = np.zeros((6, 14), np.float32)
    features[:, 0] = [0.1, -0.1, 0.3, -1.0, 2.0, np.nan]
    lost = lost_by_field(np.array([-1, 0, 1, -1, 0, -1], np.int8), features)
    assert [(one.low, one.samples, one.without) for one in lost if one.samples] == [(0, 2, 1), (0.2, 1, 0), (1, 2, 1)]
    assert [one.share for one in lost] == [0.5, 0.0, None, None, None, 0.5]
