"""Where tasks run: in this process, or on a Dask cluster, such as one of local processes."""

from __future__ import annotations

import logging
import secrets
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.messages import Message, Notify, Throttle

Where = Literal["cpu", "gpu"]  # kinds of workers: those that prepare and write, and those that label

_PATIENCE = 2.0  # s, from one look after the workers to the next, for those who wait
_NEEDED = "mms_regions.run.loop"  # imported with all that tasks need while workers start, and not by their first tasks
# Of workers, whose arrays are for one core. Memory that is given back to the system at once, as Dask would have it, and
# arenas of each thread that comes and goes, cost a fifth more time.
_ENVIRONMENT = {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1, "MALLOC_ARENA_MAX": 1}
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


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

    def submit(self, function: Callable[..., Any], *arguments: Any, priority: int = 0, where: Where = "cpu") -> Future:
        """Start a task; futures among the arguments, or in lists of them, are replaced by their results there."""

    def submit_waiting(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Start a task that mostly waits for something outside: it does not keep one that computes from running."""

    def next_done(self) -> Future:
        """Wait for the next submitted task to end, well or not."""

    def next_within(self, seconds: float) -> Future | None:
        """The same, but None where none ends so soon."""

    def attend(self) -> None:
        """Look after the workers; to be called now and then. Raises EnvironmentProblem where there will be none."""

    def throttle(self, name: str, at_once: int) -> Throttle:
        """What tasks enter to do a thing that at most `at_once` of them may do at the same time, wherever they run."""

    def notifier(self, observe: Notify) -> Notify:
        """What tasks call to tell of transfers; `observe` hears it here, maybe in another thread."""


PoolFactory = Callable[[int], AbstractContextManager[Pool]]


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
        self, function: Callable[..., Any], *arguments: Any, priority: int = 0, where: Where = "cpu"
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

    def attend(self) -> None:
        """There is nobody but this process."""

    def throttle(self, name: str, at_once: int) -> Throttle:
        return nullcontext  # one after another is never too many

    def notifier(self, observe: Notify) -> Notify:
        return observe


def _resolved(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_resolved(item) for item in argument]
    return argument.result() if isinstance(argument, Finished) else argument


@dataclass(frozen=True, eq=False)
class DaskFuture:
    """A task on a Dask cluster. What it made may be lost with its worker, and is made anew: then it is not done again.

    Whoever waits for that looks after the workers meanwhile, for there may be none.
    """

    future: Any
    attend: Callable[[], None]

    @property
    def is_done(self) -> bool:
        return bool(self.future.done())

    def cancelled(self) -> bool:
        """Whether it will never be done, because its scheduler has gone."""
        return bool(self.future.cancelled())

    def result(self) -> Any:
        return self._patiently(self.future.result)

    def exception(self) -> BaseException | None:
        error: BaseException | None = self._patiently(self.future.exception)
        return error

    def _patiently(self, ask: Callable[[float], Any]) -> Any:
        while True:
            try:
                return ask(_PATIENCE)
            except TimeoutError:
                self.attend()


def _bare(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_bare(item) for item in argument]
    return argument.future if isinstance(argument, DaskFuture) else argument


class DaskPool:
    """Tasks run on the workers of a Dask client. resources: what binds a task to workers of a kind.

    addresses: of workers of both kinds. A task that labels goes to the first that does not label already, so that few
    import torch; where that worker has died meanwhile, to any.
    """

    labels_apart = False
    about = ""

    def __init__(
        self,
        client: Any,
        workers: Mapping[Where, int],
        resources: Mapping[Where, Mapping[str, float]] = MappingProxyType({"cpu": {}, "gpu": {}}),
        addresses: Iterable[str] = (),
    ):
        self.workers = workers
        self._client = client
        self._resources = resources
        self._done: SimpleQueue[DaskFuture] = SimpleQueue()
        self._labelling: dict[str, DaskFuture | None] = dict.fromkeys(addresses)

    def submit(self, function: Callable[..., Any], *arguments: Any, priority: int = 0, where: Where = "cpu") -> Future:
        bound: dict[str, Any] = {"resources": dict(self._resources[where]) or None}
        near = self._labeller() if where == "gpu" else None
        if near:
            bound |= {"workers": near, "allow_other_workers": True}
        bare = [_bare(argument) for argument in arguments]
        task = DaskFuture(self._client.submit(function, *bare, priority=priority, pure=False, **bound), self.attend)
        if near:
            self._labelling[near] = task
        self._tell_when_done(task)
        return task

    def _labeller(self) -> str | None:
        idle = (address for address, task in self._labelling.items() if task is None or task.is_done)
        return next(idle, None)

    def submit_waiting(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self.submit(_beside_others, function, *arguments)

    def next_done(self) -> Future:
        while True:
            if (done := self.next_within(_PATIENCE)) is not None:
                return done
            self.attend()

    def next_within(self, seconds: float) -> Future | None:
        with suppress(Empty):
            task = self._done.get(timeout=seconds)
            if task.is_done:
                return task
            self._tell_when_done(task)
        return None

    def _tell_when_done(self, task: DaskFuture) -> None:
        task.future.add_done_callback(lambda _: self._done.put(task))

    def attend(self) -> None:
        """The workers look after themselves."""

    def throttle(self, name: str, at_once: int) -> Throttle:
        return _Lease(name, at_once)

    def notifier(self, observe: Notify) -> Notify:
        known = {kind.__name__: kind for kind in get_args(Message)}
        topic = f"mms-regions-{secrets.token_hex(4)}"

        def hear(message: tuple[float, Mapping[str, Any]]) -> None:
            _, told = message
            observe(known[told["kind"]](**told["what"]))

        self._client.subscribe_topic(topic, hear)
        return _ToClient(topic)


def _beside_others(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function on a worker without holding a place among its tasks."""
    from distributed import secede

    # Where a run is interrupted, the scheduler that leases are given back to is gone: nobody needs to hear of it.
    logging.getLogger("distributed.semaphore").setLevel(logging.CRITICAL + 1)
    secede()
    return function(*arguments)


@dataclass(frozen=True)
class _ToClient:
    """Sends an event from a worker to the client that made it work."""

    topic: str

    def __call__(self, event: Message) -> None:
        from distributed import get_worker

        get_worker().log_event(self.topic, {"kind": type(event).__name__, "what": asdict(event)})


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


@contextmanager
def for_main_alone() -> Iterator[None]:
    """Threads and processes started inside never get the signals that stop a run; this one gets them afterwards.

    A terminal or a batch system sends them to all processes at once, and what is being written is to be finished.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        resource_tracker.ensure_running()  # of multiprocessing; it is to outlive them too, and unblocks some here
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _of_workers() -> dict[str, Any]:
    """What Dask is told of workers on this machine, beside what its user has told it."""
    import dask

    asked = dask.config.get("distributed.worker.preload")
    return {
        "distributed.worker.preload": [*([asked] if isinstance(asked, str) else asked), _NEEDED],
        "distributed.nanny.pre-spawn-environ": _ENVIRONMENT,
        # A profiler that nobody looks at keeps what it saw each second: workers would grow as long as they live.
        "distributed.worker.profile.enabled": False,
        # A hundredth of all time goes to finding out 50 times a second, in each process, that nothing is late; more
        # seldom than this, and they take as long to end.
        "distributed.admin.tick.interval": "200ms",
    }


@contextmanager
def local_pool(workers: int) -> Iterator[Pool]:
    """A pool of `workers` processes on this machine, one thread each, listening on localhost; 0: this process.

    Raises EnvironmentProblem where they cannot start.
    """
    if workers == 0:
        yield InProcessPool()
        return
    import dask
    from distributed import Client

    with ExitStack() as open_until_end, for_main_alone():
        scratch = open_until_end.enter_context(
            tempfile.TemporaryDirectory(prefix="mms-regions-", ignore_cleanup_errors=True)
        )
        open_until_end.enter_context(dask.config.set(_of_workers()))
        cluster = _local_cluster(workers, scratch)
        client = open_until_end.enter_context(Client(open_until_end.enter_context(cluster)))
        opened = open_until_end.pop_all()
    with opened:
        yield DaskPool(client, {"cpu": workers, "gpu": workers}, addresses=cluster.scheduler_info["workers"])


def _local_cluster(workers: int, scratch: str) -> Any:
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            local_directory=scratch,
            silence_logs=logging.CRITICAL + 1,  # a task that fails is an outcome, which the loop tells
        )
    except RuntimeError as problem:
        why = problem.__cause__ or problem  # of a nanny, what its worker died of, where that is known
        raise EnvironmentProblem(
            f"Workers cannot start on this machine: {why}. Look at its free memory and at Dask's own settings "
            "(DASK_..., ~/.config/dask), or choose --workers 0, which needs none"
        ) from problem
