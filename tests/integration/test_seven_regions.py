"""A model with a seventh region goes through the store, pictures, reports and exports as one with six does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from drawn import words_apart

import mms_regions
from mms_regions.core.regions import regions_of
from mms_regions.model.card import Architecture, RegionEntry, find_model
from mms_regions.model.familiarity import Familiarity
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import save_weights
from mms_regions.store.read import open_segment, open_store

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that often says that it is in none of the six, and that many samples are unfamiliar."""
    shipped = find_model("waters2025", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card
    another = RegionEntry(index=6, name="none_of_these", long_name="none of these", evidence="drawn", trust="medium")
    unit = np.eye(14).tolist()
    known = Familiarity(
        means=[[0.0] * 14] * 7, whitening=[unit] * 7, low=[-1e3] * 14, high=[1e3] * 14, threshold=2.9, false_alarms=0.01
    )
    update = {"name": "seven", "regions": (*shipped.regions, another), "architecture": Architecture(classes=7)}
    update |= {"familiarity": known}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = RegionRNN(7)
    with torch.no_grad():
        network.fc.weight *= 10
        network.fc.bias[6] += 0.5
    folder = tmp_path_factory.mktemp("models") / "seven"
    save_weights(network, shipped.model_copy(update=update), folder)
    return folder


@pytest.fixture(scope="module")
def labelled(
    seven: Path, run_words: Words, mms_regions_here: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    store = tmp_path_factory.mktemp("seven") / "seven.zarr"
    done = mms_regions_here(*run_words(store, "--events", "A,B", "--model", seven))
    assert done.returncode == 0, done.stderr
    return store


def test_the_store_has_seven_probabilities_and_names_the_seventh(labelled: Path) -> None:
    data = open_segment(labelled, "A", 1)
    assert data["probability"].shape == (data.sizes["time"], 7)
    assert regions_of(data["label"].attrs)[6].name == data["region"].values[6] == "none_of_these"
    known = data["label"].values >= 0
    np.testing.assert_array_equal(data["probability"].values[known].argmax(axis=1), data["label"].values[known])
    assert (data["label"].values == 6).any(), "else this shows nothing"


def test_a_store_of_six_is_labelled_again_with_seven_and_back(
    seven: Path, store: Path, mms_regions_here: Command
) -> None:
    before = open_segment(store, "A", 1)["label"].values
    assert mms_regions_here("label", store, "--model", seven, "--device", "cpu", "--workers", 0).returncode == 0
    assert open_store(store)["probability"].sizes["region"] == open_store(store)["region"].size == 7
    assert "unfamiliar" in open_store(store)
    assert mms_regions_here("verify", store).returncode == 0
    assert mms_regions_here("label", store, "--model", "first", "--device", "cpu", "--workers", 0).returncode == 0
    assert open_store(store)["probability"].sizes["region"] == open_store(store)["region"].size == 6
    assert "unfamiliar" not in open_store(store)
    np.testing.assert_array_equal(open_segment(store, "A", 1)["label"].values, before)


def test_the_picture_names_and_colours_it(labelled: Path) -> None:
    figure = mms_regions.plot_segment(open_segment(labelled, "A", 1))
    assert "none of these" in words_apart(figure)


def test_the_report_counts_it(labelled: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    done = mms_regions_here("report", labelled, "--out", tmp_path / "report", "--workers", 0)
    assert done.returncode == 0, done.stderr
    index, page = ((tmp_path / "report" / name).read_text() for name in ("index.html", "events/A.html"))
    assert "one of seven regions" in index and "none of these" in index
    share = (open_segment(labelled, "A", 1)["label"].values == 6).mean()
    assert f"none of these {share:.1%}" in page
    assert ".r6 { fill: #585858" in page
    unfamiliar = open_store(labelled)["unfamiliar"].values
    share = (unfamiliar == 1).sum() / (unfamiliar >= 0).sum()
    assert f"Of those with a label {share:.1%} are unfamiliar" in index


def test_it_is_exported(labelled: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    for form in ("csv", "netcdf", "segments"):
        done = mms_regions_here("export", labelled, "--format", form, "--out", tmp_path)
        assert done.returncode == 0, done.stderr
    data = open_segment(labelled, "A", 1)
    assert (pd.read_csv(tmp_path / "A_mms1" / "mms1_labels.csv")["Predicted"] == 6).any()
    assert "none_of_these" in set(pd.read_csv(tmp_path / "segments.csv", comment="#")["region"])
    rows = pd.read_csv(tmp_path / "segments.csv", comment="#").query("event == 'A' and spacecraft == 'mms1'")
    found = (rows["unfamiliar"] * rows["samples"]).sum()
    assert found == pytest.approx((data["unfamiliar"].values == 1).sum(), rel=1e-3)
    with xr.open_dataset(tmp_path / "A_mms1.nc") as file:
        np.testing.assert_array_equal(file["unfamiliar"], data["unfamiliar"])
        assert file["label"].attrs["flag_meanings"].split()[-1] == "none_of_these"
        np.testing.assert_array_equal(file["probability"], data["probability"])


def test_unfamiliar_samples_are_stored_and_their_share_is_in_status(
    seven: Path, labelled: Path, mms_regions_here: Command
) -> None:
    data, known = open_segment(labelled, "A", 1), find_model(seven, {}).card.familiarity
    has_label = data["label"].values >= 0
    assert known is not None
    expected = np.where(has_label, known.unfamiliar(data["features"].values), -1)
    np.testing.assert_array_equal(data["unfamiliar"].values, expected)
    share = (expected == 1).sum() / has_label.sum()
    assert 0.02 < share < 0.98, "else this shows nothing"
    rows = json.loads(mms_regions_here("status", labelled, "--json").stdout)["segments"]
    assert {row["segment"]: row for row in rows}["A/mms1"]["coverage"]["unfamiliar"] == pytest.approx(share)
    assert f"labelled, {share:.1%} of these unfamiliar" in mms_regions_here("status", labelled).stdout
