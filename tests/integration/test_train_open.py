"""The recipe of the open model in small: from nothing to a model that labels, and on after an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mms_regions.core.errors import InputProblem, Interrupted, UsageProblem
from mms_regions.model.card import InstalledModel, find_model
from mms_regions.model.label import label_windows
from mms_regions.model.linear import LinearRegions
from mms_regions.model.weights import load_model
from mms_regions.training.open_model import OpenRecipe, Run, Stage, train_open

pytestmark = pytest.mark.system

# The perturbation is so large that the first snapshot has an X-line with all its regions.
SMALL = OpenRecipe(
    runs=(Run("train-1", 0.1, 0.0, 1), Run("train-2", 0.2, 0.1, 2)),
    length=9.6,
    cells=108,
    perturbation=0.7,
    per_density=40.0,
    end=0.5,
    crossings=120,
    calibration_crossings=60,
    scoring_crossings=60,
    seconds=12.0,
    epochs=3,
    batch=64,
)


def unheard() -> None:
    """Nobody asks to stop."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def trained(work: Path) -> tuple[InstalledModel, list[Stage]]:
    """The model of a recipe that was interrupted in its training, and the stages of what went on after that."""

    def stop_in_training(stage: Stage) -> None:
        if stage.what == "training" and stage.seconds_left > 0:
            raise Interrupted("stopped by the test")

    with pytest.raises(Interrupted):
        train_open(SMALL, work / "open", work, 1, stop_in_training, unheard)
    assert not (work / "open").exists(), "no half model"
    stages: list[Stage] = []
    return train_open(SMALL, work / "open", work, 1, stages.append, unheard), stages


def test_it_goes_on_where_it_was_and_says_how_far_it_is(trained: tuple[InstalledModel, list[Stage]]) -> None:
    _, stages = trained
    assert not [stage for stage in stages if stage.what.startswith("simulating")], "those are complete"
    numbers = [stage.number for stage in stages]
    assert numbers == sorted(numbers) and numbers[-1] == stages[-1].of
    left = [stage.seconds_left for stage in stages if stage.what == "training" and stage.seconds_left >= 0]
    assert len(left) == SMALL.epochs - 1, "the epoch before the interruption was kept"


def test_the_model_is_what_its_card_says(trained: tuple[InstalledModel, list[Stage]]) -> None:
    model, _ = trained
    card, scores = model.card, model.card.scores
    assert card == find_model(model.folder, {}).card
    assert [region.name for region in card.regions][6] == "none_of_these"
    assert set(scores) >= {"acceptance", "acceptance_run", "baselines_on_the_acceptance_run", "simulations", "recipe"}
    assert set(scores["simulations"]) == {"train-1", "train-2", "temperature", "acceptance"}
    assert set(scores["baselines_on_the_acceptance_run"]) == {"logistic_regression", "single_samples", "rule"}
    assert set(scores["comparison_on_the_calibration_run"]) == {"other_seed", "without_analytic_layers"}
    assert all(set(line) == {"figure", "limit", "met"} for line in scores["acceptance"].values())
    assert LinearRegions.from_card(card) is not None
    moved = scores["regions_moved_by_edges"]
    assert len(moved) == 6 and all(0 < share < 0.3 for share in moved.values())
    found = label_windows(load_model(model), np.zeros((1, 32, 14), np.float32), np.zeros((1, 32), bool))
    assert found.probability.shape == (1, 32, 7)
    assert card.familiarity is not None and card.familiarity.unfamiliar(np.full((1, 14), 50.0)).all()


def test_the_same_recipe_gives_the_same_weights(trained: tuple[InstalledModel, list[Stage]], work: Path) -> None:
    for checkpoint in work.glob("training-*.pt"):
        checkpoint.unlink()
    again = train_open(replace(SMALL, compare=False), work / "again", work, 1, lambda stage: None, unheard)
    assert again.card.weights_sha256 == trained[0].card.weights_sha256
    assert again.card.familiarity == trained[0].card.familiarity


def test_what_cannot_be_trained_is_refused(trained: tuple[InstalledModel, list[Stage]], work: Path) -> None:
    with pytest.raises(UsageProblem, match="holds a model already"):
        train_open(SMALL, work / "open", work, 1, lambda stage: None, unheard)
    with pytest.raises(UsageProblem, match=r"perturbation 0\.7 there, 0\.2 here"):
        train_open(replace(SMALL, perturbation=0.2), work / "other", work, 1, lambda stage: None, unheard)
    calm = replace(SMALL, perturbation=0.1)
    with pytest.raises(InputProblem, match="has reconnected"):
        train_open(calm, work / "calm", work / "calm.work", 1, lambda stage: None, unheard)
