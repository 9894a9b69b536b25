"""The command `train`: a demonstration model of analytic layers, or the open model of simulations."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.options import at_home

if TYPE_CHECKING:
    from mms_regions.training.open_model import Stage


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
    _notify(f"{counted(chosen.crossings, 'crossing')} to generate, {counted(epochs, 'epoch')} to train")
    installed = train_model(
        chosen, out, lambda e: _notify(f"epoch {e.number}/{e.of}: loss {e.loss:.4f}, {e.seconds:.0f} s")
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
            installed = train_open(chosen, out, work, threads, _show, stop.check)
    except ModuleNotFoundError as problem:
        if problem.name != "numba":
            raise
        raise EnvironmentProblem(
            "The simulation needs numba, which is not installed: pip install 'mms-regions[train]'"
        ) from None
    scores: Any = installed.card.scores
    print(f"{installed.card.name}: on crossings of an unseen simulation {_percent(scores['acceptance_run'])}")
    for name, line in scores["acceptance"].items():
        print(f"  {name.replace('_', ' ')}: {line['figure']} ({line['limit']}{'' if line['met'] else ', missed'})")
    for name, found in scores["baselines_on_the_acceptance_run"].items():
        print(f"{name.replace('_', ' ')}: {_percent(found)}")
    print(f"weights and card are in {installed.folder}")


def _show(stage: Stage) -> None:
    left = "" if math.isnan(stage.seconds_left) else f", {stage.seconds_left / 60:.0f} min left of it"
    _notify(f"stage {stage.number}/{stage.of}: {stage.what}{left}")


def _notify(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _percent(scores: dict[str, Any]) -> str:
    return f"{scores['overall']:.1%} of samples right, {scores['balanced']:.1%} balanced over regions"
