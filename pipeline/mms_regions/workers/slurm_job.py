"""The SLURM job of one worker: what dask-jobqueue makes its script of."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import dask
from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.core import Status
from distributed.security import Security

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.workers.pool import Where
from mms_regions.workers.ports import ON_LOCALHOST
from mms_regions.workers.slurm_commands import command_environment
from mms_regions.workers.start import preloads

RESOURCES = {"cpu": "CPU", "gpu": "GPU"}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_MEMORY = ("--mem=", "--mem ", "--mem-per-")  # words of sbatch that exclude each other
# After `setup`, which may set a PYTHONPATH: its empty and relative entries are the working folder, whose files no job
# is to import. Scratch is on the node, never the home folder.
_PROLOGUE = """\
PYTHONPATH=$(IFS=:; set -f; for p in ${PYTHONPATH:-}; do case $p in /*) printf ':%s' "$p" ;; esac; done)
export PYTHONSAFEPATH=1 PYTHONPATH=${PYTHONPATH#:}
for SCRATCH in "${SLURM_TMPDIR:-}" "${TMPDIR:-}" /tmp; do [ -d "$SCRATCH" ] && [ -w "$SCRATCH" ] && break; done"""


class Job(SLURMJob):
    """A job that is submitted and cancelled with an environment that means what a profile says."""

    @staticmethod
    async def _call(cmd: list[str], **how: Any) -> str:
        answer: str = await SLURMJob._call(cmd, **how, env=command_environment(os.environ))
        return answer

    async def close(self) -> None:
        await super().close()  # type: ignore[no-untyped-call]
        self.status = Status.closed  # which it leaves unset, and asks for when the cluster closes


class JobCluster(SLURMCluster):
    """A cluster of such jobs."""

    job_cls = Job


def shipped_settings() -> dict[str, Any]:
    """The settings of dask-jobqueue as it comes, but the shebang: a profile alone says what a job asks for.

    For `dask.config.set`; else a queue or an account in ~/.config/dask would count without being shown.
    """
    shipped = dask.config.merge(*dask.config.defaults)["jobqueue"]["slurm"]
    return {"jobqueue.slurm": {**shipped, "shebang": dask.config.get("jobqueue.slurm.shebang")}}


def inherited_options(cluster: Any) -> dict[str, Any]:
    """What jobs have from their cluster, quoted: a shell reads it."""
    given = cluster._job_kwargs
    for_worker = given["security"].get_tls_config_for_role("worker")
    quoted = {name: shlex.quote(path) for name, path in for_worker.items() if path}
    security = Security(
        require_encryption=True,
        tls_ca_file=quoted["ca_file"],
        tls_worker_cert=quoted["cert"],
        tls_worker_key=quoted["key"],
    )
    interface = given["interface"]
    return {"protocol": given["protocol"], "interface": interface and shlex.quote(interface), "security": security}


def job_options(
    settings: ClusterSettings, where: Where, pool: PoolSettings, job_name: str, logs: Path
) -> dict[str, Any]:
    """What dask-jobqueue makes a job script of."""
    return {
        "cores": 1,
        "processes": 1,
        "job_cpu": pool.cores,
        "queue": pool.queue or None,
        "account": pool.account or None,
        "walltime": pool.walltime,
        "job_extra_directives": [*_directives(pool, logs), *pool.directives],
        "job_script_prologue": _prologue(settings, where, pool),
        "job_name": job_name,
        "log_directory": str(logs),
        "python": f"exec {_python(pool, where)} -P",
        "nanny": False,
        "death_timeout": 60,
        "local_directory": '"$SCRATCH"',
        "worker_extra_args": _worker_arguments(settings, where, pool),
        **_memory(pool),
    }


def _memory(pool: PoolSettings) -> dict[str, Any]:
    """No --mem where a directive says how much memory a job gets, or where the cluster decides."""
    skipped = ["#SBATCH -e ", "#SBATCH -o "]  # which no path with a space survives
    if not pool.memory or any(line.startswith(_MEMORY) for line in pool.directives):
        return {"memory": pool.memory or "0 B", "job_mem": "0", "job_directives_skip": [*skipped, "#SBATCH --mem="]}
    return {"memory": pool.memory, "job_directives_skip": skipped}


def _prologue(settings: ClusterSettings, where: Where, pool: PoolSettings) -> list[str]:
    threads = pool.cores if where == "gpu" else 1
    variables = [f"export {name}={threads}" for name in _THREADS]
    variables += ["export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False"]  # it only grows
    if not settings.has_dashboard:
        variables += ["export DASK_MMS_REGIONS__DASHBOARD=False"]
    # A worker that is ended while it reads a CDF file aborts; its memory is no file that anybody asked for.
    return ["set -e", "ulimit -S -c 0", *variables, *pool.setup, _PROLOGUE]


def _worker_arguments(settings: ClusterSettings, where: Where, pool: PoolSettings) -> list[str]:
    lifetime = f"$(( SECONDS < {pool.lifetime} ? {pool.lifetime} - SECONDS : 1 ))s"  # bash counts from the job's start
    arguments = {
        "--resources": f"{RESOURCES[where]}=1",
        "--lifetime": f'"{lifetime}"',
        "--lifetime-stagger": f"{pool.stagger}s",
        "--dashboard-address": ON_LOCALHOST,
    }
    words = [word for pair in arguments.items() for word in pair]
    # As an argument, for settings of Dask on the nodes are not those here; it takes the place of what they name.
    loaded = [word for module in preloads() for word in ("--preload", shlex.quote(module))]
    # A dashboard of its own would cost each worker a second: that of the scheduler shows them all.
    return [*words, *loaded, "--no-dashboard"]


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
    image = shlex.quote(str(Path(pool.image).expanduser()))
    return " ".join(["apptainer", "exec", *nv, *binds, image, "/opt/mms-regions/bin/python"])
