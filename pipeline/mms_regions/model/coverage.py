"""What share of a segment's samples has a label, why the others have none, and where in the sheet those lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.messages import percent
from mms_regions.core.types import NO_LABEL, Bits, Flags, Floats
from mms_regions.physics.samples import FEATURES, QUALITY_BITS

ENOUGH = 0.5  # of the samples: with labels for fewer, a warning is given
FIELD_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, np.inf)  # of |Bx|/B0: from the middle of the sheet to the lobe

# Why a sample has no label; the first that holds is counted, so that shares add up.
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "no_electron_sample": "no electron sample",
        "electrons_missing": "electrons missing",
        "ion_background": "ion background exceeds density",
        "ions_missing": "ions missing",
        "magnetic_field_missing": "no B",
        "electric_field_missing": "no E",
        "not_finite": "a feature not finite",
        "after_gap": "after a gap in the same window",
    }
)


@dataclass(frozen=True)
class Coverage:
    """Of a segment, or of a part of it: samples, those with a label, and by reason those without (`REASONS`).

    unfamiliar: of those with a label, how many are unlike all that the model was trained on; None: it cannot say.
    Raises ValueError where the numbers do not add up.
    """

    key: str
    samples: int
    labelled: int
    without: tuple[tuple[str, int], ...] = ()
    unfamiliar: int | None = None

    def __post_init__(self) -> None:
        if self.labelled + sum(n for _, n in self.without) != self.samples or not 0 <= self.labelled <= self.samples:
            raise ValueError(f"{self} does not add up")
        if not 0 <= (self.unfamiliar or 0) <= self.labelled:
            raise ValueError(f"{self} has more unfamiliar samples than samples with a label")

    @property
    def share(self) -> float:
        """Of the samples that have a label; 1 where there are no samples."""
        return self.labelled / self.samples if self.samples else 1.0

    @property
    def share_unfamiliar(self) -> float | None:
        """Of the samples with a label; None where there are none, or the model cannot say."""
        return self.unfamiliar / self.labelled if self.unfamiliar is not None and self.labelled else None

    @property
    def shares_without(self) -> dict[str, float]:
        """By reason, of all samples, the most frequent first."""
        return {name: n / self.samples for name, n in sorted(self.without, key=lambda one: -one[1])}

    def __str__(self) -> str:
        """Such as `87.3% labelled; electrons missing 9.1%, no E 3.6%`."""
        reasons = ", ".join(f"{REASONS[name]} {percent(share)}" for name, share in self.shares_without.items())
        strange = self.share_unfamiliar
        unlike = "" if strange is None else f", {percent(strange)} of these unfamiliar"
        return f"{percent(self.share)} labelled{unlike}" + (f"; {reasons}" if reasons else "")

    def to_json(self) -> dict[str, object]:
        """For scripts: shares of all samples."""
        found = {"samples": self.samples, "labelled": self.share, "without_label": self.shares_without}
        return found if self.unfamiliar is None else {**found, "unfamiliar": self.share_unfamiliar}


@dataclass(frozen=True)
class Lost:
    """How many samples have |Bx|/B0 from `low` to below `high`, and how many of these have no label."""

    low: float
    high: float
    samples: int
    without: int

    @property
    def share(self) -> float | None:
        """Of its samples that have no label; None where there are none."""
        return self.without / self.samples if self.samples else None


def coverage_of(
    key: str, label: NDArray[np.int8], quality: Bits, features: Floats, unfamiliar: Flags | None = None
) -> Coverage:
    """The coverage of n samples: labels (n,), quality (n,) bits `QUALITY_BITS`, features (n, 14), unfamiliar (n,)."""
    counts: list[tuple[str, int]] = []
    left: Flags = label == NO_LABEL
    for name, where in _reasons(quality, features).items():
        here = left & where
        if here.any():
            counts.append((name, int(here.sum())))
        left = np.logical_and(left, ~where)
    strange = None if unfamiliar is None else int((unfamiliar & (label != NO_LABEL)).sum())
    return Coverage(key, len(label), int((label != NO_LABEL).sum()), tuple(counts), strange)


def _reasons(quality: Bits, features: Floats) -> dict[str, Flags]:
    def has(name: str) -> Flags:
        flags: Flags = (quality.astype(np.uint32) & QUALITY_BITS[name]) != 0
        return flags

    bits = {name: has(name) for name in REASONS if name in QUALITY_BITS}
    bits["ion_background"] = bits["ions_missing"] & has("ion_background_exceeds_density")
    bits["not_finite"] = ~np.logical_and.reduce(np.isfinite(features), axis=1)
    bits["after_gap"] = np.ones(len(quality), bool)
    return {name: bits[name] for name in REASONS}


def together(parts: Iterable[Coverage], key: str = "") -> Coverage:
    """The coverage of several segments, or of one in parts."""
    samples = labelled = 0
    without: dict[str, int] = {}
    strange = []
    for part in parts:
        strange += [] if part.unfamiliar is None else [part.unfamiliar]
        samples, labelled = samples + part.samples, labelled + part.labelled
        for name, n in part.without:
            without[name] = without.get(name, 0) + n
    return Coverage(key, samples, labelled, tuple(without.items()), sum(strange) if strange else None)


def lost_by_field(label: NDArray[np.int8], features: Floats) -> tuple[Lost, ...]:
    """Samples without a label by |Bx|/B0, for they are not a random part; samples without Bx are left out."""
    field, without = np.abs(features[:, FEATURES.index("Bx")]), label == NO_LABEL
    found = []
    for low, high in pairwise(FIELD_EDGES):
        here = (field >= low) & (field < high)
        found.append(Lost(low, high, int(here.sum()), int((here & without).sum())))
    return tuple(found)
