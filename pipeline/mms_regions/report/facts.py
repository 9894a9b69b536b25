"""What a report says about a segment: its state, shares of regions, confidence, and cautions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mms_regions.core.events import Segment
from mms_regions.core.messages import counted
from mms_regions.core.outcomes import Cause, by_cause
from mms_regions.core.types import NO_LABEL
from mms_regions.model.cautions import SegmentData, cautions, low_confidence_of, probability_name
from mms_regions.model.coverage import Coverage, Lost, coverage_of, lost_by_field
from mms_regions.physics.samples import FEATURES, QUALITY_BITS

NOT_MADE = "It has not been made yet."


@dataclass(frozen=True)
class Measured:
    """Figures of a complete segment. Shares are of samples: between 0 and 1.

    regions: of each region, among the samples with a label; all 0 where there are none. labelled: of those with one
    among all. confidence: mean of the largest probability (marginal, where there is one), None without labels.
    low_confidence, and cautions by name (`model.cautions`), all of them: among the samples with a label. quality: by
    flag, among all samples, those that are set at all. mean_stability, share_changed: None where they were not asked
    for, or are not known. coverage, lost: why samples have no label, and where in the sheet. doubts: what does not fit
    B0 and n0, empty where all fits. scales: B0 and n0 with their errors in a sentence, empty where these are not known.
    """

    samples: int
    regions: tuple[float, ...]
    labelled: float
    confidence: float | None
    low_confidence: float
    cautions: Mapping[str, float]
    quality: Mapping[str, float]
    mean_stability: float | None = None
    share_changed: float | None = None
    coverage: Coverage | None = None
    lost: tuple[Lost, ...] = ()
    doubts: str = ""
    scales: str = ""

    def __post_init__(self) -> None:
        shares = [*self.regions, self.labelled, self.low_confidence]
        shares += [*self.cautions.values(), *self.quality.values()]
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(f"shares are between 0 and 1; got {shares}")


@dataclass(frozen=True)
class SegmentFacts:
    """A segment of a store and its state: measured is None unless it is complete and could be read.

    cause: the code of `core.outcomes.Cause` of one that has failed or has no data.
    """

    segment: Segment
    state: str
    reason: str = ""
    cause: str = ""
    measured: Measured | None = None
    inputs: Sequence[Mapping[str, object]] = field(default=())

    @property
    def key(self) -> str:
        return self.segment.key


@dataclass(frozen=True)
class Trouble:
    """Segments of one state and cause that are not complete or could not be drawn: their keys, by reason.

    cause: in a few words; empty where none is recorded.
    """

    state: str
    cause: str
    reasons: Mapping[str, Sequence[str]]

    @property
    def segments(self) -> list[str]:
        """All of the keys."""
        return [key for keys in self.reasons.values() for key in keys]


def troubles(facts: Iterable[SegmentFacts]) -> list[Trouble]:
    """What is wrong with segments, in groups, the largest first: reasons of one cause differ in names of files."""
    found: dict[tuple[str, Cause], dict[str, list[str]]] = {}
    for one in facts:
        if one.measured is None or one.reason:
            cause = next(iter(by_cause({one.key: one.cause})), Cause.NONE)
            found.setdefault((one.state, cause), {}).setdefault(one.reason or NOT_MADE, []).append(one.key)
    groups = [Trouble(state, cause.text, reasons) for (state, cause), reasons in found.items()]
    return sorted(groups, key=lambda group: -len(group.segments))


def measure(data: SegmentData) -> Measured:
    """The figures of a segment as `open_segment` gives it."""
    label, confidence = data["label"].values, data[probability_name(data)].values.max(axis=1)
    known = label != NO_LABEL
    n = max(int(known.sum()), 1)
    found, quality = cautions(data), data["quality"].values
    features = data["features"].values if "features" in data else np.full((len(label), len(FEATURES)), np.nan)
    flags = {name: float(((quality.astype(np.uint32) & bit) != 0).mean()) for name, bit in QUALITY_BITS.items()}
    return Measured(
        samples=len(label),
        regions=tuple((np.bincount(label[known], minlength=data.sizes["region"]) / n).tolist()),
        labelled=float(known.mean()),
        confidence=float(confidence[known].mean()) if known.any() else None,
        low_confidence=float((confidence[known] < low_confidence_of(data)).sum() / n),
        cautions=found.shares,
        quality={name: share for name, share in flags.items() if share},
        mean_stability=_finite(data.attrs.get("mean_stability")),
        share_changed=_finite(data.attrs.get("share_changed")),
        coverage=coverage_of("", label, quality, features, found["unfamiliar"] if "unfamiliar" in data else None),
        lost=lost_by_field(label, features),
        doubts=data.attrs.get("scale_caution", ""),
        scales=_scales(data),
    )


def _scales(data: SegmentData) -> str:
    """B0 and n0 with errors, and what these mean for probabilities."""
    about = data.attrs
    if "probability_marginal" not in data:
        return ""
    values = [_with_error(about[name], about.get(f"{name}_sigma")) for name in ("b0", "n0")]
    how = "estimated from the data" if about.get("scale_source") == "estimated" else "from the list"
    label = data["label"].values
    changed = float((data["label_marginal"].values != label).sum() / max((label != NO_LABEL).sum(), 1))
    return (
        f"B0 = {values[0]} nT, n0 = {values[1]} cm^-3, {how}; probabilities are means over "
        f"{counted(about['draws'], 'draw')} of both, by which {changed:.1%} of the labels would be other ones"
    )


def _with_error(value: float, sigma: float | None) -> str:
    known = _finite(sigma)
    return f"{value:.3g}" if known is None else f"{value:.3g} +- {known:.2g}"


def lost_together(measured: Iterable[Measured]) -> tuple[Lost, ...]:
    """Samples without a label by |Bx|/B0, of several segments."""
    by_field = zip(*(one.lost for one in measured), strict=True)
    return tuple(
        Lost(some[0].low, some[0].high, sum(one.samples for one in some), sum(one.without for one in some))
        for some in by_field
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else value
