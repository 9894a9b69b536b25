"""SLURM jobs as workers: a pool for preparing, a pool for labelling, one scheduler, and lost workers replaced.

dask-jobqueue writes and submits the jobs. It leaves to us what a long run needs: to report what sbatch and squeue say,
to submit again what was cancelled or has expired, to give back what there is no work for, and to keep two kinds of
workers under one scheduler.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Client

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.workers.dask import ALLOWED_FAILURES, DaskPool, Sentences
from mms_regions.workers.pool import PoolRequest, Where
from mms_regions.workers.ports import ON_LOCALHOST, close_pages, port_settings, refused_noted
from mms_regions.workers.scratch import scratch_folder
from mms_regions.workers.slurm_commands import Queued, Refusal, kept_options, refusal, squeue, squeue_of
from mms_regions.workers.slurm_job import RESOURCES, Job, JobCluster, inherited_options, job_options, shipped_settings
from mms_regions.workers.start import protected_start
from mms_regions.workers.tls import temporary_credentials

_SOON, _SELDOM = 2.0, 60.0  # s, from one look at the queue to the next, while workers are missing
_RETIRED = 60.0  # s that a worker which is not needed may take to hand on what it holds
_STARTS = 3  # jobs of a pool that may end, one after another, before their worker is up


class SlurmPool(DaskPool):
    """Tasks run on the jobs of a cluster, which is looked after between them."""

    def __init__(
        self,
        client: Any,
        cluster: Any,
        settings: ClusterSettings,
        request: PoolRequest,
        name: str,
        logs: Path,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.labels_apart = settings.gpu is not None
        self._pools: dict[Where, PoolSettings] = {
            "cpu": settings.cpu,
            **({"gpu": settings.gpu} if settings.gpu else {}),
        }
        jobs: dict[Where, int] = {
            "cpu": request.limit(settings.cpu.jobs, "cpu"),
            "gpu": request.limit((settings.gpu or settings.cpu).jobs, "gpu"),
        }
        if not self.labels_apart:
            jobs = dict.fromkeys(jobs, max(jobs.values()))
        # Resources bind a task to its pool, and never are the limit.
        resources: dict[Where, dict[str, float]] = {where: {RESOURCES[self._pool_of(where)]: 1e-6} for where in jobs}
        sentences = Sentences(settings.start_timeout, no_worker="")
        super().__init__(client, jobs, sentences, resources=resources, clock=clock)
        self.about = _about(client, settings)
        self._cluster, self._settings, self._job_name, self._logs = cluster, settings, name, logs
        self._numbers = count()
        self._seen: set[str] = set()  # names of workers that ever were connected
        self._up: Mapping[str, str] = {}  # by the names of those that are, their addresses
        self._expected: Mapping[Where, int] = {}
        self._died: Counter[Where] = Counter()  # jobs that ended before their worker was up, since one was
        self._asked = self._answered = self._clock()
        self._every = _SOON
        self._submit_jobs(jobs)

    def _pool_of(self, where: Where) -> Where:
        return where if where in self._pools else "cpu"

    def expect(self, tasks: Mapping[Where, int]) -> None:
        self._expected = tasks if self.labels_apart else {"cpu": max(tasks.values())}

    def attend(self) -> None:
        """Look after tasks and jobs now and then: submit again what has ended, give back what there is no work for.

        Raises EnvironmentProblem where jobs end before their worker is up, none starts in time, or SLURM has been
        silent for as long.
        """
        super().attend()
        self._note_workers()
        now = self._clock()
        surplus = self._surplus()
        if now - self._asked < self._every or not (surplus or self._missing()):
            return
        self._asked, self._every = now, min(_SELDOM, self._every * 1.5)
        try:
            self._forget_ended_jobs(squeue(self._job_name))
            if surplus:
                self._give_back()
            self._submit_jobs(self._wanted())
        except Refusal:
            if now - self._answered > self._settings.start_timeout:
                raise
        else:
            self._answered = now

    def _wanted(self) -> dict[Where, int]:
        """How many jobs of each pool there is work for."""
        waiting = self._waiting()
        return {where: min(self.workers[where], waiting[where]) for where in self._pools}

    def _waiting(self) -> Counter[Where]:
        """The tasks of each pool that are under way."""
        return Counter(self._pool_of(task.where) for task in self._under_way)

    def _surplus(self) -> dict[Where, int]:
        """How many jobs of a pool there will be no work for, where there are such."""
        waiting, jobs = self._waiting(), {where: len(_of(where, self._cluster.worker_spec)) for where in self._pools}
        over = {where: jobs[where] - max(n, waiting[where]) for where, n in self._expected.items() if where in jobs}
        return {where: n for where, n in over.items() if n > 0}

    def _give_back(self) -> None:
        """End the jobs that there will be no work for: first those without a worker yet, and none that has a task.

        What an idle worker holds is handed on to others first; one that cannot do so stays.
        """
        running = self._running()
        for where, number in self._surplus().items():
            names = _of(where, self._cluster.worker_spec)
            waiting = [name for name in names if name not in self._up]
            idle = [name for name in names if name in self._up and not running.get(self._up[name])]
            retired = self._retired(idle[: max(0, number - len(waiting))])
            for name in [*waiting[:number], *retired]:
                del self._cluster.worker_spec[name]
        self._cluster.sync(self._cluster._correct_state)

    def _retired(self, names: Collection[str]) -> list[str]:
        """Those of these workers that have handed on what they hold, and take no more tasks."""
        if not names:
            return []
        with suppress(TimeoutError, OSError):
            addresses = [self._up[name] for name in names]
            done = self._client.retire_workers(addresses, callback_timeout=_RETIRED)
            return [name for name in names if self._up[name] in done]
        return []

    def _missing(self) -> bool:
        """Whether there is work for more workers of a pool than are connected."""
        return any(len(_of(where, self._up)) < wanted for where, wanted in self._wanted().items())

    def _kinds(self, addresses: Mapping[str, Any]) -> Set[Where]:
        self._note_workers()
        kinds: tuple[Where, ...] = ("cpu", "gpu")
        return {where for where in kinds if addresses and _of(self._pool_of(where), self._up)}

    def _note_workers(self) -> None:
        workers = dict(self._cluster.scheduler_info["workers"])
        up = {str(worker["name"]): address for address, worker in workers.items()}
        if up != self._up:
            self._every = _SOON
        for where in self._pools:
            if _of(where, up.keys() - self._seen):
                self._died[where] = 0
        self._up = up
        self._seen |= up.keys()

    def _forget_ended_jobs(self, queued: Mapping[str, Queued]) -> None:
        """Forget jobs that have ended, so that others can take their place. Raises EnvironmentProblem where all do."""
        for where in self._pools:
            for name in _of(where, self._cluster.worker_spec):
                job = self._cluster.workers.get(name)
                if job is None or _has_ended(job.job_id, queued):
                    del self._cluster.worker_spec[name]
                    self._died[where] += name not in self._seen
                    if self._died[where] >= _STARTS and not _of(where, self._up):
                        raise EnvironmentProblem(self._why_jobs_die(where, job))

    def _submit_jobs(self, wanted: Mapping[Where, int]) -> None:
        """Submit what is wanted and not there. Raises Refusal with what sbatch says against it."""
        for where, pool in self._pools.items():
            for _ in range(wanted[where] - len(_of(where, self._cluster.worker_spec))):
                options = job_options(self._settings, where, pool, self._job_name, self._logs)
                spec = {"cls": Job, "options": {**inherited_options(self._cluster), **options}}
                self._cluster.worker_spec[f"{where}-{next(self._numbers)}"] = spec
        try:
            self._cluster.sync(self._cluster._correct_state)
        except (RuntimeError, OSError, ValueError) as problem:
            for name, job in self._cluster.workers.items():
                if job.job_id is None:
                    self._cluster.worker_spec.pop(name, None)
            raise refusal(problem) from None

    def _why_absent(self, where: Where) -> str:
        """Why there is no worker of a kind. Raises EnvironmentProblem where its jobs end before their worker is up."""
        pool, queued = self._pool_of(where), squeue(self._job_name)
        self._forget_ended_jobs(queued)
        jobs = [self._cluster.workers.get(name) for name in _of(pool, self._cluster.worker_spec)]
        waiting = "; ".join(f"job {job.job_id} is {queued[job.job_id]}" for job in jobs if job and job.job_id in queued)
        return (
            f"No worker of the {pool} pool started within {self._settings.start_timeout:g} s: "
            f"{waiting or 'squeue knows no job of it'}. Ask for less, choose another queue, or raise start_timeout in "
            "the profile"
        )

    def _why_jobs_die(self, where: Where, job: Any) -> str:
        number, ended = "" if job is None else job.job_id, None
        with suppress(Refusal):
            ended = squeue_of(number) if number else None
        log = self._logs / f"{self._job_name}-{number}.log"
        lines = log.read_text(errors="replace").strip().splitlines()[-5:] if log.exists() else []
        return (
            f"{_STARTS} jobs of the {where} pool ended before their worker was up. The last one, {number}, "
            f"{f'is {ended}' if ended else 'is gone'}; it said: {' / '.join(lines) or 'nothing'}. Correct setup, image "
            f"or memory in the profile; logs are in {self._logs}"
        )


def _of(where: Where, names: Collection[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{where}-")]


def _has_ended(number: str, queued: Mapping[str, Queued]) -> bool:
    """Whether a job is over: squeue does not list it, and when asked for it by number either."""
    if number in queued:
        return False
    found = squeue_of(number)
    return found is None or found.ended


def _about(client: Any, settings: ClusterSettings) -> str:
    options = kept_options(os.environ)
    lines = [how_to_watch(str(client.dashboard_link), platform.node())] if settings.has_dashboard else []
    return "; ".join([*lines, *([f"options of sbatch from the environment: {options}"] if options else [])])


def how_to_watch(link: str, host: str) -> str:
    """How to reach the dashboard, which listens on the machine of the scheduler alone."""
    port = urlsplit(link).port
    return f"dashboard: ssh -N -L {port}:127.0.0.1:{port} {host}, then http://127.0.0.1:{port}/status"


@contextmanager
def slurm_pool(settings: ClusterSettings, folder: Path, request: PoolRequest) -> Iterator[SlurmPool]:
    """Pools of SLURM jobs, which are cancelled at the end; the scheduler is in this process.

    folder: on a file system that all nodes see, for logs of jobs and, while they run, the credentials of the workers.
    """
    name, logs = f"mms-regions-{secrets.token_hex(3)}", folder / "jobs"
    with ExitStack() as until_end:
        with protected_start():
            security = until_end.enter_context(temporary_credentials(folder))
            until_end.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES}))
            until_end.enter_context(dask.config.set(shipped_settings()))
            until_end.enter_context(dask.config.set(port_settings(request.log, settings.has_dashboard)))
            until_end.enter_context(refused_noted(request.log))
            scratch = until_end.enter_context(scratch_folder())  # of the scheduler, or else Dask makes one that stays
            until_end.enter_context(dask.config.set({"temporary-directory": str(scratch)}))
            cluster = JobCluster(
                **job_options(settings, "cpu", settings.cpu, name, logs),
                interface=settings.interface or None,
                security=security,
                scheduler_options={"dashboard_address": ON_LOCALHOST, "dashboard": settings.has_dashboard},
                silence_logs=logging.CRITICAL + 1,
            )
            until_end.enter_context(cluster)
            if not settings.has_dashboard:
                close_pages(cluster)
            client = until_end.enter_context(Client(cluster))
            pool = SlurmPool(client, cluster, settings, request, name, logs)
        yield pool
