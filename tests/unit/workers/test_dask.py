"""A task of a cluster is done when its result is there, not when that was lost; who waits looks after the workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.workers.dask import STUCK, DaskFuture, DaskPool, Sentences


class Task:
    """A future of a cluster, which does what it is told."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], how: dict[str, Any]):
        self.function, self.arguments, self.how = function, arguments, how
        self.is_done, self.is_cancelled, self.lost_for, self.status = False, False, 0, "pending"
        self._callbacks: list[Callable[[Any], None]] = []

    def done(self) -> bool:
        return self.is_done

    def cancelled(self) -> bool:
        return self.is_cancelled

    def cancel(self) -> None:
        self.is_cancelled = True
        self.finish()

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
    """A client of a cluster on which nothing happens by itself; `running`: the tasks of each worker, by address."""

    status = "running"

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.running: dict[str, list[str]] = {"tls://one": [], "tls://two": []}

    def submit(self, function: Callable[..., Any], *arguments: Any, **how: Any) -> Task:
        self.tasks.append(Task(function, arguments, how))
        return self.tasks[-1]

    def processing(self) -> dict[str, list[str]]:
        return self.running


class Clock:
    """Time that passes when it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


SENTENCES = Sentences(limit=500.0, no_worker="no worker", no_scheduler="no scheduler")


class Attended(DaskPool):
    """Counts how often it is asked to look after its workers."""

    times = 0

    def attend(self) -> None:
        self.times += 1


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(client: Client, clock: Clock) -> DaskPool:
    return DaskPool(client, {"cpu": 2, "gpu": 2}, SENTENCES, clock=clock)


def wait(pool: DaskPool, clock: Clock, seconds: float) -> None:
    """Let time pass in small steps, as a run does that waits."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 3.0
        pool.attend()


def test_a_task_is_given_out_when_it_is_done(client: Client, pool: DaskPool) -> None:
    submitted = pool.submit(max, 1, 2)
    assert pool.next_within(0.01) is None
    client.tasks[0].finish()
    assert pool.next_within(0.01) is submitted
    assert (submitted.result(), pool.next_within(0.01)) == (2, None)


def test_a_task_whose_result_is_lost_is_given_out_when_it_is_made_again(client: Client, pool: DaskPool) -> None:
    submitted, task = pool.submit(max, 1, 2), client.tasks[0]
    task.finish()
    task.is_done = False  # its worker dies
    assert pool.next_within(0.01) is None
    task.finish()
    assert pool.next_within(0.01) is submitted


@pytest.mark.parametrize("ask", [DaskFuture.result, DaskFuture.exception])
def test_who_waits_for_a_lost_result_looks_after_the_workers(client: Client, ask: Callable[[Any], Any]) -> None:
    pool = Attended(client, {"cpu": 1, "gpu": 1}, SENTENCES)
    submitted = pool.submit(max, 1, 2)
    client.tasks[0].lost_for = 3
    assert ask(submitted) == (2 if ask is DaskFuture.result else None)
    assert pool.times == 3


def test_the_timeout_of_a_task_is_its_error_and_is_not_waited_for(client: Client, pool: DaskPool) -> None:
    def time_out() -> None:
        raise TimeoutError("no answer")

    submitted = pool.submit(time_out)
    client.tasks[0].status = "error"
    with pytest.raises(TimeoutError, match="no answer"):
        submitted.result()


def test_results_go_to_other_tasks_and_not_through_here(client: Client, pool: DaskPool) -> None:
    first = pool.submit(max, 1, 2)
    pool.submit(sum, [first, 3], first)
    assert client.tasks[1].arguments == ([client.tasks[0], 3], client.tasks[0])


def test_no_task_is_bound_to_a_worker_which_may_die(client: Client, pool: DaskPool) -> None:
    pool.submit(max, 1, 2)
    pool.submit(max, 1, 2, where="gpu")
    assert [{"workers", "allow_other_workers"} & set(task.how) for task in client.tasks] == [set(), set()]


def test_tasks_that_nobody_works_on_are_submitted_again_and_given_out_once(
    client: Client, pool: DaskPool, clock: Clock
) -> None:
    lost = pool.submit(max, 1, 2)
    waits_for_it = pool.submit(sum, [lost, 3])
    wait(pool, clock, STUCK)
    assert len(client.tasks) == 2
    wait(pool, clock, 9.0)
    again = client.tasks[2:]
    assert [task.is_cancelled for task in client.tasks] == [True, True, False, False]
    assert again[1].arguments == ([again[0], 3],)  # not the one that was left
    for task in again:
        task.finish()
    given_out = [pool.next_within(0.01) for _ in range(6)]
    assert [task for task in given_out if task] == [lost, waits_for_it]
    assert lost.result() == 2


def test_a_result_that_is_lost_and_not_made_again_is_submitted_again_with_what_needs_it(
    client: Client, pool: DaskPool, clock: Clock
) -> None:
    made = pool.submit(max, 1, 2)
    client.tasks[0].finish()
    assert pool.next_within(0.01) is made
    client.tasks[0].is_done = False  # its worker dies
    pool.submit(sum, [made, 3])
    wait(pool, clock, STUCK + 9.0)
    assert [task.function for task in client.tasks] == [max, sum, max, sum]
    assert client.tasks[3].arguments == ([client.tasks[2], 3],)


def test_tasks_that_are_not_started_the_second_time_either_are_an_error(pool: DaskPool, clock: Clock) -> None:
    pool.submit(max, 1, 2)
    with pytest.raises(EnvironmentProblem, match=r"^1 task was not started within 60 s although 2 workers are idle"):
        wait(pool, clock, 3 * STUCK)
    assert clock.now > 2 * STUCK


@pytest.mark.parametrize("running", [{"tls://one": ["a task"], "tls://two": []}, {}], ids=["one works", "no worker"])
def test_tasks_are_not_submitted_again_while_a_worker_works_or_none_is_there(
    client: Client, pool: DaskPool, clock: Clock, running: dict[str, list[str]]
) -> None:
    pool.submit(max, 1, 2)
    client.running = running
    wait(pool, clock, 3 * STUCK)
    assert len(client.tasks) == 1


def test_idle_workers_without_tasks_are_no_error(pool: DaskPool, clock: Clock) -> None:
    wait(pool, clock, 5 * STUCK)


def test_no_worker_for_too_long_is_an_error(client: Client, pool: DaskPool, clock: Clock) -> None:
    pool.submit(max, 1, 2)
    client.running = {}
    wait(pool, clock, SENTENCES.limit - 20)
    client.running = {"tls://three": []}
    wait(pool, clock, 20)
    client.running = {}
    with pytest.raises(EnvironmentProblem, match=r"^no worker$"):
        wait(pool, clock, 2 * SENTENCES.limit)
    assert clock.now > 2 * SENTENCES.limit - 20


def test_a_scheduler_that_is_gone_is_an_error(client: Client, pool: DaskPool, clock: Clock) -> None:
    pool.submit(max, 1, 2)
    client.tasks[0].cancel()  # as all are, by a client that loses its scheduler
    with pytest.raises(EnvironmentProblem, match=r"^no scheduler$"):
        pool.next_within(0.01)
    client.status = "connecting"
    with pytest.raises(EnvironmentProblem, match=r"^no scheduler$"):
        wait(pool, clock, 10)
