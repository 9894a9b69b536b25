"""The network in plain numpy and float64, written apart from the package, to hold it against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float64]]


def probabilities(weights: Weights, window: NDArray[np.floating]) -> NDArray[np.float64]:
    """(T, 6) for one window of (T, 14), from a zero state."""
    states = [np.zeros(42), np.zeros(42), np.zeros(42)]
    rows = []
    for sample in window.astype(np.float64):
        below = sample
        for k in range(3):
            from_below = weights[f"rnn.weight_ih_l{k}"] @ below + weights[f"rnn.bias_ih_l{k}"]
            from_before = weights[f"rnn.weight_hh_l{k}"] @ states[k] + weights[f"rnn.bias_hh_l{k}"]
            states[k] = below = np.tanh(from_below + from_before)
        logits = weights["fc.weight"] @ below + weights["fc.bias"]
        odds = np.exp(logits - logits.max())
        rows.append(odds / odds.sum())
    return np.array(rows)
