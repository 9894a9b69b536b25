"""What a run asks of the place where its tasks run, and the simplest such place: this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

from mms_regions.core.messages import Notify, Throttle

Where = Literal["cpu", "gpu"]  # kinds of workers: those that prepare and write, and those that label


class Future(Protocol):
    """A task that was submitted; hashable, and an argument of later tasks."""

    def result(self) -> Any: ...
    def exception(self) -> BaseException | None: ...


class Pool(Protocol):
    """What the run loop asks of a cluster."""

    @property
    def workers(self) -> Mapping[Where, int]:
        """How many there are of each kind; the same ones may be of both."""

    @property
    def labels_apart(self) -> bool:
        """Whether those that label are workers of their own, which are meant to have a GPU."""

    @property
    def about(self) -> str:
        """What whoever started the run should know of the cluster, if anything."""

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        priority: int = 0,
        where: Where = "cpu",
        near: Future | None = None,
    ) -> Future:
        """Start a task; futures among the arguments, or in lists of them, are replaced by their results there.

        near: a task that this one waits for; rather than on another worker, it runs on the one that ran that.
        """

    def submit_waiting(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Start a task that mostly waits for something outside: it does not keep one that computes from running."""

    def next_done(self) -> Future:
        """Wait for the next submitted task to end, well or not."""

    def next_within(self, seconds: float) -> Future | None:
        """Wait for the next submitted task to end; None where none ends within so many seconds."""

    def expect(self, tasks: Mapping[Where, int]) -> None:
        """At most so many tasks of each kind can run at the same time from now on: more workers are not needed."""

    def attend(self) -> None:
        """Look after the workers; to be called now and then.

        Raises EnvironmentProblem where there will be no workers, or where they do nothing.
        """

    def throttle(self, name: str, at_once: int) -> Throttle:
        """What tasks enter to do a thing that at most `at_once` of them may do at the same time, wherever they run."""

    def notifier(self, observe: Notify) -> Notify:
        """What tasks call to report transfers; `observe` is called here, maybe in another thread."""


@dataclass(frozen=True)
class PoolRequest:
    """What a caller needs of a pool.

    workers: processes on this machine; 0: this process. tasks: how many tasks of each kind can run at the same time;
    there are never more workers or jobs than that. imports: modules that tasks need, imported while workers start
    rather than by their first tasks. log: where connections that were refused are noted, a line each.
    """

    workers: int
    tasks: Mapping[Where, int] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    log: Path | None = None

    def limit(self, workers: int, where: Where) -> int:
        """So many workers of a kind, but no more than there are tasks for them; one at least."""
        return max(1, min(workers, self.tasks.get(where, workers)))


PoolFactory = Callable[[PoolRequest], AbstractContextManager[Pool]]


class Finished:
    """A future of the in-process pool: the task has run."""

    def __init__(self, value: Any = None, error: BaseException | None = None):
        self._value, self._error = value, error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        return self._error


class InProcessPool:
    """Tasks run here, one after another, when they are submitted."""

    workers: Mapping[Where, int] = MappingProxyType({"cpu": 1, "gpu": 1})
    labels_apart = False
    about = ""

    def __init__(self) -> None:
        self._done: deque[Finished] = deque()

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        priority: int = 0,
        where: Where = "cpu",
        near: Future | None = None,
    ) -> Finished:
        try:
            done = Finished(function(*(_resolved(argument) for argument in arguments)))
        except Exception as error:
            done = Finished(error=error)
        self._done.append(done)
        return done

    def submit_waiting(self, function: Callable[..., Any], *arguments: Any) -> Finished:
        return self.submit(function, *arguments)

    def next_done(self) -> Finished:
        return self._done.popleft()

    def next_within(self, seconds: float) -> Finished | None:
        return self._done.popleft() if self._done else None

    def expect(self, tasks: Mapping[Where, int]) -> None:
        """There are no workers to give back."""

    def attend(self) -> None:
        """There are no workers but this process."""

    def throttle(self, name: str, at_once: int) -> Throttle:
        return nullcontext  # one after another is never too many

    def notifier(self, observe: Notify) -> Notify:
        return observe


def _resolved(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_resolved(item) for item in argument]
    return argument.result() if isinstance(argument, Finished) else argument


def worker_died(error: BaseException) -> bool:
    """Whether a task failed because the workers that ran it died, as often as they may."""
    return type(error).__name__ == "KilledWorker"  # of distributed, which is imported only where a cluster is
