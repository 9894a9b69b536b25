"""The commands `config ...`: settings, their sources, profiles and their schema; and `jobs init`: scripts for SLURM."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.options import JsonOption, ProfileOption, at_home
from mms_regions.core.errors import UsageProblem

if TYPE_CHECKING:
    from pydantic import BaseModel

jobs = typer.Typer(help="Scripts for SLURM clusters.", no_args_is_help=True)
config = typer.Typer(help="Settings: effective values and their source; schema of profiles.", no_args_is_help=True)


@config.command("show")
def config_show(*, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Print each effective setting and its source: the environment, the profile or the default.

    A flag of `run` overrides them. The table `cluster` of the profile follows. Without --profile it is that of
    $MMS_REGIONS_PROFILE, else ~/.config/mms-regions/profile.toml, else that of the site.

    Example: mms-regions config show
    Example: mms-regions config show --profile slurm-gpu --json
    """
    from mms_regions.core.cluster_settings import resolve_run
    from mms_regions.core.settings import default_profile

    profile = profile or default_profile(os.environ)
    settings, cluster = resolve_run({}, os.environ, profile)
    rows = [
        (name, value, settings.origin[name])
        for name, value in settings.model_dump(mode="json").items()
        if name != "origin"
    ]
    rows += [(f"cluster.{name}", *entry) for name, entry in _flat(cluster, profile)]
    if as_json:
        print(json.dumps({name: {"value": value, "origin": origin} for name, value, origin in rows}))
    else:
        print("\n".join(f"{name:<24}{_shown(value):<28}{origin}".rstrip() for name, value, origin in rows))


@config.command("init")
def config_init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="laptop, slurm-cpu, slurm-gpu or allocation.")] = "laptop",
) -> None:
    """Print a shipped profile with every key explained, to be saved and changed.

    Example: mms-regions config init slurm-cpu > my.toml
    """
    from mms_regions.core.settings import shipped_profiles

    shipped = shipped_profiles()
    if name not in shipped:
        raise UsageProblem(f"There is no profile {name!r}; those that are shipped are {', '.join(shipped)}")
    print(shipped[name].read_text(), end="")


@config.command("schema")
def config_schema() -> None:
    """Print the JSON schema of a profile, the table `cluster` included, for editors that check TOML.

    Example: mms-regions config schema
    """
    from mms_regions.cli.schemas import profile_schema

    print(json.dumps(profile_schema(), indent=2))


def _flat(table: BaseModel, profile: Path | None) -> list[tuple[str, tuple[Any, str]]]:
    """Keys with dots, each with its value and its source."""
    from pydantic import BaseModel

    rows: list[tuple[str, tuple[Any, str]]] = []
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            rows += [(f"{name}.{inner}", entry) for inner, entry in _flat(value, profile)]
        else:
            rows.append((name, (value, f"profile {profile}" if name in table.model_fields_set else "default")))
    return rows


def _shown(value: Any) -> str:
    """Texts as they are, other values as JSON, which resembles TOML; `-` for what is not set."""
    return "-" if value in (None, "") else value if isinstance(value, str) else json.dumps(value)


@jobs.command("init")
def jobs_init(
    folder: Annotated[Path, typer.Argument(callback=at_home, help="A folder for the scripts.")] = Path("jobs"),
) -> None:
    """Write the job scripts and their README into a folder. A file that differs is not overwritten.

    Example: mms-regions jobs init jobs
    """
    from mms_regions.core.files import make_folder

    scripts = _scripts()
    changed = [name for name, data in scripts.items() if _differs(folder / name, data)]
    if changed:
        raise UsageProblem(f"{folder} has other files of these names: {', '.join(changed)}; give another folder")
    make_folder(folder)
    for name, data in scripts.items():
        (folder / name).write_bytes(data)
        print(folder / name)


def _scripts() -> dict[str, bytes]:
    """The files of jobs/ at the top level of the repository, which a wheel has inside the package."""
    package = Path(__file__).parents[1]
    places = (package / "jobs", package.parents[1] / "jobs")
    source = next(place for place in places if (place / "README.md").is_file())
    return {path.name: path.read_bytes() for path in sorted(source.iterdir()) if path.is_file()}


def _differs(path: Path, data: bytes) -> bool:
    return path.exists() and (not path.is_file() or path.read_bytes() != data)
