"""Where a profile wants tasks to run: the table [cluster] of its TOML file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mms_regions.core.errors import InputProblem, UsageProblem, explain
from mms_regions.core.files import expanded, read_file
from mms_regions.core.settings import Settings, default_profile, read_profile, resolve_settings

_WALLTIME = re.compile(r"(?:(\d+)-)?(\d{1,3}):([0-5]\d):([0-5]\d)")
_MEMORY = re.compile(r"(?=.*[1-9])\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)
_SHORTEST = 60  # s, for SLURM counts minutes, and workers need some time to start


def _seconds(walltime: str) -> int:
    found = _WALLTIME.fullmatch(walltime)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0, 0)
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _walltime(text: str) -> str:
    if _seconds(text) < _SHORTEST:
        raise ValueError("must be a time such as 02:00:00 or 1-00:00:00, and a minute or more")
    return text


def _memory(text: str) -> str:
    if text and not _MEMORY.fullmatch(text):
        raise ValueError("must be an amount of memory such as 4 GB")
    return text


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


def _one_word(text: str) -> str:
    if not text.isprintable() or " " in text:
        raise ValueError("must be one word")
    return text


def _path(text: str) -> str:
    try:
        return str(expanded(Path(text))) if text.startswith("~") else text
    except UsageProblem as problem:
        raise ValueError(str(problem)) from None


Line = Annotated[str, AfterValidator(_one_line)]
PathLine = Annotated[Line, AfterValidator(_path)]
Word = Annotated[str, AfterValidator(_one_word)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PoolSettings(_Table):
    """Jobs of one kind: each is one worker. For the terms of SLURM see `man sbatch`."""

    jobs: int = Field(1, ge=1, le=10_000)
    queue: Word = ""  # partition
    account: Word = ""
    walltime: Annotated[str, AfterValidator(_walltime)] = "01:00:00"
    cores: int = Field(1, ge=1)
    memory: Annotated[str, AfterValidator(_memory)] = "4 GB"  # empty: no --mem, the cluster or a directive decides
    gres: Word = ""  # such as gpu:1
    constraint: Word = ""
    directives: tuple[Line, ...] = ()  # further #SBATCH lines, such as --qos=debug
    setup: tuple[Line, ...] = ()  # lines of shell before the worker starts, such as `module load apptainer`
    image: PathLine = ""  # a container of this project, .sif; empty: the Python that submits
    binds: tuple[Line, ...] = ()  # what the container sees of the machine, as apptainer's --bind takes it

    @property
    def seconds(self) -> int:
        """The wall time."""
        return _seconds(self.walltime)

    @property
    def stagger(self) -> int:
        """Seconds by which workers retire earlier or later than others, so that not all end at the same time."""
        return min(60, self.seconds // 20)

    @property
    def lifetime(self) -> int:
        """Seconds after which a worker retires, so that it ends before its wall time does."""
        return max(1, self.seconds - max(10, min(300, self.seconds // 5)) - self.stagger)


class ClusterSettings(_Table):
    """What kind of cluster. interface: of the network between nodes; empty: the one that the host's name stands for."""

    kind: Literal["local", "slurm", "allocation", "address"] = "local"
    address: PathLine = ""  # of a scheduler that runs already, or the path of its scheduler file
    interface: Word = ""
    dashboard: bool | None = None  # pages of Dask on the state of scheduler and workers, on localhost of each machine
    start_timeout: float = Field(600.0, gt=0, le=604_800)  # s, that the first worker of a pool may take
    cpu: PoolSettings = PoolSettings()
    gpu: PoolSettings | None = None  # labels; without it the cpu pool labels too

    @property
    def has_dashboard(self) -> bool:
        """Where nobody decides, not on this machine: its 2 s of CPU are more than a short run can spare."""
        return self.kind != "local" if self.dashboard is None else self.dashboard

    @model_validator(mode="after")
    def _address_where_needed(self) -> ClusterSettings:
        if (self.kind == "address") != bool(self.address):
            raise ValueError("kind = 'address' and an address belong together")
        return self

    @model_validator(mode="after")
    def _pools_where_used(self) -> ClusterSettings:
        if self.kind != "slurm" and {"cpu", "gpu"} & self.model_fields_set:
            raise ValueError("[cluster.cpu] and [cluster.gpu] need kind = 'slurm'")
        return self


def resolve_run(
    flags: Mapping[str, object], environ: Mapping[str, str], profile: Path | None
) -> tuple[Settings, ClusterSettings]:
    """Settings and cluster of a run, as `resolve_settings` and `read_cluster` give them.

    Raises one error with everything that is wrong in both.
    """
    profile = profile or default_profile(environ)
    cluster, wrong = ClusterSettings(), ""
    try:
        cluster = read_cluster(profile)
    except InputProblem as problem:
        wrong = str(problem)
    try:
        settings = resolve_settings(flags, environ, profile)
    except (InputProblem, UsageProblem) as problem:
        raise type(problem)("\n".join(dict.fromkeys(filter(None, (str(problem), wrong))))) from None
    if wrong:
        raise InputProblem(wrong)
    return settings, cluster


def read_cluster(profile: Path | None) -> ClusterSettings:
    """The cluster of a profile, local where it has none. Raises InputProblem with everything that is wrong."""
    try:
        return ClusterSettings.model_validate(read_profile(profile).get("cluster", {}))
    except ValidationError as problem:
        wrong = "; ".join(explain(problem).values())
        raise InputProblem(f"The table [cluster] of {profile} cannot be used: {wrong}. Correct it there.") from None


def scheduler_address(cluster: ClusterSettings) -> str:
    """The address of the scheduler that a profile names, from its scheduler file where the profile names that.

    Raises OSError, ValueError, TypeError or KeyError where such a file cannot be used.
    """
    if not cluster.address.endswith(".json"):
        return cluster.address
    return str(json.loads(read_file(Path(cluster.address)))["address"])
