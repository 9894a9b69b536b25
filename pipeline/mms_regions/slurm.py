"""SLURM jobs as workers: a pool for preparing, a pool for labelling, one scheduler, and lost workers replaced.

dask-jobqueue writes and submits the jobs. It leaves to us what a long run needs: to say what sbatch and squeue say, to
submit again what was cancelled or has expired, and to keep two kinds of workers under one scheduler.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
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

from mms_regions.cluster import OnDask, Where, for_main_alone
from mms_regions.errors import EnvironmentProblem
from mms_regions.pools import ClusterSettings, PoolSettings

_EVERY = 2.0  # s, from one look at the queue to the next
_STARTS = 3  # jobs of a pool that may end, one after another, before their worker is up
_ALLOWED_FAILURES = 10  # workers that a task may lose before it is held to be the reason
_RESOURCES: Mapping[Where, str] = {"cpu": "CPU", "gpu": "GPU"}


class _Job(SLURMJob):
    async def close(self) -> None:
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed  # which it leaves unset, and asks for when the cluster closes


class _Cluster(SLURMCluster):
    job_cls = _Job


@dataclass(frozen=True)
class Queued:
    """A job as squeue tells of it."""

    state: str
    reason: str


class SlurmPool(OnDask):
    """Tasks run on the jobs of a cluster, which is looked after between them."""

    def __init__(self, client: Any, cluster: Any, settings: ClusterSettings, name: str, logs: Path):
        with_gpu = settings.gpu is not None
        resources: dict[Where, dict[str, float]] = {
            "cpu": {_RESOURCES["cpu"]: 1e-6},  # binds a task to its pool, and never is the limit
            "gpu": {_RESOURCES["gpu" if with_gpu else "cpu"]: 1e-6},
        }
        jobs: dict[Where, int] = {"cpu": settings.cpu.jobs, "gpu": (settings.gpu or settings.cpu).jobs}
        super().__init__(client, jobs, resources)
        self.about = how_to_watch(str(client.dashboard_link))
        self._cluster, self._settings, self._job_name, self._logs = cluster, settings, name, logs
        self._numbers = count()
        self._seen: set[str] = set()  # workers that were up
        self._died: Counter[Where] = Counter()  # jobs that ended before, since one was up
        self._begun = self._looked = time.monotonic()
        for where, pool in self._pools.items():
            for _ in range(pool.jobs):
                self._want(where, pool)
        self._submit()

    @property
    def _pools(self) -> dict[Where, PoolSettings]:
        gpu = self._settings.gpu
        return {"cpu": self._settings.cpu, **({"gpu": gpu} if gpu else {})}

    def attend(self) -> None:
        """Look after the jobs now and then: submit again what has ended.

        Raises EnvironmentProblem where jobs are refused, end before their worker is up, or none starts in time.
        """
        if time.monotonic() - self._looked < _EVERY:
            return
        self._looked = time.monotonic()
        self._seen |= {str(worker["name"]) for worker in self._cluster.scheduler_info["workers"].values()}
        queued = squeue(self._job_name)
        for where, pool in self._pools.items():
            mine = [name for name in self._cluster.worker_spec if name.startswith(f"{where}-")]
            self._replace_ended(where, pool, mine, queued)
            if not any(name.startswith(f"{where}-") for name in self._seen):
                self._refuse_late(where, queued)

    def _replace_ended(self, where: Where, pool: PoolSettings, mine: list[str], queued: Mapping[str, Queued]) -> None:
        jobs = {name: self._cluster.workers.get(name) for name in mine}
        ended = [name for name, job in jobs.items() if job is None or job.job_id not in queued]
        if any(name in self._seen for name in mine if name not in ended):
            self._died[where] = 0
        for name in ended:
            self._died[where] += name not in self._seen
            if self._died[where] >= _STARTS:
                raise EnvironmentProblem(self._how_it_died(where, jobs[name]))
            del self._cluster.worker_spec[name]
            self._want(where, pool)
        if ended:
            self._submit()

    def _refuse_late(self, where: Where, queued: Mapping[str, Queued]) -> None:
        limit = self._settings.start_timeout
        if time.monotonic() - self._begun > limit:
            told = "; ".join(f"job {number} is {job.state} ({job.reason})" for number, job in queued.items())
            raise EnvironmentProblem(
                f"No worker of the {where} pool started within {limit:g} s: {told or 'squeue knows no job of it'}. "
                "Ask for less, choose another queue, or raise start_timeout in the profile"
            )

    def _want(self, where: Where, pool: PoolSettings) -> None:
        options = job_options(self._settings, where, pool, self._job_name, self._logs)
        inherited = {k: v for k, v in self._cluster._job_kwargs.items() if k in ("protocol", "security", "interface")}
        spec = {"cls": _Job, "options": {**inherited, **options}}
        self._cluster.worker_spec[f"{where}-{next(self._numbers)}"] = spec

    def _submit(self) -> None:
        """Submit what is wanted and not there. Raises EnvironmentProblem with what sbatch says against it."""
        try:
            self._cluster.sync(self._cluster._correct_state)
        except RuntimeError as problem:
            said = re.findall(r"sbatch: error: (.*)", str(problem)) or [str(problem)]
            raise EnvironmentProblem(
                f"SLURM does not take a job: {'; '.join(said)}. Correct [cluster] in the profile"
            ) from None

    def _how_it_died(self, where: Where, job: Any) -> str:
        number = job.job_id if job is not None else ""
        logs = sorted(self._logs.glob(f"*-{number}.out")) if number else []
        lines = logs[-1].read_text(errors="replace").strip().splitlines()[-5:] if logs else []
        return (
            f"{_STARTS} jobs of the {where} pool ended before their worker was up. The last one, {number}, said: "
            f"{' / '.join(lines) or 'nothing'}. Correct setup, image or memory in the profile; logs are in {self._logs}"
        )


def how_to_watch(link: str) -> str:
    """How to reach the dashboard, which listens on this machine alone."""
    port = urlsplit(link).port
    return f"dashboard: ssh -N -L {port}:127.0.0.1:{port} {platform.node()}, then http://127.0.0.1:{port}/status"


def job_options(
    settings: ClusterSettings, where: Where, pool: PoolSettings, job_name: str, logs: Path
) -> dict[str, Any]:
    """What dask-jobqueue makes a job script of."""
    threads = pool.cores if where == "gpu" else 1
    scratch = '"${SLURM_TMPDIR:-${TMPDIR:-/tmp}}"'  # on the node, never the home folder
    variables = [f"export {name}={threads}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
    directives = [
        *([f"--gres={pool.gres}"] if pool.gres else []),
        *([f"--constraint={pool.constraint}"] if pool.constraint else []),
        *pool.directives,
    ]
    return {
        "cores": 1,
        "processes": 1,
        "job_cpu": pool.cores,
        "memory": pool.memory,
        "queue": pool.queue or None,
        "account": pool.account or None,
        "walltime": pool.walltime,
        "job_extra_directives": directives,
        "job_script_prologue": [*variables, *pool.setup],
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
            f"{pool.lifetime}s",
            "--lifetime-stagger",
            f"{min(60, pool.lifetime // 10)}s",
            "--dashboard-address",
            "127.0.0.1:0",
        ],
    }


def _python(pool: PoolSettings, where: Where) -> str:
    """What starts Python in a job: the one that submits, or that of a container."""
    if not pool.image:
        return shlex.quote(sys.executable)
    binds = [word for bind in pool.binds for word in ("--bind", shlex.quote(bind))]
    nv = ["--nv"] if where == "gpu" and pool.gres else []
    return " ".join(["apptainer", "exec", *nv, *binds, shlex.quote(pool.image), "/opt/venv/bin/python"])


def squeue(job_name: str) -> dict[str, Queued]:
    """The jobs of a name that are waiting or running, by number. Raises EnvironmentProblem where SLURM is silent."""
    words = ["squeue", "--noheader", "--name", job_name, "--format", "%i|%T|%r"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as problem:
        raise EnvironmentProblem(
            f"squeue does not answer ({problem}); run where SLURM's commands are, or with another profile"
        ) from problem
    rows = (line.split("|", 2) for line in told.splitlines() if line.count("|") >= 2)
    return {number: Queued(state, reason) for number, state, reason in rows}


@contextmanager
def slurm_pool(settings: ClusterSettings, folder: Path) -> Iterator[SlurmPool]:
    """Pools of SLURM jobs, which are cancelled at the end; the scheduler is in this process.

    folder: on a file system that all nodes see, for logs of jobs and, while they run, the credentials of the workers.
    """
    name, logs = f"mms-regions-{secrets.token_hex(3)}", folder / "jobs"
    with ExitStack() as open_until_end, for_main_alone():
        security = open_until_end.enter_context(_credentials(folder))
        open_until_end.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": _ALLOWED_FAILURES}))
        options = job_options(settings, "cpu", settings.cpu, name, logs)
        cluster = _Cluster(
            **options,
            interface=settings.interface or None,
            security=security,
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL + 1,
        )
        cluster = open_until_end.enter_context(cluster)
        client = open_until_end.enter_context(Client(cluster))
        opened = open_until_end.pop_all()
        with opened:
            pool = SlurmPool(client, cluster, settings, name, logs)
            opened = opened.pop_all()
    with opened:
        yield pool


@contextmanager
def _credentials(folder: Path) -> Iterator[Security]:
    """Temporary credentials of a run, as files that nobody else can read and that its workers take from there."""
    made, path = Security.temporary(), folder / f"credentials-{os.getpid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        files = {}
        for name in ("tls_ca_file", "tls_scheduler_cert", "tls_scheduler_key", "tls_worker_cert", "tls_worker_key"):
            files[name] = str(path / f"{name}.pem")
            _write_secret(path / f"{name}.pem", getattr(made, name))
        client = {"tls_client_cert": files["tls_worker_cert"], "tls_client_key": files["tls_worker_key"]}
        yield Security(require_encryption=True, **files, **client)
    finally:
        shutil.rmtree(path)


def _write_secret(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
