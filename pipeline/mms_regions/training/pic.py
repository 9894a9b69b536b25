"""A particle-in-cell code in 2.5 dimensions: fields on a Yee grid, relativistic particles, all periodic.

Fields and particles depend on x and z; vectors have three components. Units: lengths in ion inertial lengths d_i,
times in inverse ion gyrofrequencies, velocities in Alfven speeds v_A, B in B0, E in B0 v_A, densities in n0, currents
in n0 e v_A, masses in m_i. So dB/dt = -curl E, dE/dt = c^2 (curl B - J) and div E = c^2 rho.

The scheme is the textbook one (Birdsall and Langdon 1985): leapfrog, the push of Boris, linear weights, the current of
Umeda et al. (2003, doi 10.1016/S0010-4655(03)00437-5), which conserves charge to rounding, and one 1-2-1 filter of it.
Particles have an integer cell and a float32 offset in it, so that resolution is the same everywhere in the box.

Needs numba, the extra `train`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_BEFORE, _AFTER = 1, 2  # rows of a grid of currents beyond the box, filled by particles that leave it in a step
_SORTED_EVERY = 25  # steps; particles of one cell lie together, or memory is read at random


@dataclass
class Fields:
    """E and B on a Yee grid, each (nz, nx) float32.

    Index [k, i] is at z = k h, x = i h; ex and bz are half a cell further in x, ez and bx in z, by in both.
    """

    ex: Array
    ey: Array
    ez: Array
    bx: Array
    by: Array
    bz: Array

    @property
    def shape(self) -> tuple[int, int]:
        nz, nx = self.ex.shape
        return nz, nx


@dataclass
class Species:
    """Particles of one kind: cell [z, x] (n, 2) int32, offset in it (n, 2) float32, u = gamma v (n, 3) float32."""

    charge: float
    mass: float
    cell: Array
    offset: Array
    u: Array

    def __len__(self) -> int:
        return len(self.cell)


@dataclass(frozen=True)
class Grid:
    """Cells in z and x, their side h (d_i), the time step, the speed of light, and the weight of a particle.

    weight: n0 d_i^2 that a particle stands for. threads: how many share the particles; results depend on it in the
    last digits. Raises ValueError where light crosses more than a cell in a step.
    """

    nz: int
    nx: int
    h: float
    dt: float
    light_speed: float
    weight: float
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.light_speed * self.dt < self.h / np.sqrt(2):
            raise ValueError(f"a step of {self.dt:g} is too long: light would cross more than a cell of {self.h:g} d_i")
        if min(self.nz, self.nx) < 4 or self.threads < 1:
            raise ValueError("a grid has at least 4 cells in each direction, and at least one thread")


@dataclass
class Simulation:
    """Fields at a time, positions at the same time, and momenta half a step before it."""

    grid: Grid
    fields: Fields
    species: tuple[Species, ...]
    step: int = 0

    @property
    def time(self) -> float:
        return self.step * self.grid.dt

    def advance(self, steps: int = 1) -> None:
        """Go on by so many steps of the grid's dt."""
        for _ in range(steps):
            if self.step % _SORTED_EVERY == 0:
                for species in self.species:
                    sort_by_cell(species, self.grid)
            current = self._push()
            advance_fields(self.fields, current, self.grid)
            self.step += 1

    def _push(self) -> Array:
        """Move all particles by a step; their filtered current (3, nz, nx), staggered as E."""
        grid, nodes = self.grid, at_nodes(self.fields)
        shares = np.zeros((grid.threads, 3, grid.nz + _BEFORE + _AFTER, grid.nx + _BEFORE + _AFTER))
        numba.set_num_threads(min(grid.threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        for s in self.species:
            push_and_deposit(
                s.cell, s.offset, s.u, nodes, shares, s.charge, s.mass, grid.weight, grid.h, grid.dt, grid.light_speed
            )
        return smoothed(folded(shares.sum(axis=0)))


def at_nodes(fields: Fields) -> Array:
    """(nz, nx, 6) float32: ex, ey, ez, bx, by, bz, each the mean of its neighbours at the corners of cells."""

    def back(values: Array, axis: int) -> Array:
        mean: Array = (values + np.roll(values, 1, axis)) * np.float32(0.5)
        return mean

    x, z = 1, 0
    found = [
        back(fields.ex, x),
        fields.ey,
        back(fields.ez, z),
        back(fields.bx, z),
        back(back(fields.by, x), z),
        back(fields.bz, x),
    ]
    return np.ascontiguousarray(np.stack(found, axis=-1), np.float32)


@numba.njit(inline="always", cache=True)
def _way_point(start: float, end: float, cells: int) -> float:
    """Where a way from a place in cell 0 to one in cell -1, 0 or 1 is cut: at the border, or else in its middle."""
    if cells > 0:
        return 1.0
    return 0.0 if cells < 0 else 0.5 * (start + end)


@numba.njit(parallel=True, cache=True)
def push_and_deposit(
    cell: Array,
    offset: Array,
    u: Array,
    nodes: Array,
    shares: Array,
    charge: float,
    mass: float,
    weight: float,
    h: float,
    dt: float,
    light_speed: float,
) -> None:
    """Boris push of all particles in place; adds their current to shares (threads, 3, nz + 3, nx + 3)."""
    nz, nx = nodes.shape[0], nodes.shape[1]
    threads, n = shares.shape[0], len(cell)
    half = 0.5 * dt * charge / mass
    inverse_c2 = 1.0 / light_speed**2
    flux = charge * weight / (h * dt)  # of one cell's way
    across = charge * weight / (h * h)
    for thread in numba.prange(threads):
        jx, jy, jz = shares[thread, 0], shares[thread, 1], shares[thread, 2]
        for p in range(n * thread // threads, n * (thread + 1) // threads):
            k, i = cell[p, 0], cell[p, 1]
            z, x = np.float64(offset[p, 0]), np.float64(offset[p, 1])
            k1, i1 = (k + 1) % nz, (i + 1) % nx
            w00, w01, w10, w11 = (1 - z) * (1 - x), (1 - z) * x, z * (1 - x), z * x
            a, b, c, d = nodes[k, i], nodes[k, i1], nodes[k1, i], nodes[k1, i1]
            ex = w00 * a[0] + w01 * b[0] + w10 * c[0] + w11 * d[0]
            ey = w00 * a[1] + w01 * b[1] + w10 * c[1] + w11 * d[1]
            ez = w00 * a[2] + w01 * b[2] + w10 * c[2] + w11 * d[2]
            bx = w00 * a[3] + w01 * b[3] + w10 * c[3] + w11 * d[3]
            by = w00 * a[4] + w01 * b[4] + w10 * c[4] + w11 * d[4]
            bz = w00 * a[5] + w01 * b[5] + w10 * c[5] + w11 * d[5]

            ux, uy, uz = u[p, 0] + half * ex, u[p, 1] + half * ey, u[p, 2] + half * ez
            turn = half / np.sqrt(1.0 + (ux * ux + uy * uy + uz * uz) * inverse_c2)
            tx, ty, tz = turn * bx, turn * by, turn * bz
            s = 2.0 / (1.0 + tx * tx + ty * ty + tz * tz)
            vx, vy, vz = ux + uy * tz - uz * ty, uy + uz * tx - ux * tz, uz + ux * ty - uy * tx
            ux += s * (vy * tz - vz * ty) + half * ex
            uy += s * (vz * tx - vx * tz) + half * ey
            uz += s * (vx * ty - vy * tx) + half * ez
            u[p, 0], u[p, 1], u[p, 2] = ux, uy, uz

            # The way in cells, as it is after rounding: the current must be that of the positions that are kept.
            gamma = np.sqrt(1.0 + (ux * ux + uy * uy + uz * uz) * inverse_c2)
            x2, z2 = x + ux / gamma * dt / h, z + uz / gamma * dt / h
            di, dk = int(np.floor(x2)), int(np.floor(z2))
            kept_x, kept_z = np.float32(x2 - di), np.float32(z2 - dk)
            if kept_x >= np.float32(1.0):
                di, kept_x = di + 1, np.float32(0.0)
            if kept_z >= np.float32(1.0):
                dk, kept_z = dk + 1, np.float32(0.0)
            x2, z2 = di + np.float64(kept_x), dk + np.float64(kept_z)
            offset[p, 0], offset[p, 1] = kept_z, kept_x
            cell[p, 0], cell[p, 1] = (k + dk) % nz, (i + di) % nx

            # Two straight parts that meet where the way leaves its cell (Umeda et al. 2003).
            xr, zr = _way_point(x, x2, di), _way_point(z, z2, dk)
            for part in range(2):
                if part == 0:
                    fx, fz, wx, wz, ci, ck = xr - x, zr - z, 0.5 * (x + xr), 0.5 * (z + zr), 0, 0
                else:
                    fx, fz, wx, wz, ci, ck = x2 - xr, z2 - zr, 0.5 * (xr + x2) - di, 0.5 * (zr + z2) - dk, di, dk
                row, column = k + ck + 1, i + ci + 1
                jx[row, column] += flux * fx * (1 - wz)
                jx[row + 1, column] += flux * fx * wz
                jz[row, column] += flux * fz * (1 - wx)
                jz[row, column + 1] += flux * fz * wx
                out = 0.5 * across * uy / gamma
                jy[row, column] += out * (1 - wx) * (1 - wz)
                jy[row, column + 1] += out * wx * (1 - wz)
                jy[row + 1, column] += out * (1 - wx) * wz
                jy[row + 1, column + 1] += out * wx * wz


def folded(padded: Array) -> Array:
    """(..., nz, nx) of (..., nz + 3, nx + 3): what lies beyond the box belongs to its other side."""
    inside = padded.copy()
    for axis in (-2, -1):
        moved = np.moveaxis(inside, axis, 0)
        n = moved.shape[0] - _BEFORE - _AFTER
        kept = moved[_BEFORE : _BEFORE + n].copy()
        kept[-_BEFORE:] += moved[:_BEFORE]
        kept[:_AFTER] += moved[_BEFORE + n :]
        inside = np.moveaxis(kept, 0, axis)
    return np.ascontiguousarray(inside)


def smoothed(values: Array) -> Array:
    """One binomial filter, 1-2-1 in x and in z. It commutes with differences, so charge stays conserved."""
    for axis in (-2, -1):
        values = 0.25 * np.roll(values, 1, axis) + 0.5 * values + 0.25 * np.roll(values, -1, axis)
    return values


def advance_fields(fields: Fields, current: Array, grid: Grid) -> None:
    """A step of Maxwell's equations in place; current (3, nz, nx) of the middle of the step, staggered as E."""
    x, z = 1, 0
    half = np.float32(0.5 * grid.dt / grid.h)
    light, source = np.float32(grid.light_speed**2 * grid.dt / grid.h), grid.light_speed**2 * grid.dt
    _advance_b(fields, half)
    jx, jy, jz = (np.float32(source) * part.astype(np.float32) for part in current)
    fields.ex -= light * (fields.by - np.roll(fields.by, 1, z)) + jx
    fields.ey += light * (fields.bx - np.roll(fields.bx, 1, z) - fields.bz + np.roll(fields.bz, 1, x)) - jy
    fields.ez += light * (fields.by - np.roll(fields.by, 1, x)) - jz
    _advance_b(fields, half)


def _advance_b(fields: Fields, half: np.float32) -> None:
    """Half a step of dB/dt = -curl E."""
    x, z = 1, 0
    fields.bx += half * (np.roll(fields.ey, -1, z) - fields.ey)
    fields.by -= half * (np.roll(fields.ex, -1, z) - fields.ex - np.roll(fields.ez, -1, x) + fields.ez)
    fields.bz -= half * (np.roll(fields.ey, -1, x) - fields.ey)


def sort_by_cell(species: Species, grid: Grid) -> None:
    """Put particles of one cell together; those of equal cells keep their order."""
    order = np.argsort(species.cell[:, 0].astype(np.int64) * grid.nx + species.cell[:, 1], kind="stable")
    species.cell, species.offset, species.u = (a[order] for a in (species.cell, species.offset, species.u))


@numba.njit(cache=True)
def _add_moments(cell: Array, offset: Array, values: Array, padded: Array) -> None:
    """Add the columns of values (n, m), with linear weights, to padded (m, nz + 3, nx + 3)."""
    for p in range(len(cell)):
        row, column = cell[p, 0] + 1, cell[p, 1] + 1
        z, x = np.float64(offset[p, 0]), np.float64(offset[p, 1])
        for m in range(values.shape[1]):
            value = np.float64(values[p, m])
            padded[m, row, column] += value * (1 - z) * (1 - x)
            padded[m, row, column + 1] += value * (1 - z) * x
            padded[m, row + 1, column] += value * z * (1 - x)
            padded[m, row + 1, column + 1] += value * z * x


def deposited(species: Species, grid: Grid, values: Array) -> Array:
    """(m, nz, nx) at the corners of cells: the density, in n0, of each column of values (n, m) of particles."""
    padded = np.zeros((values.shape[1], grid.nz + _BEFORE + _AFTER, grid.nx + _BEFORE + _AFTER))
    _add_moments(species.cell, species.offset, values, padded)
    return folded(padded) * (grid.weight / grid.h**2)


def charge_density(simulation: Simulation) -> Array:
    """(nz, nx), in n0 e, filtered as the current is."""
    total = np.zeros((1, simulation.grid.nz, simulation.grid.nx))
    for species in simulation.species:
        total += species.charge * deposited(species, simulation.grid, np.ones((len(species), 1)))
    found: Array = smoothed(total)[0]
    return found


def gauss_error(simulation: Simulation) -> float:
    """The standard deviation of div E / c^2 - rho, in n0 e; rounding alone makes it grow."""
    f, grid = simulation.fields, simulation.grid
    ex, ez = f.ex.astype(np.float64), f.ez.astype(np.float64)
    divergence = (ex - np.roll(ex, 1, 1) + ez - np.roll(ez, 1, 0)) / grid.h
    return float((divergence / grid.light_speed**2 - charge_density(simulation)).std())


def div_b(fields: Fields, h: float) -> Array:
    """(nz, nx): div B at the centres of cells, which nothing changes."""
    bx, bz = fields.bx.astype(np.float64), fields.bz.astype(np.float64)
    divergence: Array = (np.roll(bx, -1, 1) - bx + np.roll(bz, -1, 0) - bz) / h
    return divergence


def energies(simulation: Simulation) -> dict[str, float]:
    """Energies of the box, in n0 m_i v_A^2 d_i^2: magnetic, electric, and of each species (ion, electron...)."""
    f, grid = simulation.fields, simulation.grid
    cell = grid.h**2

    def square(*parts: Array) -> float:
        return float(sum((part.astype(np.float64) ** 2).sum() for part in parts))

    found = {
        "magnetic": 0.5 * cell * square(f.bx, f.by, f.bz),
        "electric": 0.5 * cell * square(f.ex, f.ey, f.ez) / grid.light_speed**2,
    }
    for number, s in enumerate(simulation.species):
        u2 = (s.u.astype(np.float64) ** 2).sum(axis=1)
        gamma = np.sqrt(1 + u2 / grid.light_speed**2)
        found[f"species_{number}"] = float(grid.weight * s.mass * (u2 / (gamma + 1)).sum())
    return found


def flux_function(fields: Fields, h: float) -> Array:
    """(nz, nx) at the corners of cells: A_y in B0 d_i, with B_x = -dA/dz and B_z = dA/dx; zero in the first corner."""
    first = np.concatenate([[0.0], np.cumsum(fields.bz[0].astype(np.float64))[:-1]]) * h
    below = np.cumsum(fields.bx.astype(np.float64), axis=0)[:-1] * h
    return np.concatenate([first[None], first[None] - below])
