"""The commands `config ...`: effective settings and their sources, and the schema of profiles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mms_regions.cli.options import JsonOption, ProfileOption

if TYPE_CHECKING:
    from pydantic import BaseModel

config = typer.Typer(help="Settings: effective values and their source; schema of profiles.", no_args_is_help=True)


@config.command("show")
def config_show(*, profile: ProfileOption = None, as_json: JsonOption = False) -> None:
    """Print each effective setting and its source: the environment, the profile or the default.

    A flag of `run` overrides them. The table `cluster` of the profile follows.

    Example: mms-regions config show
    Example: mms-regions config show --profile slurm-gpu --json
    """
    from mms_regions.core.cluster_settings import resolve_run

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
