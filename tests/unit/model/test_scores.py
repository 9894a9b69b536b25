"""Agreement and calibration count what they say they count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mms_regions.model.scores import agreement, calibration

LABELS = hnp.arrays(np.int8, st.integers(1, 200), elements=st.integers(-1, 5))


def test_a_hand_counted_example() -> None:
    found = agreement(np.array([0, 0, 1, 1, -1, 3]), np.array([0, 0, 0, 1, 1, -1]), 6)
    assert found.samples == 4  # the last two lack a label or a truth
    assert found.overall == pytest.approx(3 / 4)
    assert found.regions == (pytest.approx(2 / 3), 1.0, None, None, None, None)
    assert found.balanced == pytest.approx((2 / 3 + 1) / 2)


@given(LABELS)
def test_what_is_right_everywhere_is_right_in_every_region(truth: np.ndarray) -> None:
    if (truth == -1).all():
        return
    found = agreement(truth, truth, 6)
    assert found.overall == found.balanced == 1.0
    assert [share is not None for share in found.regions] == [bool((truth == region).any()) for region in range(6)]


@given(LABELS, st.integers(0, 2**32 - 1))
def test_the_order_of_samples_and_their_shape_do_not_matter(truth: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, 6, len(truth))
    if not ((label >= 0) & (truth >= 0)).any():
        return
    order = rng.permutation(len(truth))
    assert agreement(label[order], truth[order], 6) == agreement(label, truth, 6)
    assert agreement(label[None], truth[None], 6) == agreement(label, truth, 6)


@pytest.mark.parametrize(
    ("label", "truth", "words"), [([0, 1], [0], "shape"), ([-1, 2], [3, -1], "no sample")], ids=["shape", "nothing"]
)
def test_what_cannot_be_compared_is_refused(label: list[int], truth: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        agreement(np.array(label), np.array(truth), 6)


def test_a_calibrated_answer_has_no_error_and_a_boastful_one_has() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1.0, 100_000)
    honest = calibration(confidence, rng.uniform(size=confidence.size) < confidence)
    boastful = calibration(confidence, rng.uniform(size=confidence.size) < confidence - 0.2)
    assert honest["expected_error"] < 0.01
    assert boastful["expected_error"] == pytest.approx(0.2, abs=0.01)
    assert sum(row["samples"] for row in honest["bins"]) == confidence.size


def test_certainty_belongs_to_the_last_bin() -> None:
    assert calibration(np.array([1.0]), np.array([True])) == {
        "expected_error": 0.0,
        "bins": [{"samples": 1, "confidence": 1.0, "right": 1.0}],
    }
