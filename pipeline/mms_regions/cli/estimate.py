"""The command `estimate`: B0 and n0 of intervals, from what was measured in them."""

from __future__ import annotations

import csv
import io
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
    DataDirOption,
    EventsOption,
    IntervalOption,
    JsonOption,
    ManifestOption,
    OfflineOption,
    ProbesOption,
    ProfileOption,
    SourceOption,
    WorkersOption,
    at_home,
    chosen_events,
    display,
)

if TYPE_CHECKING:
    from mms_regions.run.estimate import Estimated


def estimate(
    catalogue: CatalogueOrNone = None,
    *,
    interval: IntervalOption = None,
    events: EventsOption = None,
    probes: ProbesOption = None,
    data_dir: DataDirOption = None,
    offline: OfflineOption = None,
    source: SourceOption = None,
    archive_url: ArchiveUrlOption = None,
    manifest: ManifestOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", callback=at_home, help="A folder for scales.csv and a picture of each segment."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate B0 (lobe field) and n0 (density of the current sheet) of intervals, with standard errors.

    The estimates rest on pressure balance, so they are for current sheets of the magnetotail. scales.csv of --out is a
    catalogue that `run` takes. Exit code 4: some segments have no estimate.

    Example: mms-regions estimate --events A --data-dir ~/mms
    Example: mms-regions estimate --interval 2017-05-28T03:58:30/2017-05-28T03:59:15 --probes 4 --data-dir ~/mms --json
    """
    from mms_regions.core.settings import resolve_settings
    from mms_regions.run.estimate import Estimated, estimate_segments
    from mms_regions.workers.local import local_pool

    flags = {
        "data_dir": data_dir,
        "offline": offline,
        "source": source,
        "archive_url": archive_url,
        "manifest": manifest,
        "workers": workers,
    }
    settings = resolve_settings(flags, os.environ, profile)
    segments = chosen_events(catalogue, interval).segments(events, probes)
    with display(as_json) as observe:
        found = estimate_segments(segments, settings, local_pool, observe)
    estimates = {key: one for key, one in found.items() if isinstance(one, Estimated)}
    failed = {key: one for key, one in found.items() if not isinstance(one, Estimated)}
    if as_json:
        print(json.dumps({"segments": {key: as_row(one) for key, one in estimates.items()}, "failed": failed}))
    else:
        _print_table(estimates)
    for key, reason in failed.items():
        print(f"mms-regions: {key}: {reason}", file=sys.stderr)
    if out is not None:
        _write(out, estimates)
    if failed:
        raise typer.Exit(4)


def as_row(one: Estimated) -> dict[str, Any]:
    """An estimate as JSON and CSV have it: nT, cm^-3, eV; None where there is none."""
    event, scales = one.segment.event, one.scales
    return {
        "event": event.name,
        "t_start": str(event.t_start),
        "t_end": str(event.t_end),
        "probes": one.segment.probe,
        "B0": scales.b0,
        "n0": scales.n0,
        "B0_sigma": scales.b0_sigma,
        "n0_sigma": scales.n0_sigma,
        "method": scales.method,
        "B_q98": scales.b_q98,
        "temperature": scales.temperature,
        "beta_low": scales.beta[0],
        "beta_high": scales.beta[1],
        "lobe_seen": scales.lobe_seen,
        "sheet_seen": scales.sheet_seen,
        "catalogue_B0": event.B0,
        "catalogue_n0": event.n0,
        "cautions": "; ".join(scales.cautions),
    }


def _print_table(estimates: Mapping[str, Estimated]) -> None:
    head = f"{'segment':<24}{'B0 / nT':>14}{'n0 / cm^-3':>18}{'|B| q98':>9}{'Ti+Te/eV':>10}{'beta':>16}  seen"
    print(f"{head:<105}B0, n0 / catalogue's")
    for key, one in estimates.items():
        s = one.scales
        n0 = "-" if s.n0 is None else f"{s.n0:.3f} +- {s.n0_sigma:.3f}"
        hot = "-" if s.temperature is None else f"{s.temperature:,.0f}"
        seen = ", ".join(name for name, there in (("lobe", s.lobe_seen), ("sheet", s.sheet_seen)) if there) or "-"
        beta = f"{s.beta[0]:.2g} to {s.beta[1]:.3g}"
        row = f"{key:<24}{f'{s.b0:.1f} +- {s.b0_sigma:.1f}':>14}{n0:>18}{s.b_q98:>9.1f}{hot:>10}{beta:>16}  {seen}"
        print(f"{row:<105}{_compared(one)}".rstrip())
        for caution in s.cautions:
            print(f"    {caution}")


def _compared(one: Estimated) -> str:
    """Estimate over catalogue, of B0 and of n0."""
    pairs = ((one.scales.b0, one.segment.event.B0), (one.scales.n0, one.segment.event.n0))
    ratios = ["-" if a is None or b is None else f"{a / b:.2f}" for a, b in pairs]
    return "" if ratios == ["-", "-"] else ", ".join(ratios)


def _write(out: Path, estimates: Mapping[str, Estimated]) -> None:
    """scales.csv, and a picture of each segment."""
    from mms_regions.core.files import write_whole
    from mms_regions.report.scales_plot import scales_picture
    from mms_regions.report.segment_plot import save_picture

    out.mkdir(parents=True, exist_ok=True)
    rows = [as_row(one) | {"event": one.segment.folder} for one in estimates.values()]
    if rows:
        text = io.StringIO()
        table = csv.DictWriter(text, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_whole(out / "scales.csv", text.getvalue().encode())
    for key, one in estimates.items():
        title = f"{key}: B0 = {one.scales.b0:.1f} nT, " + (
            "n0 not estimated" if one.scales.n0 is None else f"n0 = {one.scales.n0:.3f} per cubic cm"
        )
        save_picture(scales_picture(one.time, one.balance, one.scales, title), out / f"{one.segment.folder}.png")
