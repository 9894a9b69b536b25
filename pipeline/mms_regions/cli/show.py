"""The command `show`: what a store says of its segments, and the stretches of one."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mms_regions.cli.options import JsonOption, MinDurationOption, StoreArgument

if TYPE_CHECKING:
    from mms_regions.cli.tables import ShownSegments

_HEADINGS = ("start (UTC)", "s", "region", "conf.", "|B| nT", "ni cm^-3", "vix km/s")
_COLUMNS = ("start", "duration", "region", "mean_confidence", "b_mag", "ni", "vi_x")


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
    from mms_regions.store.stretches import DEFAULT_SHORTEST, stretch_rows

    if segment is None:
        keys = [one.key for one in complete_segments(store)]
        rows: list[dict[str, Any]] = []
    else:
        event, probe = parse_key(segment)
        data, keys = load_segment(store, event, probe), [f"{event}/mms{probe}"]
        rows = list(stretch_rows(data, DEFAULT_SHORTEST if min_duration is None else min_duration))
    if as_json:
        print(json.dumps(_as_json(measured_segments(store, keys), rows)))
        return
    print_segments(store, keys, every=True)
    if rows:
        _print_stretches(rows)


def _as_json(shown: ShownSegments, stretches: list[dict[str, Any]]) -> dict[str, Any]:
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
