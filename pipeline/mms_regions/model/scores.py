"""How well labels agree with a truth, and whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import NO_LABEL, Floats

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Agreement:
    """Shares, from 0 to 1, of the samples that have both a label and a truth.

    balanced: the mean over the regions that occur in the truth. regions: of each region, None where it does not occur.
    """

    samples: int
    overall: float
    balanced: float
    regions: tuple[float | None, ...]

    def to_dict(self) -> dict[str, object]:
        """As written in a model card: four digits."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def agreement(label: Labels, truth: Labels, regions: int) -> Agreement:
    """Compare labels with the truth; both have any one shape, -1 for none. regions: how many there are.

    Raises ValueError where shapes differ or no sample has both.
    """
    if label.shape != truth.shape:
        raise ValueError(f"labels of shape {label.shape} and truth of shape {truth.shape} cannot be compared")
    both = (label != NO_LABEL) & (truth != NO_LABEL)
    if not both.any():
        raise ValueError("no sample has both a label and a truth")
    right = label[both] == truth[both]
    shares = [
        float(right[truth[both] == region].mean()) if (truth[both] == region).any() else None
        for region in range(regions)
    ]
    occurring = [share for share in shares if share is not None]
    return Agreement(int(both.sum()), float(right.mean()), float(np.mean(occurring)), tuple(shares))


def calibration(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> dict[str, object]:
    """How often a label of some confidence is right: a table, and the mean difference (expected calibration error).

    confidence: (n,) the largest probability; right: (n,) whether the label is. Bins are equal parts of 0 to 1, those
    without samples are left out (Guo et al. 2017, arXiv 1706.04599).
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    table = []
    for index in np.unique(place):
        inside = place == index
        table.append(
            {
                "samples": int(inside.sum()),
                "confidence": round(float(confidence[inside].mean()), 4),
                "right": round(float(right[inside].mean()), 4),
            }
        )
    error = sum(row["samples"] * abs(row["confidence"] - row["right"]) for row in table) / max(len(confidence), 1)
    return {"expected_error": round(error, 4), "bins": table}


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Sequence):
        return [_rounded(item) for item in value]
    return value
