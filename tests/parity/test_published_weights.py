"""The published weights: imported from the authors' file, they answer as the model card says."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy_rnn import probabilities

from mms_regions.model.label import as_windows, label_windows
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import import_published, load_model
from mms_regions.physics.samples import FEATURES

NORTH_SOUTH = [2, 1, 0, 5, 4, 3]
EAST_WEST = [0, 4, 2, 3, 1, 5]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"MMS_REGIONS_MODEL_DIR": str(tmp_path_factory.mktemp("models"))}


@pytest.fixture(scope="module")
def model(reference: Path, environ: dict[str, str]) -> RegionRNN:
    return load_model(import_published(reference / "models" / "best_model", environ))


def last_probability(model: RegionRNN, **features: float) -> np.ndarray:
    """(6,) after 32 samples of these features, the others zero."""
    window = np.zeros((1, 32, 14), dtype=np.float32)
    for name, value in features.items():
        window[:, :, FEATURES.index(name)] = value
    return label_windows(model, window, np.zeros((1, 32), dtype=bool)).probability[0, -1]


def test_the_weights_are_those_of_the_file(reference: Path, model: RegionRNN) -> None:
    published = torch.load(reference / "models" / "best_model", weights_only=True, map_location="cpu")
    assert published.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, published[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("features", "region"),
    [
        ({"Bx": 0.5}, 0),
        ({"vix": 0.5}, 1),
        ({"Bx": -0.5}, 2),
        ({"Ey": 1.5}, 3),
        ({"vix": -0.5}, 4),
        ({}, 4),
        ({"Ey": -1.5}, 5),
    ],
    ids=str,
)
def test_each_region_is_what_the_card_says(model: RegionRNN, features: dict[str, float], region: int) -> None:
    assert last_probability(model, **features).argmax() == region


def test_quiet_input_falls_to_the_tailward_outflow(model: RegionRNN) -> None:
    assert last_probability(model)[4] == pytest.approx(0.83, abs=0.01)


def test_mirrored_fields_give_mirrored_inflows_and_outflows(model: RegionRNN) -> None:
    north, south = last_probability(model, Bx=0.5), last_probability(model, Bx=-0.5)
    np.testing.assert_allclose(south, north[NORTH_SOUTH], atol=0.01)
    east, west = last_probability(model, vix=0.5), last_probability(model, vix=-0.5)
    np.testing.assert_allclose(west, east[EAST_WEST], atol=0.01)


def test_an_independent_network_in_numpy_agrees(model: RegionRNN) -> None:
    features = np.random.default_rng(0).normal(0, 0.7, (32 * 20, 14)).astype(np.float32)
    weights = {name: tensor.numpy().astype(np.float64) for name, tensor in model.state_dict().items()}
    windows = as_windows(features)
    prediction = label_windows(model, windows, np.zeros(windows.shape[:2], dtype=bool))
    expected = np.stack([probabilities(weights, window) for window in windows])
    np.testing.assert_allclose(prediction.probability, expected, atol=1e-5, rtol=0)


def test_published_features_give_the_published_labels(reference: Path, model: RegionRNN) -> None:
    """Features, labels and confidences as the published code wrote them; what it made of missing values aside."""
    for folder in sorted((reference / "reference").glob("*-mms*/published")):
        data, probs = (next(folder.rglob(f"*_{name}.csv")) for name in ("nndata", "probs"))
        with data.open() as file:
            rows = list(csv.reader(file))
        with probs.open() as file:
            answers = list(csv.DictReader(file))
        assert tuple(rows[0][1:]) == FEATURES
        features = np.array([[float(cell or "nan") for cell in row[1:]] for row in rows[1:]], dtype=np.float32)
        windows = as_windows(features)
        prediction = label_windows(model, windows, np.zeros(windows.shape[:2], dtype=bool))
        label = prediction.label.reshape(-1)[: len(features)]
        known = label >= 0
        assert known.sum() > 100
        np.testing.assert_array_equal(label[known], np.array([int(row["Predicted"]) for row in answers])[known])
        confidence = np.array([float(row["Confidence"] or "nan") for row in answers])
        best = prediction.probability.max(axis=2).reshape(-1)[: len(features)]
        np.testing.assert_allclose(best[known], confidence[known], atol=1e-5, rtol=0)
