"""Virtual crossings for the open model: what MMS would measure on a way through a simulated sheet, and where it was.

As convention `corrected` makes features of files, without the files: ions are means over 150 ms with a wrong share of
their background, electrons are counted and averaged as thin ones are, the electric field has an offset, and B0 and n0
are those of the sheet as it is, as wrong as the estimator leaves them. Three of four crossings are of the simulation,
one of seven is of a sheet without reconnection, the rest of analytic layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import NO_LABEL, SECOND, WINDOW, Floats
from mms_regions.physics.features import scaled_features
from mms_regions.physics.screening import Species
from mms_regions.physics.thin_electrons import Electrons, averaged_electrons, density_error
from mms_regions.synthetic.counting import counted
from mms_regions.synthetic.crossing import (
    FIRST_TRAINING_SEED,
    Crossing,
    LayerLike,
    Noise,
    Swings,
    draw_crossing,
    draw_tetrahedron,
    draw_waves,
    scales_now,
    tilted,
)
from mms_regions.synthetic.mirrored import Mirrored
from mms_regions.synthetic.quiet import QuietSheet
from mms_regions.synthetic.snapshot import ACTIVE, LARGE, PRE_ONSET, Edges, Sheet, sheets_of

KINDS = ("simulated", "without_reconnection", "analytic")
SIMULATED, NONE, ANALYTIC = 0.74, 0.14, 0.12  # shares of crossings
_STEP, _GROUP, _MARGIN = 0.03, 5, 10  # s; electron accumulations in one of ions; further ones at both ends
_B0, _N0 = (8.0, 32.0), (0.1, 2.8)  # nT and cm^-3, the range of the events of rogers2023
_TEMPERATURE = (0.5, 8.0)  # keV, T_i + T_e with which n0 balances B0, of the same events
_PRESSURE = 2.4834e-3  # keV cm^-3 of 1 nT^2 / (2 mu_0)
_GYRATION = 0.0957883  # 1/s at 1 nT: v_A in d_i per second
_FASTEST, _FASTEST_ACROSS = 0.3, 0.1  # v_A: an X-line; a sheet that flaps, 30 to 70 km/s (Sergeev et al. 2006)
_B_SAMPLES, _E_SAMPLES = 128 * _STEP, 8192 * _STEP  # in an electron accumulation
_THICK = 0.3  # cm^-3, at which the noise of ions is that of `Noise`
_E_OFFSET = np.array([0.8, 0.4, 1.2])  # mV/m: sunward, duskward, and along the spin axis, which has the short booms
_RADIATION, _RADIATION_ERROR = 0.08, 0.3  # of the inflow's density; how wrong its subtraction is
_B0_ERROR, _N0_ERROR = 0.10, 0.25  # standard deviations of their logarithms


@dataclass(frozen=True)
class Drift:
    """A way: from a place at a velocity (d_i and d_i/s, x and z), with swings across the sheet."""

    start: tuple[float, float]
    velocity: tuple[float, float]
    swings: Swings

    def at(self, seconds: Floats) -> Floats:
        """(2, m) d_i."""
        way: Floats = np.array(self.start)[:, None] + np.outer(self.velocity, seconds)
        way[1] += self.swings.at(seconds)[0]
        return way


@dataclass(frozen=True)
class Sheets:
    """Sheets of simulations: those in which reconnection goes on, and those before its onset."""

    active: tuple[Sheet, ...]
    before: tuple[Sheet, ...] = ()

    @classmethod
    def of_runs(cls, runs: Sequence[Path], mass_ratio: float = 25.0, edges: Edges | None = None) -> Sheets:
        """Both sheets of all snapshots of these folders, until islands fill the box. Raises ValueError where none
        reconnects."""
        active, before = [], []
        for path in (path for run in runs for path in sorted(run.glob("snapshot-*.npz"))):
            sheets = cls.of_snapshot(path, mass_ratio, edges)
            active += [sheet for sheet in sheets if ACTIVE <= sheet.reconnected <= LARGE]
            before += [sheet for sheet in sheets if sheet.reconnected < PRE_ONSET]
        if not active:
            span = f"{ACTIVE:g} to {LARGE:g} B0 d_i"
            raise ValueError(f"no snapshot in {', '.join(map(str, runs))} has reconnected {span}")
        return cls(tuple(active), tuple(before))

    @staticmethod
    def of_snapshot(path: Path, mass_ratio: float = 25.0, edges: Edges | None = None) -> tuple[Sheet, Sheet]:
        """Both sheets of a snapshot file."""
        with np.load(path, allow_pickle=False) as data:
            return sheets_of({name: data[name] for name in data.files}, mass_ratio, edges)


@dataclass(frozen=True)
class Virtual:
    """W windows of crossings: features (W, 32, 14) float32, region (W, 32) int8; of which crossing each window is.

    to_boundary: (W, 32) s, the time to the nearest change of region on the way. kind: (W,) by `KINDS`, of its crossing.
    """

    features: NDArray[np.float32]
    region: NDArray[np.int8]
    crossing: NDArray[np.int64]
    to_boundary: NDArray[np.float32]
    kind: NDArray[np.int64]


def virtual_windows(
    sheets: Sheets,
    seeds: range,
    seconds: float = 30.0,
    shares: tuple[float, float, float] = (SIMULATED, NONE, ANALYTIC),
) -> Virtual:
    """The windows of the crossings of these seeds that lie in the sheets from begin to end.

    shares: of crossings of the simulation, of sheets without reconnection, of analytic layers. Seeds of training are
    from FIRST_TRAINING_SEED on.
    """
    found = []
    for seed in seeds:
        features, region = virtual_crossing(sheets, seed, seconds, shares)
        parts = (features.reshape(-1, WINDOW, features.shape[1]), region.reshape(-1, WINDOW), _to_change(region))
        inside = (parts[1] != NO_LABEL).all(axis=1)
        which = np.full(int(inside.sum()), seed)
        kind = np.full(len(which), _scales_and_kind(_rng(seed), shares)[2])
        found.append((parts[0][inside], parts[1][inside], which, parts[2].reshape(-1, WINDOW)[inside], kind))
    return Virtual(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def virtual_crossing(
    sheets: Sheets,
    seed: int,
    seconds: float,
    shares: tuple[float, float, float] = (SIMULATED, NONE, ANALYTIC),
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Features (n, 14) and regions (n,), -1 outside the sheet, of one spacecraft on the crossing of this seed."""
    rng = _rng(seed)
    b0, n0, kind = _scales_and_kind(rng, shares)
    if kind == 2:
        crossing = draw_crossing(FIRST_TRAINING_SEED + seed, "virtual", b0, n0)
    else:
        crossing = _draw_passage(rng, sheets, seconds, b0, n0, reconnects=kind == 0)
    if kind == 0:  # a sheet that does not reconnect keeps its scales
        b0, n0 = scales_now(crossing, seconds)
    assumed = b0 * np.exp(_B0_ERROR * rng.normal()), n0 * np.exp(_N0_ERROR * rng.normal())
    return measured_features(crossing, seconds, rng, *assumed)


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 2])


def _scales_and_kind(rng: np.random.Generator, shares: tuple[float, float, float]) -> tuple[float, float, int]:
    """B0 (nT), n0 (cm^-3) and kind of a crossing; the first that is drawn of it."""
    b0, t = (float(np.exp(rng.uniform(*np.log(span)))) for span in (_B0, _TEMPERATURE))
    n0 = float(np.clip(_PRESSURE * b0**2 / t, *_N0))
    return b0, n0, int(rng.choice(3, p=np.array(shares) / np.sum(shares)))


def measured_features(
    crossing: Crossing, seconds: float, rng: np.random.Generator, b0: float, n0: float
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Features (n, 14) of spacecraft 1 in whole windows, scaled by b0 (nT) and n0 (cm^-3), and its regions (n,)."""
    n = int(seconds / _STEP / WINDOW) * WINDOW
    rows = -(-n // _GROUP) * _GROUP + 2 * _MARGIN
    time = (np.arange(rows) - _MARGIN + 0.5) * _STEP
    seen, noise, inside = crossing.plasma(1, time), crossing.noise, slice(_MARGIN, _MARGIN + n)
    n_i, v_i = _ions(seen.n, seen.v_i, crossing, rng, time)
    electrons = _electrons(seen.n, seen.v_e, rng, time)
    v_e = np.where(electrons.assumed[:, None], v_i, electrons.species.v_gse)
    e_offset = _E_OFFSET * rng.normal(size=3)
    features = scaled_features(
        (seen.b + noise.b / np.sqrt(_B_SAMPLES) * rng.normal(size=(rows, 3)))[inside],
        (seen.e + e_offset + noise.e / np.sqrt(_E_SAMPLES) * rng.normal(size=(rows, 3)))[inside],
        n_i[inside],
        electrons.species.n[inside],
        v_i[inside],
        v_e[inside],
        b0,
        n0,
    )
    return features.astype(np.float32), crossing.region(1, time[inside])


def _ions(n: Floats, v: Floats, crossing: Crossing, rng: np.random.Generator, time: Floats) -> tuple[Floats, Floats]:
    """Density and velocity at the electrons' times: means over 150 ms, noisy the more the thinner the plasma."""
    mean = n.reshape(-1, _GROUP).mean(axis=1)
    flow = (n[:, None] * v).reshape(-1, _GROUP, 3).mean(axis=1) / mean[:, None]
    thin, noise = np.sqrt(np.maximum(_THICK / mean, 1.0)), crossing.noise
    left = _RADIATION * crossing.n0 * crossing.layer.inflow_n * _RADIATION_ERROR * rng.normal()
    counted_n = np.maximum(mean * (1 + 0.5 * noise.n * thin * rng.normal(size=mean.shape)) + left, 0.1 * mean)
    counted_v = flow + noise.v_i * thin[:, None] * rng.normal(size=flow.shape)
    centre = time.reshape(-1, _GROUP).mean(axis=1)
    columns = [np.interp(time, centre, counted_v[:, axis]) for axis in range(3)]
    return np.interp(time, centre, counted_n), np.stack(columns, axis=1)


def _electrons(n: Floats, v: Floats, rng: np.random.Generator, time: Floats) -> Electrons:
    """Counted in 30 ms, and averaged as `corrected` does it."""
    seen, none = counted(n, v, rng), np.zeros(len(n), bool)
    species = Species(
        time=np.rint(time * SECOND).astype(np.int64),
        accumulation=round(_STEP * SECOND),
        n=seen.n,
        v_gse=seen.v,
        p_gse=np.zeros((len(n), 3, 3)),
        q_gse=np.zeros((len(n), 3)),
        caution=none,
        repeated=none,
        empty=none,
        background_large=none,
        penetrating=none,
        order=np.arange(len(n)),
    )
    return averaged_electrons(species, density_error(seen.n, seen.n_err), 0.3)


def _draw_passage(
    rng: np.random.Generator, sheets: Sheets, seconds: float, b0: float, n0: float, reconnects: bool
) -> Crossing:
    """A way through a sheet of the simulation, or through one without reconnection."""
    if reconnects:
        layer: LayerLike = sheets.active[rng.integers(len(sheets.active))]
    elif sheets.before and rng.uniform() < 0.3:
        layer = sheets.before[rng.integers(len(sheets.before))]
    else:
        layer = _draw_quiet(rng)
    reach = layer.reach if isinstance(layer, Sheet) else 5.5
    return Crossing(
        layer=Mirrored(layer, *(bool(side) for side in rng.integers(2, size=2))),
        b0=b0,
        n0=n0,
        axes=tilted(rng, np.radians(20.0)),
        way=_draw_way(rng, seconds, _GYRATION * b0, reach, at_rest=not reconnects),
        tetrahedron=draw_tetrahedron(rng),
        waves=draw_waves(rng),
        noise=Noise(
            b=rng.uniform(0.05, 0.2),
            e=rng.uniform(1.0, 4.0),
            n=rng.uniform(0.04, 0.2),
            v_i=rng.uniform(20.0, 60.0),
            v_e=0.0,  # that of counting is added instead
        ),
        moving=True,
    )


def _draw_quiet(rng: np.random.Generator) -> QuietSheet:
    return QuietSheet(
        half_width=float(np.exp(rng.uniform(np.log(0.4), np.log(4.0)))),
        normal_b=rng.choice([1, 1, 1, -1]) * rng.uniform(0.0, 0.3),
        guide_b=rng.uniform(-0.25, 0.25),
        background_n=rng.uniform(0.03, 0.4),
        ion_share=rng.uniform(0.7, 0.9),
        drift=0.05 * rng.normal(),
    )


def _draw_way(rng: np.random.Generator, seconds: float, v_a: float, reach: float, at_rest: bool) -> Drift:
    """Straight or flapping, slow or fast; a sheet at rest is met anywhere, also far from its middle.

    v_a: d_i/s. reach: d_i, of the middle of the way along the sheet.
    """
    flaps = rng.uniform() < 0.5
    along, most = _FASTEST * v_a * rng.uniform(-1, 1), _FASTEST_ACROSS * v_a
    across = 0.0 if flaps else rng.choice([-1, 1]) * most * np.exp(rng.uniform(np.log(0.05), 0.0))
    size = rng.uniform(0.3, 2.5) if flaps else 0.0
    period = max(rng.uniform(8.0, 30.0), 2 * np.pi * size / most)
    swings = Swings(*(np.array([[value]]) for value in (size, 2 * np.pi / period, rng.uniform(0, 2 * np.pi))))
    middle = np.array([reach * rng.uniform(-1, 1), rng.normal() * (2.5 if at_rest else 1.0)])
    velocity = np.array([along, across])
    x, z = middle - velocity * seconds / 2
    return Drift((float(x), float(z)), (float(along), float(across)), swings)


def _to_change(region: NDArray[np.int8]) -> NDArray[np.float32]:
    """(n,) s from each sample to the nearest change of region."""
    changes = np.flatnonzero(np.diff(region)) + 0.5
    if not len(changes):
        return np.full(len(region), np.inf, np.float32)
    at = np.arange(len(region))
    after = np.searchsorted(changes, at).clip(0, len(changes) - 1)
    nearest = np.minimum(np.abs(at - changes[after]), np.abs(at - changes[np.maximum(after - 1, 0)]))
    found: NDArray[np.float32] = (_STEP * nearest).astype(np.float32)
    return found
