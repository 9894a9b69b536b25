"""A steady reconnection layer in closed form: fields and moments at any place in it, and which region that place is in.

B, n and v_i are given: a current sheet that splits at an X-line into two separatrices, the quadrupole of the Hall field
between them, density cavities along them, ion jets inside. The rest follows from them: currents from Ampere's law,
electron velocity from the currents, E_x and E_z from frozen-in electrons, and E_y is the same everywhere, as in any
steady layer. So electrons stream to the X-line along the separatrices, seen from the ions, and E mostly points to the
sheet there, as spacecraft see it (Eastwood et al. 2010, doi 10.1029/2009JA014962). Forces are not balanced: it is a
model to train and to show things with, not a solution.

All is dimensionless: B in B0, n in n0, v in the Alfven speed v_A of these two, E in B0 v_A, J in n0 e v_A, T in
m_i v_A^2, lengths in ion inertial lengths d_i. Axes: x along the reconnecting field (earthward in the tail), y along
the X-line, z across the sheet (northward); B_x > 0 where z > 0.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import Floats

INFLOW_NORTH, OUTFLOW_EARTHWARD, INFLOW_SOUTH = 0, 1, 2
SEPARATRIX_NORTH, OUTFLOW_TAILWARD, SEPARATRIX_SOUTH = 3, 4, 5
NONE_OF_THESE = 6  # of models that know it: no reconnection here

_STEP = 0.01  # d_i, of the differences in the currents; the thinnest structure is 0.2


@dataclass(frozen=True)
class Plasma:
    """Fields and moments at m places: vectors (m, 3), the rest (m,); n is that of ions and electrons alike."""

    b: Floats
    e: Floats
    n: Floats
    v_i: Floats
    v_e: Floats
    t_i: Floats
    t_e: Floats


@dataclass(frozen=True)
class Layer:
    """What makes one layer differ from another. Raises ValueError for values that make no layer."""

    slope: float  # of the separatrices: |z| = slope |x|
    width: float  # half of that of a separatrix region, d_i
    onset: float  # d_i from the X-line over which jets, Hall field and B_z set in
    jump: float  # how much of the turn of B_x happens at the separatrices, 0 to 1
    hall_b: float  # largest |B_y| of the quadrupole
    guide_b: float  # B_y added everywhere
    jet: float  # speed of the ions in the exhausts
    reconnection_e: float  # E_y
    inflow_n: float
    exhaust_n: float
    cavity: float  # share of the density that is missing at a separatrix

    def __post_init__(self) -> None:
        free = ("guide_b",)
        wrong = [f.name for f in fields(self) if f.name not in free and not getattr(self, f.name) > 0]
        wrong += [name for name in ("jump", "cavity") if not getattr(self, name) < 1]
        if wrong:
            raise ValueError(f"no layer has {', '.join(f'{name} {getattr(self, name):g}' for name in wrong)}")

    def distance(self, x: Floats, z: Floats) -> Floats:
        """(m,) d_i: signed distance to the separatrix on this side of the sheet, positive in the inflow."""
        distance: Floats = (np.abs(z) - self.slope * np.abs(x)) / np.hypot(1.0, self.slope)
        return distance

    def region(self, x: Floats, z: Floats) -> NDArray[np.int8]:
        """(m,) int8: the region of each place, by geometry alone; borders belong to the separatrix, north and earth."""
        distance = self.distance(x, z)
        inflow = np.where(z >= 0, INFLOW_NORTH, INFLOW_SOUTH)
        outflow = np.where(x >= 0, OUTFLOW_EARTHWARD, OUTFLOW_TAILWARD)
        separatrix = np.where(z >= 0, SEPARATRIX_NORTH, SEPARATRIX_SOUTH)
        beside = np.where(distance > 0, inflow, outflow)
        return np.where(np.abs(distance) <= self.width, separatrix, beside).astype(np.int8)

    def unrest(self, x: Floats, z: Floats) -> Floats:
        """(m,) how strong waves are, as a share: strong from the separatrices inwards, weak in the inflow."""
        unrest: Floats = 0.15 + 0.85 * self._inside(x, z, self._border(x) + self.width)
        return unrest

    def plasma(self, x: Floats, z: Floats) -> Plasma:
        """Fields and moments at the places x, z (m,), d_i from the X-line."""
        b, n, v_i = self._magnetic(x, z), self._density(x, z), self._ion_velocity(x, z)
        v_e = v_i - self._current(x, z) / n[:, None]
        e = -np.cross(v_e, b)
        e[:, 1] = self.reconnection_e
        t_i = 0.1 + 0.3 * self._inside(x, z, self._border(x))
        return Plasma(b, e, n, v_i, v_e, t_i, 0.2 * t_i)

    def _border(self, x: Floats) -> Floats:
        """|z| of the separatrices, rounded at the X-line so that fields have no kink there."""
        border: Floats = self.slope * np.hypot(x, self.width)
        return border

    def _inside(self, x: Floats, z: Floats, border: Floats) -> Floats:
        """1 between the separatrices, 0 far outside, 1/2 at |z| = border."""
        inside: Floats = 0.5 * (np.tanh((z + border) / self.width) - np.tanh((z - border) / self.width))
        return inside

    def _jets(self, x: Floats, z: Floats) -> Floats:
        """1 in the exhausts, 0 outside; jets and dense plasma begin inside the separatrix regions."""
        return self._inside(x, z, np.maximum(self._border(x) - 0.7 * self.width, 0.0))

    def _magnetic(self, x: Floats, z: Floats) -> Floats:
        border, away = self._border(x), np.tanh(x / self.onset)
        inside = self._inside(x, z, border)
        split = 0.5 * (np.tanh((z + border) / self.width) + np.tanh((z - border) / self.width))
        smooth = np.tanh(z / (border + self.width))
        hall = self.hall_b * away * z / (border + self.width) * inside
        normal = self.reconnection_e / self.jet * away * inside  # so that the jets carry E_y
        return np.stack([self.jump * split + (1 - self.jump) * smooth, self.guide_b + hall, normal], axis=1)

    def _current(self, x: Floats, z: Floats) -> Floats:
        """Ampere's law, by central differences."""
        along = (self._magnetic(x + _STEP, z) - self._magnetic(x - _STEP, z)) / (2 * _STEP)
        across = (self._magnetic(x, z + _STEP) - self._magnetic(x, z - _STEP)) / (2 * _STEP)
        return np.stack([-across[:, 1], across[:, 0] - along[:, 2], along[:, 1]], axis=1)

    def _density(self, x: Floats, z: Floats) -> Floats:
        cavity = self.cavity * np.exp(-((self.distance(x, z) / self.width) ** 2))
        filled = self.inflow_n + (self.exhaust_n - self.inflow_n) * self._jets(x, z)
        density: Floats = filled * (1 - cavity)
        return density

    def _ion_velocity(self, x: Floats, z: Floats) -> Floats:
        """Jets in the exhausts; ions drift towards the sheet outside, and along y within it."""
        jets = self._jets(x, z)
        towards = -self.reconnection_e * np.tanh(z / self.width) * (1 - jets)
        return np.stack([self.jet * np.tanh(x / self.onset) * jets, 0.2 * jets, towards], axis=1)
