"""How much labels depend on B0, n0 and on where windows begin: each sample is labelled again under other choices.

Only labels are recomputed. Features are B/B0, n/n0, v/v_A and E/(B0 v_A), so other scales are factors. The
state of the network is zero where a window begins, so windows that begin some samples later may give other labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import NO_LABEL, Flags, Floats

SHIFTS = (8, 16, 24)  # samples, by which windows begin later
Labels = NDArray[np.int8]
Label = Callable[[Floats, Flags], Labels]  # windows (W, T, 14), withheld (W, T) -> labels (W, T)


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What other runs say of n samples.

    stability: (n,) float32, of the runs that give the sample a label the share that give it the same one; NaN where
    there is no label. changes: (n,) bool, samples with a label that another B0 or n0 changes.
    """

    stability: NDArray[np.float32]
    changes: Flags


def moved_scales(fraction: float) -> list[tuple[float, float]]:
    """The factors of B0 and of n0 in the 8 moved runs: each as is, more or less by a fraction, not both as is."""
    factors = (1 - fraction, 1.0, 1 + fraction)
    return [(b0, n0) for b0 in factors for n0 in factors if (b0, n0) != (1.0, 1.0)]


def feature_factors(b0: float, n0: float) -> NDArray[np.float32]:
    """(14,) what B0 and n0, times these factors, multiply features by, for v_A goes with B0 / sqrt(n0)."""
    speed = np.sqrt(n0) / b0
    field, density = 1 / b0, 1 / n0
    return np.array([field] * 3 + [field * speed] * 3 + [density] * 2 + [speed] * 6, np.float32)


def sensitivity_of(
    labels: Labels, windows: Floats, withheld: Flags, begins: Iterable[int], fraction: float, label: Label
) -> Sensitivity:
    """Label each window 11 times more, with B0 and n0 moved by a fraction, and begun 8, 16 and 24 samples later.

    labels: (W, T), what `label` says of windows (W, T, 14) and withheld (W, T) as they are. begins: the samples, of
    all W T, at which segments begin. A window that would reach into the next segment, or beyond the end, ends there;
    the first 8, 16 or 24 samples of a segment have no such run, and count the others alone. Windows in which no sample
    has a label are left out.
    """
    flat = labels.reshape(-1)
    runs, agree = np.zeros(flat.size, np.int16), np.zeros(flat.size, np.int16)
    changes = np.zeros(flat.size, bool)

    def count(other: Labels) -> Flags:
        exists = (other != NO_LABEL) & (flat != NO_LABEL)
        same = other == flat
        np.add(runs, exists, out=runs)
        np.add(agree, exists & same, out=agree)
        differs: Flags = exists & ~same
        return differs

    there = (labels != NO_LABEL).any(axis=1)
    some, kept_back = windows[there], withheld[there]
    scaled, other = np.empty_like(some), np.full_like(labels, NO_LABEL)  # new memory costs more than to fill it
    for b0, n0 in moved_scales(fraction):
        np.multiply(some, feature_factors(b0, n0), out=scaled)
        other[there] = label(scaled, kept_back)
        changes |= count(other.reshape(-1))
    for other in _later(labels, windows, withheld, list(begins), label):
        count(other)
    stability = np.full(flat.size, np.nan, np.float32)
    np.divide(agree, runs, out=stability, where=runs > 0, casting="same_kind")
    return Sensitivity(stability, changes)


def _later(labels: Labels, windows: Floats, withheld: Flags, begins: list[int], label: Label) -> Iterator[Labels]:
    """(W T,) labels of windows that begin later, -1 where there are none.

    All samples are moved at once. A window that runs on into the next segment does no harm: what it says there is
    dropped, and what comes after a sample does not change its label.
    """
    for shift in SHIFTS:
        features = _moved(windows.reshape(-1, windows.shape[2]), shift, np.nan).reshape(windows.shape)
        kept_back = _moved(withheld.reshape(-1), shift, True).reshape(withheld.shape)
        there = (_moved(labels.reshape(-1), shift, NO_LABEL).reshape(labels.shape) != NO_LABEL).any(axis=1)
        found, other = np.full_like(labels, NO_LABEL), np.full(labels.size, NO_LABEL, np.int8)
        found[there] = label(features[there], kept_back[there])
        other[shift:] = found.reshape(-1)[:-shift]
        for begin in begins:
            other[begin : begin + shift] = NO_LABEL
        yield other


def _moved(values: NDArray, shift: int, fill: float | bool) -> NDArray:  # type: ignore[type-arg]
    moved = np.empty_like(values)
    moved[:-shift], moved[-shift:] = values[shift:], fill
    return moved
