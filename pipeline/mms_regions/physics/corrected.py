"""Convention `corrected`, the default: the method of Waters et al. (2025) with the known errors of its code corrected.

FPI samples stand at the centre of their accumulation, B and burst E are averaged over each electron accumulation,
T_i is taken with the corrected density, flagged samples are missing, and missing time stays in the record as rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.catalogue import Event
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.leap_seconds import Clock
from mms_regions.core.types import SECOND, Bits, Flags, Floats, Times
from mms_regions.physics.burst import Burst, Moments
from mms_regions.physics.features import scaled_features
from mms_regions.physics.formulas import along_and_across, bin_mean, fields_and_currents, temperature_tensor
from mms_regions.physics.frames import gse_to_gsm, tensor_gse_to_gsm
from mms_regions.physics.resample import Input, averaged, interpolated
from mms_regions.physics.samples import Samples, as_physics, quality_of
from mms_regions.physics.screening import Field, Species, electric_of, magnetic_of, species_of


def corrected_samples(burst: Burst, event: Event, bridge: float) -> Samples:
    """A segment at electron centres from t_start to t_end, missing time kept as rows of NaN.

    burst: with a margin around the event, so that edges have data. bridge: seconds; an input that is missing for at
    most as long is interpolated so that the network's state goes on, and its samples are marked `bridged`. Raises
    SegmentProblem where an input has no usable sample in the interval.
    """
    ions, electrons = species_of("dis", burst.ions), species_of("des", burst.electrons)
    magnetic, electric = magnetic_of(burst.magnetic), electric_of(burst.electric)
    time, source = rows_of("electron", electrons.time, electrons.accumulation, event, burst.clock)
    utc = burst.clock.utc(time)
    longest = round(bridge * SECOND)
    half = electrons.accumulation // 2
    inputs = {
        "electrons": interpolated(time, electrons.time, _columns(electrons), electrons.accumulation, longest),
        "ions": interpolated(time, ions.time, _columns(ions), ions.accumulation, longest),
        "magnetic_field": averaged(time, half, magnetic, longest),
        "electric_field": averaged(time, half, electric, longest),
    }
    _refuse_nothing_measured(inputs, event, burst)
    b, e = (gse_to_gsm(utc, inputs[name].values) for name in ("magnetic_field", "electric_field"))
    n_i, v_i = inputs["ions"].values[:, 0], gse_to_gsm(utc, inputs["ions"].values[:, 1:])
    n_e, v_e = inputs["electrons"].values[:, 0], gse_to_gsm(utc, inputs["electrons"].values[:, 1:])
    derived = fields_and_currents(b, e, n_e, v_i, v_e)
    derived |= {"b": b, "e": e, "ni": n_i, "ne": n_e, "vi": v_i, "ve": v_e}
    derived |= _ion_temperatures(time, ions, magnetic, longest)
    derived |= _electron_extras(utc, burst.electrons, electrons.order[source], source < 0)
    features = scaled_features(b, e, n_i, n_e, v_i, v_e, event.B0, event.n0)
    quality = _quality(time, half, inputs, source, (ions, electrons), (magnetic, electric))
    quality |= quality_of({"leap_second": burst.clock.in_leap_second(time)})
    return Samples(utc, features, quality, as_physics(derived))


def rows_of(species: str, samples: Times, step: int, event: Event, clock: Clock) -> tuple[Times, NDArray[np.intp]]:
    """Even times of the rows of an event, and for each the sample that it is, or -1 for a row of missing time.

    samples: increasing even times, `step` (ns) apart where none is missing. Raises SegmentProblem where none is in the
    interval; species: electron or ion, for the message.
    """
    begin, end = clock.even(np.array(event.trange))
    inside = np.flatnonzero((samples >= begin) & (samples <= end))
    if not inside.size:
        raise SegmentProblem(f"{event.name}: no {species} sample in {event.interval}; see whether a file is missing")
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


def _ion_temperatures(at: Times, ions: Species, magnetic: Field, longest: int) -> dict[str, Floats]:
    columns = np.column_stack(ion_temperatures(ions, magnetic))
    both = interpolated(at, ions.time, columns, ions.accumulation, longest).values
    return {"ti_par": both[:, 0], "ti_perp": both[:, 1]}


def ion_temperatures(ions: Species, magnetic: Field) -> tuple[Floats, Floats]:
    """(n,), (n,) eV along and across B at the ion times."""
    half = ions.accumulation // 2
    b = bin_mean(ions.time - half, ions.time + half, magnetic.time, magnetic.values)
    return along_and_across(temperature_tensor(ions.p_gse, ions.n), b)


def _electron_extras(utc: Times, electrons: Moments, row: NDArray[np.intp], missing: Flags) -> dict[str, Floats]:
    """What is only carried along: rows of the electron files as they are, NaN for rows of missing time."""

    def at_rows(values: Floats) -> Floats:
        taken = values[row].astype(np.float32)
        taken[missing] = np.nan
        return taken

    return {
        "te_par": at_rows(electrons.t_par),
        "te_perp": at_rows(electrons.t_perp),
        "pe": tensor_gse_to_gsm(utc, at_rows(electrons.p_gse)),
        "qe": gse_to_gsm(utc, at_rows(electrons.q_gse)),
        "electron_energy": at_rows(electrons.energy),
        **{f"electron_spectrum_{name}": at_rows(values) for name, values in electrons.spectra.items()},
    }


def _quality(
    at: Times,
    half: int,
    inputs: dict[str, Input],
    source: NDArray[np.intp],
    species: tuple[Species, Species],
    fields: tuple[Field, Field],
) -> Bits:
    ions, electrons = species
    nearest = _nearest(at, ions.time)
    present = source >= 0
    found = {
        "no_electron_sample": ~present,
        "bridged": np.logical_or.reduce([x.bridged for x in inputs.values()])
        & np.logical_and.reduce([x.measured | x.bridged for x in inputs.values()]),
        "fpi_caution": present & electrons.caution[source] | ions.caution[nearest],
        "edp_caution": _any_in_bin(at, half, fields[1].time, fields[1].caution),
        "ion_background_exceeds_density": ions.empty[nearest],
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


def _refuse_nothing_measured(inputs: dict[str, Input], event: Event, burst: Burst) -> None:
    empty = [name.replace("_", " ") for name, data in inputs.items() if not data.measured.any()]
    if empty:
        raise SegmentProblem(
            f"{event.name}/mms{burst.probe}: no usable sample of {', '.join(empty)} in {event.interval}: "
            "only gaps, or values that are fill, flagged or out of range; look for newer versions of its files"
        )
