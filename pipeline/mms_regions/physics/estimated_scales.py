"""B0 and n0 of an interval, estimated from what was measured in it, with standard errors.

B0 is the field of the lobe by pressure balance: the median of sqrt(B^2 + 2 mu0 (n_i T_i,perp + n_e T_e,perp)), which
holds anywhere in the sheet. n0 is the density of the current sheet: the median of n_e where |B| < B0 / 2. Neither was
fitted to published values. docs/scales.md says how well they are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mms_regions.core.errors import SegmentProblem, UsageProblem
from mms_regions.core.messages import counted
from mms_regions.core.outcomes import Cause
from mms_regions.core.types import Flags, Floats
from mms_regions.physics.scales import PRESSURE_UNIT

if TYPE_CHECKING:
    import xarray as xr

INPUTS = ("b_gsm", "ni", "ne", "ti_perp", "te_perp")
FEWEST = 30  # samples, about 1 s
SHEET, LOBE = 0.5, 0.8  # |B| / B0 below which a sample is of the sheet, above which of the lobe or inflow
_B0_FLOOR, _N0_FLOOR = 0.03, 0.1  # relative errors that no interval goes below: slow changes, calibration
_B0_FLOOR_OUTSIDE = 0.045  # the same, of intervals outside the sheet: pressure of the lobe's own plasma
_WEAK_N0 = 0.7  # relative error (of the logarithm) of a density that was not measured in the sheet
_THICK = 0.3  # beta that must have been seen for any guess of n0
_STEADY = 0.2  # relative spread of the balancing field above which the balance is doubtful
_TAIL_B0, _TAIL_N0, _TAIL_T = (5.0, 80.0), (0.02, 3.0), (300.0, 30_000.0)  # nT, cm^-3, eV


@dataclass(frozen=True)
class ScaleEstimate:
    """B0 and n0 of one segment, and what they rest on.

    b0, b0_sigma: nT. n0, n0_sigma: cm^-3, None where no sample is near the sheet. Errors are standard errors, of n0
    that of its logarithm times n0. b_q98: nT, 98 % quantile of |B|. temperature: eV, T_i + T_e that B0 and n0 imply,
    None without n0. beta: pressure of plasma over that of the field, 1 % and 99 % quantiles. lobe_seen, sheet_seen:
    whether 30 samples have |B| > 0.8 B0, and < 0.5 B0. method: `balance, sheet`, or `balance, densest` where n0 is
    weak, or `balance` without n0. cautions: sentences on what makes the estimate weak; empty where nothing does.
    """

    b0: float
    b0_sigma: float
    n0: float | None
    n0_sigma: float | None
    b_q98: float
    temperature: float | None
    beta: tuple[float, float]
    lobe_seen: bool
    sheet_seen: bool
    method: str
    cautions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Balance:
    """(n,) |B| in nT, electron density in cm^-3, and the field that balances the pressure, in nT; NaN where missing."""

    field: Floats
    density: Floats
    lobe_field: Floats


def pressure_balance(physics: Mapping[str, Floats]) -> Balance:
    """What the estimate is made from, of quantities at electron times (`samples.QUANTITIES`); rows of NaN are kept."""
    wide = {name: np.asarray(physics[name], np.float64) for name in INPUTS}
    squared = (wide["b_gsm"] ** 2).sum(axis=1)
    electrons = wide["ne"] * wide["te_perp"]
    pressure = wide["ni"] * wide["ti_perp"] + np.where(np.isfinite(electrons), electrons, 0)  # ions carry most of it
    return Balance(
        np.sqrt(squared), wide["ne"], np.sqrt(squared + PRESSURE_UNIT * np.where(pressure > 0, pressure, np.nan))
    )


def estimate_scales(segment: xr.Dataset | Mapping[str, Floats]) -> ScaleEstimate:
    """Estimate B0 and n0 of a segment from what was measured in it: for current sheets of the magnetotail.

    B0 is the lobe field by pressure balance, n0 the median electron density where abs(B) < B0 / 2.

    Parameters
    ----------
    segment : xarray.Dataset or mapping of arrays
        As `open_segment` gives it, or any that has `b_gsm` (n, 3) in nT, `ni` and `ne` (n,) in cm^-3, `ti_perp` and
        `te_perp` (n,) in eV, 30 ms apart; NaN where missing. Its features and labels are not changed.

    Returns
    -------
    ScaleEstimate
        `b0`, `b0_sigma` in nT, `n0`, `n0_sigma` in cm^-3 (None where the sheet was not seen), what they rest on, and
        `cautions` in sentences.

    Raises
    ------
    UsageProblem
        A variable is missing.
    SegmentProblem
        Fewer than 30 samples have magnetic field and ions.

    Examples
    --------
    >>> scales = estimate_scales(open_segment("a.zarr", "A", 1))
    >>> scales.b0 > scales.b0_sigma > 0
    True
    """
    if missing := [name for name in INPUTS if name not in segment]:
        raise UsageProblem(f"scales are estimated from {', '.join(INPUTS)}; {', '.join(missing)} is missing")
    balance = pressure_balance({name: np.asarray(segment[name]) for name in INPUTS})
    there = np.isfinite(balance.lobe_field)
    if there.sum() < FEWEST:
        raise SegmentProblem(
            f"B0 and n0 cannot be estimated from {counted(int(there.sum()), 'sample')} with magnetic field and ions; "
            f"at least {FEWEST} are needed: give both in the catalogue",
            Cause.NOTHING_MEASURED,
        )
    b, lobe_field, density = balance.field[there], balance.lobe_field[there], balance.density[there]
    b0, spread = float(np.median(lobe_field)), _half_width(lobe_field)
    beta = (lobe_field**2 - b**2) / np.maximum(b**2, 1e-6)
    found = _density(density, b < SHEET * b0, float(np.quantile(beta, 0.99)))
    floor = _B0_FLOOR if found.method == "sheet" else _B0_FLOOR_OUTSIDE
    b0_sigma = float(np.hypot(spread, floor * b0))
    seen = int((b > LOBE * b0).sum()) >= FEWEST
    temperature = None if found.n0 is None else b0**2 / found.n0 / PRESSURE_UNIT
    cautions = [*found.cautions, *_cautions(b0, spread, found.n0, temperature)]
    return ScaleEstimate(
        b0=b0,
        b0_sigma=b0_sigma,
        n0=found.n0,
        n0_sigma=None if found.n0 is None else found.relative * found.n0,
        b_q98=float(np.quantile(b, 0.98)),
        temperature=temperature,
        beta=(float(np.quantile(beta, 0.01)), float(np.quantile(beta, 0.99))),
        lobe_seen=seen,
        sheet_seen=found.method == "sheet",
        method=f"balance, {found.method}" if found.method else "balance",
        cautions=tuple(cautions),
    )


@dataclass(frozen=True)
class _Density:
    """n0 in cm^-3, its relative error, where it is from, and what is to be said of it."""

    n0: float | None
    relative: float = 0.0
    method: str = ""
    cautions: tuple[str, ...] = ()


def _density(density: Floats, in_sheet: Flags, most_beta: float) -> _Density:
    measured = np.isfinite(density) & (density > 0)
    sheet = density[measured & in_sheet]
    if sheet.size >= FEWEST:
        relative = float(np.hypot(_half_width(np.log(sheet)), _N0_FLOOR))
        return _Density(float(np.median(sheet)), relative, "sheet")
    if most_beta < _THICK or measured.sum() < FEWEST:
        why = f"the sheet was not seen (beta is at most {most_beta:.2g}), so n0 is not estimated"
        return _Density(None, cautions=(why,))
    why = "the middle of the sheet (|B| < B0 / 2) was not seen, so n0 is a guess, good to a factor of 2"
    return _Density(float(np.quantile(density[measured], 0.9)), _WEAK_N0, "densest", (why,))


def _cautions(b0: float, spread: float, n0: float | None, temperature: float | None) -> list[str]:
    found = []
    if spread > _STEADY * b0:
        found.append(f"the pressure is not in balance: the field that balances it varies by {spread / b0:.0%}")
    in_tail = _TAIL_B0[0] <= b0 <= _TAIL_B0[1] and (n0 is None or _TAIL_N0[0] <= n0 <= _TAIL_N0[1])
    if not in_tail or (temperature is not None and not _TAIL_T[0] <= temperature <= _TAIL_T[1]):
        found.append("this is not the plasma of the magnetotail, for which scales and networks are meant")
    return found


def _half_width(values: Floats) -> float:
    """Half the width of the middle 68 %: a standard deviation that outliers do not move."""
    low, high = np.quantile(values, [0.16, 0.84])
    return float(high - low) / 2
