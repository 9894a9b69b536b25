"""A simulated current sheet: its first state, how it reconnects, and that a restart changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mms_regions.core.errors import InputProblem, Interrupted, UsageProblem
from mms_regions.training.pic import deposited, div_b, energies, flux_function, gauss_error
from mms_regions.training.simulation import (
    CHECKPOINT,
    Progress,
    SheetSetup,
    load,
    moments,
    read_log,
    reconnected_flux,
    simulate,
    snapshots,
)

SMALL = SheetSetup(
    length=6.4, cells=64, background=0.2, per_density=600, light_speed=5.0, dt=0.01, end=1.0, snapshot_every=0.5
)


def quiet(_: Progress) -> None: ...


def go_on() -> None: ...


def run(setup: SheetSetup, folder: Path, check: Callable[[], None] = go_on) -> list[Path]:
    return simulate(setup, folder, 1, quiet, check)


def test_the_first_state_is_a_balanced_sheet_without_charge() -> None:
    setup = replace(SMALL, perturbation=0.0, per_density=3000)
    first = load(setup, 1)
    grid, box = first.grid, first.fields
    assert gauss_error(first) < 1e-9
    assert np.abs(div_b(box, grid.h)).max() < 1e-4
    density = deposited(first.species[0], grid, np.ones((len(first.species[0]), 1)))[0].mean(axis=1)
    z = np.arange(setup.cells) * grid.h
    wanted = sum(np.cosh((z - c * setup.length) / setup.half_width) ** -2.0 for c in (0.25, 0.75)) + setup.background
    assert density == pytest.approx(wanted, abs=0.12)
    seen = moments(first)
    current = (seen["n_i"] * seen["v_i"][1] - seen["n_e"] * seen["v_e"][1]).mean(axis=1)
    curl = np.gradient(seen["b"][0].mean(axis=1), grid.h)
    assert np.corrcoef(current, curl)[0, 1] > 0.97
    middle = setup.cells // 4
    assert current[middle] == pytest.approx(1 / setup.half_width, rel=0.15)
    pressure = (seen["p_i"] + seen["p_e"]).mean(axis=1) + (seen["b"][0] ** 2).mean(axis=1) / 2
    assert pressure == pytest.approx(np.full(setup.cells, pressure.mean()), rel=0.12)


def test_an_undisturbed_sheet_stays() -> None:
    setup = replace(SMALL, perturbation=0.0, per_density=1500)
    still = load(setup, 1)
    before = still.fields.bx.mean(axis=1)
    total = sum(energies(still).values())
    still.advance(100)
    assert still.fields.bx.mean(axis=1) == pytest.approx(before, abs=0.12)
    assert sum(energies(still).values()) == pytest.approx(total, rel=5e-3)


@pytest.mark.system
def test_a_disturbed_sheet_reconnects_with_the_hall_field_of_a_collisionless_one() -> None:
    setup = replace(SMALL, length=9.6, cells=96, perturbation=0.15, per_density=1200)
    sheet = load(setup, 2)
    before = reconnected_flux(flux_function(sheet.fields, sheet.grid.h))
    sheet.advance(800)
    after = reconnected_flux(flux_function(sheet.fields, sheet.grid.h))
    assert after[0] > 1.5 * before[0] and after[1] > 1.5 * before[1]
    by, x, z = sheet.fields.by, setup.cells // 2, setup.cells // 4
    near, high = slice(2, 20), slice(1, 9)
    quadrants = {
        (east, north): by[
            slice(z + high.start, z + high.stop) if north else slice(z - high.stop, z - high.start),
            slice(x + near.start, x + near.stop) if east else slice(x - near.stop, x - near.start),
        ].mean()
        for east in (True, False)
        for north in (True, False)
    }
    # In GSM axes, with x earthward: positive north-earthward and south-tailward (Eastwood et al. 2010).
    hall = quadrants[True, True] + quadrants[False, False] - quadrants[True, False] - quadrants[False, True]
    assert hall / 4 > 0.02


def test_a_restart_is_the_straight_run(tmp_path: Path) -> None:
    straight = run(SMALL, tmp_path / "straight")
    stops = iter([False, True, False, False])

    def stop() -> None:
        if next(stops, False):
            raise Interrupted("interrupted")

    with pytest.raises(Interrupted):
        run(SMALL, tmp_path / "twice", stop)
    assert (tmp_path / "twice" / CHECKPOINT).exists()
    again = run(SMALL, tmp_path / "twice")
    assert [path.name for path in again] == [path.name for path in straight]
    with np.load(straight[-1]) as one, np.load(again[-1]) as two:
        assert all(np.array_equal(one[name], two[name], equal_nan=True) for name in one.files)
    assert read_log(tmp_path / "twice") == read_log(tmp_path / "straight")


def test_a_run_that_ended_is_not_run_again(tmp_path: Path) -> None:
    setup = replace(SMALL, end=0.1)
    run(setup, tmp_path)
    seen: list[Progress] = []
    simulate(setup, tmp_path, 1, seen.append, go_on)
    assert seen == [] and len(snapshots(tmp_path)) == 1


def test_a_folder_of_another_setup_is_refused_and_so_is_a_broken_checkpoint(tmp_path: Path) -> None:
    run(replace(SMALL, end=0.1), tmp_path)
    with pytest.raises(UsageProblem, match=r"another setup \(guide 0.0 there, 0.2 here\)"):
        run(replace(SMALL, end=0.1, guide=0.2), tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"PK")
    with pytest.raises(InputProblem, match="cannot be read"):
        run(replace(SMALL, end=0.1), tmp_path)
    with pytest.raises(InputProblem, match="run `mms-regions simulate"):
        read_log(tmp_path / "nowhere")


def test_a_setup_without_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="cells, dt must be positive"):
        SheetSetup(cells=0, dt=-1)
