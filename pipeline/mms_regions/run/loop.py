"""The loop of a run: it submits tasks, a bounded number at once, notes how they end, and tries again where that helps.

First a worker loads the model, while others prepare: what it cannot use ends the run before hours of preparing.
obtain(files of a segment) -> prepare(segment) -> write(shard) -> label(shards). Segments are prepared in order, so that
shards fill one after another; what is prepared stays on its worker until its shard is written; labels start with the
first shard. Where nothing can be transferred, the first two are one task: half as much for a scheduler to do.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mms_regions.archive.manifest import Pinned
from mms_regions.core.errors import DamagedStore, EnvironmentProblem, MMSRegionsError, SegmentProblem, sentence
from mms_regions.core.files import is_busy, is_full
from mms_regions.core.messages import (
    FilesChecked,
    Message,
    Notify,
    Observer,
    Remark,
    SegmentDone,
    SegmentStarted,
    ShardBegun,
    ShardLabelled,
    ShardWritten,
    Stopping,
    TaskLost,
    duration,
)
from mms_regions.core.outcomes import Cause, without_key
from mms_regions.core.settings import Settings
from mms_regions.core.stop import Stop
from mms_regions.core.types import WINDOW
from mms_regions.run.inputs import Inputs, Ledger
from mms_regions.run.tasks import Stage, Task, check_and_prepare, label, load, obtain, prepare, write
from mms_regions.run.todo import Outstanding, SegmentOutcome, subject
from mms_regions.store.estimate import space_needed
from mms_regions.store.plan import ShardPlan, Slot
from mms_regions.store.receipts import Failed, Receipt, Reused
from mms_regions.store.relabel import Labelling
from mms_regions.workers.pool import Future, Pool, Where, worker_died

_LABEL_FIRST, _WRITE_FIRST = 20, 10  # later stages go first
_PATIENCE = 0.2  # s, how soon a request to stop is seen
_SILENCE = 120.0  # s without a word of any task, until the run says so; twice as long until it says it again
_NAMED = 3  # tasks that it names then
_SAVING: tuple[Stage, ...] = ("write", "label")  # let these end, when a run is to stop


Work = Slot | ShardPlan | tuple[ShardPlan, ...]  # what a task is about


@dataclass(frozen=True)
class _Submitted:
    """A task that is under way."""

    task: Task
    work: Work


@dataclass
class RunLoop:
    """What the loop needs, and what it has under way; lives as long as one run."""

    todo: Outstanding
    settings: Settings
    labelling: Labelling
    pool: Pool
    ledger: Ledger
    observe: Observer
    stop: Stop
    clock: Callable[[], float] = time.monotonic
    _notify: Notify = field(init=False)
    _heard: float = field(init=False)
    _silence: float = _SILENCE
    _tasks: dict[Future, _Submitted] = field(default_factory=dict)
    _attempts: Counter[tuple[Stage, str]] = field(default_factory=Counter)
    _suspects: deque[Slot] = field(default_factory=deque)  # segments whose workers died: tried again when all is quiet
    _tried_alone: set[str] = field(default_factory=set)
    _loaded: Future | None = None
    _damaged: DamagedStore | None = None

    def __post_init__(self) -> None:
        self._notify = self.pool.notifier(self._hear)
        self._heard = self.clock()

    def _hear(self, event: Message) -> None:
        """What tasks report; also in another thread than that of the loop."""
        self._heard = self.clock()
        if isinstance(event, FilesChecked):
            self.ledger.note(Pinned(**pin) for pin in event.pins)
        else:
            self.observe(event)

    def work_off(self) -> None:
        """Do all there is to do. Raises what a run was stopped for, and EnvironmentProblem where the disk refuses."""
        self._loaded = self._submit("load", self.labelling.model.card.name, (), load, self.labelling)
        self._note_next(0.0)  # in this process it is done, and may have failed, before anything is prepared
        while not self.stop.asked:
            self._submit_segments()
            self._submit_labels()
            if not self._tasks:
                if self._damaged is not None:
                    raise self._damaged
                return
            self._note_next()
        self._wind_up()

    def _wind_up(self) -> None:
        """Begin nothing more, and wait for what is being written."""
        self.observe(Stopping(self.stop.why, self.settings.grace))
        while self.stop.left(self.settings.grace) > 0 and self._count(*_SAVING):
            self._note_next()
        self.stop.check()

    def _at_most(self) -> dict[Where, int]:
        """How many tasks of each kind can run at the same time from now on."""
        segments = len(self.todo.segments) + len(self._suspects) + self._count("fetch", "prepare")
        shards = len(self.todo.unwritten)
        unlabelled = shards + len(self.todo.unlabelled) + self._count("label")
        return {"cpu": max(segments, shards), "gpu": max(unlabelled, self._count("load"))}

    def _note_next(self, patience: float = _PATIENCE) -> None:
        self.pool.expect(self._at_most())
        self.pool.attend()
        done = self.pool.next_within(patience)
        if done is None:
            self._remark_silence()
        else:
            self._heard, self._silence = self.clock(), _SILENCE
            ended = self._tasks.pop(done)
            match ended.task.stage, ended.work:
                case "load", _:
                    self._note_loaded(done)
                case "fetch", Slot() as slot:
                    self._note_obtained(ended.task, slot, done)
                case "prepare", Slot() as slot:
                    self._note_prepared(ended.task, slot, done)
                case "write", ShardPlan() as shard:
                    self._note_written(ended.task, shard, done)
                case "label", tuple() as shards:
                    self._note_labelled(ended.task, shards, done)

    def _remark_silence(self) -> None:
        """Say what is under way where nothing is heard of it: a disk may hang, and workers may be stopped."""
        silent = self.clock() - self._heard
        if silent < self._silence:
            return
        self._silence *= 2
        tasks = [f"{submitted.task.stage} {submitted.task.subject}" for submitted in self._tasks.values()]
        more = f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
        named = ", ".join(tasks[:_NAMED])
        self.observe(Remark(f"no task has ended for {duration(silent)}; under way: {named}{more}"))

    def _submit(
        self, stage: Stage, name: str, work: Work, function: Callable[..., Any], *arguments: Any, priority: int = 0
    ) -> Future | None:
        """None where a run is to stop."""
        if self.stop.asked:
            return None
        task = self._task(stage, name)
        given = (function, task, self._notify, *arguments)
        near = None if self.pool.labels_apart or stage != "label" else self._loaded
        if stage == "fetch":
            future = self.pool.submit_waiting(*given)
        else:
            where: Where = "gpu" if stage in ("load", "label") else "cpu"
            future = self.pool.submit(*given, priority=priority, where=where, near=near)
        self._tasks[future] = _Submitted(task, work)
        return future

    def _task(self, stage: Stage, name: str) -> Task:
        self._attempts[stage, name] += 1
        return Task(stage, name, self._attempts[stage, name])

    def _count(self, *stages: Stage) -> int:
        return sum(submitted.task.stage in stages for submitted in self._tasks.values())

    def _submit_segments(self) -> None:
        in_flight = self.pool.workers["cpu"] * self.settings.segments_in_flight
        while self.todo.segments and not self.stop.asked and self._count("fetch", "prepare") < in_flight:
            self._submit_segment(self.todo.segments.popleft())
        if self._suspects and not self._tasks and not self.stop.asked:
            suspect = self._suspects.popleft()
            self._tried_alone.add(suspect.segment.key)
            self._submit_segment(suspect)

    def _submit_segment(self, slot: Slot) -> None:
        self.observe(SegmentStarted(slot.segment.key))
        inputs = self.ledger.inputs.near(slot.segment)
        if inputs.source is None:
            self._submit_check(slot, inputs)
        else:
            self._submit("fetch", slot.segment.key, slot, obtain, slot.segment, inputs)

    def _submit_check(self, slot: Slot, inputs: Inputs) -> None:
        """Look at the files that are there, and prepare the segment from them, in one go."""
        check, preparing = self._task("fetch", slot.segment.key), self._task("prepare", slot.segment.key)
        future = self.pool.submit(check_and_prepare, check, preparing, self._notify, slot, inputs, self.settings)
        self._tasks[future] = _Submitted(preparing, slot)

    def _submit_write(self, shard: ShardPlan) -> None:
        outcomes = self.todo.of(shard)
        if not all(isinstance(outcome, Failed | Reused) for outcome in outcomes):
            self.observe(ShardBegun(shard.number))
        store = self.labelling.store
        self._submit("write", subject([shard.number]), shard, write, store, shard, outcomes, priority=_WRITE_FIRST)

    def _submit_labels(self) -> None:
        times = 1 + (self.labelling.labelled.draws or 0)  # that each window may be labelled
        at_once = max(1, self.settings.label_windows // (self.todo.plan.shard_samples // WINDOW * times))
        waiting = self.todo.unlabelled
        while waiting and not self.stop.asked and self._count("label") < self._labellers(at_once):
            self._submit_label(tuple(waiting.popleft() for _ in range(min(at_once, len(waiting)))))

    def _labellers(self, at_once: int) -> int:
        """How many workers may label: all that do nothing else, or one and another for each task's worth that waits.

        A worker that labels for the first time imports torch, which takes as long and 200 MB. One has it already.
        """
        most = self.pool.workers["gpu"]
        return most if self.pool.labels_apart else min(most, 1 + len(self.todo.unlabelled) // at_once)

    def _submit_label(self, shards: tuple[ShardPlan, ...]) -> None:
        self._submit(
            "label",
            subject([shard.number for shard in shards]),
            shards,
            label,
            self.labelling,
            shards,
            priority=_LABEL_FIRST,
        )

    def _note_loaded(self, done: Future) -> None:
        """Go on, unless the model or the device cannot be used."""
        error = done.exception()
        if error is not None and worker_died(error):
            name = self.labelling.model.card.name
            raise EnvironmentProblem(
                f"workers died while they loaded the model {name}; give them more memory, run again"
            )
        if error is not None:
            raise error
        if self.pool.labels_apart and self.labelling.device == "auto" and done.result() == "cpu":
            self.observe(Remark("the workers of the pool gpu find no GPU that torch can use, and label on CPUs"))

    def _note_obtained(self, task: Task, slot: Slot, done: Future) -> None:
        """Go on to prepare a segment whose files are there; without them it has failed."""
        error = done.exception()
        if error is None:
            pins = done.result()
            self.ledger.note(pins)
            self._submit(
                "prepare", slot.segment.key, slot, prepare, slot, pins, self.ledger.inputs.data_dir, self.settings
            )
        else:
            self._note_failure(task, slot, error)

    def _note_prepared(self, task: Task, slot: Slot, done: Future) -> None:
        error = done.exception()
        if error is None:
            self._settle(slot.segment.key, done)
        else:
            self._note_failure(task, slot, error)

    def _note_failure(self, task: Task, slot: Slot, error: BaseException) -> None:
        """Try a segment again where that can help; else keep why it failed."""
        if isinstance(error, EnvironmentProblem):
            raise error
        key = slot.segment.key
        again = self._may_try_again(task, error)
        if self._is_suspect(key, error):
            self._suspects.append(slot)
        elif again and not worker_died(error):
            self.todo.segments.append(slot)
        else:
            self._settle(key, Failed(key, _reason(key, error), _cause(error)))

    def _is_suspect(self, key: str, error: BaseException) -> bool:
        """Whether its workers died, and maybe of another segment: one that is tried alone shows which it was."""
        return worker_died(error) and key not in self._tried_alone

    def _settle(self, key: str, outcome: SegmentOutcome) -> None:
        failed = outcome if isinstance(outcome, Failed) else None
        self.observe(SegmentDone(key, failed.reason, failed.no_data) if failed else SegmentDone(key))
        for shard in self.todo.settle(key, outcome):
            self._submit_write(shard)

    def _may_try_again(self, task: Task, error: BaseException) -> bool:
        """Whether that can help, and was not done too often."""
        if worker_died(error):
            self.observe(TaskLost(task.stage, task.subject, task.attempt))
        return task.attempt < self.settings.attempts and _another_try_helps(error)

    def _note_written(self, task: Task, shard: ShardPlan, done: Future) -> None:
        """Go on to the labels of a written shard; one whose old files are damaged is prepared again, all of it."""
        error = done.exception()
        if error is None:
            self.todo.written(shard)
            self.observe(ShardWritten(shard.number))
            self._note_unlabelled(shard, done.result())
        elif isinstance(error, DamagedStore):
            self.todo.put_back(shard)
        elif self._note_broken(shard):
            if not self.todo.waits(shard):
                self._submit_write(shard)
        elif self._may_try_again(task, error):
            self._submit_write(shard)
        else:
            raise self._of_the_disk(error)

    def _note_unlabelled(self, shard: ShardPlan, receipt: Receipt) -> None:
        if self.labelling.done(self.todo.plan, {shard.number: receipt}):
            self.observe(ShardLabelled(shard.number))
        else:
            self.todo.unlabelled.append(shard)

    def _note_broken(self, shard: ShardPlan) -> bool:
        """Segments that were prepared, were lost with their worker, and cannot be prepared again, have failed.

        Where that may be the fault of another one, they are tried again alone.
        """
        broken = False
        for slot, outcome in zip(shard.slots, self.todo.of(shard), strict=True):
            key, error = slot.segment.key, outcome.exception() if hasattr(outcome, "exception") else None
            broken |= error is not None
            if error is not None and self._is_suspect(key, error):
                self.todo.lose(key)
                self._suspects.append(slot)
            elif error is not None:
                self.todo.settled[key] = failed = Failed(key, _reason(key, error), _cause(error))
                self.observe(SegmentDone(key, failed.reason, failed.no_data))
        return broken

    def _note_labelled(self, task: Task, shards: Sequence[ShardPlan], done: Future) -> None:
        error = done.exception()
        if error is None:
            self._submit_labels()  # first: who observes brings the index up to date, and nobody need wait for that
            for shard in shards:
                self.observe(ShardLabelled(shard.number))
        elif isinstance(error, DamagedStore):
            self._note_damaged(shards, error)
        elif self._may_try_again(task, error):
            self._submit_label(tuple(shards))
        else:
            raise self._of_the_disk(error)

    def _note_damaged(self, shards: Sequence[ShardPlan], error: DamagedStore) -> None:
        """Label all shards but the one that cannot be read; what is wrong with it is raised when they are done."""
        if len(shards) == 1:
            self._damaged = error
            return
        for shard in shards:
            self._submit_label((shard,))

    def _of_the_disk(self, error: BaseException) -> BaseException:
        """What a failure to write is, in a sentence: the disk's refusal, or the death of workers, is the machine's."""
        store = self.labelling.store
        if isinstance(error, OSError) and not is_full(error):
            return EnvironmentProblem(sentence(error))
        if isinstance(error, OSError):
            needed = space_needed(store, self.todo.plan, len(self.todo.unwritten))
            return EnvironmentProblem(f"{store} cannot be written: {error.strerror or error}; {needed}; run again then")
        if worker_died(error):
            return EnvironmentProblem(f"workers died while they wrote {store}; give them more memory, run again")
        return error


def _another_try_helps(error: BaseException) -> bool:
    if isinstance(error, MMSRegionsError):
        return error.retry_helps
    return worker_died(error) or (isinstance(error, Exception) and is_busy(error))


def _cause(error: BaseException) -> Cause:
    if isinstance(error, SegmentProblem):
        return error.cause
    return Cause.WORKER if worker_died(error) else Cause.UNEXPECTED


def _reason(key: str, error: BaseException) -> str:
    if isinstance(error, MMSRegionsError):
        return without_key(str(error), key)
    if worker_died(error):
        return "the worker processes that prepared it died, maybe for lack of memory or over a damaged file"
    return f"unexpected {type(error).__name__}: {error}"
