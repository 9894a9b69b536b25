"""The settings of a run, in order of precedence: flag, environment, profile, default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mms_regions.core.errors import InputProblem, MMSRegionsError, UsageProblem, explain
from mms_regions.core.files import FAILPOINT, expanded, read_file
from mms_regions.core.types import CHUNK, WINDOW

PREFIX = "MMS_REGIONS_"
_CHANGE_RESULTS = ("convention", "margin", "bridge")
_CHANGE_CORRECTED = ("electrons", "electron_average", "edp_quality")  # in the corrected convention
_OTHER_TABLES = ("cluster",)  # of a profile; cluster_settings reads it


def usable_cpus(environ: Mapping[str, str], root: Path = Path("/")) -> int:
    """How many CPUs this process may use: what a batch system or a container granted, not what the machine has.

    That is the least of what it is bound to, SLURM_CPUS_PER_TASK, and the quotas of its control groups. root: above
    `proc` and `sys`.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    per_task = environ.get("SLURM_CPUS_PER_TASK", "")
    granted = [int(per_task)] if per_task.isascii() and per_task.isdigit() else []
    return max(1, min([bound, *granted, *map(int, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs by the quota of each control group that the process is in: version 2, or `cpu` of version 1."""
    for path, numbers in _groups(root):
        with suppress(OSError, ValueError, IndexError, ZeroDivisionError):
            used, period = " ".join((path / name).read_text() for name in numbers).split()[:2]
            if used not in ("max", "-1"):
                yield int(used) / int(period)


def _groups(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The folders of the control groups, also of those above, and the files that have quota and period."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    top = root / "sys/fs/cgroup"
    for _, controllers, name in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        files: tuple[str, ...] = ("cpu.max",)
        if controllers == "":
            mount = top
        elif "cpu" in controllers.split(","):
            mount, files = top / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        group = mount / name.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield folder, files


def _no_bool(value: object) -> object:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise ValueError("is true or false, not a number")
    return value


def _folder(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise ValueError("is not the path of a folder")
    try:
        return str(expanded(Path(value)).absolute())  # pydantic makes it a Path, also from JSON
    except UsageProblem as problem:
        raise ValueError(str(problem)) from None


def _address(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("is not the address of a web server")
    return value.rstrip("/")


def _whole_chunks(samples: int) -> int:
    if samples % WINDOW or samples % min(CHUNK, samples):
        raise ValueError("does not hold whole windows and whole chunks")
    return samples


Whole = Annotated[int, BeforeValidator(_no_bool)]
Seconds = Annotated[float, BeforeValidator(_no_bool), Field(ge=0, le=3600, allow_inf_nan=False)]


class Settings(BaseModel):
    """Settings of a run. Descriptions say what is allowed; times are in s, samples are electron samples (30 ms).

    Made by `resolve_settings`, or by hand, which raises pydantic.ValidationError. `origin` says where each value
    is from, such as {"workers": "flag --workers", "margin": "default"}.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Annotated[Path | None, BeforeValidator(_folder)] = Field(None, description="the path of a folder")
    offline: bool = Field(False, description="true or false")
    convention: Literal["corrected", "published"] = Field("corrected", description="corrected or published")
    model: str = Field("auto", min_length=1, description="auto, the name of a model or the path of one")
    source: Literal["sdc", "spdf"] = Field("sdc", description="sdc or spdf")
    archive_url: Annotated[str, AfterValidator(_address)] = Field(
        "", description="the address of a web server, http:// or https://"
    )
    manifest: Annotated[Path | None, BeforeValidator(_folder)] = Field(None, description="the path of a manifest.json")
    transfers: Whole = Field(4, ge=1, le=64, description="a whole number of requests at once, from 1 to 64")
    workers: Whole = Field(
        default_factory=lambda: min(4, usable_cpus(os.environ)),
        ge=0,
        description="a whole number, 0 (no processes) or more",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto, cpu or cuda")
    shard_samples: Annotated[Whole, AfterValidator(_whole_chunks)] = Field(
        65536, ge=1024, description="a multiple of 32 from 1024 to 8192, or a multiple of 8192"
    )
    margin: Seconds = Field(1.0, description="seconds loaded around an interval, from 0 to 3600")
    bridge: Seconds = Field(0.15, description="seconds, the longest gap that is interpolated, from 0 to 3600")
    electrons: Literal["robust", "strict"] = Field(
        "robust", description="robust (average thin electrons) or strict (mask those below 0.05 cm^-3)"
    )
    electron_average: Annotated[float, BeforeValidator(_no_bool)] = Field(
        0.3, ge=0, le=0.3, allow_inf_nan=False, description="seconds, the longest mean of thin electrons, from 0 to 0.3"
    )
    edp_quality: Whole = Field(
        2, ge=0, le=4, description="a whole number from 0 to 4, the least quality of EDP that is used"
    )
    perturb: Annotated[float | None, BeforeValidator(_no_bool)] = Field(
        None, ge=0, le=0.5, allow_inf_nan=False, description="a fraction from 0 (off) to 0.5"
    )
    draws: Annotated[int | None, BeforeValidator(_no_bool)] = Field(
        None, ge=0, le=256, description="a whole number of draws of B0 and n0 from 1 to 256, or 0 (off)"
    )
    seed: Annotated[int | None, BeforeValidator(_no_bool)] = Field(
        None, ge=0, lt=2**31, description="a whole number, 0 or more, that draws of B0 and n0 follow from"
    )
    segments_in_flight: Whole = Field(3, ge=1, description="a whole number per worker, 1 or more")
    attempts: Whole = Field(
        2,
        ge=1,
        le=10,
        description="a whole number of attempts of a task, from 1 to 10",
    )
    grace: Seconds = Field(30.0, description="seconds for pending writes after a stop request, from 0 to 3600")
    label_windows: Whole = Field(65536, ge=1, description="a whole number of windows per labelling task, 1 or more")
    origin: dict[str, str] = Field(default_factory=dict, repr=False)

    def processes(self, tasks: int) -> int:
        """Worker processes for so many tasks at once: for one alone none, unless somebody chose a number of workers.

        To start a process and a scheduler takes longer than most tasks.
        """
        return 0 if tasks <= 1 and self.origin.get("workers") == "default" else self.workers

    def result_settings(self) -> dict[str, str | float]:
        """The settings that change the stored numbers, ready for JSON; all others are provenance."""
        names = _CHANGE_RESULTS + (_CHANGE_CORRECTED if self.convention == "corrected" else ())
        return {name: getattr(self, name) for name in names}


# Variables that are not settings.
PROFILE_VARIABLE = f"{PREFIX}PROFILE"
_FURTHER_VARIABLES = (
    PROFILE_VARIABLE,
    f"{PREFIX}MODEL_DIR",  # model/card
    f"{PREFIX}IMAGE",  # run/provenance, set in containers
    f"{PREFIX}REVISION",  # the same
    FAILPOINT,
    f"{PREFIX}REFERENCE",  # tests
    f"{PREFIX}PUBLISHED",  # benchmarks
)
_ALLOWED = {name: str(field.description) for name, field in Settings.model_fields.items() if name != "origin"}


@dataclass(frozen=True)
class _Given:
    """A value that somebody gave, where, and the kind of problem that it is if it is bad."""

    value: object
    origin: str
    problem: type[MMSRegionsError]


def resolve_settings(flags: Mapping[str, object], environ: Mapping[str, str], profile: Path | None = None) -> Settings:
    """The settings of a run, each with its origin.

    flags: by field name; None is "not given". environ: MMS_REGIONS_WORKERS and so on; an empty text is "not given";
    data_dir is also taken from MMS_DATA_DIR, then SPEDAS_DATA_DIR/mms. profile: a TOML file of top-level keys,
    None for the one of `default_profile`; a table [cluster] in it is left to cluster_settings.
    Raises UsageProblem if a flag or an environment variable is bad, InputProblem if only the profile is; both name
    everything that is wrong.
    """
    profile = profile or default_profile(environ)
    layers = (_from_profile(profile), _from_environment(environ), _from_flags(flags))
    given = {name: value for layer in layers for name, value in layer.items()}
    origin = {name: given[name].origin if name in given else "default" for name in _ALLOWED}
    wrong = {name: _unknown(name) for name in given.keys() - _ALLOWED.keys()}
    known = {name: value.value for name, value in given.items() if name in _ALLOWED}
    try:
        settings = Settings.model_validate({**known, "origin": origin})
    except ValidationError as problem:
        wrong |= explain(problem, allowed=_ALLOWED)
    if wrong:
        raise _refusal([(given[name], wrong[name]) for name in given if name in wrong])
    return settings


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    return {
        name: _Given(value, f"flag --{name.replace('_', '-')}", UsageProblem)
        for name, value in flags.items()
        if value is not None
    }


def known_variables() -> tuple[str, ...]:
    """The variables MMS_REGIONS_... that exist."""
    return (*(PREFIX + name.upper() for name in _ALLOWED), *_FURTHER_VARIABLES)


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    """Values by setting; those of variables that do not exist by the name of the variable."""
    misspelt = [name for name in environ if name.startswith(PREFIX) and name not in known_variables()]
    given = {name: _variable(environ, name) for name in misspelt}
    given |= {name: _variable(environ, PREFIX + name.upper()) for name in _ALLOWED}
    given["data_dir"] = given["data_dir"] or _variable(environ, "MMS_DATA_DIR") or _spedas_folder(environ)
    return {name: value for name, value in given.items() if value is not None}


def _variable(environ: Mapping[str, str], variable: str) -> _Given | None:
    value = environ.get(variable)
    return _Given(value, f"environment {variable}", UsageProblem) if value else None


def _spedas_folder(environ: Mapping[str, str]) -> _Given | None:
    root = environ.get("SPEDAS_DATA_DIR")
    return _Given(str(Path(root) / "mms"), "environment SPEDAS_DATA_DIR", UsageProblem) if root else None


def shipped_profiles() -> dict[str, Path]:
    """The profiles that come with the package, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "profiles").glob("*.toml"))}


def find_profile(named: Path) -> Path:
    """The shipped profile of this name, otherwise the path itself, whether the file exists or not."""
    return shipped_profiles().get(str(named), named)


def default_profile(environ: Mapping[str, str]) -> Path | None:
    """The profile where none is named: of $MMS_REGIONS_PROFILE, else of the user, else of the site; None without one.

    The user's is ~/.config/mms-regions/profile.toml, the site's /etc/xdg/mms-regions/profile.toml; $XDG_CONFIG_HOME and
    $XDG_CONFIG_DIRS move them.
    """
    if named := environ.get(PROFILE_VARIABLE):
        return find_profile(expanded(Path(named)))
    home = environ.get("HOME")
    if not home:
        return None
    folders = [environ.get("XDG_CONFIG_HOME") or f"{home}/.config"]
    folders += (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    paths = (Path(folder) / "mms-regions" / "profile.toml" for folder in folders if folder.startswith("/"))
    return next((path for path in paths if path.is_file()), None)


def read_profile(profile: Path | None) -> dict[str, Any]:
    """The contents of a TOML file; empty without a profile. Raises InputProblem where it cannot be read."""
    if profile is None:
        return {}
    try:
        return tomllib.loads(read_file(profile).decode("utf-8-sig"))
    except FileNotFoundError:
        names = ", ".join(shipped_profiles())
        raise InputProblem(f"There is no profile {profile}; give the path of a TOML file, or one of {names}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InputProblem(f"The profile {profile} is not TOML: {problem}. Correct it there.") from None
    except OSError as problem:
        raise InputProblem(f"The profile {profile} cannot be read: {problem.strerror}. Give a TOML file.") from None


def _from_profile(profile: Path | None) -> dict[str, _Given]:
    return {
        name: _Given(value, f"profile {profile}", InputProblem)
        for name, value in read_profile(profile).items()
        if name not in _OTHER_TABLES
    }


def _unknown(name: str) -> str:
    if name.startswith(PREFIX):
        (nearest,) = get_close_matches(name, known_variables(), n=1, cutoff=0.0)
        return f"there is no such variable; did you mean {nearest}? docs/command-line.md lists all"
    return f"there is no setting {name!r}; settings are {', '.join(_ALLOWED)}"


def _refusal(wrong: Sequence[tuple[_Given, str]]) -> MMSRegionsError:
    kind = UsageProblem if any(given.problem is UsageProblem for given, _ in wrong) else InputProblem
    lines = [f"  {given.origin}: {said}." for given, said in wrong]
    return kind("\n".join(["These settings cannot be used:", *lines]))
