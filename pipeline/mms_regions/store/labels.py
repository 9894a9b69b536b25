"""Which model the labels of a store are from, and which runs have changed it: what no plan tells."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mms_regions.model.card import ModelCard
from mms_regions.store.paths import labelled_path, provenance_path
from mms_regions.store.state import read_state, write_state

MARGINAL_ARRAYS = ("probability_marginal", "label_marginal")  # where an error of B0 or n0 is known


@dataclass(frozen=True)
class LabelIdentity:
    """All that the labels of given features follow from; None, or a fraction of 0: without it.

    temperature, draws and seed: of labels whose probabilities are rescaled, or drawn. What is not used leaves the
    identity as it was before it could be, so that labels made earlier keep theirs.
    """

    weights_sha256: str
    perturb: float = 0.0
    temperature: float | None = None
    draws: int | None = None
    seed: int | None = None
    familiarity: str | None = None  # the sha256 of what says which samples are unfamiliar

    @property
    def sha256(self) -> str:
        """The sha256 of the weights where they alone are used."""
        names = ("temperature", "draws", "seed", "familiarity")
        further = [f"{name}={value!r}" for name in names if (value := getattr(self, name)) is not None]
        if not self.perturb and not further:
            return self.weights_sha256
        return hashlib.sha256(" ".join([self.weights_sha256, repr(self.perturb), *further]).encode()).hexdigest()


@dataclass(frozen=True)
class Labelled:
    """The card of the model whose labels a store shows; `swapping` while they are put in the place of other ones.

    perturb: by which fraction B0 and n0 were moved for `stability`; 0 where there is none. draws, seed: of B0 and n0,
    for marginal probabilities; draws are None where no error of them is known, 0 where they are not wanted.
    """

    card: ModelCard
    swapping: bool = False
    perturb: float = 0.0
    draws: int | None = None
    seed: int = 0

    @property
    def sha256(self) -> str:
        """Of the identity of its labels."""
        drawn = (self.draws, self.seed) if self.draws else (None, None)
        known = self.card.familiarity
        return LabelIdentity(
            str(self.card.weights_sha256),
            self.perturb,
            draws=drawn[0],
            seed=drawn[1],
            familiarity=hashlib.sha256(known.model_dump_json().encode()).hexdigest() if known else None,
        ).sha256


def read_labelled(store: Path) -> Labelled | None:
    """Whose labels a store shows, or None where it has none yet. Raises EnvironmentProblem where that is lost."""
    data = read_state(labelled_path(store))
    if data is None:
        return None
    return Labelled(
        ModelCard.model_validate(data["card"]),
        data["swapping"],
        data.get("perturb", 0.0),
        data.get("draws"),
        data.get("seed", 0),
    )


def write_labelled(store: Path, uuid: str, labelled: Labelled) -> None:
    card = labelled.card.model_dump(mode="json")
    data = {"card": card, "swapping": labelled.swapping, "perturb": labelled.perturb}
    data |= {} if labelled.draws is None else {"draws": labelled.draws, "seed": labelled.seed}
    write_state(labelled_path(store), uuid, data)


def read_provenance(store: Path) -> tuple[Mapping[str, Any], ...]:
    """The runs that changed a store, oldest first: who, when and with what. No result depends on it."""
    data = read_state(provenance_path(store))
    return tuple(data["runs"]) if data else ()


def write_provenance(store: Path, uuid: str, runs: Sequence[Mapping[str, Any]]) -> None:
    write_state(provenance_path(store), uuid, {"runs": [dict(run) for run in runs]})
