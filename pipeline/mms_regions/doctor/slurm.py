"""Whether SLURM would take the jobs of a profile: its commands, its partitions, and what sbatch says to each pool."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.doctor.finding import Finding, Unanswered, ask, program

_COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")


@dataclass(frozen=True)
class Partition:
    """limit: the longest wall time as SLURM writes it, such as 1-00:00:00 or infinite."""

    name: str
    state: str
    limit: str

    @property
    def seconds(self) -> float:
        """The longest wall time in s."""
        if not self.limit[:1].isdigit():
            return math.inf
        days, _, clock = self.limit.rpartition("-")
        hours, minutes, seconds = [0, 0, *map(int, clock.split(":"))][-3:]
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def slurm(cluster: ClusterSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The commands, and where the profile submits jobs its pools."""
    match cluster.kind:
        case "slurm":
            yield _commands(environ)
            if program("sinfo", environ):
                yield from _pools(cluster, environ)
        case "allocation":
            yield _allocation(environ)
        case _:
            here = "there" if program("sbatch", environ) else "not there"
            yield Finding("SLURM", "ok", f"{here}, and this profile does not use it")


def _commands(environ: Mapping[str, str]) -> Finding:
    missing = [name for name in _COMMANDS if not program(name, environ)]
    if missing:
        advice = "run this on a login node, load the module of SLURM, or choose a profile that is not for SLURM"
        return Finding("SLURM", "problem", f"not on the PATH: {', '.join(missing)}", advice)
    return Finding("SLURM", "ok", f"sbatch in {Path(program('sbatch', environ) or '').parent}")


def _allocation(environ: Mapping[str, str]) -> Finding:
    """srun starts a run of this kind; inside a container it may be out of sight."""
    if program("srun", environ):
        return Finding("SLURM", "ok", f"srun in {Path(program('srun', environ) or '').parent}")
    if environ.get("SLURM_JOB_ID"):
        return Finding("SLURM", "ok", f"inside job {environ['SLURM_JOB_ID']}")
    advice = "start the run by srun on a node of the cluster, or choose a profile that is not for SLURM"
    return Finding("SLURM", "problem", "no srun on the PATH, and this is no job of SLURM", advice)


def _pools(cluster: ClusterSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        known = partitions(environ)
    except Unanswered as problem:
        yield Finding("partitions", "problem", str(problem), "see whether `sinfo` answers; ask who runs the cluster")
        return
    yield _pool("cpu", cluster.cpu, known, environ)
    if cluster.gpu:
        yield _pool("gpu", cluster.gpu, known, environ)


def partitions(environ: Mapping[str, str]) -> dict[str, Partition]:
    """Those that sinfo names, by name; under the empty name the default. Raises Unanswered where it fails."""
    found = {}
    for line in ask(environ, "sinfo", "--noheader", "--format=%P|%a|%l").splitlines():
        marked, state, limit = [*line.strip().split("|"), "", ""][:3]
        partition = Partition(marked.rstrip("*"), state, limit)
        found[partition.name] = partition
        if marked.endswith("*"):
            found[""] = partition
    return found


def _pool(where: str, pool: PoolSettings, known: Mapping[str, Partition], environ: Mapping[str, str]) -> Finding:
    what, table = f"{where} pool", f"[cluster.{where}] of the profile"
    partition = known.get(pool.queue)
    if partition is None:
        names = ", ".join(name for name in known if name) or "none"
        said = f"there is no partition {pool.queue!r}" if pool.queue else "no queue is named, and there is no default"
        return Finding(what, "problem", said, f"set queue in {table} to a partition; there are: {names}")
    if partition.state != "up":
        advice = f"wait until it is up, or set queue in {table} to another"
        return Finding(what, "problem", f"partition {partition.name} is {partition.state}", advice)
    if pool.seconds > partition.seconds:
        said = f"walltime {pool.walltime} is more than partition {partition.name} allows ({partition.limit})"
        return Finding(what, "problem", said, f"set walltime or queue in {table}")
    try:
        ask(environ, "sbatch", "--test-only", *request(pool), "--wrap=true")
    except Unanswered as problem:
        said = f"SLURM would not take its jobs: {problem}"
        return Finding(what, "problem", said, f"correct {table}, or ask who runs the cluster")
    return Finding(what, "ok", f"{pool.jobs} jobs in partition {partition.name}, which is up; SLURM would take them")


def request(pool: PoolSettings) -> list[str]:
    """What the jobs of a pool ask for, as words of sbatch."""
    named = {
        "partition": pool.queue,
        "account": pool.account,
        "time": pool.walltime,
        "cpus-per-task": str(pool.cores),
        "mem": _memory(pool.memory),
        "gres": pool.gres,
        "constraint": pool.constraint,
    }
    words = [word for line in pool.directives for word in shlex.split(line)]
    return [*(f"--{name}={value}" for name, value in named.items() if value), *words]


def _memory(text: str) -> str:
    """An amount of memory as dask-jobqueue writes it for SLURM, whose G is 2**30 bytes."""
    number, unit, binary = re.findall(r"([\d.]+) ?([KMGT])(i?)", text, re.IGNORECASE)[0]
    size = float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit.upper()) + 1)
    return f"{math.ceil(size / 2**30)}G" if size >= 2**30 else f"{math.ceil(size / 2**20)}M"
