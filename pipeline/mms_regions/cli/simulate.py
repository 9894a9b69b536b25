"""The commands `simulate` and `train`: a particle-in-cell simulation of a current sheet, and models trained on such."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.options import at_home, notify

if TYPE_CHECKING:
    from mms_regions.training.open_model import Stage
    from mms_regions.training.simulation import Progress

_NO_NUMBA = "The simulation needs numba, which is not installed: pip install 'mms-regions[train]'"


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
        raise EnvironmentProblem(_NO_NUMBA) from None
    from mms_regions.report.simulation_plot import save_simulation_picture

    try:
        setup = SheetSetup(background, guide, seed, length, cells, per_density=per_density, end=end)
        setup.grid(threads)
    except ValueError as problem:
        raise UsageProblem(f"No such simulation can be run: {problem}.") from None
    print(
        f"simulating {counted(setup.steps, 'step')} on {counted(threads, 'thread')}; compiling first takes a minute",
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


class RecipeName(StrEnum):
    """What can be trained."""

    ANALYTIC_LAYER = "analytic-layer"
    OPEN = "open"


def train(
    *,
    out: Annotated[Path, typer.Option("--out", callback=at_home, help="A new folder for the model, named after it.")],
    recipe: Annotated[RecipeName, typer.Option("--recipe", help="What to train.")] = RecipeName.ANALYTIC_LAYER,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of crossings, initial weights and order.")] = 0,
    crossings: Annotated[
        int | None, typer.Option("--crossings", help="Virtual crossings to train on. Default: the recipe's.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over all crossings.")] = 16,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            callback=at_home,
            help="Of `open`: a folder for simulations and checkpoints; runs that are there are used. "
            "Default: OUT.work.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", help="Processor cores of the simulations of `open`.")] = 2,
) -> None:
    """Train a model on virtual crossings; its card holds the scores.

    `analytic-layer` makes a demonstration in minutes. `open` runs five simulations first and takes hours; the same
    command continues after an interruption.

    Example: mms-regions train --out models/mine --seed 1
    Example: mms-regions train --recipe open --out models/open --work open.work
    """
    if recipe is RecipeName.OPEN:
        _train_open(out, seed, crossings, epochs, work or out.with_name(f"{out.name}.work"), threads)
    else:
        _train_analytic(out, seed, crossings, epochs)


def _train_analytic(out: Path, seed: int, crossings: int | None, epochs: int) -> None:
    from mms_regions.core.messages import counted
    from mms_regions.training.train import Recipe
    from mms_regions.training.train import train as train_model

    chosen = Recipe(seed=seed, epochs=epochs)
    chosen = chosen if crossings is None else replace(chosen, crossings=crossings)
    notify(f"{counted(chosen.crossings, 'crossing')} to generate, {counted(epochs, 'epoch')} to train")
    installed = train_model(
        chosen, out, lambda e: notify(f"epoch {e.number}/{e.of}: loss {e.loss:.4f}, {e.seconds:.0f} s")
    )
    scores: Any = installed.card.scores
    linear = scores["logistic_regression"]["unseen_crossings"]
    print(f"{installed.card.name}: on unseen crossings {_percent(scores['unseen_crossings'])}")
    print(f"a logistic regression on each sample alone: {_percent(linear)}")
    print(f"weights and card are in {installed.folder}")


def _train_open(out: Path, seed: int, crossings: int | None, epochs: int, work: Path, threads: int) -> None:
    from mms_regions.core.errors import EnvironmentProblem
    from mms_regions.core.stop import heard_signals
    from mms_regions.training.open_model import OpenRecipe, train_open

    chosen = OpenRecipe(seed=seed, epochs=epochs)
    chosen = chosen if crossings is None else replace(chosen, crossings=crossings)
    try:
        with heard_signals() as stop:
            installed = train_open(chosen, out, work, threads, _show_stage, stop.check)
    except ModuleNotFoundError as problem:
        if problem.name != "numba":
            raise
        raise EnvironmentProblem(_NO_NUMBA) from None
    scores: Any = installed.card.scores
    print(f"{installed.card.name}: on crossings of an unseen simulation {_percent(scores['acceptance_run'])}")
    for name, line in scores["acceptance"].items():
        print(f"  {name.replace('_', ' ')}: {line['figure']} ({line['limit']}{'' if line['met'] else ', missed'})")
    for name, found in scores["baselines_on_the_acceptance_run"].items():
        print(f"{name.replace('_', ' ')}: {_percent(found)}")
    print(f"weights and card are in {installed.folder}")


def _show_stage(stage: Stage) -> None:
    left = "" if math.isnan(stage.seconds_left) else f", {stage.seconds_left / 60:.0f} min left of it"
    notify(f"stage {stage.number}/{stage.of}: {stage.what}{left}")


def _percent(scores: dict[str, Any]) -> str:
    return f"{scores['overall']:.1%} of samples right, {scores['balanced']:.1%} balanced over regions"
