"""Convention `published`: the numbers of the published code (Waters et al. 2025), with its known errors.

Kept so that a paper can be reproduced; held by parity tests. Electron times are 60 ms late, B and E enter the features
as point samples, T_i is taken with the uncorrected density, averages end in zeros. `corrected` avoids all of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mms_regions.core.events import Event
from mms_regions.core.types import Bits, Flags, Floats, Times
from mms_regions.physics.burst import Burst
from mms_regions.physics.features import scaled_features
from mms_regions.physics.formulas import (
    PUBLISHED_CHARGE,
    alfven_speed,
    along_and_across,
    fields_and_currents,
    interpolate,
    published_mean,
    subtract_ion_background,
    temperature_tensor,
)
from mms_regions.physics.frames import gse_to_gsm, tensor_gse_to_gsm
from mms_regions.physics.published_names import derived_names, in_utc, series
from mms_regions.physics.samples import Samples, as_physics, quality_of

if TYPE_CHECKING:
    import xarray as xr  # and pandas with it: half a second that preparing does not need

FPI_SHIFT = 0.075  # s, for ions and electrons alike


@dataclass(frozen=True)
class _Series:
    """Even times after the published code's passes through float seconds, and ion moments as that code makes them."""

    ion_time: Times
    electron_time: Times
    ion_time_unshifted: Times
    electron_time_unshifted: Times
    b_time: Times
    e_time: Times
    e_fast_time: Times
    e_fast: Floats
    n_i: Floats
    v_i: Floats
    p_i: Floats
    t_i_par: Floats
    t_i_perp: Floats


def published_samples(burst: Burst, event: Event) -> Samples:
    """A segment as the published code prepares it: rows are the electron samples as they come, none added.

    burst: clipped to the event, fill values masked, the fast-mode field included.
    Raises ValueError without the fast-mode field or the ion background, and for times outside 2010-2030.
    """
    s = _series(burst)
    t, utc = s.electron_time, burst.clock.utc(s.electron_time)
    b = gse_to_gsm(utc, interpolate(t, s.b_time, burst.magnetic.b_gse))
    e = gse_to_gsm(utc, interpolate(t, s.e_time, burst.electric.e_gse))
    n_i, n_e = interpolate(t, s.ion_time, s.n_i), burst.electrons.n.astype(np.float64)
    v_i = gse_to_gsm(utc, interpolate(t, s.ion_time, s.v_i))
    v_e = gse_to_gsm(utc, burst.electrons.v_gse)
    features = scaled_features(b, e, n_i, n_e, v_i, v_e, event.normalisation.b0, event.normalisation.n0)
    quality = _quality(b, e, n_i, n_e, v_i, v_e) | quality_of({"leap_second": burst.clock.in_leap_second(t)})
    return Samples(utc, features, quality, _physics(burst, s))


def published_variables(burst: Burst, event: Event) -> dict[str, xr.DataArray]:
    """Every variable that the published code saves, by its name there (`mms4_jdoteprime`), with its times.

    Vectors are in GSE, those in `..._norm` in GSM and dimensionless; times are datetime64[ns]; spectra carry their
    energies in eV. The keys are those of the two tplot files (vars, vars_norm), without the spectra's axis variables.
    Parts along and across B are NaN where the averaged B is zero. Raises ValueError as `published_samples` does.
    """
    s = _series(burst)
    at = _at_electrons(burst, s)
    named = _measured(burst, s, at) | _derived(s, at) | _normalised(burst, s, event)
    return {
        f"mms{burst.probe}_{name}": in_utc(data, burst.clock).rename(f"mms{burst.probe}_{name}")
        for name, data in named.items()
    }


def _series(burst: Burst) -> _Series:
    ions, electrons, magnetic = burst.ions, burst.electrons, burst.magnetic
    if burst.electric_fast is None or ions.n_bg is None or ions.p_bg is None:
        raise ValueError("the published convention needs the fast-mode field and the ion background")
    n_i, v_i, p_i = subtract_ion_background(ions.n, ions.v_gse, ions.p_gse, ions.n_bg, ions.p_bg)
    v_i[n_i == 0], p_i[n_i == 0] = np.nan, np.nan  # infinite in the published code: no velocity of nothing
    ion_time_unshifted, b_time = _tplot_time(ions.time), _tplot_time(magnetic.time)
    b_at_ions = interpolate(ion_time_unshifted, b_time, magnetic.b_gse)
    t_par, t_perp = along_and_across(temperature_tensor(p_i, ions.n.astype(np.float64)), b_at_ions)
    return _Series(
        ion_time=_tplot_time(ions.time, FPI_SHIFT),
        electron_time=_tplot_time(electrons.time, FPI_SHIFT),
        ion_time_unshifted=ion_time_unshifted,
        electron_time_unshifted=_tplot_time(electrons.time),
        b_time=b_time,
        e_time=_tplot_time(burst.electric.time),
        e_fast_time=_tplot_time(burst.electric_fast.time),
        e_fast=burst.electric_fast.e_gse,
        n_i=n_i,
        v_i=v_i,
        p_i=p_i,
        t_i_par=t_par,
        t_i_perp=t_perp,
    )


def _tplot_time(time: Times, shift: float = 0.0) -> Times:
    """Times after the published code's passes through float seconds: two, and one more that adds the shift."""
    for seconds in ([shift] if shift else []) + [0.0, 0.0]:
        time = ((time / 1e9 + seconds) * 1e9).astype(np.int64)
    return time


def _at_electrons(burst: Burst, s: _Series) -> dict[str, Floats]:
    """The published averages and moments at electron times, in GSE."""
    t = s.electron_time
    return {
        "b": published_mean(t, s.b_time, burst.magnetic.b_gse),
        "e": published_mean(t, s.e_fast_time, s.e_fast),
        "n_e": burst.electrons.n.astype(np.float64),
        "v_i": interpolate(t, s.ion_time, s.v_i),
        "v_e": burst.electrons.v_gse.astype(np.float64),
    }


def _physics(burst: Burst, s: _Series) -> dict[str, Floats]:
    """What the store keeps: the published quantities at electron times, vectors turned to GSM."""
    t, electrons = s.electron_time, burst.electrons
    utc = burst.clock.utc(t)
    at = {key: gse_to_gsm(utc, x) if x.ndim == 2 else x for key, x in _at_electrons(burst, s).items()}
    derived = fields_and_currents(**at, charge=PUBLISHED_CHARGE)
    return as_physics(
        {
            **derived,
            "b": at["b"],
            "e": at["e"],
            "ni": interpolate(t, s.ion_time, s.n_i),
            "ne": at["n_e"],
            "vi": at["v_i"],
            "ve": at["v_e"],
            "ti_par": interpolate(t, s.ion_time, s.t_i_par),
            "ti_perp": interpolate(t, s.ion_time, s.t_i_perp),
            "te_par": electrons.t_par,
            "te_perp": electrons.t_perp,
            "pe": tensor_gse_to_gsm(utc, electrons.p_gse),
            "qe": gse_to_gsm(utc, electrons.q_gse),
            "electron_energy": electrons.energy,
            **{f"electron_spectrum_{name}": values for name, values in electrons.spectra.items()},
        }
    )


def _quality(b: Floats, e: Floats, n_i: Floats, n_e: Floats, v_i: Floats, v_e: Floats) -> Bits:
    missing = {
        "electrons_missing": np.isnan(n_e) | _missing(v_e),
        "ions_missing": np.isnan(n_i) | _missing(v_i),
        "magnetic_field_missing": _missing(b),
        "electric_field_missing": _missing(e),
    }
    return quality_of(missing)


def _missing(vectors: Floats) -> Flags:
    rows: Flags = np.logical_or.reduce(np.isnan(vectors), axis=1)
    return rows


def _measured(burst: Burst, s: _Series, at: dict[str, Floats]) -> dict[str, xr.DataArray]:
    ions, electrons, magnetic = burst.ions, burst.electrons, burst.magnetic
    found = {
        "Bmag": series(s.b_time, magnetic.b_mag),
        "B": series(s.b_time, magnetic.b_gse),
        "B_des": series(s.electron_time, at["b"]),
        "B_dis": series(s.ion_time, published_mean(s.ion_time, s.b_time, magnetic.b_gse)),
        "Ni": series(s.ion_time, s.n_i),
        "Ne": series(s.electron_time, electrons.n),
        "vi": series(s.ion_time, s.v_i),
        "vi_des": series(s.electron_time, at["v_i"]),
        "ve": series(s.electron_time, electrons.v_gse),
        "Te_perp": series(s.electron_time, electrons.t_perp),
        "Te_para": series(s.electron_time, electrons.t_par),
        "Ti_perp": series(s.ion_time, s.t_i_perp),
        "Ti_para": series(s.ion_time, s.t_i_par),
        "E": series(s.e_time, burst.electric.e_gse),
        "E_fast": series(s.e_fast_time, s.e_fast),
        "E_ave_ve": series(s.electron_time, at["e"]),
        "dis_heatq_gse_brst": series(s.ion_time_unshifted, ions.q_gse),
        "des_heatq_gse_brst": series(s.electron_time_unshifted, electrons.q_gse),
        "dis_prestensor_gse_brst": series(s.ion_time_unshifted, s.p_i),
        "des_prestensor_gse_brst": series(s.electron_time_unshifted, electrons.p_gse),
    }
    for short, time, moments in (("dis", s.ion_time, ions), ("des", s.electron_time, electrons)):
        for name, spectrum in moments.spectra.items():
            found[f"{short}_energyspectr_{name}_brst"] = series(time, spectrum, moments.energy)
    return found


def _derived(s: _Series, at: dict[str, Floats]) -> dict[str, xr.DataArray]:
    found = fields_and_currents(**at, charge=PUBLISHED_CHARGE)
    return {name: series(s.electron_time, found[mine]) for name, mine in derived_names().items()}


def _normalised(burst: Burst, s: _Series, event: Event) -> dict[str, xr.DataArray]:
    b0, n0 = event.normalisation.b0, event.normalisation.n0
    v_a = alfven_speed(b0, n0)
    magnetic, electric, electrons = burst.magnetic, burst.electric, burst.electrons

    def gsm(time: Times, gse: Floats) -> Floats:
        return gse_to_gsm(burst.clock.utc(time), gse)

    return {
        "Ni_norm": series(s.ion_time, s.n_i / n0),
        "Ne_norm": series(s.electron_time, electrons.n / n0),
        "B_norm": series(s.b_time, gsm(s.b_time, magnetic.b_gse) / b0),
        "Bmag_norm": series(s.b_time, magnetic.b_mag / b0),
        "vi_norm": series(s.ion_time, gsm(s.ion_time, s.v_i) / v_a),
        "ve_norm": series(s.electron_time, gsm(s.electron_time, electrons.v_gse) / v_a),
        "E_norm": series(s.e_time, gsm(s.e_time, electric.e_gse) / (b0 * v_a * 1e-3)),
    }
