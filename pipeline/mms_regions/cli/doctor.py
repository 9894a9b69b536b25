"""The command `doctor`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mms_regions.cli.options import DataDirOption, JsonOption, ModelOption, ProfileOption, at_home, named_store
from mms_regions.core.errors import EnvironmentProblem

if TYPE_CHECKING:
    from rich.console import Console

    from mms_regions.doctor.finding import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def doctor(
    *,
    profile: ProfileOption = None,
    store: Annotated[Path | None, typer.Option("--store", callback=at_home, help="A store, existing or not.")] = None,
    data_dir: DataDirOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine against a profile. Exit code 5: it cannot work here; 0: it can, there may be warnings.

    Example: mms-regions doctor
    Example: mms-regions doctor --profile slurm-cpu --store all.zarr --data-dir ~/mms
    """
    from mms_regions.core.cluster_settings import resolve_run
    from mms_regions.doctor.doctor import diagnose

    settings, cluster = resolve_run({"data_dir": data_dir, "model": model}, os.environ, profile)
    findings = diagnose(settings, cluster, named_store(store) if store else None, os.environ)
    problems = [finding for finding in findings if finding.state == "problem"]
    if as_json:
        about = {"profile": str(profile) if profile else None, "cluster": cluster.kind, "works": not problems}
        print(json.dumps({**about, "findings": [asdict(finding) for finding in findings]}))
    else:
        _show(findings)
    if problems:
        named = f"The profile {profile}" if profile else "A run without a profile"
        raise EnvironmentProblem(f"{named} cannot work here: {', '.join(finding.what for finding in problems)}")


def _show(findings: Sequence[Finding]) -> None:
    """A table on a terminal, lines elsewhere; then a line of advice for each problem and warning."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        _show_table(console, findings)
    else:
        print("\n".join(f"{finding.what:<14}{finding.state:<9}{finding.found}" for finding in findings))
    print("\n".join(f"{finding.what}: {finding.advice}" for finding in findings if finding.advice))


def _show_table(console: Console, findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "state", "found", box=None, pad_edge=False)
    for finding in findings:
        table.add_row(finding.what, Text(finding.state, _COLOURS[finding.state]), Text(finding.found))
    console.print(table)
