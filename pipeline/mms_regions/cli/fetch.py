"""The commands `fetch`, and `serve-archive`, with which `fetch` can be tried without internet access."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.options import (
    ArchiveUrlOption,
    CatalogueOrNone,
    ConventionOption,
    DataDirOption,
    EventsOption,
    IntervalOption,
    JsonOption,
    ManifestOption,
    ProbesOption,
    ProfileOption,
    SourceOption,
    WorkersOption,
    at_home,
    chosen_events,
    display,
)

if TYPE_CHECKING:
    from mms_regions.archive.fetch import FetchPlan
    from mms_regions.run.prefetch import Fetched


def fetch(
    catalogue: CatalogueOrNone = None,
    *,
    interval: IntervalOption = None,
    events: EventsOption = None,
    probes: ProbesOption = None,
    data_dir: DataDirOption = None,
    source: SourceOption = None,
    archive_url: ArchiveUrlOption = None,
    manifest: ManifestOption = None,
    convention: ConventionOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be fetched, without fetching.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch the CDF files of events into the data folder and verify them, on a node with internet access.

    Then `mms-regions run --offline` uses them on any node.

    Example: mms-regions fetch --events A --data-dir ~/mms
    Example: mms-regions fetch --events A --data-dir ~/mms --dry-run
    """
    from mms_regions.core.settings import resolve_settings
    from mms_regions.run.prefetch import plan_prestage, prestage
    from mms_regions.workers.local import local_pool

    flags = {
        "data_dir": data_dir,
        "source": source,
        "archive_url": archive_url,
        "manifest": manifest,
        "convention": convention,
        "workers": workers,
    }
    settings = resolve_settings(flags, os.environ, profile)
    segments = chosen_events(catalogue, interval).segments(events, probes)
    with display(as_json) as observe:
        if dry_run:
            plans = plan_prestage(segments, settings, local_pool, observe)
        else:
            fetched = prestage(segments, settings, local_pool, observe)
    if dry_run:
        _report_plans(plans, as_json)
    else:
        _print_fetched(fetched, settings.data_dir, as_json)


def serve_archive(
    folder: Annotated[Path, typer.Argument(callback=at_home, help="A folder of CDF files in the layout of the SDC.")],
    *,
    port: Annotated[int, typer.Option("--port", help="0: any free port.")] = 0,
    delay: Annotated[float, typer.Option("--delay", help="Seconds before each answer.")] = 0.0,
) -> None:
    """Serve a folder on this machine as the archives do, until Ctrl-C.

    Example: mms-regions serve-archive synthetic --port 8181
    """
    from mms_regions.synthetic.archive_server import ArchiveServer

    archive = ArchiveServer(folder, delay=delay, port=port)
    print(f"--source sdc  --archive-url {archive.sdc_url}")
    print(f"--source spdf --archive-url {archive.spdf_url}", flush=True)
    try:
        archive.serve_forever()
    except KeyboardInterrupt:
        print("closed", file=sys.stderr)
    finally:
        archive.close()


def _print_fetched(fetched: Fetched, data_dir: Path | None, as_json: bool) -> None:
    """Print what was fetched; exit code 4 if something failed, or the archive has none of it."""
    from rich.filesize import decimal

    from mms_regions.core.messages import counted

    if as_json:
        result = {"complete": fetched.complete, "failed": dict(fetched.failed), "no_data": dict(fetched.no_data)}
        print(json.dumps({"data_dir": str(data_dir), **result, "files": fetched.files, "bytes": fetched.size}))
    else:
        for key, reason in [*fetched.failed.items(), *fetched.no_data.items()]:
            print(f"{key}: {reason}")
        without = f", {len(fetched.no_data):,} without data" if fetched.no_data else ""
        print(
            f"{data_dir}: {counted(len(fetched.complete), 'segment')} complete, "
            f"{len(fetched.failed):,} failed{without}; {counted(fetched.files, 'file')}, {decimal(fetched.size)}"
        )
    if fetched.failed or fetched.no_data:
        raise typer.Exit(4)


def _report_plans(plans: Mapping[str, FetchPlan | str], as_json: bool) -> None:
    """Print each file that would be fetched; exit code 4 if a segment could not be planned."""
    failed = {key: plan for key, plan in plans.items() if isinstance(plan, str)}
    complete = [plan for plan in plans.values() if not isinstance(plan, str)]
    transfers = [file for plan in complete for file in plan.to_transfer]
    if as_json:
        segments = {plan.key: _plan_as_json(plan) for plan in complete}
        size = sum(plan.bytes_to_transfer for plan in complete)
        print(json.dumps({"files": len(transfers), "bytes": size, "segments": segments, "failed": failed}))
    else:
        _print_plans(complete, failed)
    if failed:
        raise typer.Exit(4)


def _plan_as_json(plan: FetchPlan) -> dict[str, Any]:
    files = [{"name": file.name, "bytes": file.size, "state": file.state} for file in plan.files]
    return {"files": files, "bytes_to_transfer": plan.bytes_to_transfer, "remarks": plan.remarks}


def _print_plans(plans: list[FetchPlan], failed: Mapping[str, str]) -> None:
    from rich.filesize import decimal

    from mms_regions.core.messages import counted

    for plan in plans:
        files = f"{len(plan.to_transfer):,} of {counted(len(plan.files), 'file')}"
        print(f"{plan.key}: {files}, {decimal(plan.bytes_to_transfer)}")
        for file in plan.files:
            size = "size unknown" if file.size is None else decimal(file.size)
            print(f"    {file.state:<8}{size:>14}  {file.name}")
        for remark in plan.remarks:
            print(f"    {remark}")
    for key, reason in failed.items():
        print(f"{key}: {reason}")
    total = decimal(sum(plan.bytes_to_transfer for plan in plans))
    files = counted(sum(len(plan.to_transfer) for plan in plans), "file")
    print(f"{files} to transfer, {total}; nothing was fetched")
