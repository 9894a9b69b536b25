"""Convention `corrected`, the default: the method of Waters et al. (2025) with the slips of its code mended.

FPI samples stand at the centre of their accumulation, B and burst E are averaged over each electron accumulation,
T_i is taken with the corrected density, flagged samples are missing, and missing time stays in the record as rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mms_regions.archive.products import CdfFile
from mms_regions.core.catalogue import Event
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.leap_seconds import Clock
from mms_regions.core.types import SECOND, Bits, Flags, Floats, Times
from mms_regions.physics.burst import Burst, ElectricField, MagneticField, Moments
from mms_regions.physics.features import scaled_features
from mms_regions.physics.formulas import (
    along_and_across,
    bin_mean,
    fields_and_currents,
    subtract_ion_background,
    temperature_tensor,
)
from mms_regions.physics.frames import gse_to_gsm, tensor_gse_to_gsm
from mms_regions.physics.samples import Samples, as_physics, quality_of

_PIECE = 1 << 20  # samples of a field that are looked at together: fresh memory costs more than what is done in it
_NEVER = np.iinfo(np.int64).max

# FPI error-flag bits (FPI data product guide): values that must not be used, and values to use with care.
_MASKED = {"dis": (0, 1, 11), "des": (0, 1, 7, 11)}
_CAUTION = (2, 3, 4, 5, 6, 8, 9, 10, 14)
_POTENTIAL_UNKNOWN, _THIN = 3, 0.1  # without a spacecraft potential, electron densities below 0.1 cm^-3 are not usable


@dataclass(frozen=True)
class _Input:
    """One input of the features at the rows: values (m, k), and which of its rows are not measured but bridged.

    measured: rows with a value of their own; bridged: rows with an interpolated one; the rest is NaN.
    """

    values: Floats
    measured: Flags
    bridged: Flags


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
        "electrons": _interpolated(time, electrons.time, _columns(electrons), electrons.accumulation, longest),
        "ions": _interpolated(time, ions.time, _columns(ions), ions.accumulation, longest),
        "magnetic_field": _averaged(time, half, magnetic, longest),
        "electric_field": _averaged(time, half, electric, longest),
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
    """The same of the electric field, NaN where its quality is bad."""
    rows, repeated = _rows_in_time_order(field)
    quality, values = field.quality[rows], field.e_gse[rows]
    bad = (quality == 0) | (quality > 3)
    if bad.any():
        values = np.where(bad[:, None], np.float32(np.nan), values)
    return Field(field.time[rows], values, (quality == 1) | (quality == 2), repeated)


def _rows_in_time_order(field: MagneticField | ElectricField) -> tuple[NDArray[np.intp] | slice, Flags]:
    """The same for a field, whose rows are many: nothing is copied where they are in order."""
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


def _finite_rows(values: Floats) -> Flags:
    """(n,): rows (n, k) without a NaN; column by column, for rows are short."""
    finite: Flags = np.logical_and.reduce([np.isfinite(column) for column in values.T])
    return finite


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


def _interpolated(at: Times, time: Times, values: Floats, cadence: int, longest: int) -> _Input:
    """Linear interpolation between samples that follow each other, across gaps of up to `longest` marked as bridged."""
    valid = np.isfinite(values).all(axis=1)
    time, values = time[valid], values[valid]
    if not time.size:
        return _nothing(len(at), values.shape[1])
    place = np.searchsorted(time, at, "left")
    coincide = time[np.minimum(place, len(time) - 1)] == at
    gap = np.where(coincide, 0, _missing_between(time, cadence)[place])
    return _filled(_linear(at, time, values), gap, longest)


def _averaged(at: Times, half: int, field: Field, longest: int) -> _Input:
    """Means over [at - half, at + half); where samples are missing for up to `longest`, interpolated from its rows."""
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
    whole = (gap == 0) & np.isfinite(means).all(axis=1)
    if whole.any():
        means[~whole] = _linear(rows[~whole], rows[whole], means[whole])
    inside = slice(len(beyond), -len(beyond))
    return _filled(means[inside], gap[inside], longest)


def _cadence(time: Times) -> int:
    """ns: the median step from a sample to the next, told from a thousand steps or more, spread evenly."""
    if len(time) < 2:
        return 0
    some = np.arange(0, len(time) - 1, max(1, len(time) // 2000))
    return int(np.median(time[some + 1] - time[some]))


def _gap_in_bins(at: Times, half: int, time: Times, cadence: int) -> Times:
    """(m,) ns: the longest stretch of missing samples that reaches into each bin; a sample stands for one cadence."""
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
    )  # the others are next to each other
    gaps = (np.rint((time[far + 1] - time[far]) / cadence).astype(np.int64) - 1) * cadence
    return np.concatenate([[0], far + 1, [len(time)]]), np.concatenate([[_NEVER], gaps, [_NEVER]])


def _filled(values: Floats, gap: Times, longest: int) -> _Input:
    """Values as they are where nothing is missing; marked where a short gap is bridged; NaN in long ones."""
    finite = np.isfinite(values).all(axis=1)
    measured, bridged = finite & (gap == 0), finite & (gap > 0) & (gap <= longest)
    values = np.where((measured | bridged)[:, None], values, np.nan)
    return _Input(values, measured, bridged)


def _nothing(rows: int, columns: int) -> _Input:
    return _Input(np.full((rows, columns), np.nan), np.zeros(rows, bool), np.zeros(rows, bool))


def _linear(at: Times, time: Times, values: Floats) -> Floats:
    """Plain linear interpolation of each column; NaN outside the times."""
    x, known = at - time[0], time - time[0]
    columns = [np.interp(x, known, values[:, i], left=np.nan, right=np.nan) for i in range(values.shape[1])]
    return np.stack(columns, axis=1)


def _ion_temperatures(at: Times, ions: Species, magnetic: Field, longest: int) -> dict[str, Floats]:
    columns = np.column_stack(ion_temperatures(ions, magnetic))
    both = _interpolated(at, ions.time, columns, ions.accumulation, longest).values
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
    inputs: dict[str, _Input],
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


def _any_bit(flags: NDArray[np.uint32], bits: Sequence[int]) -> Flags:
    mask = np.uint32(sum(1 << bit for bit in bits))
    some: Flags = (flags & mask) != 0
    return some


def _refuse_nothing_measured(inputs: dict[str, _Input], event: Event, burst: Burst) -> None:
    empty = [name.replace("_", " ") for name, data in inputs.items() if not data.measured.any()]
    if empty:
        raise SegmentProblem(
            f"{event.name}/mms{burst.probe}: no usable sample of {', '.join(empty)} in {event.interval}: "
            "only gaps, or values that are fill, flagged or out of range; look for newer versions of its files"
        )
