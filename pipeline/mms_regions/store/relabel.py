"""The labels of a store: which model makes them, where they go, and what a labelling worker does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mms_regions.core.errors import EnvironmentProblem, InputProblem
from mms_regions.core.files import remove, remove_tree
from mms_regions.core.types import Flags, Floats
from mms_regions.model.card import InstalledModel, read_model
from mms_regions.model.stability import sensitivity_of
from mms_regions.store.labels import Labelled, read_labelled, write_labelled
from mms_regions.store.layout import label_arrays, labels_alone, write_files
from mms_regions.store.plan import Plan, ShardPlan, run_folder
from mms_regions.store.receipts import Receipt, labelled_shards, labels_decide, receipt_path
from mms_regions.store.shards import read_windows, swap_labels, withdraw_labels, write_labels

if TYPE_CHECKING:
    from mms_regions.model.label import Prediction  # imports torch, which all others do without


@dataclass(frozen=True)
class Labelling:
    """Which model labels, on which device, and into which group: the store, or one beside it until all is there.

    device: auto, cpu or cuda, chosen by the worker that labels.
    """

    model: InstalledModel
    device: str
    store: Path
    folder: Path
    perturb: float = 0.0  # the fraction by which B0 and n0 are moved for `stability`; 0: there is none

    @property
    def labelled(self) -> Labelled:
        """What the store will be when all is there."""
        return Labelled(self.model.card, perturb=self.perturb)

    @property
    def sha256(self) -> str:
        return self.labelled.sha256

    def done(self, written: Mapping[int, Receipt]) -> Collection[int]:
        """Which of these shards have these labels, made from the features that they have now."""
        return labelled_shards(self.store, self.folder, written, self.sha256)


def require_weights(model: InstalledModel) -> None:
    """Raise InputProblem, which says how to get them, where a model's weights are not here."""
    if model.weights is None:
        raise InputProblem(f"The weights of model {model.card.name} are not here. {model.card.how_to_get_weights}")


def wanted_labels(store: Path, model: InstalledModel, perturb: float | None) -> Labelled:
    """What labels a store is to have; perturb: None where nobody says, so that it keeps what it has."""
    there = read_labelled(store)
    kept = there.perturb if there else 0.0
    return Labelled(model.card, perturb=kept if perturb is None else perturb)


def start_labelling(
    store: Path, plan: Plan, model: InstalledModel, device: str, perturb: float | None = None
) -> Labelling:
    """Labels go into the store, or beside it where it holds other ones: of another model, or another fraction."""
    there, wanted = read_labelled(store), wanted_labels(store, model, perturb)
    if there is None:
        write_labelled(store, wanted)
    if there is None or there.sha256 == wanted.sha256:
        return Labelling(model, device, store, store, wanted.perturb)
    folder = _beside(store, wanted.sha256)
    if not folder.exists():
        _forget_labels(store, wanted.sha256)  # of an earlier time, when the store had these
    write_files(folder, labels_alone(plan, wanted))
    return Labelling(model, device, store, folder, wanted.perturb)


def finish_labelling(plan: Plan, labelling: Labelling) -> None:
    """Bring labels that were made beside the store into it; all of them are there."""
    if labelling.folder != labelling.store:
        withdraw_labels(labelling.store, plan)  # first, so that what is shown is never more than what is there
        write_labelled(labelling.store, replace(labelling.labelled, swapping=True))
        finish_swap(labelling.store, plan)


def finish_swap(store: Path, plan: Plan) -> None:
    """Go on with putting labels in the place of those of another model, if that was begun.

    Meanwhile the store says of no model that it holds its labels, and has none for those who open it.
    """
    now = read_labelled(store)
    if now is None or not now.swapping:
        return
    withdraw_labels(store, plan)
    swap_labels(store, _beside(store, now.sha256), label_arrays(now))
    write_labelled(store, replace(now, swapping=False))
    forget_other_labels(store, now.sha256)


def forget_other_labels(store: Path, sha256: str) -> None:
    """Take away what is left of labels of other models than this one, finished or given up."""
    for folder in run_folder(store).glob("relabel-*"):
        remove_tree(folder)
    for path in (run_folder(store) / "receipts").glob("labels-*.json"):
        if not path.name.startswith(f"labels-{sha256[:12]}-"):
            remove(path)


def _forget_labels(store: Path, sha256: str) -> None:
    for path in (run_folder(store) / "receipts").glob(f"labels-{sha256[:12]}-*.json"):
        remove(path)


def _beside(store: Path, sha256: str) -> Path:
    return run_folder(store) / f"relabel-{sha256[:12]}"


def check_labelling(labelling: Labelling) -> str:
    """Refuse a device or a model that cannot be used before hours of preparing: what a worker tries first.

    Gives the device that it is going to use.
    """
    from mms_regions.model.label import choose_device

    device = choose_device(labelling.device)
    _network(labelling.model.folder, str(labelling.model.card.weights_sha256))
    return device


def label_shards(labelling: Labelling, shards: Sequence[ShardPlan]) -> list[Receipt]:
    """Label every window of some shards, and write their labels: what a labelling worker does."""
    from mms_regions.model.label import choose_device, label_windows

    device = choose_device(labelling.device)
    network = _network(labelling.model.folder, str(labelling.model.card.weights_sha256))
    label = partial(label_windows, network, device=device)
    return [made for batch in batches(shards, device) for made in _label_batch(labelling, batch, label)]


def batches(shards: Sequence[ShardPlan], device: str) -> list[Sequence[ShardPlan]]:
    """The shards whose windows are labelled at once: all on a GPU, which few keep idle; else one, to save memory."""
    return [shards] if device == "cuda" else [[shard] for shard in shards]


def _label_batch(
    labelling: Labelling, batch: Sequence[ShardPlan], label: Callable[[Floats, Flags], Prediction]
) -> Iterator[Receipt]:
    read = [read_windows(labelling.store, shard) for shard in batch]
    windows, withheld = (np.concatenate(parts) for parts in zip(*read, strict=True))
    whole = label(windows, withheld)
    first = 0
    for shard, (features, flags) in zip(batch, read, strict=True):
        some = slice(first, first + len(flags))
        prediction = replace(whole, label=whole.label[some], probability=whole.probability[some])
        sensitivity = None
        if labelling.perturb:
            begins = [max(slot.first, shard.begin) - shard.begin for slot in shard.slots]
            others = (begins, labelling.perturb, lambda *moved: label(*moved).label)
            sensitivity = sensitivity_of(prediction.label, features, flags, *others)
        yield write_labels(labelling.store, labelling.folder, shard, prediction, _decide(labelling, shard), sensitivity)
        first += len(flags)


def _decide(labelling: Labelling, shard: ShardPlan) -> dict[str, Any]:
    features = Receipt.read(receipt_path(labelling.store, "features", shard.number))
    if features is None:
        raise EnvironmentProblem(f"{labelling.store}: the receipt of shard {shard.number} is gone; run again")
    return labels_decide(labelling.sha256, features)


@lru_cache(maxsize=1)
def _network(folder: Path, sha256: str) -> Any:
    """The network in a model's folder, loaded once per worker; `sha256` tells a replaced one from the one before."""
    from mms_regions.model.weights import load_model

    return load_model(read_model(folder))
