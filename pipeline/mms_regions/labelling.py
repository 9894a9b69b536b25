"""The labels of a store: which model makes them, where they go, and what a labelling worker does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mms_regions.card import InstalledModel, read_model
from mms_regions.errors import InputProblem
from mms_regions.plan import Plan, Receipt, ShardPlan, digest, receipt_path, receipts, run_folder
from mms_regions.store import (
    create_label_arrays,
    describe_model,
    model_of,
    read_windows,
    swap_labels,
    withdraw_labels,
    write_labels,
)


@dataclass(frozen=True)
class Labelling:
    """Which model labels, on which device, and into which group: the store, or one beside it until all is there.

    device: auto, cpu or cuda, chosen by the worker that labels.
    """

    model: InstalledModel
    device: str
    store: Path
    folder: Path

    @property
    def sha256(self) -> str:
        return str(self.model.card.weights_sha256)

    def done(self, shard: ShardPlan) -> bool:
        """Whether a shard has its labels: of this model, and made from the features that it has now."""
        receipt = Receipt.read(receipt_path(self.store, "labels", shard.number, self.sha256))
        return receipt is not None and receipt.matches(shard.uuid, self.decides(shard))

    def decides(self, shard: ShardPlan) -> dict[str, Any]:
        """What decides the labels of a shard, for its receipt: the model, and the files of its features."""
        features = Receipt.read(receipt_path(self.store, "features", shard.number))
        return {"model_sha256": self.sha256, "features_sha256": digest(dict(features.files)) if features else ""}


def require_weights(model: InstalledModel) -> None:
    """Raise InputProblem, which says how to get them, where a model's weights are not here."""
    if model.weights is None:
        raise InputProblem(f"The weights of model {model.card.name} are not here. {model.card.how_to_get_weights}")


def start_labelling(store: Path, plan: Plan, model: InstalledModel, device: str) -> Labelling:
    """Labels go into the store, or beside it where it holds those of another model."""
    sha256 = str(model.card.weights_sha256)
    there = model_of(store)
    folder = store if there in (None, sha256) else run_folder(store) / f"relabel-{sha256[:12]}"
    create_label_arrays(folder, plan)
    if there is None:
        describe_model(store, model.card)
    return Labelling(model, device, store, folder)


def finish_labelling(plan: Plan, labelling: Labelling) -> None:
    """Bring labels that were made beside the store into it, once all of them are there.

    Until that is done no receipt vouches for labels: after a kill in between, the next run labels anew.
    """
    store = labelling.store
    if labelling.folder == store:
        return
    made = list(receipts(store, plan, "labels", labelling.sha256))
    withdraw_labels(store)
    swap_labels(store, labelling.folder)
    describe_model(store, labelling.model.card)
    for receipt in made:
        receipt.write(receipt_path(store, "labels", receipt.shard, labelling.sha256))
    shutil.rmtree(labelling.folder)


def check_labelling(labelling: Labelling) -> None:
    """Refuse a device or a model that cannot be used before hours of preparing: what a worker tries first."""
    from mms_regions.label import choose_device

    choose_device(labelling.device)
    _network(labelling.model.folder, labelling.sha256)


def label_shards(labelling: Labelling, shards: Sequence[ShardPlan]) -> None:
    """Label every window of some shards, and write their labels: what a labelling worker does."""
    from mms_regions.label import choose_device, label_windows

    device = choose_device(labelling.device)
    network = _network(labelling.model.folder, labelling.sha256)
    for shard in shards:
        features, withheld = read_windows(labelling.store, shard)
        prediction = label_windows(network, features, withheld, device)
        write_labels(labelling.store, labelling.folder, shard, prediction, labelling.decides(shard))


@lru_cache(maxsize=1)
def _network(folder: Path, sha256: str) -> Any:
    """The network in a model's folder, loaded once per worker; `sha256` tells a replaced one from the one before."""
    from mms_regions.model import load_model

    return load_model(read_model(folder))
