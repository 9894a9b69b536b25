"""From a catalogue to a labelled store, and from one model's labels to another's: how runs begin and end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from mms_regions.archive.manifest import Manifest, read_manifest, write_manifest
from mms_regions.archive.products import has_files
from mms_regions.core.catalogue import Catalogue, Segment
from mms_regions.core.errors import EnvironmentProblem, SegmentProblem, UsageProblem
from mms_regions.core.files import is_full, remove, remove_tree
from mms_regions.core.lock import hold
from mms_regions.core.messages import Event, Observer, Remark, RunEnded, RunStarted, ShardWritten
from mms_regions.core.settings import Settings
from mms_regions.core.stop import Stop
from mms_regions.model.card import InstalledModel
from mms_regions.physics.conventions import convention
from mms_regions.run.inputs import Inputs, Ledger, obtain_files, open_inputs, refuse_no_files, require_data_dir
from mms_regions.run.loop import RunLoop
from mms_regions.run.provenance import now, this_run
from mms_regions.run.redo import ALL, CHANGED, keys_named, read_redo, write_redo
from mms_regions.run.tasks import check_labelling
from mms_regions.run.todo import Outstanding, outstanding
from mms_regions.run.trace import FailureLogs, Trace
from mms_regions.store.estimate import Free, Room, free_at, room_for, room_needed, shortage
from mms_regions.store.index import IndexUpdater, describe_store, empty_foreign
from mms_regions.store.labels import mend_copies, read_labelled, read_provenance, write_provenance
from mms_regions.store.paths import left_by_killed, lock_path, manifest_path, plan_path
from mms_regions.store.plan import Plan, make_plan, read_plan, require_plan, write_plan
from mms_regions.store.receipts import Record, labelled_shards, records_of, written_shards
from mms_regions.store.relabel import (
    Labelling,
    finish_labelling,
    finish_swap,
    forget_other_labels,
    require_weights,
    start_labelling,
    wanted_labels,
)
from mms_regions.store.shards import finish_repairs
from mms_regions.workers.pool import Pool, PoolFactory

_PATIENCE = 0.2  # s, how soon a wish to stop is seen
_SHOWN_WITHIN = 60.0  # s


@dataclass(frozen=True)
class Summary:
    """What a store holds after a run: keys of complete segments, and of failed ones with their reasons."""

    complete: tuple[str, ...]
    failed: Mapping[str, str]

    @classmethod
    def of(cls, records: Mapping[str, Record]) -> Summary:
        return cls(
            complete=tuple(key for key, record in records.items() if record.status == "complete"),
            failed={key: record.reason for key, record in records.items() if record.status == "failed"},
        )


@dataclass(frozen=True)
class _Run:
    """What all steps of a run share."""

    store: Path
    settings: Settings
    model: InstalledModel
    pool: PoolFactory
    observe: Observer
    stop: Stop


def run(
    catalogue: Catalogue,
    segments: Sequence[Segment],
    store: Path,
    settings: Settings,
    model: InstalledModel,
    pool: PoolFactory,
    observe: Observer,
    stop: Stop | None = None,
    redo: str = "",
) -> Summary:
    """Make what is missing of a store: features of all its segments, and their labels with `model`.

    segments: those that the store lacks are added to it. stop: what may ask the run to end. redo: segments that are
    made anew though they are there, such as `A,B/mms4`, `changed` or `all`.
    Raises UsageProblem where the store has other events of these names, EnvironmentProblem where it was made with
    other settings, from other files, is held by another run or cannot be written, Interrupted where it was stopped.
    """
    require_weights(model)
    require_data_dir(settings)
    inputs = cache(partial(open_inputs, settings))
    if _plan(catalogue, segments, store, settings, redo) != read_plan(store):
        refuse_no_files(segments, inputs())  # before anything is written
    with _alone("mms-regions run", _Run(store, settings, model, pool, observe, stop or Stop())) as this:
        plan = _plan(catalogue, segments, store, settings, redo)
        labelling = _create(this, plan)
        again = _to_redo(store, plan, settings, redo)
        written = written_shards(store, plan)
        todo = outstanding(plan, written, labelling.done(written), again)
        return _bring_up_to_date(this, todo, labelling, inputs)


@dataclass(frozen=True)
class PlannedRun:
    """What a run would make of a store, and the room that takes. without_files: segments to prepare and to fetch."""

    model: str
    segments: int
    to_prepare: int
    to_write: int
    to_label: int
    without_files: int
    needed: Room
    free: Free
    shortages: tuple[str, ...]


def plan_run(
    catalogue: Catalogue,
    segments: Sequence[Segment],
    store: Path,
    settings: Settings,
    model: InstalledModel,
    redo: str = "",
) -> PlannedRun:
    """What `run` would do; nothing is written, nothing is fetched. Raises what `run` refuses a store for."""
    data_dir, how = require_data_dir(settings), convention(settings)
    plan = _plan(catalogue, segments, store, settings, redo)
    written, labelled = written_shards(store, plan), read_labelled(store)
    sha256 = wanted_labels(store, model, settings.perturb).sha256
    done = labelled_shards(store, store, written, sha256) if labelled and labelled.sha256 == sha256 else {}
    todo = outstanding(plan, written, done, _asked(store, plan, settings, redo))
    new = sum(number not in written for number in todo.unwritten)
    needed, free = room_for(plan, new), free_at(store)
    return PlannedRun(
        model=settings.model,
        segments=len(plan.slots),
        to_prepare=len(todo.segments),
        to_write=len(todo.unwritten),
        to_label=len(todo.unlabelled) + len(todo.unwritten),
        without_files=sum(not has_files(s.segment, how.products, data_dir, how.margin) for s in todo.segments),
        needed=needed,
        free=free,
        shortages=tuple(shortage(needed, free)),
    )


def relabel(
    store: Path,
    model: InstalledModel,
    settings: Settings,
    pool: PoolFactory,
    observe: Observer,
    stop: Stop | None = None,
) -> Summary:
    """Label what a store holds with another model; readers see the old labels until all the new ones are there.

    Raises UsageProblem where there is no store, or one whose features are not all there; otherwise as `run`.
    """
    require_weights(model)
    require_plan(store)
    with _alone("mms-regions label", _Run(store, settings, model, pool, observe, stop or Stop())) as this:
        plan = require_plan(store)
        written = written_shards(store, plan)
        if len(written) < plan.n_shards:
            raise UsageProblem(f"{store} is not complete; finish it first with `mms-regions run --store {store}`")
        labelling = start_labelling(store, plan, model, settings.device, settings.perturb)
        describe_store(store, plan)
        done = labelling.done(written)
        unlabelled = [shard for shard in plan.shards if shard.number not in done]
        todo = Outstanding.of_labels(plan, unlabelled)
        return _bring_up_to_date(this, todo, labelling, partial(open_inputs, settings))


@contextmanager
def _alone(command: str, this: _Run) -> Iterator[_Run]:
    """While no other process works on the store; what a killed one has left is brought in order first."""
    store, told = this.store, this.observe
    held = hold(lock_path(store), command, this.stop.lose_place, told=lambda text: told(Remark(text)))
    with held, _full_disk_in_words(store), Trace(store) as trace:
        observe = _to_all(told, trace, FailureLogs(store))
        plan = read_plan(store)
        _sweep(store)
        if plan is not None:
            write_plan(store, plan)  # what of its two copies is damaged
            mend_copies(store)
            empty_foreign(store, plan)
            finish_repairs(store, plan)
            finish_swap(store, plan)
        yield _Run(store, this.settings, this.model, this.pool, observe, this.stop)


@contextmanager
def _full_disk_in_words(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if is_full(problem):
            raise _cannot_be_written(store, read_plan(store), problem) from problem
        raise


def _cannot_be_written(store: Path, plan: Plan | None, problem: OSError) -> EnvironmentProblem:
    """What cannot be written, why, and how much room is needed."""
    missing = plan.n_shards - len(written_shards(store, plan)) if plan else 0
    needed = room_needed(store, plan, missing) if plan else "make room"
    return EnvironmentProblem(
        f"{problem.filename or store} cannot be written: {problem.strerror or problem}; {needed} there, or choose "
        "another --store, and run again"
    )


def _to_all(*observers: Observer) -> Observer:
    def notify(event: Event) -> None:
        for observe in observers:
            observe(event)

    return notify


def _sweep(store: Path) -> None:
    """Take away what was being written, and what was for one run alone, when a process was killed."""
    for path in left_by_killed(store):
        if path.is_dir():
            remove_tree(path)
        else:
            remove(path)


def _plan(catalogue: Catalogue, segments: Sequence[Segment], store: Path, settings: Settings, redo: str) -> Plan:
    """The plan that the store is to have, not written yet; one that was made for something else is refused."""
    plan = read_plan(store)
    if plan is None:
        _refuse_foreign(store)
        return make_plan(catalogue, segments, settings.shard_samples, settings.result_settings())
    if dict(plan.deciding) != settings.result_settings():
        if redo != ALL:
            raise EnvironmentProblem(_other_settings(store, plan, settings))
        plan = plan.renewed(settings.result_settings())
    return plan.grown(catalogue, segments)


def _other_settings(store: Path, plan: Plan, settings: Settings) -> str:
    differs = ", ".join(
        f"{name} {plan.deciding.get(name)!r} there and {value!r} here"
        for name, value in settings.result_settings().items()
        if plan.deciding.get(name) != value
    )
    return (
        f"{store} was made with other settings ({differs}); choose another --store, or make all of it anew with "
        f"--redo {ALL}"
    )


def _refuse_foreign(store: Path) -> None:
    """What lies where a new store is wanted is not ours to write into."""
    if store.is_file() or (store.is_dir() and any(store.iterdir())):
        raise EnvironmentProblem(
            f"{store} exists, but {plan_path(store)} does not: it is not a store of mms-regions, or has "
            "lost the folder beside it; choose another --store"
        )


def _create(this: _Run, plan: Plan) -> Labelling:
    """Bring plan and arrays to disk, those of labels too: made, grown, or mended."""
    store = this.store
    try:
        write_plan(store, plan)
        empty_foreign(store, plan)
        labelling = start_labelling(store, plan, this.model, this.settings.device, this.settings.perturb)
        describe_store(store, plan)
    except OSError as problem:
        raise _cannot_be_written(store, plan, problem) from problem
    return labelling


def _to_redo(store: Path, plan: Plan, settings: Settings, asked: str) -> set[str]:
    """The keys that are to be made anew, kept for a run that goes on after this one was killed."""
    keys = _asked(store, plan, settings, asked)
    if asked:
        write_redo(store, asked, keys)
    return keys


def _asked(store: Path, plan: Plan, settings: Settings, asked: str) -> set[str]:
    """The keys that are to be made anew, as asked now, and as asked before a kill."""
    records = records_of(plan, written_shards(store, plan))
    changed = cache(partial(_changed, plan, records, settings))
    before, keys = read_redo(store)
    if asked and asked != before:
        keys |= keys_named(asked, plan, changed)
    if settings.manifest and (other := sorted(set(changed()) - keys)):
        raise EnvironmentProblem(
            f"{store}: {', '.join(other[:5])}{' and others' if len(other) > 5 else ''} were made from other files than "
            f"those of {settings.manifest}; choose another --store, or make them anew with --redo {CHANGED}"
        )
    return keys


def _changed(plan: Plan, records: Mapping[str, Record], settings: Settings) -> Collection[str]:
    """The complete segments that today's files, those of the manifest or of the data folder, would make otherwise."""
    done = {key: record for key, record in records.items() if record.status == "complete"}
    there = [(slot.segment, done[slot.segment.key]) for slot in plan.slots if slot.segment.key in done]
    if settings.manifest:
        pinned = read_manifest(settings.manifest)
        return [segment.key for segment, record in there if not _is_from(record, pinned)]
    offline = open_inputs(settings.model_copy(update={"offline": True}))
    return [segment.key for segment, record in there if _has_other_files(segment, record, offline)]


def _is_from(record: Record, pinned: Manifest) -> bool:
    known = [pinned.get(file.name) for file in record.inputs]
    return all(pin is not None and pin.sha256 == file.sha256 for pin, file in zip(known, record.inputs, strict=True))


def _has_other_files(segment: Segment, record: Record, inputs: Inputs) -> bool:
    try:
        pins = obtain_files(segment, inputs.near(segment))
    except SegmentProblem:
        return False  # files that are gone from a folder have not changed
    return {(pin.name, pin.sha256) for pin in pins} != {(file.name, file.sha256) for file in record.inputs}


def _bring_up_to_date(this: _Run, todo: Outstanding, labelling: Labelling, inputs: Callable[[], Inputs]) -> Summary:
    """Do what is outstanding, and bring labels, index and provenance up to date, also where it ends early."""
    store, plan = this.store, todo.plan
    if not todo:
        finish_labelling(plan, labelling)
        forget_other_labels(store, labelling.sha256)
        return Summary.of(describe_store(store, plan))
    runs = read_provenance(store)
    started = this_run(this.settings, this.model.card, "run" if todo.segments else "label", os.environ)
    write_provenance(store, [*runs, {**started, "ended": None, "outcome": ""}])
    try:
        _work_off(this, todo, labelling, inputs)
        _require_all(store, plan, labelling)
        finish_labelling(plan, labelling)
        forget_other_labels(store, labelling.sha256)
    except BaseException as problem:
        with suppress(OSError, EnvironmentProblem):  # what ended the run is told, not what came of it
            _end(this, plan, [*runs, {**started, "ended": now(), "outcome": str(problem) or type(problem).__name__}])
        raise
    summary = Summary.of(describe_store(store, plan))
    outcome = f"{len(summary.failed)} segments failed" if summary.failed else "complete"
    _end(this, plan, [*runs, {**started, "ended": now(), "outcome": outcome}])
    return summary


def _require_all(store: Path, plan: Plan, labelling: Labelling) -> None:
    """Raise EnvironmentProblem where something that was written is not there: a lost worker may have been at it.

    The file system of a network may show late what another node has written.
    """
    limit = time.monotonic() + _SHOWN_WITHIN
    while gone := sorted({shard.number for shard in plan.shards} - set(labelling.done(written_shards(store, plan)))):
        if time.monotonic() > limit:
            numbers = ", ".join(map(str, gone))
            raise EnvironmentProblem(f"{store}: shards {numbers} were written, but are not there; run again")
        time.sleep(_PATIENCE)


def _end(this: _Run, plan: Plan, runs: Sequence[Mapping[str, object]]) -> None:
    write_provenance(this.store, runs)
    describe_store(this.store, plan)
    this.observe(RunEnded(str(runs[-1]["outcome"])))


def _work_off(this: _Run, todo: Outstanding, labelling: Labelling, inputs: Callable[[], Inputs]) -> None:
    this.stop.check()
    if todo.segments:
        refuse_no_files([slot.segment for slot in todo.segments], inputs())
    showing = IndexUpdater(this.store, todo.plan)  # before there are workers to wait for it
    with this.pool(this.settings.workers) as workers:
        _check(workers, labelling, this)
        this.observe(RunStarted(len(todo.segments), len(todo.unwritten) + len(todo.unlabelled)))
        ledger = Ledger(inputs, workers, this.settings.transfers, this.observe)
        observe = _to_all(this.observe, partial(_forget_redone, this.store, todo), showing)
        try:
            RunLoop(todo, this.settings, labelling, workers, ledger, observe, this.stop).work_off()
        except BaseException:
            with suppress(OSError, EnvironmentProblem):  # the same
                _keep_manifests(this.store, todo.plan, ledger)
            raise
        _keep_manifests(this.store, todo.plan, ledger)
    _sweep(this.store)  # what lost workers were writing


def _check(workers: Pool, labelling: Labelling, this: _Run) -> None:
    """Wait for the first worker that labels, and refuse what it cannot use before hours of preparing."""
    if workers.about:
        this.observe(Remark(workers.about))
    checked = workers.submit(check_labelling, labelling, where="gpu")
    while workers.next_within(_PATIENCE) is None:
        this.stop.check()
        workers.attend()
    device = checked.result()
    if workers.labels_apart and labelling.device == "auto" and device == "cpu":
        this.observe(Remark("the workers of the pool gpu find no GPU that torch can use, and label on CPUs"))


def _forget_redone(store: Path, todo: Outstanding, event: Event) -> None:
    """A segment all of whose shards are written is not to be made anew any more."""
    if isinstance(event, ShardWritten):
        asked, keys = read_redo(store)
        if keys:
            write_redo(store, asked, keys & set(todo.wanted))


def _keep_manifests(store: Path, plan: Plan, ledger: Ledger) -> None:
    """Of the data folder and of the store."""
    ledger.write()
    _write_manifest(store, plan, ledger)


def _write_manifest(store: Path, plan: Plan, ledger: Ledger) -> None:
    """Keep beside the store which files exactly it was made from, those of a run that was killed too."""
    if not ledger.files:
        return
    path, known = manifest_path(store), ledger.inputs.terms.known
    records = records_of(plan, written_shards(store, plan)).values()
    inputs = {file.name: file.sha256 for record in records for file in record.inputs}
    earlier = [pin for name, sha256 in inputs.items() if (pin := known.get(name)) and pin.sha256 == sha256]
    before = read_manifest(path) if path.exists() else Manifest()
    write_manifest(path, before.merged([*earlier, *ledger.files.values()]))
