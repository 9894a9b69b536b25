"""What the instruments of one spacecraft make of a crossing: the variables of its CDF files, at their own cadences."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, Product
from mms_regions.core.errors import UsageProblem
from mms_regions.core.events import Segment
from mms_regions.core.types import ENERGIES, SECOND, Floats, Times
from mms_regions.physics.burst import SPECTRA
from mms_regions.physics.formulas import ION_MASS, along_and_across, temperature_tensor
from mms_regions.physics.frames import gse_to_gsm, gsm_to_gse
from mms_regions.synthetic.cdf_writer import sample_times, variables
from mms_regions.synthetic.counting import counted, scattered
from mms_regions.synthetic.crossing import Crossing
from mms_regions.synthetic.layer import Plasma

ACCUMULATION = {DIS.key: 150_000_000, DES.key: 30_000_000}  # ns
BURST = (DIS, DES, FGM, EDP_BURST)

_CENTRE_GSM = np.array([-140_000.0, 20_000.0, 30_000.0])  # km, in the tail
_STATE = 30 * SECOND  # between positions
_MILLISECOND = SECOND // 1000
_NPA = 1.602176634e-4  # of 1 eV cm^-3
_EV = 1.602176634e-19  # J
_MASS = {DIS.key: ION_MASS, DES.key: 9.109e-31}  # kg
_ENERGY = np.geomspace(10.0, 30_000.0, ENERGIES)  # eV
_ALONG = {"omni": 1.0, "par": 1.1, "perp": 0.95, "anti": 1.1}  # temperature by direction, as a share
_FLAGGED = {DIS.key: ("errorflags", 1), DES.key: ("errorflags", 1), FGM.key: ("flag", 1), EDP_BURST.key: ("quality", 0)}
_BAD_EDP, _BAD_FGM = 0.003, 0.0005  # shares of samples
_SPIKE, _LOW_DENSITY_SATURATION = 30.0, 8  # mV/m; a bit of EDP's bitmask
_MUCH_RADIATION = 0.2  # of the ion density: flag bit 13
_STRETCH = 0.2, 1.5  # s, how long a gap or a flagged stretch is; ions come every 0.15 s

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Troubles:
    """What real files have and clean ones lack. Raises UsageProblem for impossible numbers.

    gaps: stretches of 0.2 to 1.5 s without samples of one instrument, in each segment; flags: such stretches of bad
    quality; they may overlap. background: as much penetrating radiation as ions. pieces: files of each burst. perfect:
    without the counting noise of electrons and without bad samples of the fields, to compare with. checksum: whether
    files have an MD5.
    """

    gaps: int = 0
    flags: int = 0
    background: bool = False
    pieces: int = 1
    perfect: bool = False
    checksum: bool = False

    def __post_init__(self) -> None:
        if self.gaps < 0 or self.flags < 0 or not 1 <= self.pieces <= 10:
            raise UsageProblem("--gaps and --flags are 0 or more, --pieces is from 1 to 10.")


@dataclass(frozen=True)
class View:
    """One spacecraft in one crossing, from `begin` until before `end` (ns UTC)."""

    segment: Segment
    crossing: Crossing
    seed: int
    begin: int
    end: int
    troubles: Troubles

    def seconds(self, time: Times) -> Floats:
        """(n,) s since the start of the event."""
        return (time - self.segment.event.trange[0]) / SECOND

    def rng(self, what: str) -> np.random.Generator:
        """Random numbers for one purpose, the same whatever else is made."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.segment.key} {what}".encode())])

    def times(self, product: Product) -> Times:
        """(n,) ns UTC: the time tags of the instrument; ions and electrons begin in step, as those of FPI do."""
        offset = int(self.rng(product.instrument).integers(ACCUMULATION[DES.key]))
        return sample_times(product, self.begin + offset, self.end)

    def plasma(self, time: Times) -> Plasma:
        """What is there, vectors in GSE."""
        found = self.crossing.plasma(self.segment.probe, self.seconds(time))
        return replace(found, **{name: gsm_to_gse(time, getattr(found, name)) for name in ("b", "e", "v_i", "v_e")})


def measured(view: View, product: Product) -> Arrays:
    """The variables that are simulated, by the short keys of `cdf_writer`."""
    if product is FGM:
        return _magnetic(view)
    if product in (EDP_BURST, EDP_FAST):
        return _electric(view, product)
    return _ions(view) if product is DIS else _electrons(view)


def troubled(view: View, contents: Mapping[Product, Arrays]) -> dict[Product, Arrays]:
    """The variables with the gaps and flags that the view asks for; they begin within the event."""
    troubled = {product: dict(arrays) for product, arrays in contents.items()}
    rng = view.rng("troubles")
    for _ in range(view.troubles.flags):
        product, inside = _stretch(view, troubled, rng)
        name, value = _FLAGGED[product.key]
        troubled[product][name] = np.where(inside, value, troubled[product][name])
    for _ in range(view.troubles.gaps):
        product, inside = _stretch(view, troubled, rng)
        troubled[product] = rows(product, troubled[product], ~inside)
    return troubled


def rows(product: Product, arrays: Arrays, wanted: NDArray[np.bool_]) -> Arrays:
    """The variables with only the wanted samples; positions and fixed variables stay whole."""
    known = variables(product)
    return {key: values[wanted] if known[key].time == "epoch" else values for key, values in arrays.items()}


def _stretch(
    view: View, contents: Mapping[Product, Arrays], rng: np.random.Generator
) -> tuple[Product, NDArray[np.bool_]]:
    """An instrument, and which of its samples lie in a short stretch that begins within the event."""
    product = list(contents)[rng.integers(len(contents))]
    begin, end = view.segment.event.trange
    first = rng.integers(begin, end)
    last = first + rng.uniform(*_STRETCH) * SECOND
    epoch = contents[product]["epoch"]
    return product, (epoch >= first) & (epoch < last)


def _electrons(view: View) -> Arrays:
    epoch = view.times(DES)
    found, noise, rng = view.plasma(epoch + ACCUMULATION[DES.key] // 2), view.crossing.noise, view.rng("des")
    if view.troubles.perfect:
        n = found.n * (1 + noise.n * rng.normal(size=len(epoch)))
        v = found.v_e + noise.v_e * rng.normal(size=(len(epoch), 3))
        moments = _moments(DES, epoch, n, v, _pressure(n, found.t_e, found.b), found.t_e, found.b)
        return moments | {"numberdensity_err": noise.n * n}
    seen = counted(found.n, found.v_e, rng)
    t_e = found.t_e * seen.heat
    moments = _moments(DES, epoch, seen.n, seen.v, _pressure(seen.n, t_e, found.b), found.t_e, found.b)
    errors = {"numberdensity_err": seen.n_err, "bulkv_err": seen.v_err, "errorflags": seen.flags}
    nothing = seen.n == 0
    for name in ("temppara", "tempperp"):
        moments[name] = np.where(nothing, 0.0, moments[name])
    return moments | errors


def _ions(view: View) -> Arrays:
    """Moments as the files have them, so with the background that penetrating radiation adds (MMS CMAD 4.5.7.5)."""
    epoch = view.times(DIS)
    found, noise, rng = view.plasma(epoch + ACCUMULATION[DIS.key] // 2), view.crossing.noise, view.rng("dis")
    n = found.n * (1 + noise.n * rng.normal(size=len(epoch)))
    v = found.v_i + noise.v_i * rng.normal(size=(len(epoch), 3))
    n_bg = _radiation(view, len(epoch))
    p_bg = n_bg * 3_000.0 * _NPA
    n_all = n + n_bg
    v_all = v * (n / n_all)[:, None]
    p_all = _pressure(n, found.t_i, found.b) + p_bg[:, None, None] * np.eye(3) + _ram(n, v) - _ram(n_all, v_all)
    moments = _moments(DIS, epoch, n_all, v_all, p_all, found.t_i, found.b)
    much = (n_bg >= _MUCH_RADIATION * n_all) & (not view.troubles.perfect)
    penetrating = np.where(much, 1 << 13, 0).astype(np.uint32)
    errors = {"numberdensity_err": 0.05 * n_all, "bulkv_err": np.full((len(epoch), 3), noise.v_i)}
    return moments | errors | {"numberdensity_bg": n_bg, "pres_bg": p_bg, "errorflags": penetrating}


def _radiation(view: View, samples: int) -> Floats:
    """(n,) cm^-3: the penetrating radiation, as much as ions if asked for, else weak and noisy as in the tail."""
    if view.troubles.background or view.troubles.perfect:
        return view.crossing.n0 * np.full(samples, 1.0 if view.troubles.background else 0.02)
    mean = 0.08 * view.crossing.n0 * view.crossing.layer.inflow_n
    radiation: Floats = mean * view.rng("radiation").gamma(1.5, 1 / 1.5, size=samples)
    return radiation


def _ram(n: Floats, v: Floats) -> Floats:
    """(n, 3, 3) nPa: m n v v."""
    ram: Floats = ION_MASS * 1e21 * n[:, None, None] * v[:, :, None] * v[:, None, :]
    return ram


def _pressure(n: Floats, t: Floats, b: Floats) -> Floats:
    """(n, 3, 3) nPa: a little more along B than across."""
    unit = b / np.linalg.norm(b, axis=1, keepdims=True)
    shape = 0.95 * np.eye(3) + 0.15 * unit[:, :, None] * unit[:, None, :]
    pressure: Floats = _NPA * (n * t)[:, None, None] * shape
    return pressure


def _moments(product: Product, epoch: Times, n: Floats, v: Floats, p: Floats, t: Floats, b: Floats) -> Arrays:
    with np.errstate(invalid="ignore"):
        t_par, t_perp = along_and_across(temperature_tensor(p, n), b)
    spectra = {f"energyspectr_{way}": _spectrum(product, n, t * _ALONG[way]) for way in SPECTRA[product.key]}
    return {
        "epoch": epoch,
        "epoch_plus_var": np.array([ACCUMULATION[product.key] / SECOND]),
        "epoch_minus_var": np.array([0.0]),
        "errorflags": np.zeros(len(epoch)),
        "energy": np.tile(_ENERGY, (len(epoch), 1)),
        "numberdensity": n,
        "bulkv_gse": v,
        "prestensor_gse": p,
        "heatq_gse": np.zeros((len(epoch), 3)),
        "temppara": t_par,
        "tempperp": t_perp,
        **spectra,
    }


def _spectrum(product: Product, n: Floats, t: Floats) -> Floats:
    """(n, 32) keV/(cm^2 s sr keV): the energy flux of a Maxwellian at rest, 2 E^2 f / m^2."""
    mass, thermal = _MASS[product.key], t[:, None] * _EV
    phase_density = n[:, None] * 1e6 * (mass / (2 * np.pi * thermal)) ** 1.5 * np.exp(-_ENERGY / t[:, None])
    flux: Floats = 2 * (_ENERGY * _EV) ** 2 * phase_density / mass**2 * 1e-4
    return flux


def _magnetic(view: View) -> Arrays:
    epoch = view.times(FGM)
    noise = view.crossing.noise.b * view.rng("fgm").normal(size=(len(epoch), 3))
    b_gse = view.plasma(epoch).b + noise
    state = np.arange(view.begin - _STATE, view.end + 2 * _STATE, _STATE)
    corner = view.crossing.tetrahedron[view.segment.probe - 1] @ view.crossing.axes
    r_gsm = np.tile(_CENTRE_GSM + corner, (len(state), 1))
    return {
        "epoch": epoch,
        "b_gse": _with_magnitude(b_gse),
        "b_gsm": _with_magnitude(gse_to_gsm(epoch, b_gse)),
        "flag": _bad(view, "bad fgm", len(epoch), _BAD_FGM, 1).astype(np.uint32),
        "epoch_state": state,
        "r_gse": _with_magnitude(gsm_to_gse(state, r_gsm)),
        "r_gsm": _with_magnitude(r_gsm),
    }


def _with_magnitude(xyz: Floats) -> Floats:
    return np.column_stack([xyz, np.linalg.norm(xyz, axis=1)])


def _electric(view: View, product: Product) -> Arrays:
    epoch = view.times(product)
    rng = view.rng(product.key)
    noise = view.crossing.noise.e * rng.normal(size=(len(epoch), 3))
    e_gse = (view.plasma(epoch).e if product is EDP_FAST else _smooth_e(view, epoch)) + noise
    bad = _bad(view, f"bad {product.key}", len(epoch), _BAD_EDP, 9)
    e_gse[bad] += _SPIKE * rng.normal(size=(int(bad.sum()), 3))
    return {
        "epoch": epoch,
        "dce_gse": e_gse,
        "quality": np.where(bad, 1, 3),
        "bitmask": np.where(bad, _LOW_DENSITY_SATURATION, 0),
    }


def _bad(view: View, what: str, samples: int, share: float, longest: int) -> NDArray[np.bool_]:
    """(n,): which samples of a field are bad, of their own accord."""
    return scattered(samples, 0.0 if view.troubles.perfect else share, longest, view.rng(what))


def _smooth_e(view: View, time: Times) -> Floats:
    """(n, 3) mV/m, GSE: the field interpolated from every millisecond, for waves are slower than 0.1 s."""
    known = np.arange(time[0], time[-1] + 2 * _MILLISECOND, _MILLISECOND)
    e_gse = view.plasma(known).e
    return np.stack([np.interp(time - time[0], known - time[0], e_gse[:, axis]) for axis in range(3)], axis=1)
