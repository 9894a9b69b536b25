"""A task of a cluster is done when its result is there, not when that was lost; who waits looks after the workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import pytest

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.workers.pool import DaskFuture, DaskPool, InProcessPool, local_pool


class Task:
    """A future of a cluster, which does what it is told."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], workers: str | None):
        self.function, self.arguments, self.workers = function, arguments, workers
        self.is_done, self.lost_for = False, 0
        self._callbacks: list[Callable[[Any], None]] = []

    def done(self) -> bool:
        return self.is_done

    def cancelled(self) -> bool:
        return False

    def finish(self) -> None:
        self.is_done = True
        while self._callbacks:
            self._callbacks.pop()(self)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self.is_done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def result(self, timeout: float) -> Any:
        if self.lost_for:
            self.lost_for -= 1
            raise TimeoutError
        return self.function(*self.arguments)

    def exception(self, timeout: float) -> None:
        self.result(timeout)


class Client:
    """A client of a cluster on which nothing happens by itself."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def submit(self, function: Callable[..., Any], *arguments: Any, workers: str | None = None, **how: Any) -> Task:
        self.tasks.append(Task(function, arguments, workers))
        return self.tasks[-1]


class Attended(DaskPool):
    """Counts how often it is asked to look after its workers."""

    times = 0

    def attend(self) -> None:
        self.times += 1


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def pool(client: Client) -> Attended:
    return Attended(client, {"cpu": 1, "gpu": 1})


def test_a_task_is_given_out_when_it_is_done(client: Client, pool: Attended) -> None:
    submitted = pool.submit(max, 1, 2)
    assert pool.next_within(0.01) is None
    client.tasks[0].finish()
    assert pool.next_within(0.01) is submitted
    assert (submitted.result(), pool.next_within(0.01)) == (2, None)


def test_a_task_whose_result_is_lost_is_given_out_when_it_is_made_again(client: Client, pool: Attended) -> None:
    submitted, task = pool.submit(max, 1, 2), client.tasks[0]
    task.finish()
    task.is_done = False  # its worker dies
    assert pool.next_within(0.01) is None
    task.finish()
    assert pool.next_within(0.01) is submitted


@pytest.mark.parametrize("ask", [DaskFuture.result, DaskFuture.exception])
def test_who_waits_for_a_lost_result_looks_after_the_workers(
    client: Client, pool: Attended, ask: Callable[[Any], Any]
) -> None:
    submitted = pool.submit(max, 1, 2)
    client.tasks[0].lost_for = 3
    assert ask(submitted) == (2 if ask is DaskFuture.result else None)
    assert pool.times == 3


def test_results_go_to_other_tasks_and_not_through_here(client: Client, pool: Attended) -> None:
    first = pool.submit(max, 1, 2)
    pool.submit(sum, [first, 3], first)
    assert client.tasks[1].arguments == ([client.tasks[0], 3], client.tasks[0])


def test_what_labels_goes_to_the_first_worker_that_does_not_label_already(client: Client) -> None:
    pool = DaskPool(client, {"cpu": 2, "gpu": 2}, addresses=["one", "two"])
    pool.submit(max, 1, 2)
    for _ in range(3):
        pool.submit(max, 1, 2, where="gpu")
    client.tasks[1].finish()
    for _ in range(2):
        pool.submit(max, 1, 2, where="gpu")
    assert [task.workers for task in client.tasks] == [None, "one", "two", None, "one", None]


def test_in_one_process_results_of_tasks_are_arguments_too() -> None:
    pool = InProcessPool()
    first = pool.submit(max, 1, 2)
    assert pool.submit(sum, [first, first]).result() == 4


def test_workers_that_cannot_start_are_an_answer_and_not_waited_for() -> None:
    broken = dask.config.set({"distributed.worker.preload": ["no_such_module"]})
    told = pytest.raises(EnvironmentProblem, match=r"No module named 'no_such_module'.*--workers 0")
    with broken, told, local_pool(1):
        pass
