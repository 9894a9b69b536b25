"""Tables for people: fitted to the width of a terminal; complete lines where the output is a file or a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mms_regions.core.regions import Region
    from mms_regions.report.facts import Measured

_MANY = 12  # segments, of more only a part is shown after a run
_SMALL = 0.0005  # a share below it is not among the cautions
_SHORT = {"inflow": "in", "outflow": "out", "separatrix": "sep"}


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> None:
    """Print rows of texts; whatever they hold is shown as it is, for nothing in them is markup.

    numbers: the headings of columns that are aligned to the right.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(_rich_table(headings, rows, numbers))
        return
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        cells = [
            f"{cell:>{width}}" if name in numbers else f"{cell:<{width}}"
            for cell, width, name in zip(row, widths, headings, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str]) -> object:
    from rich.table import Column, Table
    from rich.text import Text

    columns = [
        Column(Text(name), justify="right" if name in numbers else "left", overflow="fold", no_wrap=name in numbers)
        for name in headings
    ]
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


@dataclass(frozen=True)
class ShownSegments:
    """Complete segments of a store with what a table says of each, and the regions of the model."""

    measured: dict[str, Measured]
    regions: tuple[Region, ...]
    problems: dict[str, str]


def measured_segments(store: Path, keys: Sequence[str]) -> ShownSegments:
    """What a table says of these segments, and nothing else of them, is read; what cannot be is among the problems."""
    from mms_regions.core.errors import DamagedStore
    from mms_regions.core.events import parse_key
    from mms_regions.core.regions import regions_of
    from mms_regions.report.facts import measure
    from mms_regions.store.arrays import open_arrays
    from mms_regions.store.read import naming_damage

    measured, problems, regions = dict[str, "Measured"](), dict[str, str](), tuple["Region", ...]()
    if not keys:
        return ShownSegments(measured, regions, problems)
    with naming_damage(store, "the index"):
        whole = open_arrays(store)
    for key in keys:
        try:
            with naming_damage(store, key):
                data = whole.segment(*parse_key(key))
                measured[key], regions = measure(data), regions_of(data["label"].attrs)
        except DamagedStore as problem:
            problems[key] = str(problem)
    return ShownSegments(measured, regions, problems)


def print_segments(store: Path, keys: Sequence[str], every: bool = False) -> None:
    """The table of segments that `run`, `label` and `show` print, its legend, and the cautions.

    every: also where there are many; else the first of them.
    """
    chosen = keys if every or len(keys) <= _MANY else keys[:_MANY]
    shown = measured_segments(store, chosen)
    if shown.measured:
        _print_measured(shown)
    for problem in shown.problems.values():
        print(problem)
    if len(chosen) < len(keys):
        print(f"... and {len(keys) - len(chosen)} more: mms-regions show {store}")


def _print_measured(shown: ShownSegments) -> None:
    from mms_regions.core.messages import percent
    from mms_regions.core.regions import by_kind

    regions = by_kind(shown.regions)
    names = [_short(region) for region in regions]
    headings = ["segment", "samples", "labelled", *names, "conf.", "cautions"]
    rows = []
    for key, one in shown.measured.items():
        shares = [f"{100 * one.regions[region.index]:.0f}" if one.labelled else "-" for region in regions]
        confidence = "-" if one.confidence is None else f"{one.confidence:.2f}"
        rows.append([key, str(one.samples), percent(one.labelled), *shares, confidence, str(len(cautions_of(one)))])
    print_table(headings, rows, numbers=headings[1:])
    legend = ", ".join(f"{name} = {region.title}" for name, region in zip(names, regions, strict=True))
    print(f"Shares of labels in %: {legend}. conf.: mean probability of the labels.")
    for key, one in shown.measured.items():
        if found := cautions_of(one):
            print(f"{key}: {'; '.join(found)}")


def cautions_of(one: Measured) -> list[str]:
    """What to be careful about in a segment, each as a few words with its share of the labels."""
    from mms_regions.core.messages import percent

    shares = {**one.cautions, "low_confidence": one.low_confidence}
    found = sorted(((share, name) for name, share in shares.items() if share >= _SMALL), reverse=True)
    return [f"{name.replace('_', ' ')} {percent(share)}" for share, name in found]


def _short(region: Region) -> str:
    """Such as `in N` for inflow_north."""
    if region.kind not in _SHORT:
        return region.title[:6]
    return f"{_SHORT[region.kind]} {region.side[:1].upper()}".strip()
