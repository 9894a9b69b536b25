"""Train the network on virtual crossings of analytic layers, and say on its card how well it does on unseen ones.

A virtual crossing is what the corrected convention makes of one spacecraft's measurements, without the way through
files: fields averaged over the electron accumulation, ions at their own cadence interpolated to the electrons.
"""

from __future__ import annotations

import io
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mms_regions.core.errors import InputProblem, UsageProblem
from mms_regions.core.events import is_safe_name
from mms_regions.core.files import write_whole
from mms_regions.core.messages import counted, peak_memory
from mms_regions.core.types import WINDOW, Floats
from mms_regions.core.version import __version__
from mms_regions.model.card import CARD_FILE, InstalledModel, ModelCard, find_published_card
from mms_regions.model.label import label_windows, steady_arithmetic
from mms_regions.model.linear import LinearRegions
from mms_regions.model.network import N_FEATURES, RegionRNN
from mms_regions.model.scores import agreement, calibration
from mms_regions.model.weights import save_weights
from mms_regions.physics.features import scaled_features
from mms_regions.synthetic.crossing import FIRST_TRAINING_SEED, PERTURBATION, draw_crossing

_ELECTRONS, _IONS = 0.03, 0.15  # s, accumulation
_B_SAMPLES, _E_SAMPLES = 128 * _ELECTRONS, 8192 * _ELECTRONS  # in an electron accumulation
_B0, _N0 = (8.0, 32.0), (0.1, 2.0)  # nT and cm^-3, the range of the events of the tail
_SCORING_SEED = 500_000  # unseen crossings have the seeds from here on, above those of one training
_SEEDS = 1_000_000  # for each training
_EVIDENCE = {
    "inflow": "by construction: outside the separatrix region, on this side of the sheet",
    "outflow": "by construction: between the separatrix regions, on this side of the X-line",
    "separatrix": "by construction: within the width of a separatrix, on this side of the sheet",
}


@dataclass(frozen=True)
class Recipe:
    """All that decides a training. Raises UsageProblem for what cannot be trained with."""

    seed: int = 0
    crossings: int = 2000
    scoring_crossings: int = 400
    seconds: float = 60.0  # of each crossing
    epochs: int = 16
    batch: int = 256  # windows
    rate: float = 0.004  # largest learning rate (Adam, one cycle)

    def __post_init__(self) -> None:
        most = _SEEDS - _SCORING_SEED
        if not 0 <= self.seed < 1000:
            raise UsageProblem(f"A training has a seed from 0 to 999, not {self.seed}.")
        if not (0 < self.crossings <= most and 0 < self.scoring_crossings <= most):
            raise UsageProblem(f"A training has 1 to {most} crossings, and as many unseen ones to be scored on.")
        if self.epochs < 1 or self.batch < 1 or not self.rate > 0:
            raise UsageProblem("A training has at least one epoch, batches of at least one window, and a rate above 0.")
        if self.crossings * int(self.seconds / _ELECTRONS / WINDOW) < self.batch:
            raise UsageProblem("These crossings do not fill one batch; give more of them.")

    @property
    def training_seeds(self) -> range:
        """The seeds of the crossings that the network sees."""
        first = FIRST_TRAINING_SEED + self.seed * _SEEDS
        return range(first, first + self.crossings)

    @property
    def scoring_seeds(self) -> range:
        """The seeds of the crossings that it is scored on, and never sees."""
        first = FIRST_TRAINING_SEED + self.seed * _SEEDS + _SCORING_SEED
        return range(first, first + self.scoring_crossings)


@dataclass(frozen=True)
class Windows:
    """W windows: features (W, 32, 14) float32, region (W, 32) int64."""

    features: Tensor
    region: Tensor


@dataclass(frozen=True)
class Epoch:
    """How far a training is: the mean loss of the epoch, and the seconds since the start."""

    number: int
    of: int
    loss: float
    seconds: float


def virtual_crossing(seed: int, seconds: float) -> tuple[Floats, NDArray[np.int8]]:
    """Features (n, 14) and regions (n,) of one spacecraft on the crossing of this seed, in whole windows."""
    rng = np.random.default_rng([seed, 1])  # scales and noise; the crossing has a stream of its own
    b0, n0 = (float(np.exp(rng.uniform(*np.log(span)))) for span in (_B0, _N0))
    crossing, probe = draw_crossing(seed, "virtual", b0, n0), 1
    n = int(seconds / _ELECTRONS / WINDOW) * WINDOW
    at_electrons = (np.arange(n) + 0.5) * _ELECTRONS
    at_ions = (np.arange(-1, n * _ELECTRONS / _IONS + 1) + 0.5) * _IONS
    seen, ions, noise = crossing.plasma(probe, at_electrons), crossing.plasma(probe, at_ions), crossing.noise
    n_i = ions.n * (1 + noise.n * rng.normal(size=ions.n.shape))
    v_i = ions.v_i + noise.v_i * rng.normal(size=ions.v_i.shape)
    features = scaled_features(
        seen.b + noise.b / np.sqrt(_B_SAMPLES) * rng.normal(size=(n, 3)),
        seen.e + noise.e / np.sqrt(_E_SAMPLES) * rng.normal(size=(n, 3)),
        np.interp(at_electrons, at_ions, n_i),
        seen.n * (1 + noise.n * rng.normal(size=n)),
        np.stack([np.interp(at_electrons, at_ions, v_i[:, axis]) for axis in range(3)], axis=1),
        seen.v_e + noise.v_e * rng.normal(size=(n, 3)),
        b0,
        n0,
    )
    return features, crossing.region(probe, at_electrons)


def virtual_windows(seeds: range, seconds: float) -> Windows:
    """The windows of the crossings of these seeds."""
    features, regions = zip(*(virtual_crossing(seed, seconds) for seed in seeds), strict=True)
    return Windows(
        torch.from_numpy(np.concatenate(features).reshape(-1, WINDOW, N_FEATURES)),
        torch.from_numpy(np.concatenate(regions).reshape(-1, WINDOW).astype(np.int64)),
    )


def train(recipe: Recipe, folder: Path, observe: Callable[[Epoch], None]) -> InstalledModel:
    """Train a network, score it on unseen crossings and write it with its card to `folder`, which gives its name.

    Raises UsageProblem where the folder's name is none for a model, or it holds one, EnvironmentProblem where the model
    cannot be written.
    """
    name = new_name(folder)
    started = time.monotonic()
    seen = virtual_windows(recipe.training_seeds, recipe.seconds)
    with steady_arithmetic():
        network = fit_network(seen, recipe, observe)
        linear = fit_linear(seen, recipe.seed, network.classes)
    unseen = virtual_windows(recipe.scoring_seeds, recipe.seconds)
    scores = _scores(network, linear, unseen, recipe) | {"cost": cost(time.monotonic() - started)}
    return save_weights(network, _card(name, recipe, scores), folder)


def new_name(folder: Path) -> str:
    name = folder.resolve().name
    if not is_safe_name(name):
        raise UsageProblem(f"{folder} cannot be a model: its name must be letters, digits, '.', '_' and '-'.")
    if (folder / CARD_FILE).exists():
        raise UsageProblem(f"{folder} holds a model already; name another folder, or delete it first.")
    return name


class Fit(Protocol):
    """What decides how a network is fitted: a seed, epochs, windows in a batch, and the largest learning rate."""

    @property
    def seed(self) -> int: ...

    @property
    def epochs(self) -> int: ...

    @property
    def batch(self) -> int: ...

    @property
    def rate(self) -> float: ...


def fit_network(
    windows: Windows,
    recipe: Fit,
    observe: Callable[[Epoch], None],
    classes: int = 6,
    checkpoint: Path | None = None,
) -> RegionRNN:
    """The network after all epochs; the seed decides its first weights and the order of the windows.

    checkpoint: a file that is written after each epoch, and from which a fit that was interrupted goes on.
    """
    started = time.monotonic()
    generator = torch.Generator().manual_seed(recipe.seed)
    network = _new_network(windows, recipe.seed, classes)
    optimizer = torch.optim.Adam(network.parameters())
    batches = len(windows.features) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.epochs * batches)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    first = _resumed(checkpoint, parts, generator)
    for epoch in range(first, recipe.epochs):
        losses = []
        for features, region in _shuffled(windows, recipe.batch, generator):
            loss = nn.functional.cross_entropy(network(features).flatten(0, 1), region.flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if checkpoint:
            _write_checkpoint(checkpoint, parts, generator, epoch + 1)
        observe(Epoch(epoch + 1, recipe.epochs, float(np.mean(losses)), time.monotonic() - started))
    return network.eval()


def _write_checkpoint(path: Path, parts: Mapping[str, Any], generator: torch.Generator, epoch: int) -> None:
    buffer = io.BytesIO()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({**states, "generator": generator.get_state(), "epoch": epoch}, buffer)
    write_whole(path, buffer.getvalue())


def _resumed(path: Path | None, parts: Mapping[str, Any], generator: torch.Generator) -> int:
    """How many epochs are done. Raises InputProblem for a checkpoint that cannot be read."""
    if path is None or not path.exists():
        return 0
    try:
        data = torch.load(path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(data[name])
        generator.set_state(data["generator"])
        return int(data["epoch"])
    except Exception as problem:  # torch raises whatever its readers raise
        raise InputProblem(f"{path} cannot be read ({problem}): delete it, and the training begins again") from problem


def fit_linear(windows: Windows, seed: int, classes: int, samples: int = 200_000) -> LinearRegions:
    """A logistic regression on some of the samples, for comparison."""
    features, region = windows.features.flatten(0, 1), windows.region.flatten()
    some = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:samples]
    features, region = features[some].double(), region[some]
    weights = torch.zeros(classes, N_FEATURES, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(features @ weights.T + bias, region)
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return LinearRegions(weights.detach().numpy(), bias.detach().numpy())


def _new_network(windows: Windows, seed: int, classes: int) -> RegionRNN:
    """First weights of this seed, those of the features divided by how much each varies: they differ by 50 in size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RegionRNN(classes)
    with torch.no_grad():
        network.get_parameter("rnn.weight_ih_l0").div_(windows.features.flatten(0, 1).std(dim=0))
    return network


def _shuffled(windows: Windows, batch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """All whole batches, in a new order."""
    order = torch.randperm(len(windows.features), generator=generator)
    for some in order[: len(order) // batch * batch].reshape(-1, batch):
        yield windows.features[some], windows.region[some]


def _scores(network: RegionRNN, linear: LinearRegions, unseen: Windows, recipe: Recipe) -> dict[str, Any]:
    """What the card says of the training: recipe, seeds, agreement on unseen crossings, calibration."""
    features, region = unseen.features.numpy(), unseen.region.numpy()
    found = label_windows(network, features, np.zeros(region.shape, bool))
    confidence = found.probability.max(axis=2)
    return {
        "recipe": asdict(recipe),
        "training_seeds": [recipe.training_seeds[0], recipe.training_seeds[-1]],
        "scoring_seeds": [recipe.scoring_seeds[0], recipe.scoring_seeds[-1]],
        "unseen_crossings": agreement(found.label, region, network.classes).to_dict(),
        "first_sample_of_a_window": round(float((found.label[:, 0] == region[:, 0]).mean()), 4),
        "last_sample_of_a_window": round(float((found.label[:, -1] == region[:, -1]).mean()), 4),
        "calibration": calibration(confidence.ravel(), (found.label == region).ravel()),
        "logistic_regression": {
            "unseen_crossings": agreement(linear.label(features), region, network.classes).to_dict(),
            "weights": linear.weights.tolist(),
            "bias": linear.bias.tolist(),
        },
    }


def cost(seconds: float) -> dict[str, Any]:
    """What the training took, and where; only this differs when it is repeated."""
    return {
        "seconds": round(seconds),
        "peak_memory_mb": peak_memory() // 2**20,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "mms_regions": __version__,
    }


def _card(name: str, recipe: Recipe, scores: dict[str, Any]) -> ModelCard:
    """The card of a trained model; features, scaling and regions are those of the published one."""
    published = find_published_card("waters2025", {})
    return ModelCard(
        name=name,
        title="Demonstration: regions of an analytic reconnection layer",
        description=(
            "A demonstration model: the network of Waters et al. (2025), trained by mms-regions on virtual crossings "
            "of an analytic layer whose regions are known by geometry. It is not validated on MMS data."
        ),
        scaling=published.scaling,
        regions=tuple(
            region.model_copy(update={"evidence": _EVIDENCE[region.name.partition("_")[0]], "trust": "high"})
            for region in published.regions
        ),
        training_data=(
            f"{counted(recipe.crossings, 'virtual crossing')} of {recipe.seconds:g} s of analytic layers "
            "(`mms_regions.synthetic.layer`), varied in geometry, speed, waves and noise, B0 and n0 off by up to "
            f"{PERTURBATION:.0%}; no MMS data, and no answers of another model."
        ),
        license="MIT",
        citation="The mms-regions developers: mms-regions, version " + __version__,
        how_to_get_weights=f"Train them again: `mms-regions train --seed {recipe.seed} --out FOLDER`.",
        cautions=(
            "A demonstration model, trained on an analytic layer, not validated on MMS data: not for science.",
            "Trust in its regions is trust in the layer's geometry; how real plasma differs from it was not studied.",
            "Every layer that it saw had an X-line: it has no class for a quiet plasma sheet.",
        ),
        low_confidence=0.7,
        meaning_of_probability=(
            "On unseen crossings of the analytic layer a label of probability p is right in a share p of the cases "
            f"(expected calibration error {scores['calibration']['expected_error']:.3f}); on other plasma this is not "
            "known. Below 0.7 a label is uncertain."
        ),
        scores=scores,
    )
