"""The command `report`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.options import (
    DataDirOption,
    EventsOption,
    JsonOption,
    ProbesOption,
    StoreArgument,
    WorkersOption,
    at_home,
)

if TYPE_CHECKING:
    from mms_regions.report.report import Reported


def report(
    store: StoreArgument,
    *,
    out: Annotated[
        Path, typer.Option("--out", callback=at_home, help="The output folder: new, empty, or an older report.")
    ],
    events: EventsOption = None,
    probes: ProbesOption = None,
    data_dir: DataDirOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an HTML report to read and share: OUT/index.html and a page with pictures for each event.

    It lists inputs, software and settings, failed segments and reasons, shares of regions, cautions, efficiency and
    methods, and opens in a browser without a network. Ion spectrograms need the CDF files (--data-dir). Of more than
    500 segments the table has several pages, and only events with failures, with cautions or without data have a
    page of their own, 500 segments at most; name events with --events, and each of these has one.

    Example: mms-regions report a.zarr --out report
    """
    from mms_regions.core.settings import resolve_settings
    from mms_regions.core.stop import heard_signals
    from mms_regions.report.report import write_report
    from mms_regions.run.status import planned_segments
    from mms_regions.run.trace import unreadable_lines
    from mms_regions.workers.local import local_pool

    settings = resolve_settings({"workers": workers, "data_dir": data_dir}, os.environ)
    segments = planned_segments(store, events, probes)
    with heard_signals() as stop:
        done = write_report(
            store,
            out,
            segments,
            pool=local_pool,
            workers=settings.processes(len(segments)),
            stop=stop,
            data_dir=settings.data_dir,
            draw_all=events is not None,
        )
    if as_json:
        print(json.dumps(_as_json(store, done)))
    else:
        print(done.index)
    if done.selection:
        print(f"mms-regions: {done.selection}", file=sys.stderr)
    if lines := unreadable_lines(store):
        print(f"mms-regions: warning: {lines}", file=sys.stderr)
    for why in done.failed.values():
        print(f"mms-regions: {why}", file=sys.stderr)
    if done.failed:
        raise typer.Exit(4)


def _as_json(store: Path, done: Reported) -> dict[str, Any]:
    from mms_regions.core.outcomes import by_cause

    return {
        "store": str(store),
        "index": str(done.index),
        "events": done.events,
        "pages": done.pages,
        "causes": {
            cause.value: {"status": cause.status.value, "means": cause.text, "count": len(keys), "segments": keys}
            for cause, keys in by_cause(done.causes).items()
        },
        "failed": dict(done.failed),
    }
