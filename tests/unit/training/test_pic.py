"""The particle-in-cell code against what theory says of it, in boxes that take seconds."""

from __future__ import annotations

import numpy as np
import pytest

from mms_regions.training.pic import (
    Array,
    Fields,
    Grid,
    Simulation,
    Species,
    charge_density,
    deposited,
    div_b,
    energies,
    flux_function,
    folded,
    gauss_error,
)

H, DT, LIGHT = 0.0625, 0.004, 10.0


def grid(nz: int = 24, nx: int = 32, weight: float = 1e-12, threads: int = 1) -> Grid:
    return Grid(nz, nx, H, DT, LIGHT, weight, threads)


def fields(nz: int = 24, nx: int = 32) -> Fields:
    return Fields(*np.zeros((6, nz, nx), np.float32))


def particle(charge: float, mass: float, u: tuple[float, float, float]) -> Species:
    cell, offset = np.array([[12, 16]], np.int32), np.full((1, 2), 0.5, np.float32)
    return Species(charge, mass, cell, offset, np.array([u], np.float32))


def plasma(number: int = 8000, threads: int = 1, seed: int = 1) -> Simulation:
    """Ions and electrons in pairs at random, hot enough to cross every border of the box in a few steps."""
    rng, box = np.random.default_rng(seed), grid(threads=threads)
    area = box.nz * box.nx * H**2
    cell = np.column_stack([rng.integers(0, box.nz, number), rng.integers(0, box.nx, number)]).astype(np.int32)
    offset = rng.random((number, 2)).astype(np.float32)
    species = [
        Species(charge, mass, cell.copy(), offset.copy(), rng.normal(0, speed, (number, 3)).astype(np.float32))
        for charge, mass, speed in ((1.0, 1.0, 0.6), (-1.0, 0.04, 1.5))
    ]
    found = fields()
    found.bx[:], found.by[:] = 1.0, 0.3
    return Simulation(grid(weight=area / number, threads=threads), found, tuple(species))


def place(species: Species) -> Array:
    """(n, 2) d_i: z and x."""
    where: Array = (species.cell + species.offset.astype(np.float64)) * H
    return where


def test_charge_is_conserved_to_rounding_where_particles_cross_both_borders() -> None:
    run = plasma()
    before = [species.cell.copy() for species in run.species]
    divergence = div_b(run.fields, H)
    run.advance(50)
    jumps = np.abs(run.species[1].cell - before[1]).max(axis=0)
    assert (jumps > 10).all(), "no particle has crossed the borders"
    assert gauss_error(run) < 1e-6
    assert np.abs(div_b(run.fields, H) - divergence).max() < 1e-3 * run.fields.bx.max() / H
    assert abs(charge_density(run).sum()) < 1e-9


def test_energy_is_kept() -> None:
    run = plasma()
    before = sum(energies(run).values())
    run.advance(100)
    assert sum(energies(run).values()) == pytest.approx(before, rel=2e-3)


def test_a_particle_gyrates_with_its_frequency_and_radius() -> None:
    still = fields()
    still.by[:] = 1.0
    run = Simulation(grid(), still, (particle(1.0, 1.0, (0.3, 0.0, 0.0)),))
    began = place(run.species[0])
    gamma = np.sqrt(1 + 0.3**2 / LIGHT**2)
    half = round(np.pi * gamma / DT)
    run.advance(half)
    way = place(run.species[0]) - began
    assert np.abs(way[0]) == pytest.approx([0.6, 0.0], abs=2e-3)  # a diameter, across
    run.advance(half)
    assert place(run.species[0]) == pytest.approx(began, abs=2e-3)
    assert run.species[0].u[0] == pytest.approx([0.3, 0.0, 0.0], abs=2e-3)


def test_a_particle_drifts_with_e_cross_b() -> None:
    crossed = fields()
    crossed.by[:], crossed.ez[:] = 1.0, 0.05  # E x B is along -x
    run = Simulation(grid(), crossed, (particle(1.0, 1.0, (-0.05, 0.0, 0.0)),))
    began = place(run.species[0])
    run.advance(1000)
    assert place(run.species[0])[0] - began[0] == pytest.approx([0.0, -0.05 * 1000 * DT], abs=1e-3)


def test_light_in_vacuum_comes_round_in_time() -> None:
    nx, wave = 64, fields(8, 64)
    x = np.arange(nx) * H
    k = 2 * np.pi / (nx * H)
    wave.ey[:] = (LIGHT * np.cos(k * x)).astype(np.float32)
    wave.bz[:] = np.cos(k * (x + H / 2)).astype(np.float32)
    nobody = Species(1.0, 1.0, np.zeros((0, 2), np.int32), np.zeros((0, 2), np.float32), np.zeros((0, 3), np.float32))
    run = Simulation(grid(8, nx), wave, (nobody,))
    run.advance(round(nx * H / LIGHT / DT))
    assert wave.ey[0] == pytest.approx(LIGHT * np.cos(k * x), abs=0.06 * LIGHT)
    assert np.corrcoef(wave.ey[0], np.cos(k * x))[0, 1] > 0.999


def test_cold_electrons_oscillate_at_the_plasma_frequency() -> None:
    nz, nx, mass = 4, 64, 0.04
    per_cell = 16
    cell = np.stack(np.meshgrid(np.arange(nz), np.arange(nx), np.arange(per_cell), indexing="ij")[:2], -1).reshape(
        -1, 2
    )
    offset = np.tile((np.arange(per_cell) + 0.5) / per_cell, nz * nx)
    both = np.column_stack([offset, offset]).astype(np.float32)
    speed = 0.02 * np.sin(2 * np.pi * (cell[:, 1] + both[:, 1]) / nx)
    u = np.column_stack([speed, 0 * speed, 0 * speed]).astype(np.float32)
    electrons = Species(-1.0, mass, cell.astype(np.int32), both, u)
    ions = Species(1.0, 1e9, cell.astype(np.int32).copy(), both.copy(), np.zeros_like(u))
    box = Grid(nz, nx, H, DT, LIGHT, H**2 / per_cell)
    run = Simulation(box, fields(nz, nx), (ions, electrons))
    period = 2 * np.pi / (LIGHT / np.sqrt(mass))
    found = []
    for _ in range(round(3 * period / DT)):
        run.advance()
        found.append(float(run.fields.ex[0] @ np.sin(2 * np.pi * (np.arange(nx) + 0.5) / nx)))
    signs = np.flatnonzero(np.diff(np.sign(found)) != 0)
    assert np.diff(signs).mean() * DT == pytest.approx(period / 2, rel=0.05)


def test_results_do_not_depend_on_sorting_and_little_on_threads() -> None:
    one, two = plasma(threads=1), plasma(threads=2)
    one.advance(20)
    two.advance(20)
    assert energies(one) == pytest.approx(energies(two), rel=1e-5)
    assert one.fields.ey == pytest.approx(two.fields.ey, abs=1e-4)


def test_what_is_deposited_is_all_there_and_where_it_belongs() -> None:
    run = plasma(500)
    density = deposited(run.species[0], run.grid, np.ones((500, 1)))[0]
    assert density.sum() * H**2 == pytest.approx(500 * run.grid.weight)
    alone = particle(1.0, 1.0, (0.0, 0.0, 0.0))
    found = deposited(alone, grid(weight=H**2), np.array([[2.0]]))[0]
    assert found[12:14, 16:18] == pytest.approx(np.full((2, 2), 0.5))
    padded = np.zeros((7, 8))
    padded[0, 4], padded[6, 4], padded[5, 4] = 1, 2, 4
    assert folded(padded)[:, 3].tolist() == [4, 2, 0, 1]


def test_the_flux_function_gives_back_the_field() -> None:
    nz, nx = 24, 32
    rng = np.random.default_rng(3)
    smooth = sum(
        rng.normal() * np.cos(2 * np.pi * (k * np.arange(nz)[:, None] / nz + i * np.arange(nx) / nx) + rng.normal())
        for k in (1, 2)
        for i in (0, 1, 3)
    )
    there = fields(nz, nx)
    there.bx[:] = -(np.roll(smooth, -1, 0) - smooth) / H
    there.bz[:] = (np.roll(smooth, -1, 1) - smooth) / H
    found = flux_function(there, H)
    assert found - found[0, 0] == pytest.approx(smooth - smooth[0, 0], abs=1e-4)


def test_a_step_that_light_outruns_is_refused() -> None:
    with pytest.raises(ValueError, match="light would cross more than a cell"):
        Grid(8, 8, H, 0.005, LIGHT, 1.0)
