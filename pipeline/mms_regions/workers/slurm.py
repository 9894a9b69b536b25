"""SLURM jobs as workers: a pool for preparing, a pool for labelling, one scheduler, and lost workers replaced.

dask-jobqueue writes and submits the jobs. It leaves to us what a long run needs: to say what sbatch and squeue say, to
submit again what was cancelled or has expired, and to keep two kinds of workers under one scheduler.
"""

from __future__ import annotations

import logging
import platform
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed import Client
from distributed.core import Status
from distributed.security import Security

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.workers.pool import DaskPool, Where, for_main_alone
from mms_regions.workers.tls import temporary_credentials

_SOON, _SELDOM = 2.0, 60.0  # s, from one look at the queue to the next, while workers are missing
_STARTS = 3  # jobs of a pool that may end, one after another, before their worker is up
ALLOWED_FAILURES = 10  # workers that a task may lose before it is held to be the reason
_RESOURCES: Mapping[Where, str] = {"cpu": "CPU", "gpu": "GPU"}
_OVER = ("COMPLETING",)  # such a job is in the queue still, but its worker is gone


class _Job(SLURMJob):
    async def close(self) -> None:
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed  # which it leaves unset, and asks for when the cluster closes


class _Cluster(SLURMCluster):
    job_cls = _Job


class _Refusal(EnvironmentProblem):
    """What SLURM said no to, or did not answer; it may do so a moment later."""


@dataclass(frozen=True)
class Queued:
    """A job as squeue tells of it."""

    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})"


class SlurmPool(DaskPool):
    """Tasks run on the jobs of a cluster, which is looked after between them."""

    def __init__(self, client: Any, cluster: Any, settings: ClusterSettings, name: str, folder: Path):
        self.labels_apart = with_gpu = settings.gpu is not None
        resources: dict[Where, dict[str, float]] = {
            "cpu": {_RESOURCES["cpu"]: 1e-6},  # binds a task to its pool, and never is the limit
            "gpu": {_RESOURCES["gpu" if with_gpu else "cpu"]: 1e-6},
        }
        jobs: dict[Where, int] = {"cpu": settings.cpu.jobs, "gpu": (settings.gpu or settings.cpu).jobs}
        super().__init__(client, jobs, resources)
        self.about = how_to_watch(str(client.dashboard_link), platform.node())
        self._cluster, self._settings, self._job_name, self._logs = cluster, settings, name, folder
        self._numbers = count()
        self._up: Collection[str] = ()  # names of workers, of those that are connected
        self._seen: set[str] = set()  # and of those that ever were
        self._died: Counter[Where] = Counter()  # jobs that ended before their worker was up, since one was
        self._begun = self._looked = self._answered = time.monotonic()
        self._every = _SOON
        self._fill()

    @property
    def _pools(self) -> dict[Where, PoolSettings]:
        gpu = self._settings.gpu
        return {"cpu": self._settings.cpu, **({"gpu": gpu} if gpu else {})}

    def attend(self) -> None:
        """Look after the jobs now and then: submit again what has ended.

        Raises EnvironmentProblem where jobs end before their worker is up, none starts in time, or SLURM has been
        silent for as long.
        """
        self._note_workers()
        now, limit = time.monotonic(), self._settings.start_timeout
        late = [where for where in self._pools if now - self._begun > limit and not _of(where, self._seen)]
        if not (self._missing() and (late or now - self._looked > self._every)):
            return
        self._looked, self._every = now, min(_SELDOM, self._every * 1.5)
        try:
            queued = squeue(self._job_name)
            for where in self._pools:
                self._forget_ended(where, queued)
            for where in late:
                raise EnvironmentProblem(self._how_it_waits(where, queued))
            self._fill()
        except _Refusal:
            if now - self._answered > limit:
                raise
        else:
            self._answered = now

    def _note_workers(self) -> None:
        up = {str(worker["name"]) for worker in list(self._cluster.scheduler_info["workers"].values())}
        if up != self._up:
            self._every = _SOON
        for where in self._pools:
            if _of(where, up - self._seen):
                self._died[where] = 0
        self._up = up
        self._seen |= up

    def _missing(self) -> bool:
        wanted = sum(pool.jobs for pool in self._pools.values())
        return len(set(self._cluster.worker_spec) & set(self._up)) < wanted

    def _forget_ended(self, where: Where, queued: Mapping[str, Queued]) -> None:
        for name in _of(where, self._cluster.worker_spec):
            job = self._cluster.workers.get(name)
            if job is None or job.job_id not in queued:
                del self._cluster.worker_spec[name]
                self._died[where] += name not in self._seen
                if self._died[where] >= _STARTS and not _of(where, self._up):
                    raise EnvironmentProblem(self._how_it_died(where, job))

    def _fill(self) -> None:
        """Submit what is wanted and not there. Raises _Refusal with what sbatch says against it."""
        for where, pool in self._pools.items():
            for _ in range(pool.jobs - len(_of(where, self._cluster.worker_spec))):
                options = job_options(self._settings, where, pool, self._job_name, self._logs)
                spec = {"cls": _Job, "options": {**_inherited(self._cluster), **options}}
                self._cluster.worker_spec[f"{where}-{next(self._numbers)}"] = spec
        try:
            self._cluster.sync(self._cluster._correct_state)
        except (RuntimeError, OSError) as problem:
            for name, job in self._cluster.workers.items():
                if job.job_id is None:
                    self._cluster.worker_spec.pop(name, None)
            said = re.findall(r"sbatch: error: (.*)", str(problem)) or [str(problem)]
            raise _Refusal(f"SLURM does not take a job: {'; '.join(said)}. Correct [cluster] in the profile") from None

    def _how_it_waits(self, where: Where, queued: Mapping[str, Queued]) -> str:
        numbers = [self._cluster.workers[name].job_id for name in _of(where, self._cluster.worker_spec)]
        told = "; ".join(f"job {number} is {queued[number]}" for number in numbers if number in queued)
        return (
            f"No worker of the {where} pool started within {self._settings.start_timeout:g} s: "
            f"{told or 'squeue knows no job of it'}. Ask for less, choose another queue, or raise start_timeout in the "
            "profile"
        )

    def _how_it_died(self, where: Where, job: Any) -> str:
        number = "" if job is None else job.job_id
        ended = squeue_of(number)
        log = self._logs / f"{self._job_name}-{number}.log"
        lines = log.read_text(errors="replace").strip().splitlines()[-5:] if log.exists() else []
        return (
            f"{_STARTS} jobs of the {where} pool ended before their worker was up. The last one, {number}, "
            f"{f'is {ended}' if ended else 'is gone'}; it said: {' / '.join(lines) or 'nothing'}. Correct setup, image "
            f"or memory in the profile; logs are in {self._logs}"
        )


def _of(where: Where, names: Collection[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{where}-")]


def _inherited(cluster: Any) -> dict[str, Any]:
    """What jobs have from their cluster; paths are quoted, because they become words of a shell."""
    options = {name: cluster._job_kwargs[name] for name in ("protocol", "interface")}
    for_worker = cluster._job_kwargs["security"].get_tls_config_for_role("worker")
    quoted = {name: shlex.quote(path) for name, path in for_worker.items() if path}
    security = Security(
        require_encryption=True,
        tls_ca_file=quoted["ca_file"],
        tls_worker_cert=quoted["cert"],
        tls_worker_key=quoted["key"],
    )
    return {**options, "security": security}


def how_to_watch(link: str, host: str) -> str:
    """How to reach the dashboard, which listens on the machine of the scheduler alone."""
    port = urlsplit(link).port
    return f"dashboard: ssh -N -L {port}:127.0.0.1:{port} {host}, then http://127.0.0.1:{port}/status"


def job_options(
    settings: ClusterSettings, where: Where, pool: PoolSettings, job_name: str, logs: Path
) -> dict[str, Any]:
    """What dask-jobqueue makes a job script of."""
    threads = pool.cores if where == "gpu" else 1
    scratch = '"${SLURM_TMPDIR:-${TMPDIR:-/tmp}}"'  # on the node, never the home folder
    variables = [f"export {name}={threads}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
    variables += ["export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False"]  # it only grows
    lifetime = f"$(( SECONDS < {pool.lifetime} ? {pool.lifetime} - SECONDS : 1 ))s"  # bash counts from the job's start
    return {
        "cores": 1,
        "processes": 1,
        "job_cpu": pool.cores,
        "memory": pool.memory,
        "queue": pool.queue or None,
        "account": pool.account or None,
        "walltime": pool.walltime,
        "job_directives_skip": ("#SBATCH -e ", "#SBATCH -o "),  # which no path with a space survives
        "job_extra_directives": [*_directives(pool, logs), *pool.directives],
        # A worker that is ended while it reads a CDF file aborts; its memory is no file that anybody asked for.
        "job_script_prologue": ["set -e", "ulimit -S -c 0", *variables, *pool.setup],
        "job_name": job_name,
        "log_directory": str(logs),
        "python": "exec " + _python(pool, where),
        "nanny": False,
        "death_timeout": 60,
        "local_directory": scratch,
        "worker_extra_args": [
            "--resources",
            f"{_RESOURCES[where]}=1",
            "--lifetime",
            f'"{lifetime}"',
            "--lifetime-stagger",
            f"{pool.stagger}s",
            "--dashboard-address",
            "127.0.0.1:0",
        ],
    }


def _directives(pool: PoolSettings, logs: Path) -> list[str]:
    """A job that is lost is replaced, so it need not come back by itself."""
    return [
        f'--output="{str(logs).replace("%", "%%")}/%x-%j.log"',
        "--no-requeue",
        *([f"--gres={pool.gres}"] if pool.gres else []),
        *([f"--constraint={pool.constraint}"] if pool.constraint else []),
    ]


def _python(pool: PoolSettings, where: Where) -> str:
    """What starts Python in a job: the one that submits, or that of a container."""
    if not pool.image:
        return shlex.quote(sys.executable)
    binds = [word for bind in pool.binds for word in ("--bind", shlex.quote(bind))]
    nv = ["--nv"] if where == "gpu" and pool.gres else []
    return " ".join(["apptainer", "exec", *nv, *binds, shlex.quote(pool.image), "/opt/mms-regions/bin/python"])


def squeue(job_name: str) -> dict[str, Queued]:
    """The jobs of a name that wait or run, by number. Raises EnvironmentProblem where SLURM does not answer."""
    return {number: job for number, job in _squeue("--name", job_name).items() if job.state not in _OVER}


def squeue_of(number: str) -> Queued | None:
    """A job by its number, also one that ended some minutes ago; None where SLURM knows none."""
    try:
        return _squeue("--states", "all", "--jobs", number).get(number) if number else None
    except EnvironmentProblem:
        return None


def _squeue(*words: str) -> dict[str, Queued]:
    command = ["squeue", "--noheader", "--format", "%i|%T|%r", *words]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as problem:
        said = str(getattr(problem, "stderr", "") or problem).strip()
        raise _Refusal(
            f"squeue does not answer ({said}); run where SLURM's commands are, or with another profile"
        ) from problem
    rows = (line.split("|", 2) for line in told.splitlines() if line.count("|") >= 2)
    return {number: Queued(state, reason) for number, state, reason in rows}


@contextmanager
def slurm_pool(settings: ClusterSettings, folder: Path) -> Iterator[SlurmPool]:
    """Pools of SLURM jobs, which are cancelled at the end; the scheduler is in this process.

    folder: on a file system that all nodes see, for logs of jobs and, while they run, the credentials of the workers.
    """
    name, logs = f"mms-regions-{secrets.token_hex(3)}", folder / "jobs"
    with ExitStack() as until_end:
        with for_main_alone():
            security = until_end.enter_context(temporary_credentials(folder))
            until_end.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES}))
            cluster = _Cluster(
                **job_options(settings, "cpu", settings.cpu, name, logs),
                interface=settings.interface or None,
                security=security,
                scheduler_options={"dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL + 1,
            )
            client = until_end.enter_context(Client(until_end.enter_context(cluster)))
            pool = SlurmPool(client, cluster, settings, name, logs)
        yield pool
