"""Which model labels a store where nobody has chosen one, and what is said of the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mms_regions.core.errors import InputProblem
from mms_regions.core.settings import resolve_settings
from mms_regions.model.card import find_model
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import save_weights
from mms_regions.store.labels import Labelled, write_labelled
from mms_regions.store.relabel import ChosenModel, choose_model

PUBLISHED = find_model("waters2025", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A user's folder with an open model of features of `corrected`, and another model."""
    install(tmp_path / "models", "open", convention="corrected")
    install(tmp_path / "models", "mine")
    return tmp_path / "models"


def install(folder: Path, name: str, **card: Any) -> None:
    save_weights(RegionRNN(), PUBLISHED.model_copy(update={"name": name, **card}), folder / name)


def choose(models: Path, store: Path, **flags: object) -> ChosenModel:
    return choose_model(resolve_settings(flags, {}), store, {"MMS_REGIONS_MODEL_DIR": str(models)})


def test_without_the_published_weights_the_open_model_labels_and_a_line_says_so(models: Path, tmp_path: Path) -> None:
    chosen = choose(models, tmp_path / "new.zarr")
    assert (chosen.model.card.name, chosen.settings.model) == ("open", "open")
    assert [line for line in chosen.remarks if "open" in line and "waters2025 are not installed" in line]


def test_with_the_published_weights_their_model_labels(models: Path, tmp_path: Path) -> None:
    install(models, "waters2025")
    chosen = choose(models, tmp_path / "new.zarr")
    assert (chosen.model.card.name, chosen.settings.model, chosen.remarks) == ("waters2025", "waters2025", ())


def test_the_published_convention_asks_for_the_published_model(models: Path, tmp_path: Path) -> None:
    assert choose(models, tmp_path / "new.zarr", convention="published").model.card.name == "waters2025"


def test_a_model_that_somebody_named_is_taken(models: Path, tmp_path: Path) -> None:
    chosen = choose(models, tmp_path / "new.zarr", model="mine")
    assert (chosen.model.card.name, chosen.remarks) == ("mine", ())


def test_a_store_keeps_its_model_though_others_were_installed_since(models: Path, tmp_path: Path) -> None:
    store = labelled_by("open", models, tmp_path)
    install(models, "waters2025")
    assert choose(models, store).model.card.name == "open"
    assert choose(models, store, model="waters2025").model.card.name == "waters2025"


def test_other_weights_of_the_name_that_a_store_has_are_refused(models: Path, tmp_path: Path) -> None:
    store = labelled_by("mine", models, tmp_path)
    install(models, "mine")
    with pytest.raises(InputProblem, match="mine with other weights than those installed; name a --model"):
        choose(models, store)


def test_a_model_of_features_of_the_other_convention_is_a_remark(models: Path, tmp_path: Path) -> None:
    (remark,) = choose(models, tmp_path / "new.zarr", model="open", convention="published").remarks
    assert "trained on features of the convention corrected, and this run uses published" in remark


def labelled_by(name: str, models: Path, tmp_path: Path) -> Path:
    store = tmp_path / "old.zarr"
    card = find_model(name, {"MMS_REGIONS_MODEL_DIR": str(models)}).card
    write_labelled(store, "0" * 32, Labelled(card))
    return store
