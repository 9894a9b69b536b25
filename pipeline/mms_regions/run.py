"""From a catalogue to a labelled store: one loop over tasks as they complete, bounded, that goes on where it stopped.

obtain(files of a segment) -> prepare(segment) -> write(shard) -> label(shards). Segments are prepared in order, so that
shards fill one after another; what is prepared stays on its worker until its shard is complete; labels start with the
first shard.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mms_regions import __version__
from mms_regions.arrays import WINDOW
from mms_regions.card import InstalledModel
from mms_regions.catalogue import Catalogue, Segment
from mms_regions.cluster import Future, Pool, PoolFactory
from mms_regions.errors import DamagedStore, EnvironmentProblem, MMSRegionsError, UsageProblem
from mms_regions.inputs import Inputs, Ledger, obtain_files, open_inputs, refuse_no_files, require_data_dir
from mms_regions.labelling import (
    Labelling,
    check_labelling,
    finish_labelling,
    label_shards,
    require_weights,
    start_labelling,
)
from mms_regions.manifest import Manifest, read_manifest, write_manifest
from mms_regions.observe import Observer, RunStarted, SegmentDone, ShardLabelled, ShardWritten
from mms_regions.plan import (
    Failed,
    Kept,
    Plan,
    ShardPlan,
    Slot,
    make_plan,
    read_plan,
    records_of,
    require_plan,
    run_folder,
    written_shards,
)
from mms_regions.prepare import prepare_segment
from mms_regions.settings import Settings
from mms_regions.store import add_provenance, create_store, is_created, write_features, write_index

_LABEL_FIRST, _WRITE_FIRST = 20, 10  # what lies nearer to the end of the line goes before
_LIBRARIES = ("dask", "distributed", "numpy", "pycdfpp", "torch", "xarray", "zarr")


@dataclass(frozen=True)
class Summary:
    """What a store holds after a run: keys of complete segments, and of failed ones with their reasons."""

    complete: tuple[str, ...]
    failed: Mapping[str, str]


@dataclass
class _Work:
    """What is still to be done, and what is under way; lives as long as one loop."""

    plan: Plan
    segments: deque[Slot]
    unwritten: dict[int, ShardPlan]
    unlabelled: deque[ShardPlan]
    inputs: Callable[[], Inputs]  # opened when first needed, for that may ask a server
    obtaining: dict[Future, Slot] = field(default_factory=dict)
    preparing: dict[Future, Slot] = field(default_factory=dict)
    prepared: dict[str, Future | Failed | Kept] = field(default_factory=dict)
    writing: dict[Future, ShardPlan] = field(default_factory=dict)
    labelling: dict[Future, list[ShardPlan]] = field(default_factory=dict)

    @property
    def under_way(self) -> bool:
        return bool(self.obtaining or self.preparing or self.writing or self.labelling)


def run(
    catalogue: Catalogue,
    segments: Sequence[Segment],
    store: Path,
    settings: Settings,
    model: InstalledModel,
    pool: PoolFactory,
    observe: Observer,
) -> Summary:
    """Make what is missing of a store: features of all segments, and their labels with `model`.

    Raises UsageProblem where the store was made for other segments, EnvironmentProblem where it was made with other
    settings or cannot be written.
    """
    require_weights(model)
    require_data_dir(settings)
    inputs = cache(partial(open_inputs, settings))
    if read_plan(store) is None:
        refuse_no_files(segments, inputs())  # before there is a store
    plan = _plan(catalogue, segments, store, settings)
    labelling = start_labelling(store, plan, model, settings.device)
    return _complete(_outstanding(plan, labelling, inputs), settings, labelling, pool, observe)


def relabel(store: Path, model: InstalledModel, settings: Settings, pool: PoolFactory, observe: Observer) -> Summary:
    """Label what a store holds with another model; readers see the old labels until all the new ones are there.

    Raises UsageProblem where there is no store, or one whose features are not all there.
    """
    require_weights(model)
    plan = require_plan(store)
    if len(written_shards(store, plan)) < plan.n_shards:
        raise UsageProblem(f"{store} is not complete; finish it first with `mms-regions run --store {store}`")
    labelling = start_labelling(store, plan, model, settings.device)
    unlabelled = deque(shard for shard in plan.shards if not labelling.done(shard))
    work = _Work(plan, deque(), {}, unlabelled, inputs=partial(open_inputs, settings))
    return _complete(work, settings, labelling, pool, observe)


def _complete(work: _Work, settings: Settings, labelling: Labelling, pool: PoolFactory, observe: Observer) -> Summary:
    """Do what is outstanding, and bring labels, index and provenance up to date."""
    started = datetime.now(UTC)
    outstanding = bool(work.unwritten or work.unlabelled)
    if outstanding:
        _work_off(work, settings, labelling, pool, observe)
    finish_labelling(work.plan, labelling)
    summary = _summary(labelling.store, work.plan)
    if outstanding:
        add_provenance(labelling.store, _provenance(settings, labelling, started))
    return summary


def _plan(catalogue: Catalogue, segments: Sequence[Segment], store: Path, settings: Settings) -> Plan:
    """The plan of the store, made if there is none; one that was made for something else is refused."""
    plan = read_plan(store)
    if plan is None:
        _refuse_foreign(store)
        plan = make_plan(catalogue, segments, settings.shard_samples, settings.deciding())
    elif dict(plan.deciding) != settings.deciding():
        differs = ", ".join(
            f"{name} {plan.deciding.get(name)!r} there and {value!r} here"
            for name, value in settings.deciding().items()
            if plan.deciding.get(name) != value
        )
        raise EnvironmentProblem(f"{store} was made with other settings ({differs}); choose another --store")
    elif [slot.segment for slot in plan.slots] != list(segments):
        raise UsageProblem(
            f"{store} was made for other segments ({len(plan.slots)} of {plan.catalogue}, first "
            f"{plan.slots[0].segment.key}); give the same selection or choose another --store"
        )
    _create(store, plan)
    return plan


def _refuse_foreign(store: Path) -> None:
    """What lies where a new store is wanted is not ours to write into."""
    if store.is_file() or (store.is_dir() and any(store.iterdir())):
        raise EnvironmentProblem(
            f"{store} exists, but {run_folder(store) / 'plan.json'} does not: it is not a store of mms-regions, or has "
            "lost the folder beside it; choose another --store"
        )


def _create(store: Path, plan: Plan) -> None:
    try:
        if not is_created(store, plan):
            create_store(store, plan)
    except OSError as problem:
        raise EnvironmentProblem(f"{store} cannot be written: {problem.strerror or problem}") from problem


def _outstanding(plan: Plan, labelling: Labelling, inputs: Callable[[], Inputs]) -> _Work:
    """What receipts do not show as done: shards without features or with failed segments, shards without labels.

    Of the shards that are written anew, segments that are complete in the store are kept and not prepared again.
    """
    written = written_shards(labelling.store, plan)
    unwritten = {s.number: s for s in plan.shards if s.number not in written or written[s.number].has_failures}
    kept = {key: Kept(record) for key, record in records_of(plan, written).items() if record.status == "complete"}
    slots = {s.index: s for shard in unwritten.values() for s in shard.slots if s.segment.key not in kept}
    unlabelled = deque(s for s in plan.shards if s.number not in unwritten and not labelling.done(s))
    return _Work(plan, deque(slots[i] for i in sorted(slots)), unwritten, unlabelled, inputs, prepared=dict(kept))


def _work_off(work: _Work, settings: Settings, labelling: Labelling, pool: PoolFactory, observe: Observer) -> None:
    if work.segments:
        refuse_no_files([slot.segment for slot in work.segments], work.inputs())
    with pool(settings.workers) as workers:
        workers.submit(check_labelling, labelling)
        workers.next_done().result()
        observe(RunStarted(len(work.segments), len(work.unwritten) + len(work.unlabelled)))
        ledger = Ledger(work.inputs, workers, settings.transfers, observe)
        try:
            _loop(work, settings, labelling, workers, observe, ledger)
        finally:
            ledger.write()
            _write_manifest(labelling.store, ledger)


def _loop(work: _Work, settings: Settings, labelling: Labelling, pool: Pool, observe: Observer, ledger: Ledger) -> None:
    while True:
        _submit_segments(work, settings, pool, ledger)
        _submit_labels(work, settings, labelling, pool)
        if not work.under_way:
            return
        done = pool.next_done()
        if done in work.obtaining:
            _note_obtained(work, done, settings, pool, ledger, observe)
            _submit_writes(work, labelling.store, pool)
        elif done in work.preparing:
            _note_prepared(work, done, observe)
            _submit_writes(work, labelling.store, pool)
        elif done in work.writing:
            _note_written(work, done, labelling, observe)
        else:
            shards = work.labelling.pop(done)
            _result(done, labelling.store)
            for shard in shards:
                observe(ShardLabelled(shard.number))


def _write_manifest(store: Path, ledger: Ledger) -> None:
    """Keep beside the store which files exactly it was made from."""
    path = run_folder(store) / "manifest.json"
    if ledger.files:
        before = read_manifest(path) if path.exists() else Manifest()
        write_manifest(path, before.merged(ledger.files.values()))


def _result(done: Future, store: Path) -> None:
    """Raise what a task that writes has raised; what the disk refuses is the machine's doing."""
    try:
        done.result()
    except OSError as problem:
        raise EnvironmentProblem(f"{store} cannot be written: {problem}; make room and run again") from problem
    except Exception as problem:
        if not _worker_died(problem):
            raise
        raise EnvironmentProblem(f"workers died while they wrote {store}; give them more memory, run again") from None


def _worker_died(error: BaseException) -> bool:
    return type(error).__name__ == "KilledWorker"  # distributed is imported only where a cluster is


def _submit_segments(work: _Work, settings: Settings, pool: Pool, ledger: Ledger) -> None:
    in_flight = pool.workers * settings.segments_in_flight
    while work.segments and len(work.obtaining) + len(work.preparing) < in_flight:
        slot = work.segments.popleft()
        inputs = ledger.inputs.near(slot.segment)
        work.obtaining[pool.submit_waiting(obtain_files, slot.segment, inputs)] = slot


def _note_obtained(
    work: _Work, done: Future, settings: Settings, pool: Pool, ledger: Ledger, observe: Observer
) -> None:
    """Go on to prepare a segment whose files are there; without them it has failed."""
    slot = work.obtaining.pop(done)
    error = done.exception()
    if isinstance(error, EnvironmentProblem):
        raise error
    if error is not None:
        _note_outcome(work, slot, error, observe)
        return
    pins = done.result()
    ledger.note(pins)
    work.preparing[pool.submit(prepare_segment, slot, pins, ledger.inputs.data_dir, settings)] = slot


def _note_prepared(work: _Work, done: Future, observe: Observer) -> None:
    """Keep a prepared segment where it lies."""
    slot = work.preparing.pop(done)
    _note_outcome(work, slot, done.exception() or done, observe)


def _note_outcome(work: _Work, slot: Slot, outcome: Future | BaseException, observe: Observer) -> None:
    """Keep what became of a segment; one that could not be made is kept as a reason."""
    key = slot.segment.key
    if isinstance(outcome, BaseException):
        reason = _reason(key, outcome)
        work.prepared[key] = Failed(key, reason)
        observe(SegmentDone(key, reason))
    else:
        work.prepared[key] = outcome
        observe(SegmentDone(key))


def _reason(key: str, error: BaseException) -> str:
    if isinstance(error, MMSRegionsError):
        return str(error)
    if _worker_died(error):
        return f"{key}: the worker processes that prepared it died, maybe for lack of memory or over a damaged file"
    return f"{key}: unexpected {type(error).__name__}: {error}"


def _submit_writes(work: _Work, store: Path, pool: Pool) -> None:
    """Write the shards of which every segment is there, and let go of segments that no other shard waits for."""
    ready = [
        shard for shard in work.unwritten.values() if all(slot.segment.key in work.prepared for slot in shard.slots)
    ]
    for shard in ready:
        outcomes = [work.prepared[slot.segment.key] for slot in shard.slots]
        work.writing[pool.submit(write_features, store, shard, outcomes, priority=_WRITE_FIRST)] = shard
        del work.unwritten[shard.number]
    wanted = {slot.segment.key for shard in work.unwritten.values() for slot in shard.slots}
    for key in [key for key in work.prepared if key not in wanted]:
        del work.prepared[key]


def _note_written(work: _Work, done: Future, labelling: Labelling, observe: Observer) -> None:
    """Go on to the labels of a written shard; one whose old files are damaged is prepared anew, all of it."""
    shard = work.writing.pop(done)
    try:
        _result(done, labelling.store)
    except DamagedStore:
        work.unwritten[shard.number] = shard
        for slot in shard.slots:
            work.prepared.pop(slot.segment.key, None)
        under_way = [*work.obtaining.values(), *work.preparing.values()]
        work.segments.extend(slot for slot in shard.slots if slot not in under_way)
        return
    observe(ShardWritten(shard.number))
    if labelling.done(shard):
        observe(ShardLabelled(shard.number))
    else:
        work.unlabelled.append(shard)


def _submit_labels(work: _Work, settings: Settings, labelling: Labelling, pool: Pool) -> None:
    at_once = max(1, settings.label_windows // (work.plan.shard_samples // WINDOW))
    while work.unlabelled and len(work.labelling) < pool.workers:
        shards = [work.unlabelled.popleft() for _ in range(min(at_once, len(work.unlabelled)))]
        work.labelling[pool.submit(label_shards, labelling, shards, priority=_LABEL_FIRST)] = shards


def _summary(store: Path, plan: Plan) -> Summary:
    """Bring the index up to date with the receipts, and say what it holds."""
    records = records_of(plan, written_shards(store, plan))
    write_index(store, plan, records)
    return Summary(
        complete=tuple(key for key, record in records.items() if record.status == "complete"),
        failed={key: record.reason for key, record in records.items() if record.status == "failed"},
    )


def _provenance(settings: Settings, labelling: Labelling, started: datetime) -> dict[str, Any]:
    return {
        "mms_regions": __version__,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "host": platform.node(),
        "machine": platform.machine(),
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"name": labelling.model.card.name, "weights_sha256": labelling.sha256},
        "settings": settings.model_dump(mode="json", exclude={"origin"}),
        "origins": dict(settings.origin),
    }
