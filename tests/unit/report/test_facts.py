"""The figures that a report gives of a segment, of small ones made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from mms_regions.core.events import Event, Segment
from mms_regions.physics.samples import QUALITY_BITS
from mms_regions.report.facts import Measured, SegmentFacts, measure, troubles

REGIONS = "inflow_north outflow_earthward inflow_south separatrix_north outflow_tailward separatrix_south"


def segment(label: Sequence[int], confidence: Sequence[float], quality: Sequence[int]) -> xr.Dataset:
    """As `open_segment` gives it: Bx is 5 nT, ions are at rest, samples without a label have no probabilities."""
    n = len(label)
    probability = np.full((n, 6), np.nan, np.float32)
    for row, (region, largest) in enumerate(zip(label, confidence, strict=True)):
        if region >= 0:
            probability[row] = (1 - largest) / 5
            probability[row, region] = largest
    data = xr.Dataset(
        {
            "label": ("time", np.array(label, np.int8), {"flag_meanings": REGIONS}),
            "probability": (("time", "region"), probability),
            "quality": ("time", np.array(quality, np.uint16)),
            "vi_gsm": (("time", "xyz"), np.zeros((n, 3))),
            "b_gsm": (("time", "xyz"), np.tile([5.0, 0.0, 0.0], (n, 1))),
        },
        coords={"time": np.arange(n).astype("datetime64[ns]")},
    )
    return data.assign_attrs(b0=20.0, n0=0.2)


def test_shares_are_of_the_samples_with_a_label_and_add_up_to_one() -> None:
    bridged, ions = QUALITY_BITS["bridged"], QUALITY_BITS["ions_missing"]
    found = measure(
        segment([0, 0, 1, 5, -1, -1, 3, -1], [0.9, 0.8, 0.6, 0.75, 0, 0, 0.5, 0], [0, 0, 0, 0, bridged, ions, 0, ions])
    )
    assert found.samples == 8
    assert found.regions == pytest.approx((2 / 5, 1 / 5, 0, 1 / 5, 0, 1 / 5))
    assert sum(found.regions) == pytest.approx(1)
    assert found.labelled == 5 / 8
    assert found.confidence == pytest.approx((0.9 + 0.8 + 0.6 + 0.75 + 0.5) / 5)
    assert found.low_confidence == pytest.approx(2 / 5)
    assert (found.cautions["slow_outflow"], found.cautions["wrong_side"]) == (1 / 5, 1 / 5)
    assert found.quality == {"ions_missing": 2 / 8, "bridged": 1 / 8}, "of all samples, those that are there at all"
    assert (found.mean_stability, found.share_changed) == (None, None)


def test_marginal_probabilities_are_the_confidence_and_scales_are_given_with_their_errors() -> None:
    data = segment([0, 0, -1, 1], [0.9, 0.8, 0, 0.7], [0, 0, 0, 0])
    marginal = segment([0, 1, -1, 1], [0.6, 0.5, 0, 0.7], [0, 0, 0, 0])
    drawn = {f"{name}_marginal": marginal[name] for name in ("label", "probability")}
    about = {"b0_sigma": 0.6, "n0_sigma": np.nan, "scale_source": "estimated", "draws": 16}
    found = measure(data.assign(drawn).assign_attrs(about))
    assert found.confidence == pytest.approx((0.6 + 0.5 + 0.7) / 3)
    assert found.low_confidence == pytest.approx(2 / 3)
    assert found.regions[:2] == pytest.approx((2 / 3, 1 / 3)), "labels are those of the scales as they are"
    assert found.scales == (
        "B0 = 20 +- 0.6 nT, n0 = 0.2 cm^-3, estimated from the data; probabilities are means over 16 draws of both, by "
        "which 33.3% of the labels would be other ones"
    )
    assert measure(data).scales == ""


def test_a_segment_without_any_label_has_no_confidence_and_shares_of_zero() -> None:
    missing = QUALITY_BITS["magnetic_field_missing"]
    found = measure(segment([-1, -1], [0, 0], [missing, missing]))
    assert (found.labelled, found.confidence, found.regions) == (0, None, (0,) * 6)
    assert found.low_confidence == 0 and not any(found.cautions.values())
    assert found.quality == {"magnetic_field_missing": 1}


@pytest.mark.parametrize(("given", "told"), [(0.25, 0.25), (float("nan"), None), (0.0, 0.0)])
def test_stability_that_is_not_known_is_none(given: float, told: float | None) -> None:
    data = segment([0], [0.9], [0]).assign_attrs(mean_stability=given, share_changed=given)
    found = measure(data)
    assert (found.mean_stability, found.share_changed) == (told, told)


def test_what_is_no_share_is_refused() -> None:
    good = {"samples": 1, "regions": (1.0,), "labelled": 1.0, "confidence": 0.9}
    shares = {"low_confidence": 0.0, "cautions": {"wrong_side": 0.0}}
    Measured(**good, **shares, quality={})
    for bad in ({"cautions": {"wrong_side": 1.5}}, {"quality": {"bridged": -0.1}}, {"labelled": float("nan")}):
        with pytest.raises(ValueError, match="shares are between 0 and 1"):
            Measured(**{**good, **shares, "quality": {}, **bad})


def of_state(key: str, state: str, reason: str = "", cause: str = "") -> SegmentFacts:
    event, _, probe = key.partition("/mms")
    start, end = np.datetime64("2017-07-11T10:34:00", "ns"), np.datetime64("2017-07-11T10:34:06", "ns")
    whole = Event(name=event, t_start=start, t_end=end, B0=12, n0=0.2, probes=(1, 2, 3, 4))
    return SegmentFacts(Segment(whole, int(probe)), state, reason, cause)


def test_what_is_wrong_is_grouped_by_its_cause_the_largest_group_first() -> None:
    found = troubles(
        [
            of_state("A/mms1", "failed", "a.cdf: truncated", "files"),
            of_state("A/mms2", "no_data", "no file of fgm for mms2", "no_files"),
            of_state("A/mms3", "no_data", "no file of fgm for mms3", "no_files"),
            of_state("B/mms2", "no_data", "no file of fgm for mms2", "no_files"),
            of_state("B/mms3", "no_data", "no sample has all features", "nothing_measured"),
            of_state("C/mms1", "missing"),
            of_state("C/mms2", "missing"),
        ]
    )
    assert [(one.state, one.cause, one.segments) for one in found] == [
        ("no_data", "no file of a product", ["A/mms2", "B/mms2", "A/mms3"]),
        ("missing", "", ["C/mms1", "C/mms2"]),
        ("failed", "files cannot be fetched or read", ["A/mms1"]),
        ("no_data", "nothing measured in the interval", ["B/mms3"]),
    ]
    assert found[0].reasons == {"no file of fgm for mms2": ["A/mms2", "B/mms2"], "no file of fgm for mms3": ["A/mms3"]}
    assert list(found[1].reasons) == ["It has not been made yet."]
