"""Whether a sample is like anything that a model was trained on: in its range, and near to a region (Mahalanobis).

Distances are of features, not of the network's state, so that they need no network and no history. Densities count by
their logarithm, velocities and electric fields are compressed, for their tails are long.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mms_regions.core.messages import counted
from mms_regions.core.types import Flags, Floats

_DENSITIES, _E, _V = slice(6, 8), slice(3, 6), slice(8, 14)
_LEAST_DENSITY, _E_SCALE, _V_SCALE = 0.001, 0.3, 0.3
_WIDENED = 1e-3  # added to each variance
_BEYOND = 1e-4  # share of the samples of training below, and above, the range of each feature
_PART = 4_096  # samples at a time; those without a single one in range, such as what pads a shard, cost nothing

Row = tuple[float, ...]


class Familiarity(BaseModel):
    """What decides it, on a model's card: of each region mean (14) and whitening matrix (14, 14) of its features.

    low, high: the range of each feature. threshold: the distance beyond which a sample is unfamiliar; false_alarms: the
    share of unseen samples beyond it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    means: tuple[Row, ...]
    whitening: tuple[tuple[Row, ...], ...]
    low: Row
    high: Row
    threshold: float = Field(gt=0)
    false_alarms: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _sizes_agree(self) -> Familiarity:
        n = len(self.means)
        if np.shape(self.means) != (n, 14) or np.shape(self.whitening) != (n, 14, 14) or not n:
            raise ValueError("means are (regions, 14) and whitening (regions, 14, 14)")
        if np.shape([self.low, self.high]) != (2, 14):
            raise ValueError("low and high are of the 14 features")
        return self

    def distance(self, features: Floats) -> NDArray[np.float32]:
        """(...) of features (..., 14): the distance to the nearest region; infinite where a feature is out of range."""
        flat = features.reshape(-1, features.shape[-1])
        found = np.full(len(flat), np.inf, np.float32)
        means, whitening = np.array(self.means), np.array(self.whitening)
        inside = np.logical_and.reduce((flat >= self.low) & (flat <= self.high), axis=1)
        for first in range(0, len(flat), _PART):
            if not inside[first : first + _PART].any():
                continue
            part = compressed(flat[first : first + _PART])
            for mean, matrix in zip(means, whitening, strict=True):
                distance = np.linalg.norm((part - mean) @ matrix.T, axis=1).astype(np.float32)
                np.fmin(found[first : first + _PART], distance, out=found[first : first + _PART])
        return np.where(inside, found, np.float32(np.inf)).reshape(features.shape[:-1])

    def unfamiliar(self, features: Floats) -> Flags:
        """(...) whether samples are farther from all regions than nearly all that the model was made with."""
        flags: Flags = self.distance(features) > self.threshold
        return flags


def fit_familiarity(
    features: Floats, region: NDArray[np.int8], unseen: Floats, regions: int, false_alarms: float = 0.01
) -> Familiarity:
    """From samples (n, 14) of known region (n,); the threshold from unseen ones (m, 14).

    Raises ValueError where a region has too few samples for a covariance.
    """
    means, whitening = [], []
    for index in range(regions):
        of_region = compressed(features[region == index])
        if len(of_region) < 2 * features.shape[1]:
            raise ValueError(
                f"region {index} has {counted(len(of_region), 'sample')}, too few to know what is familiar there"
            )
        covariance = np.cov(of_region.T) + _WIDENED * np.eye(features.shape[1])
        means.append(_row(of_region.mean(axis=0)))
        whitening.append(tuple(_row(row) for row in np.linalg.inv(np.linalg.cholesky(covariance))))
    low, high = (_row(row) for row in np.quantile(features, [_BEYOND, 1 - _BEYOND], axis=0))
    found = Familiarity(
        means=tuple(means), whitening=tuple(whitening), low=low, high=high, threshold=1.0, false_alarms=false_alarms
    )
    distance = found.distance(unseen)
    inside = np.sort(distance[np.isfinite(distance)])  # those out of range are false alarms too
    beyond = max(round(false_alarms * len(distance)) - (len(distance) - len(inside)), 0)
    return found.model_copy(update={"threshold": round(float(inside[len(inside) - 1 - beyond]), 4)})


def compressed(features: Floats) -> NDArray[np.float64]:
    """(n, 14) features, less long-tailed."""
    found = features.astype(np.float64)
    found[:, _DENSITIES] = np.log(np.maximum(found[:, _DENSITIES], _LEAST_DENSITY))
    found[:, _E] = np.arcsinh(found[:, _E] / _E_SCALE)
    found[:, _V] = np.arcsinh(found[:, _V] / _V_SCALE)
    return found


def _row(values: Floats) -> Row:
    return tuple(round(float(value), 5) for value in values)
