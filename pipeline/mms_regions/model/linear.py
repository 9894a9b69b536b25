"""A logistic regression beside a network: how far single samples lead without their history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import Floats
from mms_regions.model.card import ModelCard


@dataclass(frozen=True)
class LinearRegions:
    """A logistic regression: what each sample by itself says. weights (C, 14), bias (C,) of C regions."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def from_card(cls, card: ModelCard) -> LinearRegions | None:
        """The one that was fitted beside a model, or None where its card has none."""
        found = card.scores.get("logistic_regression")
        if not isinstance(found, dict):
            return None
        return cls(np.asarray(found["weights"], np.float64), np.asarray(found["bias"], np.float64))

    def label(self, features: Floats) -> NDArray[np.int8]:
        """(...) int8 regions of features (..., 14), which must be finite."""
        label: NDArray[np.int8] = (features @ self.weights.T + self.bias).argmax(axis=-1).astype(np.int8)
        return label
