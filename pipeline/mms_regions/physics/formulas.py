"""Formulas of space plasma physics on plain arrays; no I/O, no convention.

Units: n in cm^-3, v in km/s, B in nT, E in mV/m, P in nPa, T in eV, J in uA/m^2, J.E in nW/m^3; time in ns UTC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import Floats, Times

ION_MASS = 1.6726e-27  # kg, as in the published code
BOLTZMANN = 1.3807e-23  # J/K
KELVIN_PER_EV = 11604.0
CHARGE = 1.602176634e-10 * 1e6  # e in C, with cm^-3 km/s -> uA/m^2
PUBLISHED_CHARGE = 1.6e-10 * 1e6  # as in the published code


def subtract_ion_background(
    n: Floats, v: Floats, p: Floats, n_bg: Floats, p_bg: Floats
) -> tuple[Floats, Floats, Floats]:
    """Ion density, velocity (n, 3) and pressure tensor (n, 3, 3) without the penetrating radiation.

    n' = n - n_bg; v' = v n/n'; P' = P + m n vv - P_bg I - m n' v'v' (MMS CMAD 4.5.7.5; LASP, "Penetrating radiation in
    DIS data"). Where n' is not positive the results mean nothing: the caller masks them.
    """
    n, v, p = n.astype(np.float64), v.astype(np.float64), p.astype(np.float64)
    corrected = n - n_bg
    with np.errstate(divide="ignore", invalid="ignore"):
        v_corrected = v * (n / corrected)[:, None]
        dynamic = n[:, None, None] * _dyad(v) - corrected[:, None, None] * _dyad(v_corrected)
    to_npa = ION_MASS * 1e6 * 1e6 * 1e9  # kg, cm^-3 and (km/s)^2 -> nPa
    p_corrected = p + to_npa * dynamic - p_bg[:, None, None] * np.eye(3)
    return corrected, v_corrected, p_corrected


def temperature_tensor(p: Floats, n: Floats) -> Floats:
    """(n, 3, 3) eV: T = P / (n k)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t: Floats = p * 1e-9 / (n[:, None, None] * 1e6) / BOLTZMANN / KELVIN_PER_EV
    return t


def along_and_across(t: Floats, b: Floats) -> tuple[Floats, Floats]:
    """(n,) and (n,), in the unit of t (n, 3, 3): parallel, b.T.b with b the unit field, and across, (tr T - T_par) / 2.

    b: (n, 3), any unit, in the frame of t; NaN where b is zero.
    """
    with np.errstate(invalid="ignore"):
        unit = b / np.linalg.norm(b, axis=1, keepdims=True)
    t_par: Floats = np.einsum("ni,nij,nj->n", unit, t, unit)
    return t_par, (np.trace(t, axis1=1, axis2=2) - t_par) / 2


def current(n: Floats, v: Floats, charge: float = CHARGE) -> Floats:
    """(n, 3) uA/m^2: the current n q v of charges of density n moving at v."""
    return n[:, None] * v * charge


def convection_field(v: Floats, b: Floats) -> Floats:
    """(n, 3) mV/m: -v x B."""
    field: Floats = -np.cross(v, b) * 1e-3
    return field


def dot(a: Floats, b: Floats) -> Floats:
    """(n,): the scalar product of each row."""
    product: Floats = (a * b).sum(axis=1)
    return product


def parallel(a: Floats, b: Floats) -> Floats:
    """(n,): the part of a along b, signed; NaN where b is zero."""
    with np.errstate(invalid="ignore"):
        part: Floats = dot(a, b) / np.linalg.norm(b, axis=1)
    return part


def perpendicular(a: Floats, b: Floats) -> Floats:
    """(n, 3): the part of a across b; NaN where b is zero."""
    with np.errstate(invalid="ignore"):
        part: Floats = a - (dot(a, b) / dot(b, b))[:, None] * b
    return part


def alfven_speed(b0: float, n0: float) -> float:
    """km/s, for B0 in nT and n0 in cm^-3 of protons (mass and mu_0 as in the published scaling)."""
    return float(b0 * 1e-9 / np.sqrt(n0 * 1e6 * 1.6726219e-27 * 4 * np.pi * 1e-7) / 1e3)


def fields_and_currents(
    b: Floats, e: Floats, n_e: Floats, v_i: Floats, v_e: Floats, charge: float = CHARGE
) -> dict[str, Floats]:
    """Everything that follows from fields and moments at one cadence; vectors (n, 3), all in one frame, whichever.

    Currents J = n_e e (v_i - v_e), its ion part n_e e v_i and electron part -n_e e v_e, their magnitudes; E_conv =
    -v_e x B and E' = E - E_conv; J.E and J.E' of each current; the parts of J, E and E' along and across B, and the
    products of these parts. Keys: j, ji, je, e_conv, e_prime, and with _mag, _par, _perp, _dot_e, _dot_e_prime.
    """
    currents = {"j": v_i - v_e, "ji": v_i, "je": -v_e}
    currents = {name: current(n_e, v, charge) for name, v in currents.items()}
    e_conv = convection_field(v_e, b)
    electric = {"e": e, "e_prime": e - e_conv}
    found: dict[str, Floats] = {"e_conv": e_conv, "e_prime": electric["e_prime"]}
    for name, vector in {**electric, **currents}.items():
        found[f"{name}_par"] = parallel(vector, b)
        found[f"{name}_perp"] = perpendicular(vector, b)
    for name, j in currents.items():
        found[name] = j
        found[f"{name}_mag"] = np.linalg.norm(j, axis=1)
        for field, vector in electric.items():
            found[f"{name}_dot_{field}"] = dot(j, vector)
            found[f"{name}_dot_{field}_par"] = found[f"{name}_par"] * found[f"{field}_par"]
            found[f"{name}_dot_{field}_perp"] = dot(found[f"{name}_perp"], found[f"{field}_perp"])
    return found


def interpolate(target: Times, time: Times, values: Floats) -> Floats:
    """Linear interpolation by SciPy's rule, which the published code uses; NaN outside the times.

    The interval of a target t is (x[k-1], x[k]] with k = searchsorted(x, t, "left") kept in 1..n-1, so a NaN on the
    left of an interval makes the result NaN even where t coincides with x[k].
    """
    if len(time) < 2:
        return np.full((len(target), *values.shape[1:]), np.nan)
    if (np.diff(time) < 0).any():  # SciPy sorts, stably
        order = np.argsort(time, kind="stable")
        time, values = time[order], values[order]
    k = np.searchsorted(time, target, "left").clip(1, len(time) - 1)
    left, right = values[k - 1].astype(np.float64), values[k].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (right - left) / _wide(time[k] - time[k - 1], values.ndim)
        result: Floats = slope * _wide(target - time[k - 1], values.ndim) + left
    result[(target < time[0]) | (target > time[-1])] = np.nan
    return result


def bin_mean(begin: Times, end: Times, time: Times, values: Floats) -> Floats:
    """Means over the half-open bins [begin, end); NaN for an empty bin or one that holds a NaN.

    begin, end: (m,), increasing; time: (n,), increasing; values: (n, ...) -> (m, ...).
    """
    first, last = np.searchsorted(time, begin, "left"), np.searchsorted(time, end, "left")
    count = np.where(last > first, last - first, np.nan)
    mean: Floats = slice_sum(values, first, last) / _wide(count, values.ndim)
    return mean


def published_mean(target: Times, time: Times, values: Floats) -> Floats:
    """The published code's average of `values` around each target time, with its known errors.

    With midpoints s between targets: sample 0 takes t <= s[0]; sample i takes s[i-1] <= t <= s[i], both ends closed;
    sample n-2 takes all t >= s[n-2]; sample n-1 stays 0. NaN values are left out of a mean; one that is still NaN is
    replaced by the row before.
    """
    n = len(target)
    result = np.zeros((n, *values.shape[1:]))
    if n < 2:
        return result
    middle = target[:-1] + (target[1:] - target[:-1]) / 2
    begin = np.concatenate([[0], np.searchsorted(time, middle[:-1], "left")])
    end = np.searchsorted(time, middle, "right")
    begin[-1], end[-1] = np.searchsorted(time, middle[-1], "left"), len(time)
    valid = np.isfinite(values)
    count = slice_sum(valid, begin, end)
    result[:-1] = slice_sum(np.where(valid, values, 0), begin, end) / np.where(count > 0, count, np.nan)
    return _previous_where_nan(result)


def slice_sum(values: NDArray[Any], first: NDArray[np.intp], last: NDArray[np.intp]) -> Floats:
    """(m, ...): the sum of values[first[i]:last[i]] for each i, 0 where that is empty; slices may overlap."""
    edges = np.stack([first, np.maximum(last, first + 1)], axis=1).ravel()
    if edges.size and edges.max() >= len(values):
        values = np.concatenate([values, np.zeros((2, *values.shape[1:]), values.dtype)])
        edges = np.minimum(edges, len(values) - 1)
    sums = np.add.reduceat(values, edges, axis=0, dtype=np.float64)[::2]
    return np.where(_wide(last > first, values.ndim), sums, 0.0)


def _wide(rows: NDArray[Any], ndim: int) -> NDArray[Any]:
    """(n,) -> (n, 1, ...), to go with arrays of `ndim` dimensions."""
    return rows.reshape(-1, *[1] * (ndim - 1))


def _previous_where_nan(rows: Floats) -> Floats:
    """Each row with a NaN replaced by the last row before it that has none (zeros before the first such row)."""
    bad = np.isnan(rows.reshape(len(rows), -1)).any(axis=1)
    source = np.maximum.accumulate(np.where(bad, -1, np.arange(len(rows))))
    return np.where(_wide(source < 0, rows.ndim), 0.0, rows[source])


def _dyad(v: Floats) -> Floats:
    return v[:, :, None] * v[:, None, :]
