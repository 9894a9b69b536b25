"""How many workers label at once, and what becomes of segments whose workers die."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from plans import plan_of

from mms_regions.archive.fetch import FetchOptions
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.messages import Event, Remark, SegmentDone, ignore_messages
from mms_regions.core.settings import Settings
from mms_regions.core.stop import Stop
from mms_regions.model.card import find_model
from mms_regions.run.inputs import Inputs, Ledger
from mms_regions.run.loop import RunLoop
from mms_regions.run.tasks import write
from mms_regions.run.todo import Outstanding, outstanding
from mms_regions.store.labels import Labelled
from mms_regions.store.relabel import Labelling
from mms_regions.workers.pool import Finished, InProcessPool, Where


class Slow(InProcessPool):
    """Four workers whose tasks end one by one, when asked for, and make nothing; `most`: so many waited at once."""

    workers = MappingProxyType[Where, int]({"cpu": 4, "gpu": 4})
    most = 0

    def __init__(self, apart: bool):
        super().__init__()
        self.labels_apart = apart

    def submit(
        self, function: Callable[..., Any], *arguments: Any, priority: int = 0, where: Where = "cpu", near: Any = None
    ) -> Finished:
        self._done.append(Finished())
        self.most = max(self.most, len(self._done))
        return self._done[-1]


class KilledWorker(Exception):
    """As that of distributed: the workers that ran a task died, as often as they may."""


class Ending:
    """A task that ends as its pool decides."""

    error: BaseException | None = None

    def result(self) -> None:
        return None

    def exception(self) -> BaseException | None:
        return self.error


class Deadly(InProcessPool):
    """One worker; it dies, with all that waits for it, of `poison`. What is prepared of `lost` dies with it once.

    Nothing can be written: that ends the run.
    """

    workers = MappingProxyType[Where, int]({"cpu": 1, "gpu": 1})

    def __init__(self, poison: str = "", lost: int | None = None):
        super().__init__()
        self._poison, self._lost = poison, lost
        self.expected: list[Mapping[Where, int]] = []
        self._waiting: list[tuple[str, Ending]] = []

    def submit(
        self, function: Callable[..., Any], *arguments: Any, priority: int = 0, where: Where = "cpu", near: Any = None
    ) -> Any:
        task = Ending()
        self._waiting.append((arguments[0].subject, task))
        if function is write:
            task.error = EnvironmentProblem("no disk here")
            if self._lost is not None:
                task.error = arguments[-1][self._lost].error = KilledWorker()
                self._lost = None
        return task

    def expect(self, tasks: Mapping[Where, int]) -> None:
        self.expected.append(dict(tasks))

    def next_within(self, seconds: float) -> Any:
        if self._poison in [subject for subject, _ in self._waiting]:
            for _, task in self._waiting:
                task.error = KilledWorker()
        return self._waiting.pop(0)[1]


def outcomes_of(pool: Deadly, tmp_path: Path, attempts: int) -> list[tuple[str, bool]]:
    """The segments that ended, in order, and whether each was prepared, in a run of four of one shard."""
    plan, ended = plan_of([5.0] * 4, 1024), []

    def observe(event: Event) -> None:
        if isinstance(event, SegmentDone):
            ended.append((event.key.partition("/")[0], not event.reason))

    todo = outstanding(plan, {}, ())
    model = find_model("analytic-layer", {})
    labelling = Labelling(model, "cpu", tmp_path, tmp_path, Labelled(model.card))
    inputs = Inputs(FetchOptions((), 0.0, tmp_path), None)
    ledger = Ledger(lambda: inputs, pool, 1, ignore_messages)
    with pytest.raises(EnvironmentProblem, match="no disk here"):
        RunLoop(todo, Settings(attempts=attempts), labelling, pool, ledger, observe, Stop()).work_off()
    return ended


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_what_was_lost_with_a_worker_is_tried_alone_and_only_the_cause_fails(tmp_path: Path, attempts: int) -> None:
    ended = outcomes_of(Deadly(poison="E1/mms1"), tmp_path, attempts)
    assert sorted(ended) == [("E0", True), ("E1", False), ("E2", True), ("E3", True)]


def test_what_was_prepared_and_lost_is_prepared_again_before_its_shard_is_written(tmp_path: Path) -> None:
    ended = outcomes_of(Deadly(lost=2), tmp_path, 1)
    assert ended == [("E0", True), ("E1", True), ("E2", True), ("E3", True), ("E2", True)]


def test_a_pool_hears_how_many_tasks_can_still_run_at_once(tmp_path: Path) -> None:
    """Of four segments of one shard while the model is loaded, then of each, and of the write of the shard.

    What is tried again counts again.
    """
    healthy, dying = Deadly(), Deadly(poison="E3/mms1")
    outcomes_of(healthy, tmp_path, 1)
    assert healthy.expected == [{"cpu": left, "gpu": 1} for left in (4, 4, 3, 2, 1, 1)]
    outcomes_of(dying, tmp_path, 1)
    assert [tasks["cpu"] for tasks in dying.expected][-3:] == [2, 1, 1]


class Silent(Slow):
    """Nothing ends before `looks` looks, half a minute apart."""

    def __init__(self, looks: int):
        super().__init__(apart=False)
        self.now, self._until = 0.0, 30.0 * looks

    def next_within(self, seconds: float) -> Any:
        self.now += 30.0
        return None if self.now < self._until else super().next_within(seconds)


@pytest.mark.parametrize(
    ("looks", "said"), [(3, []), (5, ["2 min 00 s"]), (20, ["2 min 00 s", "4 min 00 s", "8 min 00 s"])]
)
def test_a_run_that_hears_nothing_says_what_is_under_way_more_and_more_seldom(
    looks: int, said: list[str], tmp_path: Path
) -> None:
    pool, plan, remarks = Silent(looks), plan_of([30.0] * 8, 1024), list[str]()

    def observe(event: Event) -> None:
        if isinstance(event, Remark):
            remarks.append(event.text)

    todo = Outstanding.of_labels(plan, plan.shards)
    model = find_model("analytic-layer", {})
    labelling = Labelling(model, "cpu", tmp_path, tmp_path, Labelled(model.card))
    ledger = Ledger(no_inputs, pool, 1, ignore_messages)
    RunLoop(todo, Settings(), labelling, pool, ledger, observe, Stop(), lambda: pool.now).work_off()
    named = "load analytic-layer, label shards 0 1 2 3 4 5 6 7"
    assert remarks == [f"no task has ended for {silent}; under way: {named}" for silent in said]


def no_inputs() -> Inputs:
    raise AssertionError("labels need none")


@pytest.mark.parametrize(
    ("apart", "shards", "at_once"),
    [(True, 3, 2), (True, 20, 4), (False, 3, 1), (False, 4, 2), (False, 20, 4)],
)
def test_workers_that_do_other_things_too_label_where_a_whole_task_is_there_for_each(
    apart: bool, shards: int, at_once: int, tmp_path: Path
) -> None:
    pool, plan = Slow(apart), plan_of([30.0] * shards, 1024)
    todo = Outstanding.of_labels(plan, plan.shards)
    model = find_model("analytic-layer", {})
    labelling = Labelling(model, "cpu", tmp_path, tmp_path, Labelled(model.card))
    ledger = Ledger(no_inputs, pool, 1, ignore_messages)
    settings = Settings(label_windows=64)  # two shards' worth
    RunLoop(todo, settings, labelling, pool, ledger, lambda event: None, Stop()).work_off()
    assert pool.most == at_once
    assert not todo.unlabelled
