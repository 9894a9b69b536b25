"""The commands `status`, `show` and `verify`."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.options import DataDirOption, JsonOption, MinDurationOption, StoreArgument
from mms_regions.cli.streams import reader_gone
from mms_regions.core.errors import DamagedStore, EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mms_regions.cli.tables import ShownSegments
    from mms_regions.run.status import Activity, SegmentStatus, StoreStatus
    from mms_regions.store.verify import Flaw

_EVERY = 2.0  # s
_MOST_ROWS = 30  # on a terminal that is watched
_MARKS = {"synthetic": "SYNTHETIC data", "mixed": "partly SYNTHETIC data"}
_HEADINGS = ("start (UTC)", "s", "region", "conf.", "|B| nT", "ni cm^-3", "vix km/s")
_COLUMNS = ("start", "duration", "region", "mean_confidence", "b_mag", "ni", "vi_x")
_CLEAR = "\x1b[2J\x1b[H"


def status(
    store: StoreArgument,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every 2 s until no run is active.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the state of each segment of a store: complete, prepared, running, failed, no data (with reasons), missing.

    During a run also who runs it, its workers and batch jobs, its rate, and the time left. With --watch and --json, one
    object per line.

    Example: mms-regions status a.zarr
    Example: mms-regions status a.zarr --watch
    """
    from mms_regions.run.status import store_status
    from mms_regions.run.trace import unreadable_lines

    found = store_status(store)
    while watch and found.run_by is not None and not reader_gone():
        _print_now(found, store, as_json)
        time.sleep(_EVERY)
        found = store_status(store)
    if as_json:
        print(_as_json(found, store))
    else:
        _show(found)
    if lines := unreadable_lines(store):
        print(f"mms-regions: warning: {lines}", file=sys.stderr)


def _show(found: StoreStatus) -> None:
    """The segments, why some have failed or have no data, in groups, and the counts."""
    from mms_regions.cli.summary import cause_lines
    from mms_regions.cli.tables import print_table

    print_table(
        ("segment", "state", "labels, or the reason"),
        [(row.segment.key, row.state.replace("_", " "), row.reason or _remark(row)) for row in found.segments],
    )
    print("\n".join([*cause_lines({row.segment.key: row.cause for row in found.segments}), _counts(found)]))


def _print_now(found: StoreStatus, store: Path, as_json: bool) -> None:
    """On a terminal, cleared first, the segments that are not complete; elsewhere the counts."""
    if as_json:
        print(_as_json(found, store), flush=True)
    elif sys.stdout.isatty():
        open_rows = [row for row in _rows(found) if " complete" not in row]
        shown = [*open_rows[:_MOST_ROWS], *(["..."] if len(open_rows) > _MOST_ROWS else [])]
        print(_CLEAR + "\n".join([*shown, _counts(found)]), flush=True)
    else:
        print(_counts(found), flush=True)


def _rows(found: StoreStatus) -> list[str]:
    remarks = [row.reason or _remark(row) for row in found.segments]
    return [
        f"{row.segment.key:<24}{row.state.replace('_', ' '):<10}{remark}".rstrip()
        for row, remark in zip(found.segments, remarks, strict=True)
    ]


def _remark(row: SegmentStatus) -> str:
    """How much of a complete segment has a label, and of which data it is."""
    parts = [str(row.coverage) if row.coverage else "", _MARKS.get(row.origin, "")]
    return "; ".join(filter(None, parts))


def _counts(found: StoreStatus) -> str:
    counts = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in found.counts.items() if n)
    return f"{counts}; in use by {found.run_by}; {found.activity}" if found.run_by else counts


def _as_json(found: StoreStatus, store: Path) -> str:
    owner = found.run_by
    rows = [
        {
            "segment": row.segment.key,
            "status": row.state,
            "reason": row.reason,
            "cause": row.cause,
            "origin": row.origin,
            "coverage": row.coverage.to_json() if row.coverage else None,
        }
        for row in found.segments
    ]
    run_by = {"command": owner.command, "host": owner.host, "pid": owner.pid, "since": owner.since} if owner else None
    about = {"store": str(store), "counts": found.counts, "run_by": run_by, "activity": _activity(found.activity)}
    return json.dumps({**about, "segments": rows})


def _activity(now: Activity | None) -> dict[str, float | None] | None:
    if now is None:
        return None
    about: dict[str, float | None] = {"workers": now.workers, "jobs": now.jobs}
    if pace := now.pace:
        about |= {f"{pace.noun}s_done": pace.done, f"{pace.noun}s": pace.total}
        about |= {"per_minute": pace.per_minute, "seconds_left": pace.seconds_left}
    return about


def show(
    store: StoreArgument,
    segment: Annotated[
        str | None, typer.Argument(metavar="SEGMENT", help="Such as A/mms4. Default: all, without stretches.")
    ] = None,
    *,
    min_duration: MinDurationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the table that `run` ends with: samples, labels, shares of regions, mean confidence, cautions.

    Of one segment also its stretches: intervals of equal labels.

    Example: mms-regions show a.zarr
    Example: mms-regions show a.zarr A/mms4
    """
    from mms_regions.cli.tables import measured_segments, print_segments
    from mms_regions.core.events import parse_key
    from mms_regions.run.status import complete_segments
    from mms_regions.store.read import load_segment
    from mms_regions.store.stretches import shortest_of, stretch_rows

    if segment is None:
        keys = [one.key for one in complete_segments(store)]
        rows: list[dict[str, Any]] = []
    else:
        event, probe = parse_key(segment)
        data, keys = load_segment(store, event, probe), [f"{event}/mms{probe}"]
        rows = list(stretch_rows(data, shortest_of(min_duration)))
    if as_json:
        print(json.dumps(_segments_as_json(measured_segments(store, keys), rows)))
        return
    print_segments(store, keys, every=True)
    if rows:
        _print_stretches(rows)


def _segments_as_json(shown: ShownSegments, stretches: list[dict[str, Any]]) -> dict[str, Any]:
    names = [region.name for region in shown.regions]
    segments = {
        key: {**asdict(one), "regions": dict(zip(names, one.regions, strict=True))}
        for key, one in shown.measured.items()
    }
    return {"segments": segments, "stretches": stretches}


def _print_stretches(rows: list[dict[str, Any]]) -> None:
    from mms_regions.cli.tables import print_table

    print()
    table = [[_cell(name, row[name]) for name in _COLUMNS] for row in rows]
    print_table(_HEADINGS, table, numbers=(_HEADINGS[1], *_HEADINGS[3:]))


def _cell(name: str, value: object) -> str:
    text = str(value).replace("_", " ")
    if name == "start":
        return text.partition("T")[2]
    if name in ("b_mag", "ni", "vi_x") and text:
        return f"{float(text):.3g}"
    return f"{float(text):.2f}" if name in ("duration", "mean_confidence") else text


def verify(
    store: StoreArgument,
    *,
    inputs: Annotated[bool, typer.Option("--inputs", help="Check the CDF files too.")] = False,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every file of a store, compare it with its checksum, and list what is damaged.

    Receipts of damaged shards are removed, so that the next `run` recomputes these shards and nothing else.

    Example: mms-regions verify a.zarr
    Example: mms-regions verify a.zarr --inputs --data-dir ~/mms
    """
    from mms_regions.core.messages import counted
    from mms_regions.store.verify import verify as verify_store

    found = verify_store(store)
    files, other = _verify_inputs(store, data_dir) if inputs else (0, [])
    flaws = [*found.flaws, *other]
    if as_json:
        print(json.dumps({"store": str(store), "files": found.files + files, "flaws": [_flaw(flaw) for flaw in flaws]}))
    else:
        print(
            "\n".join(
                [*map(str, flaws), f"{counted(found.files + files, 'file')} checked, {len(flaws):,} damaged or missing"]
            )
        )
    if found.flaws:
        _leave_to_run(store, found.flaws)
        raise DamagedStore(f"{store} is damaged; run the same `mms-regions run` command again to repair it")
    if other:
        raise EnvironmentProblem(f"{store}: some of its input files have changed")


def _verify_inputs(store: Path, data_dir: Path | None) -> tuple[int, Sequence[Flaw]]:
    from mms_regions.core.settings import resolve_settings
    from mms_regions.run.inputs import require_data_dir
    from mms_regions.store.verify import verify_inputs

    settings = resolve_settings({"data_dir": data_dir}, os.environ)
    return verify_inputs(store, require_data_dir(settings))


def _leave_to_run(store: Path, flaws: Sequence[Flaw]) -> None:
    """Receipts can only be removed by a user who may write to the store."""
    from mms_regions.store.verify import set_aside

    try:
        set_aside(store, flaws)
    except EnvironmentProblem as problem:
        print(f"mms-regions: the damage cannot be recorded for the next run: {problem}", file=sys.stderr)


def _flaw(flaw: Flaw) -> dict[str, object]:
    return {"file": str(flaw.file), "what": flaw.what, "array": flaw.array, "segments": list(flaw.segments)}
