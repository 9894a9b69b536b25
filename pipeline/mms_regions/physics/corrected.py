"""Convention `corrected`, the default: the method of Waters et al. (2025) with the known errors of its code corrected.

FPI samples stand at the centre of their accumulation, B and burst E are averaged over each electron accumulation,
T_i is taken with the corrected density, flagged samples are missing, and missing time stays in the record as rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mms_regions.archive.products import DES, known_loss
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.leap_seconds import Clock
from mms_regions.core.outcomes import Cause
from mms_regions.core.types import SECOND, Bits, Flags, Floats, Times
from mms_regions.physics.burst import Burst, Moments
from mms_regions.physics.features import scaled_features
from mms_regions.physics.formulas import along_and_across, fields_and_currents, temperature_tensor
from mms_regions.physics.frames import gse_to_gsm, tensor_gse_to_gsm
from mms_regions.physics.resample import Input, averaged, field_mean, interpolated
from mms_regions.physics.samples import Samples, as_physics, quality_of
from mms_regions.physics.screening import (
    Field,
    Screening,
    Species,
    electric_of,
    electric_reasons,
    magnetic_of,
    species_of,
)
from mms_regions.physics.thin_electrons import WIDTHS, Electrons, averaged_electrons, density_error

ROBUST = Screening()


def corrected_samples(burst: Burst, event: Event, bridge: float, screening: Screening = ROBUST) -> Samples:
    """A segment at electron centres from t_start to t_end, missing time kept as rows of NaN.

    burst: with a margin around the event, so that edges have data. bridge: seconds; an input that is missing for at
    most as long is interpolated so that the network's state goes on, and its samples are marked `bridged`. Nothing is
    derived from interpolated or assumed moments. Raises SegmentProblem where an input has no usable sample.
    """
    ions = species_of("dis", burst.ions)
    electrons = electrons_of(burst, screening)
    magnetic, electric = magnetic_of(burst.magnetic), electric_of(burst.electric, screening.edp_quality)
    each = electrons.species
    time, source = rows_of("electron", each.time, each.accumulation, event, burst.clock)
    utc = burst.clock.utc(time)
    longest, half = round(bridge * SECOND), each.accumulation // 2
    ion_input = interpolated(time, ions.time, _columns(ions), ions.accumulation, longest)
    each = with_assumed_velocity(electrons, ions, longest)
    inputs = {
        "electrons": interpolated(time, each.time, _columns(each), each.accumulation, longest),
        "ions": ion_input,
        "magnetic_field": averaged(time, half, magnetic, longest),
        "electric_field": averaged(time, half, electric, longest),
    }
    _refuse_nothing_measured(inputs, event, burst, screening)
    b, e = (gse_to_gsm(utc, inputs[name].values) for name in ("magnetic_field", "electric_field"))
    n_i, v_i = inputs["ions"].values[:, 0], gse_to_gsm(utc, inputs["ions"].values[:, 1:])
    n_e, v_e = inputs["electrons"].values[:, 0], gse_to_gsm(utc, inputs["electrons"].values[:, 1:])
    present = source >= 0
    assumed = present & electrons.assumed[source]
    derived = fields_and_currents(
        b,
        e,
        n_e=_only(inputs["electrons"].measured, n_e),
        v_i=_only(inputs["ions"].measured, v_i),
        v_e=_only(inputs["electrons"].measured & ~assumed, v_e),
    )
    derived |= {"b": b, "e": e, "ni": n_i, "ne": n_e, "vi": v_i, "ve": v_e}
    t_i = interpolated(time, ions.time, np.column_stack(ion_temperatures(ions, magnetic)), ions.accumulation, longest)
    derived |= dict(zip(("ti_par", "ti_perp"), _only(inputs["ions"].measured, t_i.values).T, strict=True))
    derived |= _electron_extras(utc, burst.electrons, electrons, magnetic, source)
    features = scaled_features(b, e, n_i, n_e, v_i, v_e, event.normalisation.b0, event.normalisation.n0)
    quality = _quality(time, half, inputs, source, (ions, electrons), (magnetic, electric))
    quality |= quality_of({"leap_second": burst.clock.in_leap_second(time)})
    return Samples(utc, features, quality, as_physics(derived))


def electrons_of(burst: Burst, screening: Screening) -> Electrons:
    """The electron moments in time order, thin ones averaged where the screening says so."""
    robust, moments = screening.electrons == "robust", burst.electrons
    single = species_of("des", moments, thin=robust)
    if not robust:
        one = np.isfinite(single.n).astype(np.int64)
        return Electrons(single, one, one, np.zeros(len(single.n), bool))
    reported = None if moments.n_err is None else moments.n_err[single.order]
    return averaged_electrons(single, density_error(single.n, reported), screening.electron_average)


def with_assumed_velocity(electrons: Electrons, ions: Species, longest: int) -> Species:
    """The electrons, moving with the ions where DES saw none whose velocity is known."""
    each, unknown = electrons.species, electrons.assumed
    if not unknown.any():
        return each
    v_i = interpolated(each.time[unknown], ions.time, _columns(ions), ions.accumulation, longest).values[:, 1:]
    v = each.v_gse.copy()
    v[unknown] = v_i
    return replace(each, v_gse=v)


def _only(where: Flags, values: Floats) -> Floats:
    """Values in the rows `where`, NaN in the others."""
    only: Floats = np.where(where.reshape(-1, *[1] * (values.ndim - 1)), values, np.nan)
    return only


def rows_of(species: str, samples: Times, step: int, event: Event, clock: Clock) -> tuple[Times, NDArray[np.intp]]:
    """Even times of the rows of an event, and for each the sample that it is, or -1 for a row of missing time.

    samples: increasing even times, `step` (ns) apart where none is missing. Raises SegmentProblem where none is in the
    interval; species: electron or ion, for the message.
    """
    begin, end = clock.even(np.array(event.trange))
    inside = np.flatnonzero((samples >= begin) & (samples <= end))
    if not inside.size:
        raise SegmentProblem(
            f"{event.name}: no {species} sample in {event.interval}; see whether a file is missing",
            Cause.NOTHING_MEASURED,
        )
    known = samples[inside]
    gaps = np.maximum(np.rint(np.diff(known) / step).astype(np.int64), 1)
    lead, tail = (known[0] - begin) // step, (end - known[-1]) // step
    place = lead + np.concatenate([[0], np.cumsum(gaps)])
    row = np.arange(place[-1] + tail + 1)
    time = known[0] + np.rint(np.interp(row, place, known - known[0])).astype(np.int64)
    time[:lead] = known[0] - step * np.arange(lead, 0, -1)
    time[place[-1] + 1 :] = known[-1] + step * np.arange(1, tail + 1)
    source = np.full(len(row), -1, np.intp)
    source[place] = inside
    return time, source


def _columns(species: Species) -> Floats:
    """(n, 4): density and velocity, all NaN where one of them is."""
    columns = np.column_stack([species.n, species.v_gse])
    columns[np.isnan(columns).any(axis=1)] = np.nan
    return columns


def ion_temperatures(ions: Species, magnetic: Field) -> tuple[Floats, Floats]:
    """(n,), (n,) eV along and across B at the ion times."""
    b = field_mean(ions.time, ions.accumulation // 2, magnetic)
    return along_and_across(temperature_tensor(ions.p_gse, ions.n), b)


def electron_temperatures(moments: Moments, electrons: Electrons, magnetic: Field) -> tuple[Floats, Floats]:
    """(n,), (n,) eV along and across B at the electron times: the file's, of means those of their pressure."""
    each = electrons.species
    b = field_mean(each.time, each.accumulation // 2, magnetic)
    mean = along_and_across(temperature_tensor(each.p_gse, each.n), b)
    usable = np.isfinite(each.n) & ~electrons.assumed
    t_par, t_perp = (
        np.where(electrons.averaged, of_mean, _only(usable, values[each.order]))
        for of_mean, values in zip(mean, (moments.t_par, moments.t_perp), strict=True)
    )
    return t_par, t_perp


def _electron_extras(
    utc: Times, moments: Moments, electrons: Electrons, magnetic: Field, source: NDArray[np.intp]
) -> dict[str, Floats]:
    """Electron quantities that no feature needs; NaN for rows that are missing or masked."""
    each = electrons.species
    t_par, t_perp = electron_temperatures(moments, electrons, magnetic)
    usable = (source >= 0) & np.isfinite(each.n[source])

    def at_rows(values: Floats) -> Floats:
        return _only(usable, values[source].astype(np.float32))

    return {
        "te_par": at_rows(t_par),
        "te_perp": at_rows(t_perp),
        "pe": tensor_gse_to_gsm(utc, at_rows(each.p_gse)),
        "qe": gse_to_gsm(utc, at_rows(each.q_gse)),
        "electron_energy": at_rows(moments.energy[each.order]),
        **{f"electron_spectrum_{name}": at_rows(values[each.order]) for name, values in moments.spectra.items()},
    }


def _quality(
    at: Times,
    half: int,
    inputs: dict[str, Input],
    source: NDArray[np.intp],
    species: tuple[Species, Electrons],
    fields: tuple[Field, Field],
) -> Bits:
    ions, electrons = species[0], species[1].species
    nearest = _nearest(at, ions.time)
    present = source >= 0
    found = {
        "no_electron_sample": ~present,
        "bridged": np.logical_or.reduce([x.bridged for x in inputs.values()])
        & np.logical_and.reduce([x.measured | x.bridged for x in inputs.values()]),
        "fpi_caution": present & electrons.caution[source] | ions.caution[nearest],
        "edp_caution": _any_in_bin(at, half, fields[1].time, fields[1].caution),
        "ion_background_exceeds_density": ions.empty[nearest],
        "ion_background_large": ions.background_large[nearest],
        "penetrating_radiation": ions.penetrating[nearest],
        "electrons_averaged": present & species[1].averaged[source],
        **{f"mean_of_{width}": present & (species[1].width[source] == width) for width in WIDTHS},
        "electrons_assumed": present & species[1].assumed[source],
        "partial": np.logical_or.reduce([x.partial for x in inputs.values()]),
        "repeated_time": present & electrons.repeated[source]
        | ions.repeated[nearest]
        | np.logical_or.reduce([_any_in_bin(at, half, x.time, x.repeated) for x in fields]),
    }
    return quality_of(found | {f"{name}_missing": ~x.measured for name, x in inputs.items()})


def _nearest(at: Times, time: Times) -> NDArray[np.intp]:
    right = np.searchsorted(time, at).clip(1, max(len(time) - 1, 1)).clip(0, len(time) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(at - time[left] <= time[right] - at, left, right)


def _any_in_bin(at: Times, half: int, time: Times, where: Flags) -> Flags:
    if not where.any():
        return np.zeros(len(at), bool)
    count = np.concatenate([[0], np.cumsum(where)])
    inside: Flags = count[np.searchsorted(time, at + half)] > count[np.searchsorted(time, at - half)]
    return inside


def _refuse_nothing_measured(inputs: dict[str, Input], event: Event, burst: Burst, screening: Screening) -> None:
    empty = [name.replace("_", " ") for name, data in inputs.items() if not data.measured.any()]
    if not empty:
        return
    reasons = electric_reasons(burst.electric, screening.edp_quality) if "electric field" in empty else ""
    because = f" (EDP: {reasons})" if reasons else ""
    raise SegmentProblem(
        f"{event.name}/mms{burst.probe}: no usable sample of {', '.join(empty)} in {event.interval}: "
        f"only gaps, or values that are fill, flagged or out of range{because}; look for newer versions of its files"
        f"{known_loss(Segment(event, burst.probe), [DES] if 'electrons' in empty else [])}",
        Cause.NOTHING_MEASURED,
    )
