"""Write MMS-like CDF files whose content is a closed-form scene, so that a test knows what a reader must find.

Names, folders, types, fill values and valid ranges are those of the MMS level-2 files of the Science Data Center; the
variables are those that mms_regions reads. Nothing is imported from the package, so a file is no echo of its code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pycdfpp
from numpy.typing import ArrayLike, NDArray
from pycdfpp import CompressionType, DataType

Array = NDArray[Any]
Arrays = dict[str, Array]
Function = Callable[[NDArray[np.float64]], ArrayLike]
Edit = Callable[[Arrays], Arrays]

SECOND = 1_000_000_000
EPOCH_FILL = -(2**63)  # in "epoch", written as the fill value of a time
FILL: dict[DataType, Any] = {
    DataType.CDF_REAL4: np.float32(-1e31),
    DataType.CDF_UINT4: np.uint32(2**32 - 1),
    DataType.CDF_UINT2: np.uint16(2**16 - 1),
    DataType.CDF_UINT1: np.uint8(2**8 - 1),
}


def constant(value: ArrayLike) -> Function:
    """A function of time that is `value` (any shape) at every time."""
    fixed = np.asarray(value, float)
    return lambda t: np.broadcast_to(fixed, (len(t), *fixed.shape))


@dataclass(frozen=True)
class Scene:
    """What the instruments see: functions of the seconds since `origin`, (n,) -> (n, ...); NaN becomes the fill value.

    The ion and electron moments are what the files say, so the ions include the background n_bg and p_bg.
    """

    b_gse: Function = constant([10.0, 2.0, 5.0])  # nT, (n, 3)
    e_gse: Function = constant([0.5, -1.0, 2.0])  # mV/m, (n, 3)
    v_i: Function = constant([100.0, -50.0, 20.0])  # km/s in GSE, (n, 3)
    v_e: Function = constant([-200.0, 150.0, 80.0])  # km/s in GSE, (n, 3)
    n_i: Function = constant(0.2)  # cm^-3, (n,)
    n_e: Function = constant(0.2)  # cm^-3, (n,)
    n_bg: Function = constant(0.0)  # cm^-3, (n,)
    p_bg: Function = constant(0.0)  # nPa, (n,)
    p_i: Function = constant(0.1 * np.eye(3))  # nPa in GSE, (n, 3, 3)
    p_e: Function = constant(0.02 * np.eye(3))  # nPa in GSE, (n, 3, 3)


QUIET = Scene()


@dataclass(frozen=True)
class _Sampler:
    """A scene seen at times given as ns UTC."""

    scene: Scene
    origin: int

    def at(self, name: str, time: Array, *shape: int) -> Array:
        values = np.asarray(getattr(self.scene, name)((time - self.origin) / SECOND), float)
        if values.shape != (len(time), *shape):
            raise ValueError(f"Scene.{name} gave shape {values.shape} for {len(time)} times, not (n, *{shape})")
        return values


def _fpi(species: str, sampler: _Sampler, epoch: Array, period: int) -> Arrays:
    """Moments at the centre of accumulation; `epoch` is its start, as in the files."""
    centre = epoch + period // 2
    n = sampler.at(f"n_{species}", centre)
    pressure = sampler.at(f"p_{species}", centre, 3, 3)
    temppara, tempperp = _temperatures(pressure, n, sampler.at("b_gse", centre, 3))
    arrays = {
        "epoch_plus_var": np.array([period / SECOND]),
        "epoch_minus_var": np.array([0.0]),
        "errorflags": np.zeros(len(epoch)),
        "energy": np.tile(np.geomspace(10.0, 3e4, 32), (len(epoch), 1)),
        "numberdensity": n,
        "bulkv_gse": sampler.at(f"v_{species}", centre, 3),
        "prestensor_gse": pressure,
        "heatq_gse": np.tile([0.001, -0.002, 0.003], (len(epoch), 1)),
        "temppara": temppara,
        "tempperp": tempperp,
    }
    return arrays | (_ion_extras(sampler, centre, n) if species == "i" else _electron_extras(n))


def _ion_extras(sampler: _Sampler, centre: Array, n: Array) -> Arrays:
    n_bg, p_bg = sampler.at("n_bg", centre), sampler.at("p_bg", centre)
    return {"energyspectr_omni": _spectrum(n, 1.0), "numberdensity_bg": n_bg, "pres_bg": p_bg}


def _electron_extras(n: Array) -> Arrays:
    return {f"energyspectr_{way}": _spectrum(n, s) for way, s in dict(omni=1.0, par=1.2, perp=1.0, anti=0.8).items()}


def _spectrum(n: Array, scale: float) -> Array:
    return n[:, None] * scale * 1e6 * np.exp(-(np.linspace(-2.0, 2.0, 32) ** 2))


def _temperatures(pressure: Array, n: Array, b: Array) -> tuple[Array, Array]:
    """Parallel and perpendicular temperature, eV, of the uncorrected moments."""
    with np.errstate(divide="ignore", invalid="ignore"):
        temperature = pressure / n[:, None, None] * (1e-15 / 1.602176634e-19)
        unit = b / np.linalg.norm(b, axis=1, keepdims=True)
    para = np.einsum("ti,tij,tj->t", unit, temperature, unit)
    return para, (np.trace(temperature, axis1=1, axis2=2) - para) / 2


def _fgm(sampler: _Sampler, epoch: Array, period: int) -> Arrays:
    b_gse = sampler.at("b_gse", epoch, 3)
    state = np.arange(epoch[0] - 30 * SECOND, epoch[-1] + 31 * SECOND, 30 * SECOND)
    return {
        "b_gse": _with_magnitude(b_gse),
        "b_gsm": _with_magnitude(_gsm(epoch, b_gse)),
        "flag": np.zeros(len(epoch)),
        "epoch_state": state,
        "r_gse": _with_magnitude(np.tile([-140_000.0, 20_000.0, 30_000.0], (len(state), 1))),
    }


def _with_magnitude(xyz: Array) -> Array:
    return np.column_stack([xyz, np.linalg.norm(xyz, axis=1)])


def _gsm(time: Array, xyz_gse: Array) -> Array:
    """GSE -> GSM, to 0.1 degree for 2015-2025 (Hapgood 1992, doi 10.1016/0032-0633(92)90012-D; dipole of IGRF)."""
    days = (time - np.datetime64("2000-01-01T12:00", "ns").astype(np.int64)) / (86_400 * SECOND)
    anomaly = np.radians(357.528 + 0.9856003 * days)
    sun = np.radians(280.460 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    tilt = np.radians(23.439)
    latitude = np.radians(80.37 + 0.056 * (days / 365.25 - 15))
    longitude = np.radians(-72.63 + 280.46062 + 360.98564737 * days)
    x, y, z = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)
    y, z = np.cos(tilt) * y + np.sin(tilt) * z, np.cos(tilt) * z - np.sin(tilt) * y
    angle = np.arctan2(np.cos(sun) * y - np.sin(sun) * x, z)
    c, s = np.cos(angle), np.sin(angle)
    return np.column_stack(
        [xyz_gse[:, 0], c * xyz_gse[:, 1] - s * xyz_gse[:, 2], s * xyz_gse[:, 1] + c * xyz_gse[:, 2]]
    )


def _edp(sampler: _Sampler, epoch: Array, period: int) -> Arrays:
    good = np.full(len(epoch), 3)
    return {"dce_gse": sampler.at("e_gse", epoch, 3), "quality": good, "bitmask": np.zeros(len(epoch))}


@dataclass(frozen=True)
class _Product:
    """How one kind of file is called and sampled."""

    words: tuple[str, ...]  # instrument, mode, l2, descriptor
    variable: str  # pattern of its variables' names
    epoch: str
    version: str
    period: tuple[int, int]  # ns, as a fraction
    contents: Callable[[_Sampler, Array, int], Arrays]
    padding: int = 0  # ns before and after

    def times(self, start: int, duration: int) -> Array:
        """ns UTC from `start` until just before `start + duration`."""
        ns, parts = self.period
        count = -(-(duration + 2 * self.padding) * parts // ns)
        return start - self.padding + np.arange(count) * ns // parts

    def name_of(self, key: str, probe: int) -> str:
        """The name in the file of the variable `key`."""
        if key.startswith("epoch_"):
            return key.capitalize()
        return (self.epoch if key == "epoch" else self.variable).format(probe=probe, key=key)

    def path(self, probe: int, start: int, version: str) -> Path:
        """Where the archive keeps the file, below the data folder."""
        tag = str(np.datetime64(start // SECOND, "s")).translate(str.maketrans("", "", "-:T"))
        burst = "brst" in self.words
        days = [tag[:4], tag[4:6], *([tag[6:8]] if burst else [])]
        name = "_".join((f"mms{probe}", *self.words, tag if burst else tag[:8], f"v{version}.cdf"))
        return Path(f"mms{probe}", *self.words, *days, name)


_FPI, _EDP = "mms{probe}_%s_{key}_brst", "mms{probe}_edp_{key}_%s_l2"
_PRODUCTS = {
    "dis": _Product(
        ("fpi", "brst", "l2", "dis-moms"), _FPI % "dis", "Epoch", "3.4.0", (150_000_000, 1), partial(_fpi, "i")
    ),
    "des": _Product(
        ("fpi", "brst", "l2", "des-moms"), _FPI % "des", "Epoch", "3.4.0", (30_000_000, 1), partial(_fpi, "e")
    ),
    "fgm": _Product(("fgm", "brst", "l2"), "mms{probe}_fgm_{key}_brst_l2", "Epoch", "5.96.0", (SECOND, 128), _fgm),
    "edp_brst": _Product(("edp", "brst", "l2", "dce"), _EDP % "brst", _EDP % "brst", "3.0.0", (SECOND, 8192), _edp),
    "edp_fast": _Product(
        ("edp", "fast", "l2", "dce"), _EDP % "fast", _EDP % "fast", "3.0.0", (SECOND, 32), _edp, 60 * SECOND
    ),
}
PRODUCTS = tuple(_PRODUCTS)


@dataclass(frozen=True)
class _Variable:
    """Type and attributes of a variable other than a time."""

    units: str
    low: ArrayLike
    high: ArrayLike
    type: DataType = DataType.CDF_REAL4
    kind: str = "data"
    attributes: Mapping[str, str] = field(default_factory=dict)


_GSE, _GSM = {"COORDINATE_SYSTEM": "GSE"}, {"COORDINATE_SYSTEM": "GSM"}
_SPECTRUM = _Variable("keV/(cm^2 s sr keV)", 0, 1e12)
_VARIABLES = {
    "epoch_plus_var": _Variable("s", 0, 10, kind="support_data"),
    "epoch_minus_var": _Variable("s", 0, 10, kind="support_data"),
    "errorflags": _Variable("(0=Good)", 0, 2**32 - 2, DataType.CDF_UINT4),
    "energy": _Variable("eV", 0, 1e5, kind="support_data"),
    **{f"energyspectr_{way}": _SPECTRUM for way in ("omni", "par", "perp", "anti")},
    "numberdensity": _Variable("cm^-3", 1e-5, 1e4),
    "numberdensity_bg": _Variable("cm^-3", 0, 1e5),
    "pres_bg": _Variable("nPa", 0, 1e5),
    "bulkv_gse": _Variable("km/s", -1e5, 1e5, attributes=_GSE),
    "prestensor_gse": _Variable("nPa", -1e5, 1e5, attributes=_GSE),
    "heatq_gse": _Variable("mW/m^2", -1e5, 1e5, attributes=_GSE),
    "temppara": _Variable("eV", -1e5, 1e5),
    "tempperp": _Variable("eV", -1e5, 1e5),
    "b_gse": _Variable("nT", [-2e4, -2e4, -2e4, 0], [2e4] * 4, attributes=_GSE),
    "b_gsm": _Variable("nT", [-2e4, -2e4, -2e4, 0], [2e4] * 4, attributes=_GSM),
    "flag": _Variable(" ", 0, 2**32 - 15, DataType.CDF_UINT4, "support_data"),
    "r_gse": _Variable("km", -1e6, 1e6, attributes=_GSE),
    "dce_gse": _Variable("mV/m", -700, 700, attributes=_GSE),
    "quality": _Variable(" ", 0, 3, DataType.CDF_UINT1, "support_data"),
    "bitmask": _Variable(" ", 0, 2**16 - 2, DataType.CDF_UINT2, "support_data"),
}
_TIMES = ("epoch", "epoch_state")
_NO_RECORDS = ("epoch_plus_var", "epoch_minus_var")


def write_files(
    data_dir: Path,
    probe: int,
    start: str,
    seconds: float,
    scene: Scene = QUIET,
    *,
    version: str | Mapping[str, str] = MappingProxyType({}),
    products: Collection[str] = PRODUCTS,
    origin: str | None = None,
    edit: Mapping[str, Edit] = MappingProxyType({}),
    epoch_offset_ns: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Path]:
    """Write the files of one spacecraft in the archive's layout below `data_dir`; the paths, by product.

    start, origin: UTC, e.g. "2017-05-28T03:58:22"; the scene counts its seconds from `origin`, by default `start`.
    Samples lie in [start, start + seconds); edp_fast has 60 s more on both sides instead of a whole day, and a second
    call on that day replaces it. `epoch_offset_ns` moves the sampling of a product against `start`, and the scene is
    sampled there. `version` is one for all or by product. `edit` gets a product's arrays by short name ("epoch" in ns
    UTC, "bulkv_gse", ...; floats as float32, missing ones as the fill value) and returns those to write, as they are.
    """
    for given in (products, edit, epoch_offset_ns, () if isinstance(version, str) else version):
        _check_products(given)
    begin, duration = _ns(start), round(seconds * SECOND)
    sampler = _Sampler(scene, begin if origin is None else _ns(origin))
    paths = {}
    for key in products:
        product = _PRODUCTS[key]
        number = version if isinstance(version, str) else version.get(key, product.version)
        epoch = product.times(begin + epoch_offset_ns.get(key, 0), duration)
        arrays = {"epoch": epoch} | product.contents(sampler, epoch, product.period[0] // product.period[1])
        arrays = edit.get(key, dict)({name: _typed(name, values) for name, values in arrays.items()})
        paths[key] = data_dir / product.path(probe, begin, number)
        _write(paths[key], product, probe, number, arrays)
    return paths


def take_rows(arrays: Arrays, rows: ArrayLike) -> Arrays:
    """The arrays with only these rows (mask or index, any order) along "epoch": for gaps and times that go back."""
    index = np.asarray(rows)
    fixed = (*_NO_RECORDS, "epoch_state", "r_gse")
    return {name: values if name in fixed else values[index] for name, values in arrays.items()}


def truncate(path: Path, keep_fraction: float) -> None:
    """Cut the file off, as a broken transfer does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep_fraction)])


def relabel_spacecraft(path: Path, probe: int) -> None:
    """Make the content of a file (variables, attributes) that of mms`probe`, while its name stays."""
    old = path.name[3]
    content = path.read_bytes()
    for text in ("mms{}_", "MMS{}", "Satellite Number {}"):
        content = content.replace(text.format(old).encode(), text.format(probe).encode())
    path.write_bytes(content)


def _check_products(given: Iterable[str]) -> None:
    if unknown := set(given) - set(PRODUCTS):
        raise ValueError(f"No such product: {', '.join(sorted(unknown))}; there are {', '.join(PRODUCTS)}")


def _ns(text: str) -> int:
    return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))


def _typed(key: str, values: Array) -> Array:
    """The values in the type of the file, what is not finite as the fill value."""
    if key in _TIMES:
        return values.astype(np.int64)
    fill = FILL[_VARIABLES[key].type]
    return np.where(np.isfinite(values), values, fill).astype(fill.dtype)


def _write(path: Path, product: _Product, probe: int, version: str, arrays: Arrays) -> None:
    cdf = pycdfpp.CDF()
    for name, value in _global_attributes(path, product, probe, version).items():
        cdf.add_attribute(name, [value])
    widths = {f"DELTA_{key[6:-4].upper()}_VAR": key.capitalize() for key in _NO_RECORDS if key in arrays}
    for key, values in arrays.items():
        if key in _TIMES:
            _add_time(cdf, product.name_of(key, probe), values, widths)
        else:
            _add_variable(cdf, product, probe, key, values)
    path.parent.mkdir(parents=True, exist_ok=True)
    pycdfpp.save(cdf, str(path))


def _global_attributes(path: Path, product: _Product, probe: int, version: str) -> dict[str, str]:
    return {
        "Project": "STP>Solar-Terrestrial Physics",
        "Source_name": f"MMS{probe}>MMS Satellite Number {probe}",
        "Discipline": "Space Physics>Magnetospheric Science",
        "Data_type": "_".join(product.words[1:]),
        "Descriptor": product.words[0],
        "Data_version": version,
        "Mission_group": "MMS",
        "Logical_file_id": path.stem,
        "Logical_source": "_".join((f"mms{probe}", *product.words)),
        "TEXT": "SYNTHETIC DATA, NOT A MEASUREMENT",
    }


def _add_time(cdf: pycdfpp.CDF, name: str, ns: Array, widths: Mapping[str, str]) -> None:
    """A time variable; pycdfpp knows the leap seconds, and writes NaT (the int64 minimum) as the fill value."""
    variable = cdf.add_variable(name, np.asarray(ns, np.int64).view("datetime64[ns]"), DataType.CDF_TIME_TT2000)
    for attribute, time in {"FILLVAL": "NaT", "VALIDMIN": "1990-01-01", "VALIDMAX": "2029-12-31T23:59:58.999"}.items():
        variable.add_attribute(attribute, np.array([time], "datetime64[ns]"), DataType.CDF_TIME_TT2000)
    texts = {"FIELDNAM": name, "UNITS": "ns", "VAR_TYPE": "support_data", "TIME_BASE": "J2000"}
    for attribute, text in {**texts, **widths}.items():
        variable.add_attribute(attribute, text)


def _add_variable(cdf: pycdfpp.CDF, product: _Product, probe: int, key: str, values: Array) -> None:
    about, fill = _VARIABLES[key], FILL[_VARIABLES[key].type]
    name, fixed = product.name_of(key, probe), key in _NO_RECORDS
    packing = CompressionType.no_compression if fixed else CompressionType.gzip_compression
    content = np.ascontiguousarray(values, fill.dtype)
    variable = cdf.add_variable(name, content, about.type, is_nrv=fixed, compression=packing, compression_level=1)
    for attribute, value in {"FILLVAL": fill, "VALIDMIN": about.low, "VALIDMAX": about.high}.items():
        variable.add_attribute(attribute, np.atleast_1d(np.asarray(value, fill.dtype)), about.type)
    texts = {"FIELDNAM": name, "UNITS": about.units, "VAR_TYPE": about.kind, **about.attributes}
    if not fixed:
        texts["DEPEND_0"] = product.name_of("epoch_state" if key == "r_gse" else "epoch", probe)
    if key.startswith("energyspectr"):
        texts["DEPEND_1"] = product.name_of("energy", probe)
    for attribute, text in texts.items():
        variable.add_attribute(attribute, text)
