"""MMS-like CDF files whose content is a closed-form scene, so that a test knows what a reader must find.

The package's own `level2` writes the files, checked against those of the archive in its tests; what is in them, the
rotation to GSM too, is worked out here, so that values are no echo of the package's code. Only the variables that
mms_regions reads are written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pycdfpp
from numpy.typing import ArrayLike, NDArray

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, Product
from mms_regions.core.types import SECOND
from mms_regions.synthetic.cdf_writer import Variable, sample_times, variables, write_level2

Array = NDArray[Any]
Arrays = dict[str, Array]
Function = Callable[[NDArray[np.float64]], ArrayLike]
Edit = Callable[[Arrays], Arrays]

EPOCH_FILL = -(2**63)  # in "epoch", written as the fill value of a time


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


def _fpi(species: str, period: int, sampler: _Sampler, epoch: Array) -> Arrays:
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


def _fgm(sampler: _Sampler, epoch: Array) -> Arrays:
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


def _edp(sampler: _Sampler, epoch: Array) -> Arrays:
    good = np.full(len(epoch), 3)
    return {"dce_gse": sampler.at("e_gse", epoch, 3), "quality": good, "bitmask": np.zeros(len(epoch))}


_PRODUCTS: dict[str, tuple[Product, Callable[[_Sampler, Array], Arrays]]] = {
    "dis": (DIS, partial(_fpi, "i", 150_000_000)),
    "des": (DES, partial(_fpi, "e", 30_000_000)),
    "fgm": (FGM, _fgm),
    "edp_brst": (EDP_BURST, _edp),
    "edp_fast": (EDP_FAST, _edp),
}
PRODUCTS = tuple(_PRODUCTS)
_PADDING = {"edp_fast": 60 * SECOND}  # before and after


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
        product, contents = _PRODUCTS[key]
        first, padding = begin + epoch_offset_ns.get(key, 0), _PADDING.get(key, 0)
        epoch = sample_times(product, first - padding, first + duration + padding)
        arrays = _typed({"epoch": epoch, **contents(sampler, epoch)}, variables(product))
        number = version if isinstance(version, str) else version.get(key, "")
        paths[key] = write_level2(data_dir, product, probe, begin, arrays, number)
        if key in edit:
            _replace_content(paths[key], variables(product), probe, edit[key](arrays))
    return paths


def take_rows(arrays: Arrays, rows: ArrayLike) -> Arrays:
    """The arrays with only these rows (mask or index, any order) along "epoch": for gaps and times that go back."""
    index = np.asarray(rows)
    fixed = ("epoch_plus_var", "epoch_minus_var", "epoch_state", "r_gse")
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


def _typed(arrays: Arrays, known: Mapping[str, Variable]) -> Arrays:
    """The arrays in the types of the file, what is not finite as the fill value."""
    fills = {key: known[key].fill for key in arrays}
    return {
        key: np.where(np.isfinite(values), values, fills[key]).astype(fills[key].dtype)
        for key, values in arrays.items()
    }


def _replace_content(path: Path, known: Mapping[str, Variable], probe: int, arrays: Arrays) -> None:
    """Put these arrays into a file, and no others: also values and shapes that the writer refuses to write."""
    names = {known[key].name.format(probe=probe): values for key, values in arrays.items()}
    cdf = pycdfpp.load(str(path)).filter(variables=list(names))
    for name, values in names.items():
        kind = cdf[name].type
        is_time = kind == pycdfpp.DataType.CDF_TIME_TT2000
        content = values.view("datetime64[ns]") if is_time else np.ascontiguousarray(values)
        cdf[name].set_values(content, kind, force=True)
    pycdfpp.save(cdf, str(path))
