"""Probabilities that hold the errors of B0 and n0: their mean over draws of both from log-normal distributions.

Features are scaled, not recomputed. What is drawn follows from the seed and the key of a segment alone, so it is the
same in any order, on any worker, and in each shard that a segment reaches into.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import NO_LABEL, Flags, Floats
from mms_regions.model.stability import feature_factors

if TYPE_CHECKING:
    from mms_regions.model.label import Prediction  # imports torch

_MOST = 65_536  # windows in one batch, for the sake of memory


@dataclass(frozen=True, eq=False)
class DrawnScales:
    """The windows of a segment, and by what their features are multiplied in each draw, (draws, 14)."""

    windows: slice
    factors: NDArray[np.float32]


def drawn_factors(key: str, b0_error: float, n0_error: float, draws: int, seed: int) -> NDArray[np.float32]:
    """(draws, 14) what the features of a segment are multiplied by; errors are relative, those of the logarithm."""
    segment = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
    normal = np.random.default_rng([seed, segment]).standard_normal((draws, 2))
    b0, n0 = np.exp(normal * (b0_error, n0_error)).T
    return np.stack([feature_factors(*scales) for scales in zip(b0, n0, strict=True)])


def marginal_of(
    prediction: Prediction,
    windows: Floats,
    withheld: Flags,
    drawn: Sequence[DrawnScales],
    label: Callable[[Floats, Flags], Prediction],
) -> Prediction:
    """The mean probabilities of windows whose scales are drawn, and the label of the largest, the first of equals.

    prediction: of the same windows (W, T, 14), withheld (W, T), with scales as they are: no other samples get a label.
    Windows that nothing is drawn for have none.
    """
    probability = np.full_like(prediction.probability, np.nan)
    segment = np.full(len(windows), -1)
    for number, scales in enumerate(drawn):
        segment[scales.windows] = number
    segment[(prediction.label == NO_LABEL).all(axis=1)] = -1
    there = np.flatnonzero(segment >= 0)
    if there.size:
        factors = np.stack([scales.factors for scales in drawn])
        draws = factors.shape[1]
        for some in np.array_split(there, -(-there.size * draws // _MOST)):
            scaled = windows[some] * factors[segment[some]].swapaxes(0, 1)[:, :, None]  # (draws, w, T, 14)
            kept_back = np.broadcast_to(withheld[some], scaled.shape[:3])
            found = label(scaled.reshape(-1, *scaled.shape[2:]), kept_back.reshape(-1, scaled.shape[2]))
            by_draw = found.probability.reshape(*scaled.shape[:3], -1)
            probability[some] = by_draw.mean(axis=0, dtype=np.float64)
    known = np.isfinite(probability[:, :, 0])
    largest = np.nan_to_num(probability).argmax(axis=2)
    return replace(prediction, label=np.where(known, largest, NO_LABEL).astype(np.int8), probability=probability)
