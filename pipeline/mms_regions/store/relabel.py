"""Which model makes the labels of a store, where they go, and how they take the place of other ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from mms_regions.core.errors import InputProblem
from mms_regions.core.files import remove, remove_tree
from mms_regions.core.settings import Settings
from mms_regions.model.card import AUTO, OPEN, PUBLISHED, InstalledModel, find_model, wanted_name
from mms_regions.store.index import describe_without_labels
from mms_regions.store.labels import Labelled, read_labelled, write_labelled
from mms_regions.store.layout import label_arrays, labels_alone, write_files
from mms_regions.store.paths import label_receipts, relabel_folder, unfinished_folders
from mms_regions.store.plan import Plan
from mms_regions.store.receipts import Receipt, labelled_shards
from mms_regions.store.shards import swap_labels

_OPEN_CHOSEN = (
    f"labels are made with the model {OPEN}, for the weights of {PUBLISHED} are not installed (--model names another)"
)
DRAWS = 16  # of B0 and n0, where their errors are known and nobody says how many
_T = TypeVar("_T", int, float)


@dataclass(frozen=True)
class Labelling:
    """Which model labels, on which device, and into which group: the store, or one beside it until all is there.

    device: auto, cpu or cuda, chosen by the worker that labels.
    """

    model: InstalledModel
    device: str
    store: Path
    folder: Path
    labelled: Labelled  # what the store will be when all is there

    @property
    def sha256(self) -> str:
        return self.labelled.sha256

    def done(self, plan: Plan, written: Mapping[int, Receipt]) -> Collection[int]:
        """Which of these shards have these labels, made from the features that they have now."""
        return labelled_shards(self.store, self.folder, plan, written, self.labelled)


@dataclass(frozen=True)
class ChosenModel:
    """The model that a run labels with, the settings that name it, and what the user should know of the choice."""

    model: InstalledModel
    settings: Settings
    remarks: tuple[str, ...] = ()


def choose_model(settings: Settings, store: Path, environ: Mapping[str, str]) -> ChosenModel:
    """The model of the settings. Where they say `auto` it is that of the store; a store without labels gets the
    default: waters2025 for the convention published, and otherwise where its weights are installed, else open.

    Raises InputProblem where there is no such model, or the store's is not installed with the same weights.
    """
    if settings.model != AUTO:
        model = find_model(settings.model, environ)
        return ChosenModel(model, settings, _unsuited(model, settings))
    there = read_labelled(store)
    if there:
        model = find_model(there.card.name, environ)
        if model.card.weights_sha256 != there.card.weights_sha256:
            raise InputProblem(
                f"{store} has labels of the model {there.card.name} with other weights than those installed; name a "
                "--model to label it again"
            )
        remarks: tuple[str, ...] = ()
    else:
        model = find_model(wanted_name(AUTO, settings.convention), environ)
        remarks = (_OPEN_CHOSEN,) if model.card.name == OPEN else ()
    named = settings.model_copy(update={"model": model.card.name})
    return ChosenModel(model, named, remarks + _unsuited(model, settings))


def _unsuited(model: InstalledModel, settings: Settings) -> tuple[str, ...]:
    """A remark where a model was trained on features of the other convention."""
    trained = model.card.convention
    if trained in ("", settings.convention):
        return ()
    return (
        f"the model {model.card.name} was trained on features of the convention {trained}, and this run uses "
        f"{settings.convention}: its labels are not what its card says",
    )


def require_weights(model: InstalledModel) -> None:
    """Raise InputProblem, which says how to get them, where a model's weights are not here."""
    if model.weights is None:
        raise InputProblem(f"The weights of model {model.card.name} are not here. {model.card.how_to_get_weights}")


def wanted_labels(store: Path, plan: Plan, model: InstalledModel, settings: Settings) -> Labelled:
    """What labels a store is to have: what settings do not say is as it has it, or as the default is."""
    there = read_labelled(store) or Labelled(model.card)
    wanted = Labelled(model.card, perturb=_first(settings.perturb, there.perturb))
    if not plan.has_scale_errors:
        return wanted
    return replace(wanted, draws=_first(settings.draws, there.draws, DRAWS), seed=_first(settings.seed, there.seed))


def _first(*values: _T | None) -> _T:
    """The first that is there."""
    return next(value for value in values if value is not None)


def start_labelling(store: Path, plan: Plan, model: InstalledModel, settings: Settings) -> Labelling:
    """Labels go into the store, or beside it where it holds other ones: of another model, fraction or draws."""
    there, wanted = read_labelled(store), wanted_labels(store, plan, model, settings)
    begun = Labelling(model, settings.device, store, store, wanted)
    if there is None or there.sha256 == wanted.sha256:
        if there is None or there.draws != wanted.draws:  # also where none are wanted, so that it stays so
            write_labelled(store, plan.uuid, wanted)
        return begun
    folder = relabel_folder(store, wanted.sha256)
    if not folder.exists():
        for path in label_receipts(store, wanted.sha256):  # of an earlier time, when the store had these
            remove(path)
    write_files(folder, labels_alone(plan, wanted))
    return replace(begun, folder=folder)


def finish_labelling(plan: Plan, labelling: Labelling) -> None:
    """Bring labels that were made beside the store into it; all of them are there."""
    if labelling.folder != labelling.store:
        describe_without_labels(labelling.store, plan)  # first, so that what is shown is never more than what is there
        write_labelled(labelling.store, plan.uuid, replace(labelling.labelled, swapping=True))
        finish_swap(labelling.store, plan)


def finish_swap(store: Path, plan: Plan) -> None:
    """Go on with putting labels in the place of those of another model, if that was begun.

    Meanwhile the store says of no model that it holds its labels, and has none for those who open it.
    """
    now = read_labelled(store)
    if now is None or not now.swapping:
        return
    describe_without_labels(store, plan)
    swap_labels(store, relabel_folder(store, now.sha256), label_arrays(now))
    write_labelled(store, plan.uuid, replace(now, swapping=False))
    forget_other_labels(store, now.sha256)


def forget_other_labels(store: Path, sha256: str) -> None:
    """Take away what is left of labels of other models than this one, finished or given up."""
    for folder in unfinished_folders(store, "relabel"):
        remove_tree(folder)
    for path in {*label_receipts(store)} - {*label_receipts(store, sha256)}:
        remove(path)
