"""Moments and fields in time order, each time once, with what must not be used as NaN (convention `corrected`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mms_regions.archive.products import CdfFile
from mms_regions.core.types import Flags, Floats, Times
from mms_regions.physics.burst import ElectricField, MagneticField, Moments
from mms_regions.physics.formulas import subtract_ion_background

# FPI error-flag bits (FPI data product guide): values that must not be used, and values to use with care.
_MASKED = {"dis": (0, 1, 11), "des": (0, 1, 7, 11)}
_CAUTION = (2, 3, 4, 5, 6, 8, 9, 10, 14)
_POTENTIAL_UNKNOWN, _THIN = 3, 0.1  # without a spacecraft potential, electron densities below 0.1 cm^-3 are not usable


@dataclass(frozen=True)
class Species:
    """FPI moments in time order, each time once: centres of accumulation, what is flagged or not positive is NaN."""

    time: Times
    accumulation: int
    n: Floats
    v_gse: Floats
    p_gse: Floats
    caution: Flags
    repeated: Flags
    empty: Flags  # background at or above the density
    order: NDArray[np.intp]  # rows of the Moments that these are


@dataclass(frozen=True)
class Field:
    """A field in time order, each time once, NaN where it must not be used."""

    time: Times
    values: Floats
    caution: Flags
    repeated: Flags


def species_of(short: str, moments: Moments) -> Species:
    """Moments in time order, each time once, what must not be used NaN; short: dis or des."""
    order, repeated = in_time_order(moments.time, moments.source, moments.files)
    n, v, p = (_taken(values, order) for values in (moments.n, moments.v_gse, moments.p_gse))
    flags = moments.error_flags[order]
    masked = _any_bit(flags, _MASKED[short])
    if short == "des":
        masked |= _any_bit(flags, (_POTENTIAL_UNKNOWN,)) & (n < _THIN)
    empty = np.zeros(len(n), bool)
    if moments.n_bg is not None and moments.p_bg is not None:
        n, v, p = subtract_ion_background(n, v, p, moments.n_bg[order], moments.p_bg[order])
        empty = n <= 0
    masked |= empty
    n[masked], v[masked], p[masked] = np.nan, np.nan, np.nan
    centre = moments.time[order] + moments.accumulation // 2
    caution = _any_bit(flags, _CAUTION)
    return Species(centre, moments.accumulation, n, v, p, caution, repeated, empty, order)


def _taken(values: Floats, rows: NDArray[np.intp]) -> Floats:
    return values[rows].astype(np.float64)


def magnetic_of(field: MagneticField) -> Field:
    """The magnetic field in time order, each time once."""
    rows, repeated = _rows_in_time_order(field)
    return Field(field.time[rows], field.b_gse[rows], np.zeros(len(repeated), bool), repeated)


def electric_of(field: ElectricField) -> Field:
    """The electric field in time order, each time once, NaN where its quality is bad."""
    rows, repeated = _rows_in_time_order(field)
    quality, values = field.quality[rows], field.e_gse[rows]
    bad = (quality == 0) | (quality > 3)
    if bad.any():
        values = np.where(bad[:, None], np.float32(np.nan), values)
    return Field(field.time[rows], values, (quality == 1) | (quality == 2), repeated)


def _rows_in_time_order(field: MagneticField | ElectricField) -> tuple[NDArray[np.intp] | slice, Flags]:
    """Rows of a field as `in_time_order` gives them; a field has many, so nothing is copied where they are in order."""
    if _increases(field.time):
        return slice(None), np.zeros(len(field.time), bool)
    return in_time_order(field.time, field.source, field.files)


def in_time_order(time: Times, source: NDArray[np.int16], files: Sequence[CdfFile]) -> tuple[NDArray[np.intp], Flags]:
    """Which rows to take so that times increase, and which of these times more than one row had.

    Of rows with equal times the one from the file with the higher version is taken, then from the later file.
    """
    if _increases(time):
        return np.arange(len(time)), np.zeros(len(time), bool)
    by_worth = sorted(range(len(files)), key=lambda i: (files[i].version, files[i].start))
    worth = np.argsort(by_worth)[source]
    order = np.lexsort((worth, time))
    last = np.append(np.diff(time[order]) > 0, True)
    counts = np.diff(np.flatnonzero(last), prepend=-1)
    return order[last], counts > 1


def _increases(time: Times) -> bool:
    return bool((time[1:] > time[:-1]).all())


def _any_bit(flags: NDArray[np.uint32], bits: Sequence[int]) -> Flags:
    mask = np.uint32(sum(1 << bit for bit in bits))
    some: Flags = (flags & mask) != 0
    return some
