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
_MASKED = (0, 1, 11)
_CAUTION = (2, 3, 4, 5, 6, 8, 9, 10, 14)
_THIN_ELECTRONS = 7  # n_DES < 0.05 cm^-3: masked by `strict`, a caution for `robust`
_PENETRATING = 13  # of DIS: at least 20 % penetrating radiation
_POTENTIAL_UNKNOWN, _THIN = 3, 0.1  # without a spacecraft potential, electron densities below 0.1 cm^-3 are not usable
_LARGE_BACKGROUND = 0.5  # of the ion density in the file

# Bits of EDP's `bitmask`, from the EDP data product guide.
_GOOD_QUALITY, _BEST_QUALITY = 3, 4  # of EDP
EDP_BITS = {
    "signal off": 1,
    "bad bias": 2,
    "probe saturation": 4,
    "low-density saturation": 8,
    "bias sweep": 16,
    "shadow of the axial booms": 32,
    "ASPOC running": 64,
    "asymmetric configuration": 128,
    "manoeuvre": 256,
    "solar-wind wake removed": 512,
    "eclipse": 1024,
}


@dataclass(frozen=True)
class Screening:
    """Which samples are used, and how thin electrons are treated; the settings of the same names.

    electrons: `strict` masks electrons below 0.05 cm^-3 (flag bit 7), `robust` averages them. electron_average: s, the
    longest mean. edp_quality: the least quality of the electric field that is used.
    """

    electrons: str = "robust"
    electron_average: float = 0.3
    edp_quality: int = 2


@dataclass(frozen=True)
class Species:
    """FPI moments in time order, each time once: centres of accumulation, what is flagged or not positive is NaN."""

    time: Times
    accumulation: int
    n: Floats
    v_gse: Floats
    p_gse: Floats
    q_gse: Floats
    caution: Flags
    repeated: Flags
    empty: Flags  # background at or above the density
    background_large: Flags  # background above half of the density
    penetrating: Flags  # flag bit 13
    order: NDArray[np.intp]  # rows of the Moments that these are


@dataclass(frozen=True)
class Field:
    """A field in time order, each time once, NaN where it must not be used."""

    time: Times
    values: Floats
    caution: Flags
    repeated: Flags


def species_of(short: str, moments: Moments, thin: bool = False) -> Species:
    """Moments in time order, each time once, what must not be used NaN; short: dis or des.

    thin: keep electrons of flag bit 7, whose velocity alone is NaN where it is out of its range.
    """
    order, repeated = in_time_order(moments.time, moments.source, moments.files)
    n, v, p, q = (_taken(values, order) for values in (moments.n, moments.v_gse, moments.p_gse, moments.q_gse))
    flags = moments.error_flags[order]
    masked, cautions = _any_bit(flags, _MASKED), list(_CAUTION)
    if short == "des":
        masked |= _any_bit(flags, (_POTENTIAL_UNKNOWN,)) & (n < _THIN) | (n < 0)
    if short == "des" and thin:
        cautions.append(_THIN_ELECTRONS)
        beyond = np.zeros(len(n), bool) if moments.beyond is None else moments.beyond[order]
        masked |= np.isnan(v).any(axis=1) & ~beyond
    elif short == "des":
        masked |= _any_bit(flags, (_THIN_ELECTRONS,))
    empty, large = np.zeros(len(n), bool), np.zeros(len(n), bool)
    if moments.n_bg is not None and moments.p_bg is not None:
        large = moments.n_bg[order] > _LARGE_BACKGROUND * n
        n, v, p = subtract_ion_background(n, v, p, moments.n_bg[order], moments.p_bg[order])
        empty = n <= 0
    masked |= empty
    n[masked], v[masked], p[masked], q[masked] = np.nan, np.nan, np.nan, np.nan
    return Species(
        time=moments.time[order] + moments.accumulation // 2,
        accumulation=moments.accumulation,
        n=n,
        v_gse=v,
        p_gse=p,
        q_gse=q,
        caution=_any_bit(flags, cautions),
        repeated=repeated,
        empty=empty,
        background_large=large,
        penetrating=_any_bit(flags, (_PENETRATING,)) if short == "dis" else np.zeros(len(n), bool),
        order=order,
    )


def _taken(values: Floats, rows: NDArray[np.intp]) -> Floats:
    return values[rows].astype(np.float64)


def magnetic_of(field: MagneticField) -> Field:
    """The magnetic field in time order, each time once."""
    rows, repeated = _rows_in_time_order(field)
    return Field(field.time[rows], field.b_gse[rows], np.zeros(len(repeated), bool), repeated)


def electric_of(field: ElectricField, least: int) -> Field:
    """The electric field in time order, each time once, NaN where its quality is below `least`; 3 and 4 are good."""
    rows, repeated = _rows_in_time_order(field)
    quality, values = field.quality[rows], field.e_gse[rows]
    bad = (quality < least) | (quality > _BEST_QUALITY)
    if bad.any():
        values = np.where(bad[:, None], np.float32(np.nan), values)
    return Field(field.time[rows], values, ~bad & (quality < _GOOD_QUALITY), repeated)


def electric_reasons(field: ElectricField, least: int) -> str:
    """Why the samples of low quality have it, most frequent first; empty where the files do not say."""
    if field.bitmask is None:
        return ""
    bits = field.bitmask[field.quality < least]
    counts = {name: int((bits & bit != 0).sum()) for name, bit in EDP_BITS.items()}
    return ", ".join(sorted((name for name, count in counts.items() if count), key=lambda name: -counts[name]))


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
