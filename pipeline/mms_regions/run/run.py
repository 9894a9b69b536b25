"""From a catalogue to a labelled store, and from one model's labels to another's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from pydantic import ValidationError

from mms_regions.archive.manifest import Manifest, Pinned, known_files, read_manifest, write_manifest
from mms_regions.core.errors import EnvironmentProblem, InputProblem, Interrupted, UsageProblem
from mms_regions.core.messages import Event, Observer, Remark, RunEnded, RunStarted, ShardWritten, counted
from mms_regions.core.settings import Settings
from mms_regions.core.stop import Stop
from mms_regions.model.card import InstalledModel
from mms_regions.model.coverage import Coverage
from mms_regions.run.begin import RunRequest, cannot_be_written, locked, planned, sweep, to_all
from mms_regions.run.inputs import Inputs, Ledger, open_inputs, refuse_no_files, require_data_dir
from mms_regions.run.loop import RunLoop
from mms_regions.run.provenance import now, this_run
from mms_regions.run.todo import Outstanding, keys_to_redo, outstanding, read_redo, write_redo
from mms_regions.store.index import IndexUpdater, describe_store, empty_foreign, known_records, shown_coverage
from mms_regions.store.labels import read_provenance, write_provenance
from mms_regions.store.paths import manifest_path, run_folder
from mms_regions.store.plan import Plan, read_plan, require_plan, write_plan
from mms_regions.store.receipts import InputFile, Record, records_of, written_shards
from mms_regions.store.relabel import (
    Labelling,
    finish_labelling,
    forget_other_labels,
    require_weights,
    start_labelling,
)
from mms_regions.workers.pool import Pool, PoolFactory, PoolRequest, Where
from mms_regions.workers.ports import LOG

_PATIENCE = 0.2  # s, how soon a request to stop is seen
_SHOWN_WITHIN = 60.0  # s


@dataclass(frozen=True)
class Summary:
    """What a store holds after a run: keys of complete segments, of failed ones with their reasons.

    synthetic: complete segments that were made from synthetic files, or from some that are. no_data: those that there
    is nothing to make from, with their reasons; they are not among the failed ones. coverage: by key, where it is
    known. doubts: by key, what does not fit B0 and n0. causes: by key, the codes of `core.outcomes.Cause` of those that
    have failed or have no data.
    """

    complete: tuple[str, ...]
    failed: Mapping[str, str]
    synthetic: tuple[str, ...] = ()
    no_data: Mapping[str, str] = field(default_factory=dict)
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    doubts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    causes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Mapping[str, Record], plan: Plan, coverage: Mapping[str, Coverage]) -> Summary:
        events = {slot.segment.key: slot.segment.event for slot in plan.slots}
        doubts = {key: record.doubts(events[key]) for key, record in records.items()}
        return cls(
            complete=tuple(key for key, record in records.items() if record.status == "complete"),
            failed=_reasons(records, "failed"),
            synthetic=tuple(
                key
                for key, record in records.items()
                if record.status == "complete" and record.origin in ("synthetic", "mixed")
            ),
            no_data=_reasons(records, "no_data"),
            coverage=coverage,
            doubts={key: found for key, found in doubts.items() if found},
            causes={key: record.cause for key, record in records.items() if record.status in ("failed", "no_data")},
        )


def run(request: RunRequest, pool: PoolFactory, observe: Observer, stop: Stop | None = None) -> Summary:
    """Make what is missing of a store: features of all its segments, and their labels.

    pool: opens the workers. observe: gets the events of the run. stop: what may ask the run to end.
    Raises UsageProblem where the store has other events of these names, EnvironmentProblem where it was made with
    other settings, from other files, is held by another run or cannot be written, Interrupted where it was stopped.
    """
    store, settings = request.store, request.settings
    for remark in request.remarks:
        observe(Remark(remark))
    stop, inputs = stop or Stop(), cache(partial(open_inputs, settings))
    require_weights(request.model)
    require_data_dir(settings)
    if planned(request) != read_plan(store):
        refuse_no_files(request.segments, inputs())  # before anything is written
    with locked(store, "mms-regions run", stop, observe) as observe_all:
        plan = planned(request)
        labelling = _create(request, plan)
        again = keys_to_redo(store, plan, settings, request.redo)
        if request.redo:
            write_redo(store, plan.uuid, request.redo, again)  # for a run that goes on after this one was killed
        written = written_shards(store, plan)
        todo = outstanding(plan, written, labelling.done(plan, written), again)
        return _Work(settings, todo, labelling, pool, inputs, observe_all, stop).do()


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
    stop, inputs = stop or Stop(), partial(open_inputs, settings)
    with locked(store, "mms-regions label", stop, observe) as observe_all:
        plan = require_plan(store)
        written = written_shards(store, plan)
        if len(written) < plan.n_shards:
            raise UsageProblem(f"{store} is not complete; finish it first with `mms-regions run --store {store}`")
        labelling = start_labelling(store, plan, model, settings)
        describe_store(store, plan)
        done = labelling.done(plan, written)
        todo = Outstanding.of_labels(plan, [shard for shard in plan.shards if shard.number not in done])
        return _Work(settings, todo, labelling, pool, inputs, observe_all, stop).do()


def _create(request: RunRequest, plan: Plan) -> Labelling:
    """Bring plan and arrays to disk, those of labels too: made, grown, or mended."""
    store, settings = request.store, request.settings
    try:
        write_plan(store, plan)
        empty_foreign(store, plan)
        labelling = start_labelling(store, plan, request.model, settings)
        describe_store(store, plan)
    except OSError as problem:
        raise cannot_be_written(store, plan, problem) from problem
    return labelling


@dataclass(frozen=True)
class _Work:
    """What is to be done of a store, with what, and who observes it; inputs are opened when they are first needed."""

    settings: Settings
    todo: Outstanding
    labelling: Labelling
    pool: PoolFactory
    inputs: Callable[[], Inputs]
    observe: Observer
    stop: Stop

    @property
    def store(self) -> Path:
        return self.labelling.store

    @property
    def plan(self) -> Plan:
        return self.todo.plan

    def do(self) -> Summary:
        """Do what is outstanding, and bring labels, index and provenance up to date, also where it ends early."""
        if not self.todo:
            self._finish_labels()
            self._mend_manifest()
            describe_store(self.store, self.plan)
            return self._summary()
        runs = read_provenance(self.store)
        command = "run" if self.todo.segments else "label"
        started = this_run(self.settings, self.labelling.model.card, command, os.environ)
        write_provenance(self.store, self.plan.uuid, [*runs, {**started, "ended": None, "outcome": ""}])
        try:
            self._work_off()
            self._require_all()
            self._finish_labels()
        except BaseException as problem:
            outcome = str(problem) or type(problem).__name__
            with suppress(OSError, EnvironmentProblem):  # what ended the run is reported, not what came of it
                self._end([*runs, {**started, "ended": now(), "outcome": outcome}])
            raise
        summary = self._summary()
        self._end([*runs, {**started, "ended": now(), "outcome": _outcome(summary)}])
        return summary

    def _summary(self) -> Summary:
        return Summary.of(known_records(self.store, self.plan), self.plan, shown_coverage(self.store, self.plan))

    def _work_off(self) -> None:
        self.stop.check()
        if self.todo.segments:
            refuse_no_files([slot.segment for slot in self.todo.segments], self.inputs())
        unlabelled = len(self.todo.unwritten) + len(self.todo.unlabelled)
        index = IndexUpdater(self.store, self.plan, unlabelled)  # before there are workers to wait for it
        try:
            self._use_workers(index)
        except Interrupted:
            sweep(self.store)  # what workers that were ended at once were writing
            raise
        sweep(self.store)  # what lost workers were writing

    def _use_workers(self, index: IndexUpdater) -> None:
        request = self._pool_request()
        if request.workers:
            self.observe(Remark("starting workers"))  # which takes seconds, in a queue hours
        with self.pool(request) as workers:
            self._await_worker(workers)
            self.observe(RunStarted(len(self.todo.segments), len(self.todo.unwritten) + len(self.todo.unlabelled)))
            ledger = Ledger(self.inputs, workers, self.settings.transfers, self.observe)
            observe = to_all(self.observe, self._forget_redone, index)
            try:
                RunLoop(self.todo, self.settings, self.labelling, workers, ledger, observe, self.stop).work_off()
            except BaseException:
                with suppress(OSError, EnvironmentProblem):  # the same
                    self._keep_manifests(ledger)
                raise
            self._keep_manifests(ledger)

    def _await_worker(self, workers: Pool) -> None:
        """Wait for the first one, which may be in a queue: the rate of a run counts from there."""
        if workers.about:
            self.observe(Remark(workers.about))
        workers.submit(os.getpid, where="cpu" if self.todo.unwritten else "gpu")
        while workers.next_within(_PATIENCE) is None:
            self.stop.check()
            workers.attend()

    def _pool_request(self) -> PoolRequest:
        """The workers that there is work for: each segment, and each shard, is a task at most."""
        todo = self.todo
        tasks: dict[Where, int] = {
            "cpu": max(len(todo.segments), len(todo.unwritten)),
            "gpu": len(todo.unwritten) + len(todo.unlabelled),
        }
        return PoolRequest(
            workers=self.settings.processes(max(tasks.values())),
            tasks=tasks,
            imports=(RunLoop.__module__,),
            log=run_folder(self.store) / LOG,
        )

    def _require_all(self) -> None:
        """Raise EnvironmentProblem where something that was written is not there: a lost worker may have been at it.

        The file system of a network may show late what another node has written.
        """
        limit = time.monotonic() + _SHOWN_WITHIN
        numbers = {shard.number for shard in self.plan.shards}
        while gone := sorted(numbers - set(self.labelling.done(self.plan, written_shards(self.store, self.plan)))):
            if time.monotonic() > limit:
                shards = ", ".join(map(str, gone))
                raise EnvironmentProblem(f"{self.store}: shards {shards} were written, but are not there; run again")
            time.sleep(_PATIENCE)

    def _finish_labels(self) -> None:
        finish_labelling(self.plan, self.labelling)
        forget_other_labels(self.store, self.labelling.sha256)

    def _end(self, runs: Sequence[Mapping[str, object]]) -> None:
        write_provenance(self.store, self.plan.uuid, runs)
        describe_store(self.store, self.plan)
        self.observe(RunEnded(str(runs[-1]["outcome"])))

    def _forget_redone(self, event: Event) -> None:
        """A segment all of whose shards are written is not to be made again any more."""
        if isinstance(event, ShardWritten):
            asked, keys = read_redo(self.store, self.plan)
            if keys:
                write_redo(self.store, self.plan.uuid, asked, keys & set(self.todo.wanted))

    def _keep_manifests(self, ledger: Ledger) -> None:
        """Of the data folder, and beside the store which files exactly it was made from, also by killed runs."""
        ledger.write()
        if not ledger.files:
            return
        path, earlier = manifest_path(self.store), self._recorded(ledger.inputs.terms.known)
        write_manifest(path, (self._manifest() or Manifest()).merged([*earlier, *ledger.files.values()]))

    def _mend_manifest(self) -> None:
        """Make a manifest beside the store again that is damaged or gone."""
        if self._manifest() is None:
            known = known_files(self.settings.data_dir) if self.settings.data_dir else Manifest()
            if files := self._recorded(known):
                write_manifest(manifest_path(self.store), Manifest().merged(files))

    def _manifest(self) -> Manifest | None:
        """What earlier runs have kept; None where that is damaged or not there."""
        path = manifest_path(self.store)
        try:
            return read_manifest(path) if path.exists() else None
        except InputProblem as problem:
            self.observe(Remark(f"{problem} It is made again from the receipts of the store."))
            return None

    def _recorded(self, known: Manifest) -> list[Pinned]:
        """The files that complete segments were made from, and, of those that a cache knows, where they came from."""
        records = records_of(self.plan, written_shards(self.store, self.plan)).values()
        pins = []
        for file in {file.name: file for record in records for file in record.inputs}.values():
            with suppress(ValidationError):  # a store of somebody else may name anything
                pins.append(_pin(file, known))
        return pins


def _pin(file: InputFile, known: Manifest) -> Pinned:
    pin = known.get(file.name)
    if pin is not None and pin.sha256 == file.sha256:
        return pin
    origin = "" if file.origin == "unknown" else file.origin
    seen = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return Pinned(
        name=file.name,
        version=file.version,
        size=file.size,
        sha256=file.sha256,
        source="cache",
        fetched=seen,
        origin=origin,
        checks=file.checks,
    )


def _reasons(records: Mapping[str, Record], status: str) -> dict[str, str]:
    """By key, why the segments of this status have no samples."""
    return {key: record.reason for key, record in records.items() if record.status == status}


def _outcome(summary: Summary) -> str:
    n, without = len(summary.failed), len(summary.no_data)
    parts = [f"{counted(n, 'segment')} failed"] if n else []
    parts += [f"{counted(without, 'segment')} without data"] if without else []
    return ", ".join(parts) or "complete"
