"""Inputs at the electron rows: interpolated moments and bin means of fields; short gaps are bridged, long ones NaN."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import Flags, Floats, Times
from mms_regions.physics.formulas import bin_mean
from mms_regions.physics.screening import Field

_PIECE = 1 << 20  # samples of a field that are looked at together: fresh memory costs more than what is done in it
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Input:
    """One input of the features at the rows: values (m, k), and which of its rows are not measured but bridged.

    measured: rows with a value of their own; bridged: rows with an interpolated one; the rest is NaN. partial: measured
    rows whose mean lacks some samples.
    """

    values: Floats
    measured: Flags
    bridged: Flags
    partial: Flags


def nearest(at: Times | Floats, time: Times) -> NDArray[np.intp]:
    """(len(at),) the index of the nearest of these times (n,), which are in order; of two as near the earlier one."""
    after = np.searchsorted(time, at).clip(1, max(len(time) - 1, 1))
    before, after = after - 1, after.clip(max=len(time) - 1)
    found: NDArray[np.intp] = np.where(at - time[before] <= time[after] - at, before, after)
    return found


def interpolated(at: Times, time: Times, values: Floats, cadence: int, longest: int) -> Input:
    """Linear interpolation between samples that follow each other, across gaps of up to `longest` marked as bridged."""
    valid = np.isfinite(values).all(axis=1)
    time, values = time[valid], values[valid]
    if not time.size:
        return _nothing(len(at), values.shape[1])
    place = np.searchsorted(time, at, "left")
    coincide = time[np.minimum(place, len(time) - 1)] == at
    gap = np.where(coincide, 0, _missing_between(time, cadence)[place])
    return _filled(_linear(at, time, values), gap, longest)


def averaged(at: Times, half: int, field: Field, longest: int) -> Input:
    """Means over [at - half, at + half), from bins with at least half of their samples.

    Other rows are interpolated from these where samples are missing for up to `longest` ns.
    """
    time, values = field.time, field.values
    valid = _finite_rows(values)
    if not valid.all():
        time, values = time[valid], values[valid]
    if not time.size:
        return _nothing(len(at), values.shape[1])
    cadence = _cadence(field.time)
    # Rows beyond the interval, so that a short gap that reaches over its edge has something to be bridged from.
    beyond = 2 * half * np.arange(1, longest // (2 * half) + 2)
    rows = np.concatenate([at[0] - beyond[::-1], at, at[-1] + beyond])
    means, gap = bin_mean(rows - half, rows + half, time, values), _gap_in_bins(rows, half, time, cadence)
    count = np.searchsorted(time, rows + half) - np.searchsorted(time, rows - half)
    enough = (count >= least_samples(2 * half, cadence)) & np.isfinite(means).all(axis=1)
    if enough.any():
        means[~enough] = _linear(rows[~enough], rows[enough], means[enough])
    inside = slice(len(beyond), -len(beyond))
    found = _filled(means[inside], np.where(enough, 0, np.maximum(gap, 1))[inside], longest)
    return replace(found, partial=found.measured & (gap[inside] > 0))


def field_mean(at: Times, half: int, field: Field) -> Floats:
    """(m, k): means over [at - half, at + half) of the usable samples, NaN where these are fewer than half."""
    valid = _finite_rows(field.values)
    time, values = field.time[valid], field.values[valid]
    means = bin_mean(at - half, at + half, time, values)
    count = np.searchsorted(time, at + half) - np.searchsorted(time, at - half)
    means[count < least_samples(2 * half, _cadence(field.time))] = np.nan
    return means


def least_samples(width: int, cadence: int) -> int:
    """How many samples a bin of this width must hold to count: half of those that it would have, at least one."""
    return max(1, -(-width // (2 * cadence))) if cadence else 1


def _finite_rows(values: Floats) -> Flags:
    """(n,): rows (n, k) without a NaN; column by column, for rows are short."""
    finite: Flags = np.logical_and.reduce([np.isfinite(column) for column in values.T])
    return finite


def _cadence(time: Times) -> int:
    """ns: the median step from a sample to the next, from a thousand steps or more, spread evenly."""
    if len(time) < 2:
        return 0
    some = np.arange(0, len(time) - 1, max(1, len(time) // 2000))
    return int(np.median(time[some + 1] - time[some]))


def _gap_in_bins(at: Times, half: int, time: Times, cadence: int) -> Times:
    """(m,) ns: the longest stretch of missing samples that reaches into each bin; a sample covers one cadence."""
    first = np.searchsorted(time, at - half + cadence // 2, "right")
    last = np.maximum(np.searchsorted(time, at + half - cadence // 2, "left"), first)
    place, gaps = _gaps(time, cadence)
    begin, end = np.searchsorted(place, first), np.searchsorted(place, last, "right")
    longest: Times = np.maximum.reduceat(np.append(gaps, 0), np.stack([begin, end], axis=1).ravel())[::2]
    return np.where(end > begin, longest, 0)


def _missing_between(time: Times, cadence: int) -> Times:
    """(n + 1,) ns: how long samples are missing before each of n valid times, and after the last; 0 where none is.

    Counted in whole samples, so that clocks that run a little slow do not make a gap longer than it is.
    """
    place, gaps = _gaps(time, cadence)
    missing = np.zeros(len(time) + 1, np.int64)
    missing[place] = gaps
    return missing


def _gaps(time: Times, cadence: int) -> tuple[NDArray[np.intp], Times]:
    """Before which of n times samples are missing, n being after the last, and for how long (ns)."""
    far = np.concatenate(
        [
            begin + np.flatnonzero(np.diff(time[begin : begin + _PIECE + 1]) >= 1.5 * cadence)
            for begin in range(0, max(len(time) - 1, 1), _PIECE)
        ]
    )  # all others are next to each other
    gaps = (np.rint((time[far + 1] - time[far]) / cadence).astype(np.int64) - 1) * cadence
    return np.concatenate([[0], far + 1, [len(time)]]), np.concatenate([[_NEVER], gaps, [_NEVER]])


def _filled(values: Floats, gap: Times, longest: int) -> Input:
    """Values as they are where nothing is missing; marked where a short gap is bridged; NaN in long ones."""
    finite = np.isfinite(values).all(axis=1)
    measured, bridged = finite & (gap == 0), finite & (gap > 0) & (gap <= longest)
    values = np.where((measured | bridged)[:, None], values, np.nan)
    return Input(values, measured, bridged, np.zeros(len(gap), bool))


def _nothing(rows: int, columns: int) -> Input:
    never = np.zeros(rows, bool)
    return Input(np.full((rows, columns), np.nan), never, never, never)


def _linear(at: Times, time: Times, values: Floats) -> Floats:
    """Plain linear interpolation of each column; NaN outside the times."""
    x, known = at - time[0], time - time[0]
    columns = [np.interp(x, known, values[:, i], left=np.nan, right=np.nan) for i in range(values.shape[1])]
    return np.stack(columns, axis=1)
