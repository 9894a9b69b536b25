"""Convention `corrected`: its numbers under the names of the published code, each variable at its own cadence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mms_regions.core.events import Event
from mms_regions.core.types import Floats, Times
from mms_regions.physics.burst import Burst, Moments
from mms_regions.physics.corrected import (
    ROBUST,
    corrected_samples,
    electron_temperatures,
    electrons_of,
    ion_temperatures,
)
from mms_regions.physics.formulas import alfven_speed
from mms_regions.physics.frames import gse_to_gsm, gsm_to_gse
from mms_regions.physics.published_names import derived_names, in_utc, series
from mms_regions.physics.resample import field_mean
from mms_regions.physics.samples import Samples
from mms_regions.physics.screening import Field, Screening, Species, electric_of, magnetic_of, species_of
from mms_regions.physics.thin_electrons import Electrons

if TYPE_CHECKING:
    import xarray as xr


def corrected_variables(
    burst: Burst, event: Event, bridge: float, screening: Screening = ROBUST
) -> dict[str, xr.DataArray]:
    """What `published_variables` gives, by the same names, in the corrected convention: but for `E_fast`.

    burst: with a margin around the event, as for `corrected_samples`; variables end where the event does. `E_ave_ve`
    is the mean of the burst field. Vectors are in GSE, those in `..._norm` in GSM and dimensionless.
    Raises SegmentProblem where an input has no usable sample in the interval.
    """
    ions, electrons = species_of("dis", burst.ions), electrons_of(burst, screening)
    magnetic, electric = magnetic_of(burst.magnetic), electric_of(burst.electric, screening.edp_quality)
    samples = corrected_samples(burst, event, bridge, screening)
    plasma = _of_ions(burst.ions, ions, magnetic) | _of_electrons(burst.electrons, electrons, magnetic)
    normalised = _normalised(burst, event, ions, electrons.species, magnetic, electric)
    own = plasma | _of_fields(magnetic, electric) | normalised
    begin, end = (np.datetime64(int(t), "ns") for t in event.trange)
    found = {}
    for name, data in own.items():
        utc = in_utc(data, burst.clock)
        found[name] = utc.isel(time=(utc["time"].values >= begin) & (utc["time"].values <= end))
    found |= _at_electrons(samples)
    return {f"mms{burst.probe}_{name}": data.rename(f"mms{burst.probe}_{name}") for name, data in found.items()}


def _of_ions(moments: Moments, ions: Species, magnetic: Field) -> dict[str, xr.DataArray]:
    t_par, t_perp = ion_temperatures(ions, magnetic)
    b = field_mean(ions.time, ions.accumulation // 2, magnetic)
    return {
        "Ni": series(ions.time, ions.n),
        "vi": series(ions.time, ions.v_gse),
        "Ti_para": series(ions.time, t_par),
        "Ti_perp": series(ions.time, t_perp),
        "B_dis": series(ions.time, b),
        "dis_prestensor_gse_brst": series(ions.time, ions.p_gse),
        "dis_heatq_gse_brst": series(ions.time, ions.q_gse),
        **_spectra("dis", moments, ions),
    }


def _of_electrons(moments: Moments, electrons: Electrons, magnetic: Field) -> dict[str, xr.DataArray]:
    each = electrons.species
    t_par, t_perp = electron_temperatures(moments, electrons, magnetic)
    return {
        "Ne": series(each.time, each.n),
        "ve": series(each.time, each.v_gse),
        "Te_para": series(each.time, t_par),
        "Te_perp": series(each.time, t_perp),
        "des_prestensor_gse_brst": series(each.time, each.p_gse),
        "des_heatq_gse_brst": series(each.time, each.q_gse),
        **_spectra("des", moments, each),
    }


def _spectra(short: str, moments: Moments, species: Species) -> dict[str, xr.DataArray]:
    usable, energy = np.isfinite(species.n)[:, None], moments.energy[species.order]
    return {
        f"{short}_energyspectr_{name}_brst": series(
            species.time, np.where(usable, values[species.order], np.float32(np.nan)), energy
        )
        for name, values in moments.spectra.items()
    }


def _of_fields(magnetic: Field, electric: Field) -> dict[str, xr.DataArray]:
    return {
        "B": series(magnetic.time, magnetic.values),
        "Bmag": series(magnetic.time, _magnitude(magnetic.values)),
        "E": series(electric.time, electric.values),
    }


def _normalised(
    burst: Burst, event: Event, ions: Species, electrons: Species, magnetic: Field, electric: Field
) -> dict[str, xr.DataArray]:
    b0, n0 = event.normalisation.b0, event.normalisation.n0
    v_a = alfven_speed(b0, n0)

    def gsm(time: Times, gse: Floats, scale: float) -> xr.DataArray:
        return series(time, gse_to_gsm(burst.clock.utc(time), gse) / scale)

    return {
        "Ni_norm": series(ions.time, ions.n / n0),
        "Ne_norm": series(electrons.time, electrons.n / n0),
        "B_norm": gsm(magnetic.time, magnetic.values, b0),
        "Bmag_norm": series(magnetic.time, _magnitude(magnetic.values) / b0),
        "vi_norm": gsm(ions.time, ions.v_gse, v_a),
        "ve_norm": gsm(electrons.time, electrons.v_gse, v_a),
        "E_norm": gsm(electric.time, electric.values, b0 * v_a * 1e-3),
    }


def _at_electrons(samples: Samples) -> dict[str, xr.DataArray]:
    """What is at electron times: averages, currents, fields in the electron frame and their products."""
    names = derived_names() | {"B_des": "b", "E_ave_ve": "e", "vi_des": "vi"}
    found = {}
    for name, mine in names.items():
        vector = samples.physics.get(f"{mine}_gsm")
        values = samples.physics[mine] if vector is None else gsm_to_gse(samples.time, vector)
        found[name] = series(samples.time, values)
    return found


def _magnitude(vectors: Floats) -> Floats:
    magnitude: Floats = np.linalg.norm(vectors, axis=1)
    return magnitude
