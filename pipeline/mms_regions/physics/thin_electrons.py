"""Electron moments of thin plasma: means over as many accumulations as their counting statistics need.

Below about 0.1 cm^-3 DES counts so few electrons in 30 ms that a sample is mostly noise, below 0.05 cm^-3 some
accumulations hold none at all (n = 0, v = 0). Both are measurements of thin plasma, not gaps. What is averaged is
what is conserved: particles n, momentum n v, momentum flux P + m n vv and energy flux; so that moments of the mean
are those of the distribution over the longer time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import SECOND, Flags, Floats, Times
from mms_regions.physics.formulas import slice_sum
from mms_regions.physics.screening import Species

WIDTHS = (3, 5, 7, 9)  # accumulations that a mean may be over; at most 0.3 s
RELATIVE_ERROR = 0.25  # of a density: accumulations are combined until it is reached
FASTEST = 110_000.0  # km/s: VALIDMAX of DES; an electron of this speed has the highest energy that DES counts
ELECTRON_MASS = 9.1093837e-31  # kg

# sigma(n)/n of one accumulation by density in cm^-3, for files without errors (real tail data, docs/science.md).
_DENSITY = np.array([0.005, 0.014, 0.028, 0.056, 0.3])
_NOISE = np.array([1.6, 0.75, 0.45, 0.30, 0.06])

# (km/s)^2 cm^-3 kg -> nPa; nPa km/s -> mW/m^2
_TO_NPA, _TO_MW = ELECTRON_MASS * 1e21, 1e-3


@dataclass(frozen=True)
class Electrons:
    """Electron moments after averaging, in the rows of `species`.

    width: (n,) accumulations that a row is the mean over, 0 where it is missing; count: (n,) those of them that are not
    missing. assumed: (n,) rows in which DES saw no
    electron of known velocity for as long as may be averaged: their density is measured, their velocity is not.
    """

    species: Species
    width: NDArray[np.int64]
    count: NDArray[np.int64]
    assumed: Flags

    @property
    def averaged(self) -> Flags:
        """(n,): rows that are means of more than one accumulation."""
        return self.count > 1


def density_error(n: Floats, reported: Floats | None) -> Floats:
    """(n,) cm^-3: the statistical error of one accumulation, as the file reports it, else by the density alone."""
    with np.errstate(divide="ignore", invalid="ignore"):
        typical: Floats = n * np.interp(np.log(n), np.log(_DENSITY), _NOISE)
    typical = np.where(n > 0, typical, 0.0)
    return typical if reported is None else np.where(np.isfinite(reported), reported, typical)


def averaged_electrons(single: Species, error: Floats, longest: float) -> Electrons:
    """Means over the fewest consecutive accumulations around each that bring sigma(n)/n to 0.25; `longest` s at most.

    error: (n,) as `density_error` gives it. Windows are centred (1, 3, 5, 7 or 9 accumulations) and leave out missing
    rows, which remain missing.
    """
    known = np.isfinite(single.n)
    moving = known & np.isfinite(single.v_gse).all(axis=1) & ~_too_fast(single.v_gse)
    sums = _Sums.of(single, error, known, moving)
    chosen = sums.over(*_window(single.time, single.accumulation, 1))
    widths = np.ones(len(single.n), np.int64)
    for width in (width for width in WIDTHS if width * single.accumulation <= longest * SECOND * (1 + 1e-9)):
        wider = ~(chosen.error <= RELATIVE_ERROR * chosen.n) | (chosen.n == 0)
        if not wider.any():
            break
        first, last = _window(single.time[wider], single.accumulation, width, among=single.time)
        chosen = chosen.replaced(wider, sums.over(first, last))
        widths[wider] = width
    return _electrons(single, known, chosen, np.where(known, widths, 0))


@dataclass(frozen=True)
class _Sums:
    """Sums of conserved quantities over some rows, or the terms of these sums; all but `rows` and `n` where v is known.

    rows: how many rows with a density; error: of the sum of densities; n_moving: density with a known velocity;
    flux n v; momentum flux P + m n vv in nPa; energy flux in mW/m^2.
    """

    rows: Floats
    n: Floats
    error: Floats
    n_moving: Floats
    flux: Floats
    momentum: Floats
    energy: Floats

    @classmethod
    def of(cls, single: Species, error: Floats, known: Flags, moving: Flags) -> _Sums:
        """The terms of each row, zero where it has none."""
        n, v = np.where(known, single.n, 0.0), np.where(moving[:, None], single.v_gse, 0.0)
        p = np.where(moving[:, None, None], single.p_gse, 0.0)
        q = np.where(moving[:, None], single.q_gse, 0.0)
        ram = _TO_NPA * n[:, None, None] * v[:, :, None] * v[:, None, :]
        return cls(
            rows=known.astype(float),
            n=n,
            error=np.where(known, error, 0.0) ** 2,
            n_moving=np.where(moving, n, 0.0),
            flux=n[:, None] * v,
            momentum=p + ram,
            energy=q + _carried(p, ram, v),
        )

    def over(self, first: NDArray[np.intp], last: NDArray[np.intp]) -> _Sums:
        """Sums over the rows [first, last) of each window."""
        found = {name: slice_sum(values, first, last) for name, values in vars(self).items()}
        return _Sums(**found | {"error": np.sqrt(found["error"])})

    def replaced(self, where: Flags, other: _Sums) -> _Sums:
        """These sums with those of another in the rows `where`."""
        found = {name: values.copy() for name, values in vars(self).items()}
        for name, values in found.items():
            values[where] = getattr(other, name)
        return _Sums(**found)


def _carried(p: Floats, ram: Floats, v: Floats) -> Floats:
    """(n, 3) mW/m^2: energy that the flow v carries: P.v + v (tr P)/2 + v (m n v^2)/2."""
    trace = np.trace(p, axis1=1, axis2=2) + np.trace(ram, axis1=1, axis2=2)
    carried: Floats = _TO_MW * (np.einsum("nij,nj->ni", p, v) + 0.5 * trace[:, None] * v)
    return carried


def _electrons(single: Species, known: Flags, sums: _Sums, width: NDArray[np.int64]) -> Electrons:
    """Moments of the means; rows of one accumulation stay as they are."""
    count = np.where(known, sums.rows, 0).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = sums.n / sums.rows
        v = sums.flux / sums.n_moving[:, None]
        ram = _TO_NPA * (sums.n_moving / sums.rows)[:, None, None] * v[:, :, None] * v[:, None, :]
        p = sums.momentum / sums.rows[:, None, None] - ram
        q = sums.energy / sums.rows[:, None] - _carried(p, ram, v)
    assumed = known & (~(sums.n_moving > 0) | _too_fast(v))
    single_row = count == 1
    found = replace(
        single,
        n=np.where(single_row, single.n, n),
        v_gse=np.where(single_row[:, None], single.v_gse, v),
        p_gse=np.where(single_row[:, None, None], single.p_gse, p),
        q_gse=np.where(single_row[:, None], single.q_gse, q),
    )
    found.n[~known] = np.nan
    for values in (found.v_gse, found.p_gse, found.q_gse):
        values[~known | assumed] = np.nan
    return Electrons(found, width, count, assumed)


def _window(
    at: Times, accumulation: int, width: int, among: Times | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last (exclusive) of the rows `among` that lie within `width` accumulations around each time."""
    time, half = at if among is None else among, width * accumulation // 2
    return np.searchsorted(time, at - half, "right"), np.searchsorted(time, at + half, "left")


def _too_fast(v: Floats) -> Flags:
    with np.errstate(invalid="ignore"):
        fast: Flags = np.linalg.norm(v, axis=1) > FASTEST
    return fast
