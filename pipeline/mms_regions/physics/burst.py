"""Read the CDF files of a segment into a `Burst`, clipped to a time range; no other module reads values of CDF files.

What is in the files is described in the MMS CMAD and in the FPI, FGM and EDP data product guides: FPI's `Epoch` is the
start of an accumulation that lasts `Epoch_plus_var`; velocities, pressures and fields are in GSE here. Times are even
time (`leap_seconds.Clock`): UTC, but with a leap second in the time range they run on evenly through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pycdfpp
from numpy.typing import NDArray

from mms_regions.archive.cdf_check import read_variables
from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, CdfFile
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.leap_seconds import Clock
from mms_regions.core.outcomes import Cause
from mms_regions.core.types import ENERGIES, Flags, Floats, Times

_FILL_TIME = np.iinfo(np.int64).min
SPECTRA = {"dis": ("omni",), "des": ("omni", "par", "perp", "anti")}

Invalid = Callable[[NDArray[Any], Mapping[str, Any]], Flags]


@dataclass(frozen=True)
class Moments:
    """FPI moments of one species as the files hold them; n rows, NaN where there is no value.

    n in cm^-3, v_gse (n, 3) in km/s, p_gse (n, 3, 3) in nPa, q_gse (n, 3) in mW/m^2, temperatures in eV, n_bg in cm^-3
    and p_bg in nPa (the penetrating radiation of the ion instrument, else None), energies and spectra (n, 32).
    """

    time: Times  # start of accumulation
    source: NDArray[np.int16]  # which file a row is from, as an index into `files`
    files: tuple[CdfFile, ...]
    accumulation: int  # ns
    n: Floats
    v_gse: Floats
    p_gse: Floats
    q_gse: Floats
    t_par: Floats
    t_perp: Floats
    error_flags: NDArray[np.uint32]
    energy: Floats
    spectra: Mapping[str, Floats]
    n_bg: Floats | None = None
    p_bg: Floats | None = None
    n_err: Floats | None = None  # cm^-3, statistical; None where the file has none
    beyond: Flags | None = None  # rows whose velocity was out of its valid range, no fill value

    def __post_init__(self) -> None:
        _check_rows(self)


@dataclass(frozen=True)
class MagneticField:
    """FGM: b_gse (n, 3) and b_mag (n,) in nT, NaN where the instrument's flag is not 0."""

    time: Times
    source: NDArray[np.int16]
    files: tuple[CdfFile, ...]
    b_gse: Floats
    b_mag: Floats

    def __post_init__(self) -> None:
        _check_rows(self)


@dataclass(frozen=True)
class ElectricField:
    """EDP: e_gse (n, 3) in mV/m; quality (n,) from 0 (worst) to 4 (best)."""

    time: Times
    source: NDArray[np.int16]
    files: tuple[CdfFile, ...]
    e_gse: Floats
    quality: NDArray[np.uint8]
    bitmask: NDArray[np.uint16] | None = None

    def __post_init__(self) -> None:
        _check_rows(self)


@dataclass(frozen=True)
class Burst:
    """All that one spacecraft measured in a time range, each variable at its own cadence, rows in order of files."""

    probe: int
    ions: Moments
    electrons: Moments
    magnetic: MagneticField
    electric: ElectricField
    electric_fast: ElectricField | None
    position_gse: Floats  # (3,) km, mean over the time range
    clock: Clock = field(default_factory=Clock)  # of the times of all variables

    @property
    def files(self) -> tuple[CdfFile, ...]:
        """The files that gave at least one row."""
        fast = self.electric_fast.files if self.electric_fast else ()
        parts = (self.ions.files, self.electrons.files, self.magnetic.files, self.electric.files, fast)
        return tuple(dict.fromkeys(file for part in parts for file in part))


def fill_values(values: NDArray[Any], attributes: Mapping[str, Any]) -> Flags:
    """Where a variable holds its FILLVAL: all that the published code masks."""
    fill = attributes.get("FILLVAL")
    return np.zeros(values.shape, bool) if fill is None else values == values.dtype.type(fill[0])


def fill_or_out_of_range(values: NDArray[Any], attributes: Mapping[str, Any]) -> Flags:
    """Where a variable holds its FILLVAL or lies outside its VALIDMIN .. VALIDMAX."""
    invalid = fill_values(values, attributes)
    for name, outside in (("VALIDMIN", np.less), ("VALIDMAX", np.greater)):
        if (limit := attributes.get(name)) is not None:
            bound = np.asarray(limit)
            fits = bound.size == 1 or (values.ndim > 1 and bound.size == values.shape[-1])
            invalid |= outside(values, bound if fits else bound.ravel()[0])
    return invalid


def read_burst(
    files: Mapping[str, Sequence[CdfFile]], trange: tuple[int, int], invalid: Invalid = fill_or_out_of_range
) -> Burst:
    """Read the files of a segment, as `archive.find_files` gives them, clipped to `trange` (ns UTC, both ends in).

    invalid: says which values of a variable count as missing, from its values and attributes. The fast-mode field is
    read where `files` has it. Raises SegmentProblem with the file and the variable for a file that is truncated, of
    another spacecraft, lacks a variable, has one of another shape or runs backwards in time, and for a product without
    a sample in the range.
    """
    fast = files.get(EDP_FAST.key)
    clock, trange = _even(trange)
    magnetic, position = _read_magnetic(files[FGM.key], trange, invalid)
    return Burst(
        probe=files[FGM.key][0].probe,
        ions=_read_moments("dis", files[DIS.key], trange, invalid),
        electrons=_read_moments("des", files[DES.key], trange, invalid),
        magnetic=magnetic,
        electric=_read_electric("brst", files[EDP_BURST.key], trange, invalid),
        electric_fast=_read_electric("fast", fast, trange, invalid) if fast else None,
        position_gse=position,
        clock=clock,
    )


def read_ions(
    files: Sequence[CdfFile], trange: tuple[int, int], invalid: Invalid = fill_or_out_of_range
) -> tuple[Moments, Clock]:
    """The ion moments alone, from these files, and the clock of their times; as `read_burst` has them."""
    clock, trange = _even(trange)
    return _read_moments("dis", files, trange, invalid), clock


def _even(trange: tuple[int, int]) -> tuple[Clock, tuple[int, int]]:
    """The clock of a time range in ns UTC, and its ends in even time."""
    clock = Clock.within(*trange)
    begin, end = clock.even(np.array(trange))
    return clock, (int(begin), int(end))


class _Reader:
    """What a CDF file has of the variables that its product is read for, and which rows lie in the time range."""

    def __init__(self, file: CdfFile, trange: tuple[int, int], invalid: Invalid):
        self.file = file
        self._variables = read_variables(file, file.reads)
        self._invalid = invalid
        self._zero = _tt2000(trange[0]) - trange[0]
        time = self.times(file.epoch)
        self._refuse_backwards(time, file.epoch)
        self.rows = slice(*np.searchsorted(time, [trange[0], trange[1] + 1]))
        self.time = time[self.rows]
        self._records = len(time)

    def times(self, name: str) -> Times:
        """A TT2000 variable as even time of the time range; another one, or one that holds fill values, is refused."""
        values = self._values(name)
        if not self._variables[name].is_tt2000:
            raise SegmentProblem(f"{self.file.name}: {name} holds no times of the type TT2000; fetch the file again")
        tt2000: Times = values.view(np.int64)
        if (tt2000 == _FILL_TIME).any():
            raise SegmentProblem(f"{self.file.name}: {name} holds fill values; fetch the file again")
        return tt2000 - self._zero

    def accumulation(self) -> int:
        """ns: how long an accumulation lasts. The file has REAL4 seconds, which are good to whole microseconds."""
        seconds = self._values("Epoch_plus_var").ravel()
        if not seconds.size or not 0 < seconds[0] < 10:
            raise SegmentProblem(f"{self.file.name}: Epoch_plus_var is {seconds[:1]} s; fetch the file again")
        return round(float(seconds[0]) * 1e6) * 1_000

    def has(self, name: str) -> bool:
        """Whether the file has this variable."""
        return name in self._variables

    def raw(self, name: str, *width: int) -> NDArray[Any]:
        """A variable's rows in the time range, as they are; (n, *width)."""
        return self.whole(name, self._records, *width)[self.rows]

    def floats(self, name: str, *width: int) -> Floats:
        """A variable's rows in the time range, NaN where they are invalid; (n, *width)."""
        values = self.raw(name, *width)
        limits = self._variables[name].limits
        if "FILLVAL" not in limits:  # else what is missing would pass for data
            raise SegmentProblem(f"{self.file.name}: {name} does not say its FILLVAL; fetch the file again")
        for limit, value in limits.items():
            self._refuse_text(name, limit, value)
        missing = self._invalid(values, limits)
        return np.where(missing, np.float32(np.nan), values)

    def beyond(self, name: str, *width: int) -> Flags:
        """(n,): rows of a variable that are out of its valid range without being fill values."""
        values = self.raw(name, *width)
        limits = self._variables[name].limits
        filled = fill_values(values, limits) | ~np.isfinite(values)
        outside: Flags = (fill_or_out_of_range(values, limits) & ~filled).any(axis=1) & ~filled.any(axis=1)
        return outside

    def _refuse_text(self, name: str, limit: str, value: Any) -> None:
        found = np.asarray(value)
        if found.dtype.kind not in "iuf" or not found.size:
            raise SegmentProblem(
                f"{self.file.name}: {name} has {str(value)!r} as its {limit}, which is no number; fetch the file again"
            )

    def whole(self, name: str, *shape: int) -> NDArray[Any]:
        """A variable of the whole file, which must have this shape."""
        values = self._values(name)
        if values.shape != shape:
            raise SegmentProblem(
                f"{self.file.name}: {name} has shape {values.shape}, not {shape} as one row for each time needs; "
                "fetch the file again"
            )
        return values

    def _refuse_backwards(self, time: Times, epoch: str) -> None:
        back = time[1:] < time[:-1]
        if back.any():
            row = int(back.argmax()) + 1
            at = pycdfpp.to_datetime64(self._values(epoch))[row]
            raise SegmentProblem(f"{self.file.name}: {epoch} runs backwards at row {row} ({at}); fetch the file again")

    def _values(self, name: str) -> NDArray[Any]:
        if name not in self._variables:
            raise SegmentProblem(f"{self.file.name}: no variable {name}{_hint(name)}")
        return self._variables[name].values


def _hint(name: str) -> str:
    if "_bg_" in name:
        return "; ion moments have their background only from version 3.3 on: fetch the reprocessed file"
    if "dce_gse" in name:
        return "; mms4 has none after 2023-07-03, other files should: fetch it again"
    return "; fetch the file again, or see whether its version is older than the product guide's"


def _tt2000(utc: int) -> int:
    """ns UTC as TT2000, which counts leap seconds."""
    return int(np.asarray(pycdfpp.to_tt2000(np.array([utc], "datetime64[ns]"))).view(np.int64)[0])


def _readers(files: Sequence[CdfFile], trange: tuple[int, int], invalid: Invalid) -> Iterator[tuple[int, _Reader]]:
    """The files that have rows in the time range, each with its index among them."""
    index = 0
    for file in files:
        reader = _Reader(file, trange, invalid)
        if reader.time.size:
            yield index, reader
            index += 1


def _read_moments(short: str, files: Sequence[CdfFile], trange: tuple[int, int], invalid: Invalid) -> Moments:
    prefix, ions = f"mms{files[0].probe}_{short}", short == "dis"
    parts = [
        dict(
            time=r.time,
            source=np.full(r.time.size, index, np.int16),
            accumulation=r.accumulation(),
            n=r.floats(f"{prefix}_numberdensity_brst"),
            v_gse=r.floats(f"{prefix}_bulkv_gse_brst", 3),
            p_gse=r.floats(f"{prefix}_prestensor_gse_brst", 3, 3),
            q_gse=r.floats(f"{prefix}_heatq_gse_brst", 3),
            t_par=r.floats(f"{prefix}_temppara_brst"),
            t_perp=r.floats(f"{prefix}_tempperp_brst"),
            error_flags=r.raw(f"{prefix}_errorflags_brst"),
            energy=r.floats(f"{prefix}_energy_brst", ENERGIES),
            spectra={name: r.floats(f"{prefix}_energyspectr_{name}_brst", ENERGIES) for name in SPECTRA[short]},
            n_bg=r.floats(f"{prefix}_numberdensity_bg_brst") if ions else None,
            p_bg=r.floats(f"{prefix}_pres_bg_brst") if ions else None,
            n_err=r.floats(f"{prefix}_numberdensity_err_brst") if r.has(f"{prefix}_numberdensity_err_brst") else None,
            beyond=r.beyond(f"{prefix}_bulkv_gse_brst", 3),
            file=r.file,
        )
        for index, r in _readers(files, trange, invalid)
    ]
    return Moments(**_joined(parts, files, trange))


def _read_magnetic(files: Sequence[CdfFile], trange: tuple[int, int], invalid: Invalid) -> tuple[MagneticField, Floats]:
    prefix = f"mms{files[0].probe}_fgm"
    b_gse, flag, r_gse = f"{prefix}_b_gse_brst_l2", f"{prefix}_flag_brst_l2", f"{prefix}_r_gse_brst_l2"
    parts, positions = [], []
    for index, r in _readers(files, trange, invalid):
        b = r.floats(b_gse, 4)
        b[r.raw(flag) != 0] = np.nan
        parts.append(
            dict(time=r.time, source=np.full(r.time.size, index, np.int16), b_gse=b[:, :3], b_mag=b[:, 3], file=r.file)
        )
        state = r.times("Epoch_state")
        positions.append((state, r.whole(r_gse, len(state), 4)[:, :3]))
    return MagneticField(**_joined(parts, files, trange)), _mean_position(positions, trange)


def _mean_position(positions: Sequence[tuple[Times, NDArray[Any]]], trange: tuple[int, int]) -> Floats:
    """(3,) km: the mean over the time range of the positions, linear in between; NaN where there are none."""
    time = np.concatenate([t for t, _ in positions])
    r_gse = np.concatenate([r for _, r in positions]).astype(np.float64)
    good = (np.abs(r_gse) < 1e7).all(axis=1)  # FILLVAL is -1e31
    order = np.argsort(time[good], kind="stable")
    if not order.size:
        return np.full(3, np.nan)
    grid = np.linspace(trange[0], trange[1], 101) - trange[0]
    return np.array([np.interp(grid, time[good][order] - trange[0], r_gse[good][order, i]).mean() for i in range(3)])


def _read_electric(mode: str, files: Sequence[CdfFile], trange: tuple[int, int], invalid: Invalid) -> ElectricField:
    prefix = f"mms{files[0].probe}_edp"
    e_gse = f"{prefix}_dce_gse_{mode}_l2"
    quality, bitmask = f"{prefix}_quality_{mode}_l2", f"{prefix}_bitmask_{mode}_l2"
    parts = [
        dict(
            time=r.time,
            source=np.full(r.time.size, index, np.int16),
            e_gse=r.floats(e_gse, 3),
            quality=r.raw(quality),
            bitmask=r.raw(bitmask) if r.has(bitmask) else None,
            file=r.file,
        )
        for index, r in _readers(files, trange, invalid)
    ]
    return ElectricField(**_joined(parts, files, trange))


def _joined(parts: Sequence[dict[str, Any]], files: Sequence[CdfFile], trange: tuple[int, int]) -> dict[str, Any]:
    """The parts of several files as one set of fields, in the order of the files."""
    if not parts:
        begin, end = Clock.within(*trange).utc(np.array(trange)).astype("datetime64[ns]")
        names = ", ".join(file.name for file in files[-3:])
        raise SegmentProblem(
            f"mms{files[0].probe}: no sample of {files[0].product} between {begin} and {end} (looked in {names}); "
            "the archive may have none, or a file is missing: fetch it",
            Cause.NOTHING_MEASURED,
        )
    joined: dict[str, Any] = {"files": tuple(part.pop("file") for part in parts)}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if name == "spectra":
            joined[name] = MappingProxyType({key: _concatenated([v[key] for v in values]) for key in first})
        else:
            complete = all(isinstance(value, np.ndarray) for value in values)
            joined[name] = _concatenated(values) if complete else None if isinstance(first, np.ndarray) else first
    return joined


def _concatenated(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _check_rows(data: Any) -> None:
    """Refuse to hold arrays of different lengths, or times that are not int64."""
    n = len(data.time)
    if data.time.dtype != np.int64:
        raise ValueError(f"{type(data).__name__}: time is {data.time.dtype}, not int64 (ns UTC)")
    for name, value in vars(data).items():
        arrays = value.values() if isinstance(value, Mapping) else [value]
        for array in arrays:
            if isinstance(array, np.ndarray) and len(array) != n:
                raise ValueError(f"{type(data).__name__}: {name} has {len(array)} rows, time has {n}")
