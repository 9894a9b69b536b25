"""A pool of Dask workers, wherever they are: tasks are submitted, collected, and never waited for without a bound."""

from __future__ import annotations

import logging
import secrets
import time
from asyncio import CancelledError
from collections.abc import Callable, Collection, Mapping, Set
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any, get_args
from weakref import WeakKeyDictionary

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.messages import Message, Notify, Throttle, counted, plural
from mms_regions.workers.pool import Future, Where

_EVERY = 2.0  # s, from one look at the workers to the next
STUCK = 60.0  # s that tasks may wait while no worker does anything
ALLOWED_FAILURES = 10  # workers in batch jobs that a task may lose before it is held to be the reason


class DaskFuture:
    """A task on a Dask cluster. What it made may be lost with its worker, and is made again: then it is not done.

    Whoever waits for that looks after the workers meanwhile, for there may be none.
    """

    def __init__(self, start: Callable[[], Any], where: Where, attend: Callable[[], None]):
        self._start, self.where, self._attend = start, where, attend
        self.future = start()  # of distributed; another one after the task was submitted again

    @property
    def is_done(self) -> bool:
        return bool(self.future.done())

    def cancelled(self) -> bool:
        """Whether it will never be done, because its scheduler has gone."""
        return bool(self.future.cancelled())

    def submit_again(self) -> None:
        """Leave the attempt that nobody works on, and start another one."""
        abandoned, self.future = self.future, self._start()
        abandoned.cancel()

    def result(self) -> Any:
        return self._patiently(lambda: self.future.result(_EVERY))

    def exception(self) -> BaseException | None:
        error: BaseException | None = self._patiently(lambda: self.future.exception(_EVERY))
        return error

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        while True:
            try:
                return ask()
            except TimeoutError:
                if self.future.status == "error":  # the task's own, and not that of this wait
                    raise
                self._attend()


def _bare(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_bare(item) for item in argument]
    return argument.future if isinstance(argument, DaskFuture) else argument


@dataclass(frozen=True)
class Sentences:
    """What to say when there is no worker for `limit` seconds, and when the scheduler is gone."""

    limit: float
    no_worker: str
    no_scheduler: str = "The scheduler of the workers is gone; run again to go on"


class DaskPool:
    """Tasks run on the workers of a Dask client.

    resources: what binds a task to workers of a kind. No task is bound to one worker, which may die. clock: seconds.
    """

    labels_apart = False
    about = ""

    def __init__(
        self,
        client: Any,
        workers: Mapping[Where, int],
        sentences: Sentences,
        *,
        resources: Mapping[Where, Mapping[str, float]] = MappingProxyType({"cpu": {}, "gpu": {}}),
        clock: Callable[[], float] = time.monotonic,
    ):
        self.workers = workers
        self._client, self._sentences, self._resources, self._clock = client, sentences, resources, clock
        self._done: SimpleQueue[tuple[DaskFuture, Any]] = SimpleQueue()
        self._tasks: WeakKeyDictionary[DaskFuture, None] = WeakKeyDictionary()  # all in use, in the order of submission
        self._under_way: set[DaskFuture] = set()  # those that were not given out as done
        self._looked = self._idle_since = clock()
        self._present: dict[Where, float] = dict.fromkeys(("cpu", "gpu"), self._looked)
        self._submitted_again = False

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        priority: int = 0,
        where: Where = "cpu",
        near: Future | None = None,
    ) -> Future:
        given = (function, *arguments) if near is None else (_run_after, near, function, *arguments)

        def start() -> Any:
            bound: dict[str, Any] = {
                "resources": dict(self._resources[where]) or None,
                "priority": priority,
                "pure": False,
            }
            if near is not None:  # a group of its own: of a group of many tasks Dask forgets what they depend on
                bound["key"] = (f"{function.__name__}-{secrets.token_hex(16)}", 0)
            return self._client.submit(*map(_bare, given), **bound)

        task = DaskFuture(start, where, self.attend)
        self._tasks[task] = None
        self._under_way.add(task)
        self._note_when_done(task)
        return task

    def submit_waiting(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self.submit(_run_seceded, function, *arguments)

    def next_done(self) -> Future:
        while True:
            if (done := self.next_within(_EVERY)) is not None:
                return done
            self.attend()

    def next_within(self, seconds: float) -> Future | None:
        """Wait for the next task to end. Raises EnvironmentProblem where the scheduler is gone, and all tasks are."""
        with suppress(Empty):
            task, future = self._done.get(timeout=seconds)
            if task not in self._under_way or future is not task.future:
                return None  # an attempt that was left
            if task.cancelled():
                raise EnvironmentProblem(self._sentences.no_scheduler)
            if task.is_done:
                self._under_way.remove(task)
                return task
            self._note_when_done(task)
        return None

    def _note_when_done(self, task: DaskFuture) -> None:
        task.future.add_done_callback(lambda future: self._done.put((task, future)))

    def expect(self, tasks: Mapping[Where, int]) -> None:
        """These workers stay until the end."""

    def attend(self) -> None:
        """Look after the workers now and then: tasks that nobody works on are submitted again, once.

        Raises EnvironmentProblem where the scheduler is gone, there has been no worker for too long, or workers do
        nothing although there are tasks.
        """
        now = self._clock()
        if now - self._looked < min(_EVERY, self._sentences.limit):
            return
        self._looked = now
        running = self._running()
        wanted = {task.where for task in self._under_way if not task.is_done}
        present = self._kinds(running)
        self._watch_presence(now, wanted - present)
        if not wanted or any(running.values()):
            self._idle_since, self._submitted_again = now, False
        elif not wanted <= present:
            self._idle_since = now
        elif now - self._idle_since > STUCK:
            self._unstick(now, len(running))

    def _running(self) -> Mapping[str, Collection[str]]:
        """The tasks of each worker, by its address."""
        try:
            if self._client.status == "running":
                running: Mapping[str, Collection[str]] = self._client.processing()
                return running
        except (OSError, CancelledError):
            pass
        raise EnvironmentProblem(self._sentences.no_scheduler)

    def _kinds(self, addresses: Mapping[str, Any]) -> Set[Where]:
        """The kinds of which there is a worker."""
        return {"cpu", "gpu"} if addresses else set()

    def _watch_presence(self, now: float, absent: Set[Where]) -> None:
        for where in self._present:
            if where not in absent:
                self._present[where] = now
            elif now - self._present[where] > self._sentences.limit:
                raise EnvironmentProblem(self._why_absent(where))

    def _why_absent(self, where: Where) -> str:
        return self._sentences.no_worker

    def _unstick(self, now: float, workers: int) -> None:
        waiting = [task for task in list(self._tasks) if not task.is_done]
        if self._submitted_again:
            raise EnvironmentProblem(
                f"{counted(len(waiting), 'task')} {plural('was', len(waiting))} not started within {STUCK:g} s "
                f"although {counted(workers, 'worker')} {plural('is', workers)} idle, nor when submitted a second "
                "time; a worker that is short of memory takes none: give workers more memory, or choose fewer, and run "
                "again to go on"
            )
        for task in waiting:
            task.submit_again()
            self._note_when_done(task)
        self._idle_since, self._submitted_again = now, True

    def throttle(self, name: str, at_once: int) -> Throttle:
        return _Lease(name, at_once)

    def notifier(self, observe: Notify) -> Notify:
        kinds = {kind.__name__: kind for kind in get_args(Message)}
        topic = f"mms-regions-{secrets.token_hex(4)}"

        def receive(stamped: tuple[float, Mapping[str, Any]]) -> None:
            _, message = stamped
            observe(kinds[message["kind"]](**message["fields"]))

        self._client.subscribe_topic(topic, receive)
        return _ToClient(topic)


def _run_after(result: object, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function where the result of another one is: Dask gives a task to a worker that has what it depends on."""
    return function(*arguments)


def _run_seceded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function on a worker without holding one of its threads for tasks."""
    from distributed import secede

    # Where a run is interrupted, the scheduler that leases are given back to is gone: nobody needs to know of it.
    logging.getLogger("distributed.semaphore").setLevel(logging.CRITICAL + 1)
    secede()
    return function(*arguments)


@dataclass(frozen=True)
class _ToClient:
    """Sends an event from a worker to the client that submitted its task."""

    topic: str

    def __call__(self, event: Message) -> None:
        from distributed import get_worker

        get_worker().log_event(self.topic, {"kind": type(event).__name__, "fields": asdict(event)})


@dataclass(frozen=True)
class _Lease:
    """One of the leases of a semaphore of the cluster, each time it is called on a worker."""

    name: str
    at_once: int

    def __call__(self) -> AbstractContextManager[Any]:
        lease: AbstractContextManager[Any] = _semaphore(self.name, self.at_once)
        return lease


@lru_cache
def _semaphore(name: str, at_once: int) -> Any:
    """Once per worker: each that is made, and each that comes with a task, keeps a timer that never ends."""
    from distributed import Semaphore

    return Semaphore(max_leases=at_once, name=name)
