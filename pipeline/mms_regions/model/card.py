"""Model cards: what a model is, where it comes from, what it may be used for, and where its files lie.

A model is a folder with a `card.json` and, where they may be kept, weights. The card names the weights by their sha256,
so it is the one file whose arrival makes a model complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError, model_validator
from pydantic.functional_validators import AfterValidator

from mms_regions.core.errors import InputProblem, explain
from mms_regions.core.events import is_safe_name, safe_name
from mms_regions.core.files import expanded, read_file
from mms_regions.core.regions import regions_named
from mms_regions.model.familiarity import Familiarity
from mms_regions.physics.samples import FEATURES

CARD_FILE = "card.json"
MODEL_DIR_VARIABLE = "MMS_REGIONS_MODEL_DIR"
AUTO = "auto"  # the published model where its weights are installed, else the open one
PUBLISHED, OPEN = "waters2025", "open"

_SHIPPED = Path(__file__).parent / "models"
_REGION_NAME = r"^[a-z][a-z0-9_]*$"
_UNLISTED = ("analytic-layer",)  # for tests, and for files of synthetic analytic layers


Name = Annotated[str, AfterValidator(safe_name)]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(_Record):
    """The size of the network; this version of mms-regions knows one, with any number of classes."""

    features: Literal[14] = 14
    hidden: Literal[42] = 42
    layers: Literal[3] = 3
    classes: int = Field(default=6, ge=2)


class RegionEntry(_Record):
    """One class of the network: what its index means and how sure that is."""

    index: int
    name: Annotated[str, StringConstraints(pattern=_REGION_NAME)]
    long_name: Text
    evidence: Text
    trust: Literal["high", "medium"]


class ModelCard(_Record):
    """All that is said about a model; checks itself when made (pydantic raises ValidationError)."""

    name: Name
    title: Text
    description: Text
    architecture: Architecture = Architecture()
    window: Literal[32] = 32  # samples, each window from a zero state
    features: tuple[str, ...] = FEATURES
    scaling: dict[str, Text]  # the formula of each feature, and of each symbol used in one
    regions: tuple[RegionEntry, ...]
    training_data: Text
    license: Text
    citation: Text
    source_url: str | None = None
    source_doi: str | None = None
    source_file_url: str | None = None  # of the file that the model is imported from, at a fixed version
    source_sha256: Sha256 | None = None  # of the file that the model is imported from
    source_bytes: int | None = Field(default=None, gt=0)
    weights_sha256: Sha256 | None = None  # of the safetensors file beside the card; None where there is none
    how_to_get_weights: Text
    cautions: tuple[Text, ...] = ()
    convention: Literal["", "corrected", "published"] = ""  # of the features that it was trained on; empty: not known
    low_confidence: float = Field(default=0.7, ge=0, le=1)  # a label of a smaller probability is uncertain
    meaning_of_probability: str = ""  # how often labels of a probability are right
    familiarity: Familiarity | None = None  # which samples are unlike all that it was trained on; None: not known
    scores: dict[str, JsonValue] = {}  # of trained models: seeds, settings, scores, calibration

    @model_validator(mode="after")
    def _features_are_those_of_the_pipeline(self) -> ModelCard:
        if self.features != FEATURES:
            raise ValueError(f"features must be these 14, in this order: {' '.join(FEATURES)}")
        unsaid = [name for name in FEATURES if name not in self.scaling]
        if unsaid:
            raise ValueError(f"scaling must hold the formula of every feature; it has none of {', '.join(unsaid)}")
        return self

    @model_validator(mode="after")
    def _regions_are_complete(self) -> ModelCard:
        if [region.index for region in self.regions] != list(range(self.architecture.classes)):
            raise ValueError(f"regions must have the indices 0 to {self.architecture.classes - 1}, each once, in order")
        regions_named(region.name for region in self.regions)
        if self.familiarity and len(self.familiarity.means) != self.architecture.classes:
            raise ValueError("familiarity must be of the same regions")
        return self

    @model_validator(mode="after")
    def _source_is_whole(self) -> ModelCard:
        if (self.source_sha256 is None) != (self.source_bytes is None):
            raise ValueError("source_sha256 and source_bytes belong together: give both or neither")
        return self

    @property
    def names_are_inferred(self) -> bool:
        """Whether somebody else than its authors has given the regions their names."""
        return names_are_inferred({"source_sha256": self.source_sha256})

    @property
    def weights_file(self) -> str | None:
        """The name of the weights beside the card, after their sha256; None where the card has no weights."""
        return f"weights-{self.weights_sha256[:16]}.safetensors" if self.weights_sha256 else None

    def to_json(self) -> bytes:
        """The card as written on disk."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def names_are_inferred(card: Mapping[str, Any]) -> bool:
    """What the property of that name says, of a card as it is in the attributes of a store."""
    return card.get("source_sha256") is not None


@dataclass(frozen=True)
class InstalledModel:
    """A model found on this machine: its card, the folder of the card, the weights if they are there."""

    card: ModelCard
    folder: Path
    weights: Path | None


def model_folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where models lie, first the user's folder ($MMS_REGIONS_MODEL_DIR or the platform's), then what is shipped."""
    named = environ.get(MODEL_DIR_VARIABLE)
    own = expanded(Path(named)) if named else platformdirs.user_data_path("mms-regions", appauthor=False) / "models"
    return own, _SHIPPED


def read_model(folder: Path) -> InstalledModel:
    """The model in a folder. Raises InputProblem where its card is missing, broken or wrong; weights are not opened."""
    card = _read_card(folder / CARD_FILE)
    weights = folder / card.weights_file if card.weights_file else None
    return InstalledModel(card, folder, weights if weights and weights.is_file() else None)


def find_model(name_or_path: str | Path, environ: Mapping[str, str]) -> InstalledModel:
    """The model of this name, or in this folder; `auto` is waters2025 where its weights are installed, else open.

    A name is looked up in the user's folder, then among the shipped ones; a model with weights goes before one without.
    Raises InputProblem where there is no such model, with the names that are known, and where its card is wrong.
    """
    name = str(name_or_path)
    if name == AUTO:
        published = find_model(PUBLISHED, environ)
        return published if published.weights else find_model(OPEN, environ)
    named = [_read_named(folder) for folder in _folders_named(name, environ)]
    if named:
        return next((model for model in named if model.weights), named[-1])
    path = expanded(Path(name_or_path))
    if path.is_dir():
        return read_model(path)
    if path.is_file():
        raise InputProblem(
            f"{path} is a file, not a model folder; name the folder that holds {CARD_FILE}, or turn the published file "
            f"into a model with `mms-regions model import {path}`."
        )
    raise _unknown(name, environ)


def wanted_name(name: str, convention: str) -> str:
    """What a setting `model` means: `auto` is the published model where the published convention is asked for."""
    return PUBLISHED if name == AUTO and convention == "published" else name


def find_published_card(name: str, environ: Mapping[str, str]) -> ModelCard:
    """The card that says what the file to import must be: the shipped one, else the user's of that name.

    Raises InputProblem where there is no such card, or where it says nothing about a file to import.
    """
    folders = list(_folders_named(name, environ))
    if not folders:
        raise _unknown(name, environ)
    card = _read_named(folders[-1]).card
    if card.source_sha256 is None:
        raise InputProblem(
            f"The model card {folders[-1] / CARD_FILE} names no file to import (source_sha256, source_bytes), so there "
            f"is nothing to check a file against."
        )
    return card


def list_models(environ: Mapping[str, str]) -> tuple[InstalledModel, ...]:
    """All models by name, each as `find_model` gives it. Raises InputProblem where a card is broken."""
    return tuple(find_model(name, environ) for name in _known_names(environ))


def _folders_named(name: str, environ: Mapping[str, str]) -> Iterator[Path]:
    if is_safe_name(name):
        yield from (folder / name for folder in model_folders(environ) if (folder / name / CARD_FILE).is_file())


def _known_names(environ: Mapping[str, str]) -> list[str]:
    cards = [card for folder in model_folders(environ) for card in folder.glob(f"*/{CARD_FILE}")]
    return sorted({c.parent.name for c in cards if is_safe_name(c.parent.name)} - {*_UNLISTED})


def _unknown(name: str, environ: Mapping[str, str]) -> InputProblem:
    return InputProblem(
        f"There is no model {name!r}; known are {', '.join(_known_names(environ)) or 'none'}. Name one of them, or the "
        f"path of a folder that holds {CARD_FILE}."
    )


def _read_named(folder: Path) -> InstalledModel:
    model = read_model(folder)
    if model.card.name != folder.name:
        raise InputProblem(
            f"The model card {folder / CARD_FILE} is of a model named {model.card.name!r}: rename its folder to that."
        )
    return model


def _read_card(path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate_json(read_file(path))
    except FileNotFoundError:
        raise InputProblem(
            f"There is no {CARD_FILE} in {path.parent}: a model is a folder that holds one; name such a folder."
        ) from None
    except OSError as error:
        raise InputProblem(f"The model card {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        wrong = "; ".join(explain(error).values())
        raise InputProblem(f"The model card {path} is wrong: {wrong}. Correct it or import the model again.") from error
