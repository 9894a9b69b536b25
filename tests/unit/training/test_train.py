"""Training: what decides it, what it sees, what its card says, and that the shipped model is what its card says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mms_regions.core.errors import UsageProblem
from mms_regions.core.types import WINDOW
from mms_regions.model.card import InstalledModel, find_model
from mms_regions.model.label import label_windows
from mms_regions.model.scores import agreement
from mms_regions.model.weights import load_model
from mms_regions.training.train import Epoch, LinearRegions, Recipe, train, virtual_crossing, virtual_windows

SMALL = Recipe(crossings=12, scoring_crossings=6, epochs=3, batch=64)
LEAST = Recipe(crossings=3, scoring_crossings=2, epochs=1, batch=16, seconds=10.0)


@pytest.fixture(scope="module")
def shipped() -> InstalledModel:
    return find_model("analytic-layer", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[InstalledModel, list[Epoch]]:
    """A model of a training of seconds, and the epochs that it told of."""
    epochs: list[Epoch] = []
    return train(SMALL, tmp_path_factory.mktemp("models") / "small", epochs.append), epochs


def scores(model: InstalledModel) -> dict[str, Any]:
    return dict(model.card.scores)


@pytest.mark.parametrize(
    "changes",
    [{"seed": -1}, {"seed": 1000}, {"crossings": 0}, {"scoring_crossings": 500_001}, {"epochs": 0}, {"rate": 0.0},
     {"batch": 0}, {"seconds": 0.5}],
    ids=str,
)  # fmt: skip
def test_a_recipe_that_trains_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageProblem):
        replace(SMALL, **changes)


def test_a_virtual_crossing_is_repeatable_in_whole_windows_and_without_gaps() -> None:
    features, region = virtual_crossing(2**31, 10.0)
    again, _ = virtual_crossing(2**31, 10.0)
    other, _ = virtual_crossing(2**31 + 1, 10.0)
    assert features.shape == (len(region), 14)
    assert len(region) % WINDOW == 0
    assert len(region) == 320
    assert np.isfinite(features).all()
    assert set(region) <= set(range(6))
    np.testing.assert_array_equal(features, again)
    assert not np.allclose(features, other)


def test_training_is_decided_by_its_seed(tmp_path: Path) -> None:
    one = train(LEAST, tmp_path / "one", lambda epoch: None)
    same = train(LEAST, tmp_path / "same", lambda epoch: None)
    other = train(replace(LEAST, seed=1), tmp_path / "other", lambda epoch: None)
    assert same.card.weights_sha256 == one.card.weights_sha256
    assert other.card.weights_sha256 != one.card.weights_sha256


def test_training_tells_each_epoch_and_learns(trained: tuple[InstalledModel, list[Epoch]]) -> None:
    model, epochs = trained
    assert [(epoch.number, epoch.of) for epoch in epochs] == [(1, 3), (2, 3), (3, 3)]
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert scores(model)["unseen_crossings"]["overall"] > 0.5  # a guess is right in a third at most


def test_training_leaves_the_state_of_torch_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected, threads = torch.rand(4), torch.get_num_threads()
    torch.manual_seed(3)
    train(LEAST, tmp_path / "model", lambda epoch: None)
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == threads


def test_the_card_says_what_decides_the_training_and_what_the_model_is(
    trained: tuple[InstalledModel, list[Epoch]],
) -> None:
    card, said = trained[0].card, scores(trained[0])
    assert card.name == "small"
    assert "not validated on MMS data" in card.description
    assert said["recipe"]["crossings"] == SMALL.crossings
    assert said["training_seeds"] == [SMALL.training_seeds[0], SMALL.training_seeds[-1]]
    assert said["unseen_crossings"]["samples"] == 6 * 62 * WINDOW
    assert {"expected_error", "bins"} <= set(said["calibration"])
    assert said["cost"]["seconds"] >= 0


def test_the_logistic_regression_on_the_card_is_the_one_that_was_scored(shipped: InstalledModel) -> None:
    linear = LinearRegions.from_card(shipped.card)
    assert linear is not None
    said = scores(shipped)
    recipe = Recipe(**said["recipe"])
    some = virtual_windows(recipe.scoring_seeds[:40], recipe.seconds)
    found = agreement(linear.label(some.features.numpy()), some.region.numpy(), 6)
    assert found.overall == pytest.approx(said["logistic_regression"]["unseen_crossings"]["overall"], abs=0.02)


def test_a_card_without_a_logistic_regression_gives_none(shipped: InstalledModel) -> None:
    assert LinearRegions.from_card(shipped.card.model_copy(update={"scores": {}})) is None


@pytest.mark.system
def test_the_shipped_model_has_the_scores_of_its_card(shipped: InstalledModel) -> None:
    """So the layers that it was trained on are those that this version makes."""
    said = scores(shipped)
    recipe = Recipe(**said["recipe"])
    unseen = virtual_windows(recipe.scoring_seeds, recipe.seconds)
    found = label_windows(load_model(shipped), unseen.features.numpy(), np.zeros(unseen.region.shape, bool))
    assert agreement(found.label, unseen.region.numpy(), 6).to_dict() == {
        name: pytest.approx(value, abs=2e-4) for name, value in said["unseen_crossings"].items()
    }


def test_the_shipped_model_says_what_it_is_and_beats_the_logistic_regression(shipped: InstalledModel) -> None:
    said = scores(shipped)
    assert "not validated on MMS data" in shipped.card.description
    assert shipped.card.license == "MIT"
    assert shipped.weights is not None
    assert said["unseen_crossings"]["overall"] > said["logistic_regression"]["unseen_crossings"]["overall"] + 0.01
    assert said["calibration"]["expected_error"] < 0.02


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_training_anew_gives_the_scores_of_the_shipped_card(shipped: InstalledModel, tmp_path: Path) -> None:
    said = scores(shipped)
    again = scores(train(Recipe(**said["recipe"]), tmp_path / "again", lambda epoch: None))
    for name in ("overall", "balanced"):
        assert again["unseen_crossings"][name] == pytest.approx(said["unseen_crossings"][name], abs=0.01)


def test_a_folder_that_holds_a_model_or_cannot_name_one_is_refused_before_the_training(
    trained: tuple[InstalledModel, list[Epoch]], tmp_path: Path
) -> None:
    def never(epoch: Epoch) -> None:
        raise AssertionError("trained all the same")

    for folder, words in ((trained[0].folder, "holds a model already"), (tmp_path / "no name!", "must be letters")):
        with pytest.raises(UsageProblem, match=words):
            train(SMALL, folder, never)
