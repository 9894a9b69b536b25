"""How a run begins: the plan that its store is to have, and the store locked and cleared of what killed runs left."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mms_regions.core.catalogue import Catalogue
from mms_regions.core.errors import EnvironmentProblem, UsageProblem, sentence
from mms_regions.core.events import Segment
from mms_regions.core.files import is_full, remove, remove_tree
from mms_regions.core.lock import hold
from mms_regions.core.messages import Event, Observer, Remark
from mms_regions.core.settings import Settings
from mms_regions.core.stop import Stop
from mms_regions.model.card import InstalledModel
from mms_regions.run.todo import ALL, keys_to_redo, outstanding
from mms_regions.run.trace import FailureLogs, Trace, unreadable_lines
from mms_regions.store.estimate import space_needed
from mms_regions.store.index import empty_foreign
from mms_regions.store.paths import (
    labelled_path,
    left_by_killed,
    lock_path,
    plan_path,
    provenance_path,
    require_own_folders,
)
from mms_regions.store.plan import Plan, Versions, make_plan, read_plan, write_plan
from mms_regions.store.receipts import written_shards
from mms_regions.store.relabel import finish_swap
from mms_regions.store.shards import finish_repairs
from mms_regions.store.state import mend_state


@dataclass(frozen=True)
class RunRequest:
    """What is asked of a run: the segments of a catalogue in a store, made with settings, labelled by a model.

    segments: those that the store lacks are added to it. redo: segments that are made again though they are there, such
    as `A,B/mms4`, `changed` or `all`; nothing where there are none. remarks: what the user should know of the model.
    """

    catalogue: Catalogue
    segments: Sequence[Segment]
    store: Path
    settings: Settings
    model: InstalledModel
    redo: str = ""
    remarks: tuple[str, ...] = ()


def planned(request: RunRequest) -> Plan:
    """The plan that the store is to have, not written yet.

    Raises EnvironmentProblem where the store is not ours, or was made with other settings and not all of it is to be
    made again; UsageProblem where it has other events of these names, or numbers of another version.
    """
    plan, settings = read_plan(request.store), request.settings
    if plan is None:
        _refuse_foreign(request.store)
        return make_plan(request.catalogue, request.segments, settings.shard_samples, settings.result_settings())
    # A setting that the store does not know came later, with another version of the numbers.
    known = plan.result_settings
    same_settings = all(known.get(name, value) == value for name, value in settings.result_settings().items())
    if request.redo == ALL and not (same_settings and plan.takes_segments):
        plan = plan.renewed(settings.result_settings())
    elif not same_settings:
        raise EnvironmentProblem(_other_settings(request.store, plan, settings))
    plan = plan.grown(request.catalogue, request.segments)
    if not plan.takes_segments:
        _refuse_new_segments(request, plan)
    return plan


def _refuse_new_segments(request: RunRequest, plan: Plan) -> None:
    """Raise UsageProblem where segments would be computed in another way than those that are there."""
    store, convention = request.store, plan.result_settings["convention"]
    again = keys_to_redo(store, plan, request.settings, request.redo)
    if outstanding(plan, written_shards(store, plan), (), again).segments:
        raise UsageProblem(
            f"{store} has numbers of version {plan.versions.numbers} of the convention {convention}, and this version "
            f"of mms-regions computes version {Versions.current(plan.result_settings).numbers}, so no segment can be "
            f"added or recomputed; choose another --store, recompute all of it with --redo {ALL}, or label what it "
            "holds with `mms-regions label`"
        )


def _other_settings(store: Path, plan: Plan, settings: Settings) -> str:
    differs = ", ".join(
        f"{name} {plan.result_settings.get(name)!r} there and {value!r} here"
        for name, value in settings.result_settings().items()
        if plan.result_settings.get(name, value) != value
    )
    return (
        f"{store} was made with other settings ({differs}); choose another --store, or make all of it again with "
        f"--redo {ALL}"
    )


def _refuse_foreign(store: Path) -> None:
    """What lies where a new store is wanted is not ours to write into."""
    if store.exists() and not (store.is_dir() and not any(store.iterdir())):  # a device is not ours either
        raise EnvironmentProblem(
            f"{store} exists, but {plan_path(store)} does not: it is not a store of mms-regions, or has "
            "lost the folder beside it; choose another --store"
        )


@contextmanager
def locked(store: Path, command: str, stop: Stop, observe: Observer) -> Iterator[Observer]:
    """While no other process works on the store; what a killed one has left is brought in order first.

    Gives the observer of the run, which keeps its trace too. Raises lock.Held where another process has the store, and
    EnvironmentProblem where a disk is full.
    """
    require_own_folders(store)
    held = hold(lock_path(store), command, stop.lose_place, report=lambda text: observe(Remark(text)))
    with held, full_disk_explained(store), Trace(store) as trace:
        plan = read_plan(store)
        sweep(store)
        if plan is not None:
            write_plan(store, plan)  # what of its two copies is damaged
            for path in (labelled_path(store), provenance_path(store)):
                mend_state(path, plan.uuids)
            empty_foreign(store, plan)
            finish_repairs(store, plan)
            finish_swap(store, plan)
        if lines := unreadable_lines(store):
            silenced(observe)(Remark(lines))
        yield to_all(silenced(observe), trace, silenced(FailureLogs(store)))


def sweep(store: Path) -> None:
    """Take away what was being written, and what was for one run alone, when a process was killed."""
    for path in left_by_killed(store):
        if path.is_dir():
            remove_tree(path)
        else:
            remove(path)


@contextmanager
def full_disk_explained(store: Path) -> Iterator[None]:
    """An error of a full disk inside the block becomes an EnvironmentProblem that says how much space is needed."""
    try:
        yield
    except OSError as problem:
        if is_full(problem):
            raise cannot_be_written(store, read_plan(store), problem) from problem
        raise


def cannot_be_written(store: Path, plan: Plan | None, problem: OSError) -> EnvironmentProblem:
    """What cannot be written, why, and, of a full disk, how much space is needed."""
    if plan is None or not is_full(problem):
        return EnvironmentProblem(sentence(problem))
    missing = plan.n_shards - len(written_shards(store, plan))
    return EnvironmentProblem(
        f"{problem.filename or store} cannot be written: {problem.strerror or problem}; "
        f"{space_needed(store, plan, missing)} there, or choose another --store, and run again"
    )


def silenced(observe: Observer) -> Observer:
    """An observer whose output may fail: from the first error of the system on it hears nothing more.

    What is shown of a run is not worth the run: a terminal closes, a disk is full under a log.
    """
    failed = threading.Event()

    def notify(event: Event) -> None:
        if not failed.is_set():
            try:
                observe(event)
            except OSError:
                failed.set()

    return notify


def to_all(*observers: Observer) -> Observer:
    """One observer that hands each event to several, in order."""

    def notify(event: Event) -> None:
        for observe in observers:
            observe(event)

    return notify
