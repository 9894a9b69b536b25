"""Whether SLURM would start the jobs of a profile: `sbatch --test-only` takes each pool, and its partition is open."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.core.messages import counted
from mms_regions.doctor.finding import Finding, Unanswered, ask, program

_COMMANDS = ("sbatch", "squeue", "scancel")


def slurm(cluster: ClusterSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The commands of SLURM, and the pools of a profile that submits jobs."""
    sbatch = program("sbatch", environ)
    if cluster.kind == "allocation":
        yield _allocation(environ)
    elif cluster.kind != "slurm":
        yield Finding("SLURM", "ok", f"{'available' if sbatch else 'not available'}; this profile does not use it")
    elif missing := [name for name in _COMMANDS if not program(name, environ)]:
        advice = "run this on a login node, load the module of SLURM, or choose a profile that does not use SLURM"
        yield Finding("SLURM", "problem", f"not on the PATH: {', '.join(missing)}", advice)
    else:
        yield Finding("SLURM", "ok", f"sbatch in {Path(sbatch or '').parent}")
        yield _pool("cpu", cluster.cpu, environ)
        if cluster.gpu:
            yield _pool("gpu", cluster.gpu, environ)


def _allocation(environ: Mapping[str, str]) -> Finding:
    """A run of this kind is started by srun, which may be invisible from inside a container."""
    if srun := program("srun", environ):
        return Finding("SLURM", "ok", f"srun in {Path(srun).parent}")
    if environ.get("SLURM_JOB_ID"):
        return Finding("SLURM", "ok", f"inside job {environ['SLURM_JOB_ID']}")
    advice = "start the run with srun on a node of the cluster, or choose a profile that does not use SLURM"
    return Finding("SLURM", "problem", "no srun on the PATH, and this is not a SLURM job", advice)


def _pool(where: str, pool: PoolSettings, environ: Mapping[str, str]) -> Finding:
    advice = f"correct [cluster.{where}] of the profile (`sinfo` lists partitions), or ask the support of the cluster"
    try:
        ask(environ, "sbatch", "--test-only", *request(pool), "--wrap=true")
    except Unanswered as problem:
        return Finding(f"{where} pool", "problem", f"SLURM would refuse its jobs: {problem}", advice)
    if why := _why_pending(pool, environ):
        return Finding(f"{where} pool", "problem", f"its jobs would never start: {why}", advice)
    jobs = counted(pool.jobs, "job")
    return Finding(f"{where} pool", "ok", f"{jobs} in partition {pool.queue or '(default)'}; SLURM would accept them")


def _why_pending(pool: PoolSettings, environ: Mapping[str, str]) -> str:
    """Why jobs would wait for ever although sbatch accepts them, as it does unless EnforcePartLimits is set."""
    try:
        lines = ask(environ, "sinfo", "--noheader", "--format=%P|%a|%l").split()
    except Unanswered:
        return ""
    for name, state, limit in (line.split("|") for line in lines if line.count("|") == 2):
        if name.rstrip("*") == pool.queue or (name.endswith("*") and not pool.queue):
            if state != "up":
                return f"partition {name} is {state}"
            if pool.seconds > _seconds(limit):
                return f"walltime {pool.walltime} exceeds the limit of partition {name} ({limit})"
    return ""


def _seconds(limit: str) -> float:
    """A time limit as sinfo writes it, such as 1-00:00:00, 30:00 or infinite, in s."""
    if not limit[:1].isdigit():
        return math.inf
    days, _, clock = limit.rpartition("-")
    hours, minutes, seconds = [0, 0, *map(int, clock.split(":"))][-3:]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def request(pool: PoolSettings) -> list[str]:
    """The arguments of sbatch for a job of this pool."""
    named = {
        "partition": pool.queue,
        "account": pool.account,
        "time": pool.walltime,
        "cpus-per-task": str(pool.cores),
        "mem": _memory(pool.memory),
        "gres": pool.gres,
        "constraint": pool.constraint,
    }
    further = [arg for line in pool.directives for arg in shlex.split(line)]
    return [*(f"--{name}={value}" for name, value in named.items() if value), *further]


def _memory(text: str) -> str:
    """An amount of memory in SLURM's M, 2**20 bytes each; empty where none is requested."""
    found = re.findall(r"([\d.]+) ?([KMGT])(i?)", text, re.IGNORECASE)
    sizes = [float(n) * (1024 if binary else 1000) ** ("KMGT".index(unit.upper()) + 1) for n, unit, binary in found]
    return f"{math.ceil(sizes[0] / 2**20)}M" if sizes else ""
