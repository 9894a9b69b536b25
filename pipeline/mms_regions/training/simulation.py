"""A reconnecting current sheet, simulated: how the particles are loaded, how a run goes on, and what it leaves.

Two Harris sheets in a periodic box, so that nothing enters from outside: at z = L/4, B_x grows with z as in the Earth's
magnetotail (x earthward, y duskward, z northward); at z = 3L/4 it falls. A small perturbation of the flux function
starts reconnection at x = L/2 of the first sheet and at x = 0 of the second.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.errors import InputProblem, UsageProblem
from mms_regions.core.files import write_whole
from mms_regions.training.pic import (
    Fields,
    Grid,
    Simulation,
    Species,
    at_nodes,
    deposited,
    energies,
    flux_function,
    gauss_error,
)

SETUP, CHECKPOINT, LOG = "setup.json", "checkpoint.npz", "log.jsonl"
_LOG_EVERY, _CHECKPOINT_EVERY = 50, 500  # steps
_FIELD_NAMES = tuple(f.name for f in fields(Fields))
_PARTICLE_NAMES = ("cell", "offset", "u")
_PRESSURE_SUM = 0.5  # T_i + T_e of the sheet, in m_i v_A^2, so that pressure balances B0


@dataclass(frozen=True)
class SheetSetup:
    """What decides a run, apart from the number of threads. Raises ValueError for values that make none.

    background, guide: density in n0 and B_y in B0, everywhere. length: d_i, of the square box. cells: along one side.
    half_width: d_i, of each sheet. perturbation: B0 d_i, of the flux function. per_density: particles of a species per
    n0 d_i^2. end: inverse ion gyrofrequencies. snapshot_every: the same, between snapshots.
    """

    background: float = 0.1
    guide: float = 0.0
    seed: int = 0
    length: float = 25.6
    cells: int = 410
    half_width: float = 0.5
    perturbation: float = 0.1
    mass_ratio: float = 25.0
    light_speed: float = 10.0
    temperature_ratio: float = 5.0  # T_i / T_e
    per_density: float = 9000.0
    dt: float = 0.004
    end: float = 21.0
    snapshot_every: float = 0.5

    def __post_init__(self) -> None:
        free = ("guide", "seed", "perturbation")
        wrong = [f.name for f in fields(self) if f.name not in free and not getattr(self, f.name) > 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} must be positive")

    def grid(self, threads: int) -> Grid:
        """Raises ValueError where the step is too long for the cells."""
        side = self.length / self.cells
        return Grid(self.cells, self.cells, side, self.dt, self.light_speed, 1 / self.per_density, threads)

    @property
    def steps(self) -> int:
        return round(self.end / self.dt)

    @property
    def temperatures(self) -> tuple[float, float]:
        """Of ions and electrons, in m_i v_A^2."""
        electrons = _PRESSURE_SUM / (1 + self.temperature_ratio)
        return _PRESSURE_SUM - electrons, electrons


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps, and the seconds that it will take at the pace of this process."""

    step: int
    steps: int
    seconds_left: float
    log: Mapping[str, float]


@dataclass
class _Pace:
    """From which step this process began, and when."""

    step: int
    began: float = field(default_factory=time.monotonic)

    def left(self, step: int, steps: int) -> float:
        return (time.monotonic() - self.began) / max(step - self.step, 1) * (steps - step)


def simulate(
    setup: SheetSetup, folder: Path, threads: int, observe: Callable[[Progress], None], check: Callable[[], None]
) -> list[Path]:
    """Run to the end, or go on from the last checkpoint in the folder; the snapshots, in order of time.

    check: called after each step of the log; what it raises ends the run, after a checkpoint. Raises UsageProblem
    where the folder is of a run with another setup, InputProblem where its checkpoint cannot be read.
    """
    _require_same_setup(setup, folder)
    simulation, log = _resumed(setup, folder, threads) or (load(setup, threads), [])
    pace = _Pace(simulation.step)
    every = max(1, round(setup.snapshot_every / setup.dt))
    if not log:
        log.append(diagnosed(simulation))
        _write_snapshot(simulation, folder)
    while simulation.step < setup.steps:
        ahead = min(_next(simulation.step, _LOG_EVERY), _next(simulation.step, every), setup.steps)
        simulation.advance(ahead - simulation.step)
        if simulation.step % every == 0:
            _write_snapshot(simulation, folder)
        if simulation.step % _LOG_EVERY == 0 or simulation.step == setup.steps:
            log.append(diagnosed(simulation))
            observe(Progress(simulation.step, setup.steps, pace.left(simulation.step, setup.steps), log[-1]))
            try:
                check()
            except BaseException:
                _write_checkpoint(simulation, log, folder)
                raise
        if simulation.step % _CHECKPOINT_EVERY == 0 or simulation.step == setup.steps:
            _write_checkpoint(simulation, log, folder)
    return snapshots(folder)


def _next(step: int, every: int) -> int:
    return (step // every + 1) * every


def load(setup: SheetSetup, threads: int) -> Simulation:
    """The first state of a run: ions and electrons in pairs at the same places, so that there is no charge."""
    rng = np.random.default_rng(setup.seed)
    grid = setup.grid(threads)
    place, drift = _drawn_places(setup, rng)
    cells = place / grid.h
    cell = np.floor(cells).astype(np.int32)
    offset = (cells - cell).astype(np.float32)
    over = offset >= 1  # rounded up
    cell, offset = (cell + over) % setup.cells, np.where(over, np.float32(0), offset)
    t_i, t_e = setup.temperatures
    speed = 1 / setup.half_width  # of ions less that of electrons, which carries the sheet's current
    species = []
    for charge, mass, t in ((1.0, 1.0, t_i), (-1.0, 1 / setup.mass_ratio, t_e)):
        u = rng.normal(0.0, np.sqrt(t / mass), (len(cell), 3))
        u[:, 1] += drift * charge * speed * t / _PRESSURE_SUM
        species.append(Species(charge, mass, cell.astype(np.int32), offset.copy(), u.astype(np.float32)))
    return Simulation(grid, _first_fields(setup, grid), tuple(species))


def _drawn_places(setup: SheetSetup, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n, 2) d_i, z and x of each pair, and (n,) the direction of its drift along y: 1, -1, or 0 in the background."""
    length, places, drifts = setup.length, [], []
    per_sheet = round(2 * setup.half_width * length * setup.per_density)
    for centre, direction in ((0.25, 1.0), (0.75, -1.0)):
        z = centre * length + setup.half_width * np.arctanh(rng.uniform(-1, 1, per_sheet))
        places.append(np.column_stack([z % length, rng.uniform(0, length, per_sheet)]))
        drifts.append(np.full(per_sheet, direction))
    background = round(setup.background * length**2 * setup.per_density)
    places.append(rng.uniform(0, length, (background, 2)))
    drifts.append(np.zeros(background))
    return np.concatenate(places) % length, np.concatenate(drifts)


def _first_fields(setup: SheetSetup, grid: Grid) -> Fields:
    """The sheets, the guide field, and the perturbation, from a flux function, so that div B is zero."""
    length, width = setup.length, setup.half_width
    corner = np.arange(setup.cells) * grid.h
    z, middle = corner[:, None], corner + grid.h / 2
    bx = np.tanh((middle - length / 4) / width) - np.tanh((middle - 3 * length / 4) / width) - 1
    wave = np.cos(2 * np.pi * (corner[None, :] - length / 2) / length)
    bump = [np.exp(-(((z - place * length) / (2 * width)) ** 2)) for place in (0.25, 0.75)]
    flux = -setup.perturbation * wave * (bump[0] + bump[1])  # with its X-lines half a box apart
    ex, ey, ez = np.zeros((3, *flux.shape), np.float32)
    return Fields(
        ex,
        ey,
        ez,
        bx=(bx[:, None] - (np.roll(flux, -1, 0) - flux) / grid.h).astype(np.float32),
        by=np.full(flux.shape, setup.guide, np.float32),
        bz=((np.roll(flux, -1, 1) - flux) / grid.h).astype(np.float32),
    )


def diagnosed(simulation: Simulation) -> dict[str, float]:
    """A line of the log: time, energies, Gauss's law, and how much flux each sheet has reconnected (B0 d_i)."""
    found = energies(simulation)
    lower, upper = reconnected_flux(flux_function(simulation.fields, simulation.grid.h))
    return {
        "step": simulation.step,
        "time": simulation.time,
        "total": sum(found.values()),
        **found,
        "gauss_error": gauss_error(simulation),
        "flux_lower": lower,
        "flux_upper": upper,
    }


def reconnected_flux(flux: NDArray[Any]) -> tuple[float, float]:
    """Between the X-line and the O-line of the lower and of the upper sheet, from the flux function (nz, nx)."""
    half = len(flux) // 2
    lower, upper = flux[:half].max(axis=0), flux[half:].min(axis=0)
    return float(np.ptp(lower)), float(np.ptp(upper))


def moments(simulation: Simulation) -> dict[str, NDArray[np.float32]]:
    """What a spacecraft would measure, at the corners of cells (nz, nx): b, e, v_i, v_e (3, nz, nx), n_i, n_e, and p_i,
    p_e, a third of the trace of the pressure (n0 m_i v_A^2); and the flux function a_y."""
    nodes = at_nodes(simulation.fields)
    found: dict[str, NDArray[Any]] = {"e": np.moveaxis(nodes[..., :3], -1, 0), "b": np.moveaxis(nodes[..., 3:], -1, 0)}
    for name, species in zip(("i", "e"), simulation.species, strict=True):
        u = species.u.astype(np.float64)
        v = u / np.sqrt(1 + (u**2).sum(axis=1, keepdims=True) / simulation.grid.light_speed**2)
        carried = np.column_stack([np.ones(len(v)), v, (v**2).sum(axis=1)])
        n, *rest = deposited(species, simulation.grid, carried)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.stack(rest[:3]) / n
        found |= {f"n_{name}": n, f"v_{name}": mean}
        found[f"p_{name}"] = species.mass * (rest[3] - n * (mean**2).sum(axis=0)) / 3
    found["a_y"] = flux_function(simulation.fields, simulation.grid.h)
    return {name: np.ascontiguousarray(values, np.float32) for name, values in found.items()}


def snapshots(folder: Path) -> list[Path]:
    """The snapshots that a run has left, in order of time."""
    return sorted(folder.glob("snapshot-*.npz"))


def read_log(folder: Path) -> list[dict[str, float]]:
    """The lines of the log. Raises InputProblem where there is none."""
    path = folder / LOG
    if not path.is_file():
        raise InputProblem(f"{path} is not there: run `mms-regions simulate --out {folder}` first")
    return [json.loads(line) for line in path.read_text().splitlines()]


def _write_snapshot(simulation: Simulation, folder: Path) -> None:
    data = {"time": np.float64(simulation.time), "h": np.float64(simulation.grid.h), **moments(simulation)}
    _write_arrays(folder / f"snapshot-{simulation.step:06d}.npz", data)


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def _write_checkpoint(simulation: Simulation, log: list[dict[str, float]], folder: Path) -> None:
    """All that a run needs to go on; the log of before belongs to it, so that no line comes twice."""
    arrays: dict[str, Any] = {name: getattr(simulation.fields, name) for name in _FIELD_NAMES}
    for number, species in enumerate(simulation.species):
        arrays |= {f"{name}_{number}": getattr(species, name) for name in _PARTICLE_NAMES}
    lines = "".join(json.dumps(line) + "\n" for line in log)
    _write_arrays(folder / CHECKPOINT, {**arrays, "step": np.int64(simulation.step), "log": np.array(lines)})
    write_whole(folder / LOG, lines.encode())


def _resumed(setup: SheetSetup, folder: Path, threads: int) -> tuple[Simulation, list[dict[str, float]]] | None:
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as data:
            there = Fields(**{name: data[name] for name in _FIELD_NAMES})
            kinds = ((1.0, 1.0), (-1.0, 1 / setup.mass_ratio))
            species = tuple(
                Species(charge, mass, *(data[f"{name}_{number}"] for name in _PARTICLE_NAMES))
                for number, (charge, mass) in enumerate(kinds)
            )
            log = [json.loads(line) for line in str(data["log"]).splitlines()]
            return Simulation(setup.grid(threads), there, species, int(data["step"])), log
    except (OSError, ValueError, KeyError) as problem:
        raise InputProblem(f"{path} cannot be read ({problem}): delete it, and the run begins again") from problem


def _require_same_setup(setup: SheetSetup, folder: Path) -> None:
    """Leave the setup in the folder, or find that it is the same there."""
    path = folder / SETUP
    if not path.exists():
        write_whole(path, (json.dumps(asdict(setup), indent=1) + "\n").encode())
        return
    there = json.loads(path.read_text())
    differs = [
        f"{name} {there.get(name)} there, {value} here"
        for name, value in asdict(setup).items()
        if there.get(name) != value
    ]
    if differs:
        raise UsageProblem(
            f"{folder} holds a simulation with another setup ({'; '.join(differs)}): choose another --out"
        )
