"""The labels of a store: which model makes them, where they go, and what a labelling worker does."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mms_regions.card import InstalledModel, read_model
from mms_regions.crash import crash_point
from mms_regions.errors import EnvironmentProblem, InputProblem
from mms_regions.labelled import Labelled, read_labelled, write_labelled
from mms_regions.layout import labels_alone, write_files
from mms_regions.plan import Plan, ShardPlan, run_folder
from mms_regions.receipts import Receipt, labelled_shards, labels_decide, receipt_path
from mms_regions.store import read_windows, swap_labels, withdraw_labels, write_labels


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

    def done(self, written: Mapping[int, Receipt]) -> set[int]:
        """Which of these shards have labels of this model, made from the features that they have now."""
        return labelled_shards(self.store, self.folder, written, self.sha256)


def require_weights(model: InstalledModel) -> None:
    """Raise InputProblem, which says how to get them, where a model's weights are not here."""
    if model.weights is None:
        raise InputProblem(f"The weights of model {model.card.name} are not here. {model.card.how_to_get_weights}")


def start_labelling(store: Path, plan: Plan, model: InstalledModel, device: str) -> Labelling:
    """Labels go into the store, or beside it where it holds those of another model."""
    there = read_labelled(store)
    sha256 = str(model.card.weights_sha256)
    if there is None:
        write_labelled(store, Labelled(model.card))
    if there is None or there.sha256 == sha256:
        return Labelling(model, device, store, store)
    folder = _beside(store, sha256)
    if not folder.exists():
        _forget_labels(store, sha256)  # of an earlier time, when the store was of that model
    write_files(folder, labels_alone(plan, model.card))
    return Labelling(model, device, store, folder)


def finish_labelling(plan: Plan, labelling: Labelling) -> None:
    """Bring labels that were made beside the store into it; all of them are there."""
    if labelling.folder != labelling.store:
        withdraw_labels(labelling.store, plan)  # first, so that what is shown is never more than what is there
        write_labelled(labelling.store, Labelled(labelling.model.card, swapping=True))
        finish_swap(labelling.store, plan)


def finish_swap(store: Path, plan: Plan) -> None:
    """Go on with putting labels in the place of those of another model, if that was begun.

    Meanwhile the store says of no model that it holds its labels, and has none for those who open it.
    """
    now = read_labelled(store)
    if now is None or not now.swapping:
        return
    crash_point("labels-withdrawn")
    withdraw_labels(store, plan)
    swap_labels(store, _beside(store, now.sha256))
    write_labelled(store, Labelled(now.card))
    forget_other_labels(store, now.sha256)


def forget_other_labels(store: Path, sha256: str) -> None:
    """Take away what is left of labels of other models than this one, finished or given up."""
    for folder in run_folder(store).glob("relabel-*"):
        shutil.rmtree(folder)
    for path in (run_folder(store) / "receipts").glob("labels-*.json"):
        if not path.name.startswith(f"labels-{sha256[:12]}-"):
            path.unlink()


def _forget_labels(store: Path, sha256: str) -> None:
    for path in (run_folder(store) / "receipts").glob(f"labels-{sha256[:12]}-*.json"):
        path.unlink()


def _beside(store: Path, sha256: str) -> Path:
    return run_folder(store) / f"relabel-{sha256[:12]}"


def check_labelling(labelling: Labelling) -> str:
    """Refuse a device or a model that cannot be used before hours of preparing: what a worker tries first.

    Gives the device that it is going to use.
    """
    from mms_regions.label import choose_device

    device = choose_device(labelling.device)
    _network(labelling.model.folder, labelling.sha256)
    return device


def label_shards(labelling: Labelling, shards: Sequence[ShardPlan]) -> list[Receipt]:
    """Label every window of some shards, and write their labels: what a labelling worker does."""
    from mms_regions.label import choose_device, label_windows

    device = choose_device(labelling.device)
    network = _network(labelling.model.folder, labelling.sha256)
    made = []
    for shard in shards:
        features, withheld = read_windows(labelling.store, shard)
        prediction = label_windows(network, features, withheld, device)
        decides = _decide(labelling, shard)
        made.append(write_labels(labelling.store, labelling.folder, shard, prediction, decides))
    return made


def _decide(labelling: Labelling, shard: ShardPlan) -> dict[str, Any]:
    features = Receipt.read(receipt_path(labelling.store, "features", shard.number))
    if features is None:
        raise EnvironmentProblem(f"{labelling.store}: the receipt of shard {shard.number} is gone; run again")
    return labels_decide(labelling.sha256, features)


@lru_cache(maxsize=1)
def _network(folder: Path, sha256: str) -> Any:
    """The network in a model's folder, loaded once per worker; `sha256` tells a replaced one from the one before."""
    from mms_regions.model import load_model

    return load_model(read_model(folder))
