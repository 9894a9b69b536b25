"""Model cards check themselves, and models are found by name and by folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mms_regions.core.errors import InputProblem
from mms_regions.model.card import (
    CARD_FILE,
    ModelCard,
    find_model,
    find_published_card,
    list_models,
    model_folders,
    read_model,
)
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import save_weights


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"MMS_REGIONS_MODEL_DIR": str(tmp_path / "models")}


def shipped_card() -> ModelCard:
    return find_model("waters2025", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card


def fields() -> dict[str, Any]:
    return json.loads(shipped_card().to_json())


def place(folder: Path, **changes: Any) -> Path:
    """A card without weights in `folder`."""
    folder.mkdir(parents=True)
    (folder / CARD_FILE).write_text(json.dumps(fields() | {"name": folder.name} | changes))
    return folder


def test_the_shipped_card_says_what_is_known_and_how_to_get_the_weights(environ: dict[str, str]) -> None:
    model = find_model("waters2025", environ)
    assert model.weights is None
    assert [region.trust for region in model.card.regions] == ["high", "high", "high", "medium", "high", "medium"]
    assert [region.name for region in model.card.regions][:2] == ["inflow_north", "outflow_earthward"]
    advice = model.card.how_to_get_weights
    assert "github.com/carawaters/mms_rnn_run" in advice
    assert "10.5281/zenodo.15723061" in advice
    assert "no licence" in advice
    assert "mms-regions model import best_model" in advice


def test_no_shipped_folder_holds_weights_that_its_card_does_not_name() -> None:
    shipped = model_folders({})[1]
    named = {read_model(folder).weights for folder in shipped.iterdir() if folder.is_dir()}
    files = {path for path in shipped.rglob("*") if path.is_file() and path.name not in {CARD_FILE, "README.md"}}
    assert files <= named


def test_a_card_survives_the_disk(tmp_path: Path) -> None:
    card = shipped_card().model_copy(update={"name": "x", "scores": {"seed": 7, "per_region": [0.5, 0.25]}})
    (tmp_path / CARD_FILE).write_bytes(card.to_json())
    assert find_model(tmp_path, {}).card == card


def without_ez(card: dict[str, Any]) -> None:
    del card["scaling"]["Ez"]


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a feature twice": (lambda card: card["features"].__setitem__(1, "Bx"), "these 14, in this order"),
    "features in another order": (lambda card: card["features"].reverse(), "these 14, in this order"),
    "a feature too few": (lambda card: card["features"].pop(), "these 14, in this order"),
    "a feature without formula": (without_ez, "has none of Ez"),
    "a region too few": (lambda card: card["regions"].pop(), "0 to 5"),
    "an index twice": (lambda card: card["regions"][3].update(index=2), "0 to 5"),
    "a name twice": (lambda card: card["regions"][3].update(name="inflow_south"), "names that differ"),
    "a trust unheard of": (lambda card: card["regions"][3].update(trust="some"), "trust"),
    "another network": (lambda card: card["architecture"].update(hidden=64), "hidden"),
    "another window": (lambda card: card.update(window=64), "window"),
    "half a checksum": (lambda card: card.update(source_sha256="99749f"), "source_sha256"),
    "size without checksum": (lambda card: card.update(source_sha256=None), "belong together"),
    "an unsafe name": (lambda card: card.update(name="../x"), "1 to 64 letters"),
    "a name that ends in a dot": (lambda card: card.update(name="x."), "1 to 64 letters"),
    "an unknown field": (lambda card: card.update(licence="MIT"), "licence"),
    "an empty text": (lambda card: card.update(license=" "), "license"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_wrong_card_is_refused_with_its_field(what: str, tmp_path: Path) -> None:
    spoil, complaint = BAD[what]
    card = fields()
    spoil(card)
    with pytest.raises(ValidationError):
        ModelCard.model_validate_json(json.dumps(card))
    (tmp_path / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(InputProblem, match=complaint) as problem:
        find_model(tmp_path, {})
    assert str(tmp_path / CARD_FILE) in str(problem.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe"], ids=["empty", "cut short", "a list", "not text"])
def test_a_card_that_is_not_json_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_bytes(data)
    with pytest.raises(InputProblem, match=r"card\.json is wrong"):
        find_model(tmp_path, {})


def test_a_card_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        shipped_card().name = "other"  # type: ignore[misc]


def test_an_unknown_model_is_refused_with_the_known_names(environ: dict[str, str], tmp_path: Path) -> None:
    place(tmp_path / "models" / "mine")
    for name in ("wators2025", "../models/nothing", "-"):
        with pytest.raises(InputProblem, match="mine, open, waters2025"):
            find_model(name, environ)


def test_a_folder_without_card_and_a_bare_file_are_refused(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputProblem, match=r"no card\.json"):
        find_model(tmp_path, environ)
    file = tmp_path / "best_model"
    file.write_bytes(b"x")
    with pytest.raises(InputProblem, match="model import"):
        find_model(file, environ)


def test_a_folder_must_bear_the_name_of_its_card(environ: dict[str, str], tmp_path: Path) -> None:
    place(tmp_path / "models" / "mine", name="yours")
    with pytest.raises(InputProblem, match="named 'yours'"):
        find_model("mine", environ)


def test_the_users_folder_goes_first_where_it_has_weights(environ: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "models" / "waters2025"
    place(own, title="mine")
    assert find_model("waters2025", environ).card == shipped_card()
    save_weights(RegionRNN(), shipped_card(), own)
    found = find_model("waters2025", environ)
    assert found.folder == own
    assert found.weights is not None
    assert found.weights.is_file()


def test_models_are_listed_once_each(environ: dict[str, str], tmp_path: Path) -> None:
    place(tmp_path / "models" / "mine")
    save_weights(RegionRNN(), shipped_card(), tmp_path / "models" / "waters2025")
    assert [model.card.name for model in list_models(environ)] == ["mine", "open", "waters2025"]


def test_the_users_folder_is_the_platforms_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert model_folders({})[0].name == "models"
    assert model_folders({})[0].parent.name == "mms-regions"
    assert model_folders({"MMS_REGIONS_MODEL_DIR": "/x/y"})[0] == Path("/x/y")


def test_the_shipped_card_decides_what_may_be_imported(environ: dict[str, str], tmp_path: Path) -> None:
    place(tmp_path / "models" / "waters2025", source_sha256="0" * 64, source_bytes=1)
    assert find_published_card("waters2025", environ) == shipped_card()
    place(tmp_path / "models" / "trained", source_sha256=None, source_bytes=None)
    with pytest.raises(InputProblem, match="names no file to import"):
        find_published_card("trained", environ)


def test_auto_is_the_published_model_where_its_weights_are_and_else_the_open_one(environ: dict[str, str]) -> None:
    assert find_model("auto", environ).card.name == "open"
    save_weights(RegionRNN(), shipped_card(), Path(environ["MMS_REGIONS_MODEL_DIR"]) / "waters2025")
    assert find_model("auto", environ).card.name == "waters2025"


def test_a_model_for_tests_is_found_by_name_and_not_listed(environ: dict[str, str]) -> None:
    assert [model.card.name for model in list_models(environ)] == ["open", "waters2025"]
    assert find_model("analytic-layer", environ).weights
