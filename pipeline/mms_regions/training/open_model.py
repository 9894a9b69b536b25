"""The recipe of the open model, from nothing to weights and card: simulations, crossings, training, scores.

What is finished stays: simulations go on from their checkpoints, trainings from their last epoch, so that the same
command goes on after an interruption. The simulation of the acceptance is looked at once, when all else is fixed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mms_regions.core.errors import InputProblem, UsageProblem
from mms_regions.core.messages import counted
from mms_regions.core.version import __version__
from mms_regions.model.card import Architecture, InstalledModel, ModelCard, RegionEntry, find_published_card
from mms_regions.model.familiarity import Familiarity, fit_familiarity
from mms_regions.model.label import label_windows, steady_arithmetic
from mms_regions.model.linear import LinearRegions
from mms_regions.model.network import N_FEATURES, RegionRNN
from mms_regions.model.weights import save_weights
from mms_regions.synthetic.crossing import FIRST_TRAINING_SEED
from mms_regions.synthetic.snapshot import Edges, Sheet, write_sheets
from mms_regions.training.baselines import fit_single_samples, label_by_rule
from mms_regions.training.crossings import ANALYTIC, NONE, SIMULATED, Sheets, Virtual, virtual_windows
from mms_regions.training.evaluate import against_limits, against_truth, evaluated
from mms_regions.training.train import Windows, cost, fit_linear, fit_network, new_name

CLASSES = 7
_SHOWN = 2.0  # B0 d_i reconnected in what demonstrations cross
_TOGETHER = 1_000_000  # seeds between those of training, calibration and acceptance
_EVIDENCE = {
    "inflow": "by construction: flux function below that of the X-line by more than 0.1 B0 d_i, on this side",
    "outflow": "by construction: flux function above that of the X-line, inside the separatrix regions, on this side",
    "separatrix": "by construction: from 0.1 B0 d_i outside the separatrix to half of the peak of the inward field",
    "none": "by construction: sheets before onset, quiet sheets with normal field, lobes at rest, flapping sheets",
}
_NONE_OF_THESE = RegionEntry(
    index=6,
    name="none_of_these",
    long_name="no reconnection here: a quiet or flapping sheet, or the lobe at rest",
    evidence=_EVIDENCE["none"],
    trust="high",
)


@dataclass(frozen=True)
class Run:
    """A simulation of the recipe: its name, its density outside the sheets (n0), its guide field (B0), its seed."""

    name: str
    background: float
    guide: float
    seed: int


TRAINING = (Run("train-1", 0.1, 0.0, 1), Run("train-2", 0.2, 0.1, 2), Run("train-3", 0.05, 0.25, 3))
CALIBRATION, ACCEPTANCE = Run("temperature", 0.12, 0.05, 4), Run("acceptance", 0.15, 0.15, 5)


@dataclass(frozen=True)
class OpenRecipe:
    """All that decides the open model. Raises UsageProblem for what cannot be trained with.

    length, cells, perturbation, per_density, end: of each simulation, as `SheetSetup` has them. crossings: to train on;
    further ones to calibrate and to score with. compare: whether to train twice more, with another seed and without
    analytic layers.
    """

    seed: int = 0
    runs: tuple[Run, ...] = TRAINING
    length: float = 25.6
    cells: int = 410
    perturbation: float = 0.1
    per_density: float = 9000.0
    end: float = 19.0
    crossings: int = 4000
    calibration_crossings: int = 500
    scoring_crossings: int = 800
    seconds: float = 30.0
    epochs: int = 16
    batch: int = 256
    rate: float = 0.004
    compare: bool = True

    def __post_init__(self) -> None:
        counts = (self.crossings, self.calibration_crossings, self.scoring_crossings, self.epochs, self.batch)
        if not 0 <= self.seed < 1000 or min(counts) < 1 or not self.rate > 0 or not self.runs:
            raise UsageProblem(
                "A training has a seed from 0 to 999, at least one crossing of each kind, one epoch, batches of at "
                "least one window, and a rate above 0."
            )


@dataclass(frozen=True)
class Stage:
    """How far a recipe is: what is done now, its place among all stages, and the seconds that it will still take."""

    what: str
    number: int
    of: int
    seconds_left: float


Observe = Callable[[Stage], None]


def train_open(
    recipe: OpenRecipe, folder: Path, work: Path, threads: int, observe: Observe, check: Callable[[], None]
) -> InstalledModel:
    """Simulate, train, calibrate and score; weights and card go to `folder`, whose name is the model's.

    work: where simulations and checkpoints lie, and stay. check: called often; what it raises ends the recipe, which
    goes on from there the next time. Raises UsageProblem where the folder's name is none for a model, or it holds one,
    InputProblem where a simulation has not reconnected.
    """
    name, started = new_name(folder), time.monotonic()
    runs = (*recipe.runs, CALIBRATION, ACCEPTANCE)
    stages = len(runs) + (5 if recipe.compare else 3)
    for number, run in enumerate(runs, 1):
        _simulated(recipe, run, work, threads, check, partial(_notify, observe, number, stages))

    def notify(what: str, number: int, left: float = 0.0) -> None:
        check()
        observe(Stage(what, len(runs) + number, stages, left))

    notify("making virtual crossings", 1)
    seen = virtual_windows(_sheets([work / run.name for run in recipe.runs]), _seeds(recipe, 0), recipe.seconds)
    held_out = virtual_windows(_sheets([work / CALIBRATION.name]), _seeds(recipe, 1), recipe.seconds)
    with steady_arithmetic():
        network = _fitted(recipe, seen, work, lambda left: notify("training", 2, left))
        temperature = fit_temperature(network, held_out)
        _rescale(network, temperature)
        familiarity = _familiarity(seen, held_out)
        scores: dict[str, Any] = {
            "recipe": json.loads(json.dumps(asdict(recipe))),
            "temperature": round(temperature, 4),
            "windows": {"training": len(seen.features), "calibration": len(held_out.features)},
            "simulations": {run.name: _described(work / run.name) for run in runs},
            "regions_moved_by_edges": moved_by_edges(work / CALIBRATION.name),
            "calibration_run": evaluated(network, familiarity, held_out),
        }
        if recipe.compare:
            scores["comparison_on_the_calibration_run"] = _compared(recipe, seen, held_out, work, notify)
    notify("scoring on the run of the acceptance", 5 if recipe.compare else 3)
    unseen = scoring_windows(work, recipe)
    found = evaluated(network, familiarity, unseen)
    scores |= {"acceptance_run": found, "acceptance": against_limits(found)}
    linear = fit_linear(_tensors(seen), recipe.seed, CLASSES)
    scores |= {"baselines_on_the_acceptance_run": _baselines(recipe, linear, seen, unseen)}
    scores |= {"logistic_regression": {"weights": linear.weights.tolist(), "bias": linear.bias.tolist()}}
    scores |= {"cost": cost(time.monotonic() - started)}
    write_sheets(work / "sheets.npz", _shown_sheets(work / CALIBRATION.name))
    return save_weights(network, open_card(name, recipe, scores, familiarity), folder)


def scoring_windows(work: Path, recipe: OpenRecipe | None = None) -> Virtual:
    """The windows that a recipe's model is scored on: of crossings of the run of the acceptance."""
    recipe = recipe or OpenRecipe()
    return virtual_windows(_sheets([work / ACCEPTANCE.name]), _seeds(recipe, 2), recipe.seconds)


def _notify(observe: Observe, number: int, stages: int, what: str, left: float) -> None:
    observe(Stage(what, number, stages, left))


def _simulated(
    recipe: OpenRecipe,
    run: Run,
    work: Path,
    threads: int,
    check: Callable[[], None],
    notify: Callable[[str, float], None],
) -> None:
    """The simulation of a run, which goes on where it was; one that is complete is left alone."""
    from mms_regions.training.simulation import SheetSetup, simulate

    setup = SheetSetup(
        run.background,
        run.guide,
        run.seed,
        recipe.length,
        recipe.cells,
        perturbation=recipe.perturbation,
        per_density=recipe.per_density,
        end=recipe.end,
    )
    simulate(setup, work / run.name, threads, lambda p: notify(f"simulating {run.name}", p.seconds_left), check)


def _sheets(runs: list[Path]) -> Sheets:
    try:
        return Sheets.of_runs(runs)
    except ValueError as problem:
        raise InputProblem(f"These simulations cannot be trained on: {problem}; run them longer.") from problem


def moved_by_edges(run: Path) -> dict[str, float]:
    """Of the places in reach in the last sheets of a run the share whose region changes with edges of separatrices."""
    last = sorted(run.glob("snapshot-*.npz"))[-1]

    def regions(edges: Edges) -> Any:
        sheets = Sheets.of_snapshot(last, edges=edges)
        return np.concatenate([one.regions[one.within_reach] for one in sheets])

    usual = regions(Edges())
    others = {f"outside {x:g} B0 d_i": Edges(outside=x) for x in (-0.05, -0.2)}
    others |= {f"share {x:g} of the peak": Edges(share=x) for x in (0.3, 0.7)}
    others |= {f"at most to {x:g} of the exhaust's depth": Edges(core=x) for x in (0.2, 0.5)}
    return {name: round(float((regions(edges) != usual).mean()), 4) for name, edges in others.items()}


def _shown_sheets(run: Path) -> tuple[Sheet, ...]:
    """Those for demonstrations: of the first snapshot where both sheets have reconnected much, else of the last."""
    for path in sorted(run.glob("snapshot-*.npz")):
        sheets = Sheets.of_snapshot(path)
        if min(sheet.reconnected for sheet in sheets) >= _SHOWN:
            break
    return sheets


def _seeds(recipe: OpenRecipe, part: int) -> range:
    """Of the crossings to train on (0), to calibrate with (1), to score with (2)."""
    first = FIRST_TRAINING_SEED + (3 * recipe.seed + part) * _TOGETHER
    count = (recipe.crossings, recipe.calibration_crossings, recipe.scoring_crossings)[part]
    return range(first, first + count)


def _tensors(virtual: Virtual) -> Windows:
    return Windows(torch.from_numpy(virtual.features), torch.from_numpy(virtual.region.astype(np.int64)))


def _fitted(recipe: OpenRecipe, seen: Virtual, work: Path, notify: Callable[[float], None]) -> RegionRNN:
    """The network, from where it was if these windows were trained on with this recipe before."""
    if len(seen.features) < recipe.batch:
        raise UsageProblem(
            f"These crossings have {counted(len(seen.features), 'window')}, less than one batch; give more of them."
        )
    notify(float("nan"))
    identity = hashlib.sha256(json.dumps(asdict(recipe)).encode() + seen.features.tobytes() + seen.region.tobytes())
    checkpoint = work / f"training-{identity.hexdigest()[:16]}.pt"
    return fit_network(
        _tensors(seen), recipe, lambda e: notify(e.seconds / e.number * (e.of - e.number)), CLASSES, checkpoint
    )


def fit_temperature(network: RegionRNN, held_out: Virtual) -> float:
    """What divides logits so that probabilities on held-out windows mean what they say (Guo et al. 2017)."""
    windows = _tensors(held_out)
    with torch.inference_mode():
        logits = network(windows.features).flatten(0, 1).double()
    logarithm = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithm], max_iter=100, line_search_fn="strong_wolfe")
    logits, region = logits.clone(), windows.region.flatten()

    def loss() -> float:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(logits / logarithm.exp(), region)
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(logarithm.detach().exp())


def _rescale(network: RegionRNN, temperature: float) -> None:
    """Into the weights of the last layer, so that nothing else need know of it."""
    with torch.no_grad():
        network.fc.weight.div_(temperature)
        network.fc.bias.div_(temperature)


def _familiarity(seen: Virtual, held_out: Virtual) -> Familiarity:
    features, unseen = (virtual.features.reshape(-1, N_FEATURES) for virtual in (seen, held_out))
    return fit_familiarity(features, seen.region.ravel(), unseen, CLASSES)


def _compared(
    recipe: OpenRecipe, seen: Virtual, held_out: Virtual, work: Path, notify: Callable[[str, int, float], None]
) -> dict[str, Any]:
    """Overall agreement on the calibration run of a training with another seed, and of one without analytic layers."""
    other = _fitted(
        replace(recipe, seed=recipe.seed + 1),
        seen,
        work,
        lambda t: notify("training, other seed", 3, t),
    )
    shares = (SIMULATED + ANALYTIC, NONE, 0.0)
    runs = [work / run.name for run in recipe.runs]
    without = virtual_windows(_sheets(runs), _seeds(recipe, 0), recipe.seconds, shares)
    fitted = _fitted(recipe, without, work, lambda t: notify("training without analytic layers", 4, t))
    networks = {"other_seed": other, "without_analytic_layers": fitted}
    return {name: against_truth(_label(network, held_out), held_out, CLASSES) for name, network in networks.items()}


def _baselines(recipe: OpenRecipe, linear: LinearRegions, seen: Virtual, unseen: Virtual) -> dict[str, Any]:
    windows = _tensors(seen)
    single = fit_single_samples(
        windows.features.flatten(0, 1), windows.region.flatten(), CLASSES, recipe.seed, recipe.epochs
    )
    return {
        "logistic_regression": against_truth(linear.label(unseen.features), unseen, CLASSES),
        "single_samples": against_truth(single.label(unseen.features), unseen, CLASSES),
        "rule": against_truth(label_by_rule(unseen.features), unseen, CLASSES),
    }


def _label(network: RegionRNN, virtual: Virtual) -> Any:
    return label_windows(network, virtual.features, np.zeros(virtual.region.shape, bool)).label


def _described(run: Path) -> dict[str, Any]:
    """What decides a simulation, how well it kept its energy, how fast it reconnected, and the sha256 of its fields.

    Rates are in B0 v_A, and in B0 times the Alfven speed of the inflow.
    """
    from mms_regions.training.simulation import SETUP, read_log, snapshots

    log = read_log(run)
    total, at = np.array([[line["total"], line["time"]] for line in log]).T
    rates = [np.gradient([line[name] for line in log], at).max() for name in ("flux_lower", "flux_upper")]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in snapshots(run)]
    setup = json.loads((run / SETUP).read_text())
    return {
        **setup,
        "energy_change": round(float(np.abs(total / total[0] - 1).max()), 6),
        "largest_rate": [round(float(rate), 3) for rate in rates],
        "largest_rate_of_the_inflow": [round(float(rate) * setup["background"] ** 0.5, 3) for rate in rates],
        "fields_sha256": hashlib.sha256(" ".join(hashes).encode()).hexdigest(),
    }


def open_card(name: str, recipe: OpenRecipe, scores: dict[str, Any], familiarity: Familiarity) -> ModelCard:
    """The card of the open model; features and scaling are those of the published one."""
    published = find_published_card("waters2025", {})
    regions = [
        region.model_copy(update={"evidence": _EVIDENCE[region.name.partition("_")[0]], "trust": "high"})
        for region in published.regions
    ]
    missed = [key.replace("_", " ") for key, line in scores["acceptance"].items() if not line["met"]]
    gain = scores["acceptance_run"]["overall"] - scores["baselines_on_the_acceptance_run"]["single_samples"]["overall"]
    return ModelCard(
        name=name,
        title="Open model: regions of simulated reconnection, and none of these",
        description=(
            "The network of Waters et al. (2025) with a seventh class, trained by mms-regions on virtual crossings of "
            "its own particle-in-cell simulations, whose regions are known by the flux function. No MMS data were used."
        ),
        architecture=Architecture(classes=CLASSES),
        scaling=published.scaling,
        regions=(*regions, _NONE_OF_THESE),
        training_data=(
            f"{counted(recipe.crossings, 'virtual crossing')} of {recipe.seconds:g} s: {SIMULATED:.0%} of "
            f"{counted(len(recipe.runs), 'simulation')} (2.5-D, mass ratio 25), {NONE:.0%} of sheets without "
            f"reconnection, {ANALYTIC:.0%} of analytic layers; noise, offsets, motion, tilt, and errors of B0 and n0 "
            "as for MMS."
        ),
        license="MIT",
        citation="The mms-regions developers: mms-regions, version " + __version__,
        how_to_get_weights="Train them again: `mms-regions train --recipe open --out FOLDER`.",
        cautions=(
            "Trained on simulations with a mass ratio of 25 and a guide field up to 0.25 B0; not validated on MMS.",
            "The lobe at rest differs from the inflow by E_y alone, which is as large as the offset of the instrument.",
            *([f"Figures of the acceptance that are missed: {', '.join(missed)}."] if missed else []),
            *([f"Single samples are nearly as good: the recurrence gains {gain:.1%}."] if gain < 0.02 else []),
        ),
        convention="corrected",
        low_confidence=0.7,
        meaning_of_probability=(
            "On crossings of a simulation that it never saw a label of probability p is right in a share p of them "
            f"(expected calibration error {scores['acceptance_run']['calibration_error']:.3f}). Below 0.7 a label is "
            "uncertain."
        ),
        familiarity=familiarity,
        scores=scores,
    )
