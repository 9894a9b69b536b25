"""Inside one SLURM allocation: `srun` starts the same command many times, and each of these tasks takes a part.

Task 0 becomes the scheduler, task 1 goes on with the run, all others become workers, and end when the run does. Nothing
is submitted, so this works inside a container too, which has no sbatch.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import resource
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from dask_jobqueue.slurm import SLURMRunner
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import get_ip_interface

from mms_regions.core.cluster_settings import ClusterSettings
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.files import remove, remove_folder, remove_tree
from mms_regions.core.stop import SIGNALS
from mms_regions.workers.dask import ALLOWED_FAILURES, DaskPool, Sentences
from mms_regions.workers.pool import Pool, PoolFactory, PoolRequest
from mms_regions.workers.ports import LOG, ON_LOCALHOST, port_settings, refused_noted
from mms_regions.workers.scratch import scratch_folder
from mms_regions.workers.slurm import how_to_watch
from mms_regions.workers.start import preloads, protected_start
from mms_regions.workers.tls import credentials_in, write_credentials

_RUN = 1  # the task that runs, as SLURMRunner has it
_FEWEST = 3  # tasks: scheduler, run, worker
_PAUSE = 0.2  # s, from one look for the scheduler's file to the next
_ANSWER = 30.0  # s that the scheduler may take to answer
_LATE = 20.0  # s that the scheduler waits, when the run has ended, for workers that still start
_OVER = "over"
_RUN_CLIENT = "the-run"
_NO_SCHEDULER = "The scheduler of this allocation, task 0 of srun, is gone; run again to go on"


@dataclass(frozen=True)
class Step:
    """The job step that this process is a task of."""

    task: int
    tasks: int
    name: str  # no other step has the same, nor has this one when its job is queued again

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Step:
        """The step in these variables of SLURM. Raises EnvironmentProblem outside a step, or in a small one.

        In the script of a job there is a SLURM_PROCID too, but no step.
        """
        try:
            name = f"allocation-{environ['SLURM_JOB_ID']}-{environ['SLURM_STEP_ID']}"
            task, tasks = int(environ["SLURM_PROCID"]), int(environ["SLURM_STEP_NUM_TASKS"])
        except (KeyError, ValueError):
            raise EnvironmentProblem(
                "A profile of kind 'allocation' works under srun alone: `srun mms-regions run ...` in a job, as "
                "jobs/allocation.sbatch does; use that, or another profile"
            ) from None
        if tasks < _FEWEST:
            raise EnvironmentProblem(
                f"srun started {tasks} of {_FEWEST} tasks or more: the scheduler, the run and each worker take one; "
                "ask for more with --ntasks"
            )
        return cls(task, tasks, f"{name}-{environ.get('SLURM_RESTART_COUNT', 0)}")

    @property
    def workers(self) -> int:
        return self.tasks - _FEWEST + 1


@contextmanager
def in_allocation(settings: ClusterSettings, folder: Path) -> Iterator[PoolFactory]:
    """Take the part of this task: the one that is to run goes on, with what opens its pool; all others stay here.

    They end the process, with exit code 0, when the run has ended, however it did.
    folder: on a file system that all nodes see, for the scheduler's file and credentials, which are removed at the end.
    Raises EnvironmentProblem outside srun, for an unknown interface, and where the scheduler or the run do not come.
    """
    step = Step.of(os.environ)
    _require_interface(settings.interface)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # the run reports what matters
    if step.task != _RUN:
        with dask.config.set(port_settings(folder / LOG, settings.has_dashboard)):
            _serve(settings, folder / step.name, step)
        raise SystemExit(0)
    with ExitStack() as open_until_end:
        with protected_start():
            runner = _Runner(settings, folder / step.name, step)
            client = open_until_end.enter_context(runner.connected())

        @contextmanager
        def opened(_: PoolRequest) -> Iterator[Pool]:
            _sweep(folder, step.name)
            pool = DaskPool(client, {"cpu": step.workers, "gpu": step.workers}, _sentences(settings.start_timeout))
            if settings.has_dashboard:
                pool.about = how_to_watch(str(client.dashboard_link), client.run_on_scheduler(platform.node))
            yield pool

        try:
            yield opened
        except OSError as problem:
            if client.status != "running":
                raise EnvironmentProblem(_NO_SCHEDULER) from problem
            raise


def _require_interface(name: str) -> None:
    """In all tasks alike, so that none waits for another that cannot start."""
    try:
        if name:
            get_ip_interface(name)
    except ValueError as problem:
        raise EnvironmentProblem(
            f"{platform.node()} cannot listen at the interface {name!r} of the profile: {problem}; correct it"
        ) from None


def _sweep(folder: Path, mine: str) -> None:
    """Take away what killed allocations have left; only who has the lock of the store gets here."""
    for path in folder.glob("allocation-*"):
        if path.name != mine:
            remove_tree(path, best_effort=True)


def _serve(settings: ClusterSettings, place: Path, step: Step) -> None:
    """Be the scheduler, or a worker, until the run has ended."""
    for name in SIGNALS:
        signal.signal(name, signal.SIG_IGN)  # srun sends them to all tasks: the run hears them, and then ends us
    # Who is ended while it reads a CDF file aborts; its memory is no file that anybody asked for.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    scratch = os.environ.get("SLURM_TMPDIR") or None  # else $TMPDIR; on the node, never the home folder
    with ExitStack() as at_end:
        if step.task == 0:
            at_end.callback(_tidy, place)
            write_credentials(place)
            with refused_noted(place.parent / LOG):
                if not _Runner(settings, place, step).all_came:
                    (place / _OVER).touch()
        else:
            local = at_end.enter_context(scratch_folder(Path(scratch) if scratch else None))
            with suppress(_Over):
                _Runner(settings, place, step, {"local_directory": str(local)})


def _tidy(place: Path) -> None:
    """Take away what was for the step alone, but for the word to tasks that have not come that it is over."""
    for path in place.glob("*"):
        if path.name != _OVER:
            remove(path)
    for folder in (place, place.parent):
        with suppress(OSError):  # not empty
            remove_folder(folder)


class _Over(Exception):
    """The run has ended before this worker was there."""


class _Runner(SLURMRunner):
    """SLURMRunner with TLS, with an end to every waiting, and with workers that leave when the run does.

    Made in the task that runs, it is there when the scheduler is; in all others it comes back when the run has ended.
    """

    def __init__(self, settings: ClusterSettings, place: Path, step: Step, worker: Mapping[str, str] | None = None):
        self._settings, self._place = settings, place
        self._ending = _EndsWithRun(step.workers)
        both = {"interface": settings.interface or None, "dashboard_address": ON_LOCALHOST}
        # No memory_limit: a worker near to it would pause, and wait for ever; SLURM's own limit is the one that counts.
        one = {"memory_limit": 0, "nthreads": 1, "death_timeout": settings.start_timeout, "preload": preloads()}
        super().__init__(  # type: ignore[no-untyped-call]
            scheduler_file=str(place / "scheduler.json").replace("{", "{{").replace("}", "}}"),  # it formats the name
            scheduler_options={**both, "allowed_failures": ALLOWED_FAILURES, "dashboard": settings.has_dashboard},
            worker_options={**both, **one, **(worker or {})},
        )

    def __del__(self) -> None:
        """Nothing is to be closed: the scheduler ends by itself."""

    @property
    def all_came(self) -> bool:
        """Whether every worker of the step has come, to the scheduler that this is."""
        return self._ending.all_came

    async def before_scheduler_start(self) -> None:
        self.scheduler_options["security"] = credentials_in(self._place)

    async def on_scheduler_start(self, scheduler: Any) -> None:
        if not self._settings.has_dashboard:
            scheduler.http_server.stop()
        scheduler.add_plugin(self._ending)
        scheduler.loop.call_later(self._settings.start_timeout, self._ending.give_up, scheduler)

    async def before_worker_start(self) -> None:
        await self.get_scheduler_address()
        self.worker_options["security"] = credentials_in(self._place)

    async def before_client_start(self) -> None:
        self.scheduler_comm = None  # which would end the scheduler at once, and knows no TLS

    async def get_scheduler_address(self) -> str:
        """The address in the scheduler's file, which is written after the credentials."""
        limit = time.monotonic() + self._settings.start_timeout
        while time.monotonic() < limit:
            with suppress(FileNotFoundError, ValueError):  # not there, or not all of it
                return str(json.loads(self.scheduler_file.read_text())["address"])
            if (self._place / _OVER).exists():
                raise _Over
            await asyncio.sleep(_PAUSE)
        raise EnvironmentProblem(
            f"Task 0 of srun did not become the scheduler within {self._settings.start_timeout:g} s (no "
            f"{self.scheduler_file}); look for what it said, or raise start_timeout in the profile"
        )

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """A client of the scheduler; when it goes, all other tasks end."""
        security = credentials_in(self._place)
        try:
            client = Client(self.scheduler_address, security=security, name=_RUN_CLIENT, timeout=_ANSWER)
        except OSError as problem:
            raise EnvironmentProblem(
                f"The scheduler, task 0 of srun, does not answer at {self.scheduler_address} ({problem}); name the "
                "network between the nodes, the interface in the profile"
            ) from None
        with client:
            yield client


class _EndsWithRun(SchedulerPlugin):
    """Closes the scheduler, and by that the workers, when the run has left, or never came.

    Before, it waits a little for workers that still start: they would look for a scheduler that is gone.
    """

    def __init__(self, workers: int):
        self._expected = workers
        self._came: set[str] = set()
        self._run_came = False

    @property
    def all_came(self) -> bool:
        return len(self._came) >= self._expected

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self._came.add(worker)

    def add_client(self, scheduler: Any, client: str) -> None:
        self._run_came |= _is_run(client)

    def remove_client(self, scheduler: Any, client: str) -> None:
        if _is_run(client):
            scheduler.loop.add_callback(self._close, scheduler)

    def give_up(self, scheduler: Any) -> None:
        """Close where the run has not come by now."""
        if not self._run_came:
            scheduler.loop.add_callback(scheduler.close)

    async def _close(self, scheduler: Any) -> None:
        limit = time.monotonic() + _LATE
        while not self.all_came and time.monotonic() < limit:
            await asyncio.sleep(_PAUSE)
        await scheduler.close()


def _is_run(client: str) -> bool:
    """Workers are clients too."""
    return client.startswith(f"Client-{_RUN_CLIENT}-")


def _sentences(limit: float) -> Sentences:
    return Sentences(
        limit=limit,
        no_worker=f"There has been no worker in this allocation for {limit:g} s; look for what tasks 2 and up of srun "
        "said, give them more memory, or raise start_timeout in the profile; then run again",
        no_scheduler=_NO_SCHEDULER,
    )
