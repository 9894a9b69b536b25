"""Four spacecraft on a random but repeatable way through a reconnection layer: where they are, and what is there.

A seed and a name decide all: the layer, its scales and tilt, the way, the tetrahedron, waves, and how noisy instruments
are. Frame: GSM. Times are seconds since the start of the event.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import Floats
from mms_regions.physics.formulas import alfven_speed
from mms_regions.synthetic.layer import Layer, Plasma
from mms_regions.synthetic.snapshot import Sheet

FIRST_TRAINING_SEED = 2**31  # seeds from here on are for training and its scores, those below for events
PERTURBATION = 0.2  # by how much the layer's B0 and n0 may differ from those that the catalogue has of it
_D_I = 227.7  # km, the ion inertial length at 1 cm^-3
_PROTON_EV = 1.0439e-2  # eV of m_i v^2 for v = 1 km/s
_EDGE = 3.0  # d_i from the middle of a sheet, where its lobe begins

Range = tuple[float, float]


class LayerLike(Protocol):
    """What can be crossed: `Layer`, a sheet of a simulation, a quiet sheet. Places x, z (m,) are d_i; see `layer`."""

    @property
    def inflow_n(self) -> float: ...

    def region(self, x: Floats, z: Floats) -> NDArray[np.int8]: ...

    def distance(self, x: Floats, z: Floats) -> Floats: ...

    def unrest(self, x: Floats, z: Floats) -> Floats: ...

    def plasma(self, x: Floats, z: Floats) -> Plasma: ...


class Way(Protocol):
    """Where the centre of the spacecraft is in the layer at m times (s): (2, m) d_i, x and z."""

    def at(self, seconds: Floats) -> Floats: ...


@dataclass(frozen=True)
class Noise:
    """Standard deviations of single samples at the cadence of each instrument; those of densities as a share."""

    b: float  # nT
    e: float  # mV/m
    n: float
    v_i: float  # km/s
    v_e: float  # km/s


@dataclass(frozen=True)
class Swings:
    """c smooth functions of time, each a sum of k sines: size, rate (rad/s) and phase (rad) are (c, k)."""

    size: Floats
    rate: Floats
    phase: Floats

    def at(self, seconds: Floats) -> Floats:
        """(c, m): the functions at m times."""
        values = np.zeros((len(self.size), len(seconds)))
        for size, rate, phase in zip(self.size.T, self.rate.T, self.phase.T, strict=True):
            values += size[:, None] * np.sin(rate[:, None] * seconds + phase[:, None])
        return values


@dataclass(frozen=True)
class Crossing:
    """One layer, and the four spacecraft that cross it."""

    layer: LayerLike
    b0: float  # nT, the layer's own
    n0: float  # cm^-3
    axes: Floats  # (3, 3): rows are the layer's x, y and z in GSM
    way: Way
    tetrahedron: Floats  # (4, 3) km, in the layer's axes
    waves: Swings  # added to b, e and v_e (9 functions), in units of the layer
    noise: Noise
    moving: bool = False  # whether the plasma is seen to move as the layer does, which passes the spacecraft

    def place(self, probe: int, seconds: Floats) -> Floats:
        """(2, m) d_i: x and z, in the layer, of spacecraft `probe` (1 to 4)."""
        offset = self.tetrahedron[probe - 1] * np.sqrt(self.n0) / _D_I
        place: Floats = self.way.at(seconds) + offset[[0, 2], None]
        return place

    def region(self, probe: int, seconds: Floats) -> NDArray[np.int8]:
        """(m,) int8: the region that the spacecraft is in, by geometry alone."""
        return self.layer.region(*self.place(probe, seconds))

    def plasma(self, probe: int, seconds: Floats) -> Plasma:
        """What is there, without the noise of instruments: nT, mV/m, cm^-3, km/s, eV; vectors in GSM."""
        x, z = self.place(probe, seconds)
        found = self.layer.plasma(x, z)
        v_a = alfven_speed(self.b0, self.n0)
        waves = self.layer.unrest(x, z) * self.waves.at(seconds)
        b_wave, e_wave, v_wave = waves.reshape(3, 3, -1).transpose(0, 2, 1)
        passing = self._passing(seconds) if self.moving else np.zeros(3)
        e = found.e - np.cross(passing, found.b)
        return Plasma(
            b=self.b0 * (found.b + b_wave) @ self.axes,
            e=self.b0 * v_a * 1e-3 * (e + e_wave) @ self.axes,
            n=self.n0 * found.n,
            v_i=v_a * (found.v_i + passing) @ self.axes,
            v_e=v_a * (found.v_e + passing + v_wave) @ self.axes,
            t_i=_PROTON_EV * v_a**2 * found.t_i,
            t_e=_PROTON_EV * v_a**2 * found.t_e,
        )

    def _passing(self, seconds: Floats) -> Floats:
        """(m, 3) v_A: the velocity of the layer as the spacecraft see it, in the layer's axes."""
        step = 0.005
        way = (self.way.at(seconds + step) - self.way.at(seconds - step)) / (2 * step)  # d_i/s
        speed = -way * _D_I / np.sqrt(self.n0) / alfven_speed(self.b0, self.n0)
        return np.stack([speed[0], np.zeros(len(seconds)), speed[1]], axis=1)


def draw_crossing(seed: int, name: str, b0: float, n0: float) -> Crossing:
    """The crossing of this seed and name.

    b0 (nT) and n0 (cm^-3): what is known of the layer, whose own values differ from them a little.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return Crossing(
        layer=_draw_layer(rng),
        b0=b0 * rng.uniform(1 - PERTURBATION, 1 + PERTURBATION),
        n0=n0 * rng.uniform(1 - PERTURBATION, 1 + PERTURBATION),
        axes=tilted(rng, np.radians(15.0)),
        way=_draw_way(rng),
        tetrahedron=draw_tetrahedron(rng),
        waves=draw_waves(rng),
        noise=Noise(
            b=rng.uniform(0.05, 0.2),
            e=rng.uniform(1.0, 4.0),
            n=rng.uniform(0.04, 0.2),
            v_i=rng.uniform(20.0, 100.0),
            v_e=rng.uniform(50.0, 300.0),
        ),
    )


def scales_now(crossing: Crossing, seconds: float) -> tuple[float, float]:
    """B0 (nT) and n0 (cm^-3) of the sheet as it is, which a perfect estimator would find on the way of so many seconds.

    B0 is the mean field 3 d_i from the sheet, n0 the median density in its middle. Those of a simulated crossing itself
    are of the sheet before it reconnected, when it held more plasma.
    """
    x, _ = crossing.way.at(np.linspace(0, seconds, 200))
    edges = np.concatenate([crossing.layer.plasma(x, np.full_like(x, z)).b for z in (-_EDGE, _EDGE)])
    n = crossing.layer.plasma(x, np.zeros_like(x)).n
    return crossing.b0 * float(np.linalg.norm(edges, axis=1).mean()), crossing.n0 * float(np.median(n))


def draw_simulated_crossing(seed: int, name: str, b0: float, n0: float, sheets: Sequence[Sheet]) -> Crossing:
    """As `draw_crossing`, through one of these sheets of a simulation, which pass the spacecraft as plasma does.

    The way stays where the sheet has regions.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), 1])
    layer = sheets[int(rng.integers(len(sheets)))]
    along = draw_swings(rng, 1, 2, size=(0.2 * layer.reach, 0.45 * layer.reach), period=(45.0, 120.0))
    across = draw_swings(rng, 1, 2, size=(0.2 * layer.height, 0.45 * layer.height), period=(25.0, 60.0))
    return replace(draw_crossing(seed, name, b0, n0), layer=layer, way=_joined(along, across), moving=True)


def _draw_layer(rng: np.random.Generator) -> Layer:
    return Layer(
        slope=rng.uniform(0.12, 0.4),
        width=rng.uniform(0.2, 0.5),
        onset=rng.uniform(0.5, 2.0),
        jump=rng.uniform(0.2, 0.6),
        hall_b=rng.uniform(0.3, 0.7),
        guide_b=rng.uniform(-0.25, 0.25),
        jet=rng.uniform(0.3, 1.0),
        reconnection_e=rng.uniform(0.05, 0.2),
        inflow_n=rng.uniform(0.2, 0.9),
        exhaust_n=rng.uniform(0.7, 1.4),
        cavity=rng.uniform(0.1, 0.6),
    )


def _draw_way(rng: np.random.Generator) -> Swings:
    """Slow along the layer, past the X-line; faster across it, out on both sides."""
    along = draw_swings(rng, 1, 2, size=(2.5, 4.5), period=(25.0, 70.0))
    across = draw_swings(rng, 1, 2, size=(0.6, 1.8), period=(8.0, 30.0))
    return _joined(along, across)


def _joined(along: Swings, across: Swings) -> Swings:
    return Swings(*(np.concatenate([getattr(along, f), getattr(across, f)]) for f in ("size", "rate", "phase")))


def draw_waves(rng: np.random.Generator) -> Swings:
    """Weak in B, strong in E and in the velocity of electrons, as lower-hybrid and slower waves are."""
    waves = draw_swings(rng, 9, 6, size=(0.0, 1.0), period=(0.1, 0.8))
    strength = np.repeat([0.08, 0.7, 1.5], 3)[:, None] * rng.uniform(0.3, 1.0)
    return Swings(strength * waves.size, waves.rate, waves.phase)


def draw_swings(rng: np.random.Generator, functions: int, sines: int, size: Range, period: Range) -> Swings:
    shape = (functions, sines)
    shortest, longest = np.log(period)
    rate = 2 * np.pi / np.exp(rng.uniform(shortest, longest, shape))
    return Swings(rng.uniform(*size, shape), rate, rng.uniform(0, 2 * np.pi, shape))


def tilted(rng: np.random.Generator, most: float) -> Floats:
    """(3, 3): the axes turned by up to `most` (rad) about each axis, one after the other."""
    turned = np.eye(3)
    for first, second, angle in zip((0, 1, 2), (1, 2, 0), rng.uniform(-most, most, 3), strict=True):
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = np.sin(angle), -np.sin(angle)
        turned = turn @ turned
    return turned


def draw_tetrahedron(rng: np.random.Generator) -> Floats:
    """(4, 3) km: a regular tetrahedron with sides of 10 to 40 km, turned at random."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(8)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    tetrahedron: Floats = rng.uniform(10.0, 40.0) * corners @ q
    return tetrahedron
