"""The command `simulate`: a particle-in-cell simulation of a reconnecting current sheet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mms_regions.cli.options import at_home

if TYPE_CHECKING:
    from mms_regions.training.simulation import Progress


def simulate(
    *,
    out: Annotated[Path, typer.Option("--out", callback=at_home, help="A folder for snapshots, log and checkpoint.")],
    background: Annotated[float, typer.Option("--background", help="Density outside the sheets, in n0.")] = 0.1,
    guide: Annotated[float, typer.Option("--guide", help="Guide field, in B0.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the initial particles.")] = 0,
    length: Annotated[float, typer.Option("--length", help="Side of the box, in ion inertial lengths.")] = 25.6,
    cells: Annotated[int, typer.Option("--cells", help="Cells along one side.")] = 410,
    per_density: Annotated[float, typer.Option("--per-density", help="Particles of a species per n0 d_i^2.")] = 9000.0,
    end: Annotated[float, typer.Option("--end", help="Duration, in inverse ion gyrofrequencies.")] = 21.0,
    threads: Annotated[int, typer.Option("--threads", help="Processor cores to use.")] = 2,
) -> None:
    """Simulate a reconnecting current sheet with particles, for training. The same command continues from a checkpoint.

    Takes half an hour on two cores; Ctrl-C keeps the checkpoint. Needs the extra `train` (numba).

    Example: mms-regions simulate --out sheet --background 0.1 --seed 1
    Example: mms-regions simulate --out tiny --length 6.4 --cells 100 --per-density 500 --end 2
    """
    from mms_regions.core.errors import EnvironmentProblem, UsageProblem
    from mms_regions.core.messages import counted
    from mms_regions.core.stop import heard_signals

    try:
        from mms_regions.training.simulation import LOG, SheetSetup
        from mms_regions.training.simulation import simulate as run_simulation
    except ModuleNotFoundError as problem:
        if problem.name != "numba":
            raise
        raise EnvironmentProblem(
            "The simulation needs numba, which is not installed: pip install 'mms-regions[train]'"
        ) from None
    from mms_regions.report.simulation_plot import save_simulation_picture

    try:
        setup = SheetSetup(background, guide, seed, length, cells, per_density=per_density, end=end)
        setup.grid(threads)
    except ValueError as problem:
        raise UsageProblem(f"No such simulation can be run: {problem}.") from None
    print(
        f"simulating {setup.steps} steps on {counted(threads, 'thread')}; compiling first takes a minute",
        file=sys.stderr,
    )
    with heard_signals() as stop:
        found = run_simulation(setup, out, threads, _show, stop.check)
    save_simulation_picture(found[-1], out / "last.png")
    picture, log = out / "last.png", out / LOG
    print(f"{out}: {counted(len(found), 'snapshot')}, the last drawn in {picture}; energies and flux are in {log}")


def _show(progress: Progress) -> None:
    log = progress.log
    print(
        f"step {progress.step}/{progress.steps}, time {log['time']:.2f}, {progress.seconds_left / 60:.0f} min left: "
        f"energy {log['total']:.4f}, Gauss error {log['gauss_error']:.1e}, reconnected flux {log['flux_lower']:.2f}",
        file=sys.stderr,
    )
