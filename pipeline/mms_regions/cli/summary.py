"""What `run` and `label` print at their end: counts, how much has a label and why the rest has none, and warnings."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mms_regions.model.coverage import Coverage
    from mms_regions.run.run import Summary

_MOST_ROWS = 12  # more segments are summed up


def print_summary(summary: Summary, store: Path, as_json: bool) -> None:
    """Print what the store holds now; exit code 4 if segments failed or have no data."""
    from mms_regions.cli.tables import print_segments

    warnings = _warnings(summary)
    if as_json:
        print(json.dumps(_as_json(summary, store, warnings)))
    else:
        print_segments(store, summary.complete)
        print("\n".join(_lines(summary, store)))
    for warning in warnings:
        print(f"mms-regions: warning: {warning}", file=sys.stderr)
    if summary.failed or summary.no_data:
        raise typer.Exit(4)


def _as_json(summary: Summary, store: Path, warnings: list[str]) -> dict[str, Any]:
    return {
        "store": str(store),
        "complete": list(summary.complete),
        "failed": dict(summary.failed),
        "no_data": dict(summary.no_data),
        "synthetic": list(summary.synthetic),
        "coverage": {key: one.to_json() for key, one in summary.coverage.items()},
        "scale_cautions": {key: list(found) for key, found in summary.doubts.items()},
        "causes": dict(summary.causes),
        "warnings": warnings,
    }


def _lines(summary: Summary, store: Path) -> Iterator[str]:
    from mms_regions.core.messages import counted

    without = f", {len(summary.no_data):,} without data" if summary.no_data else ""
    hint = f"; for the reasons run `mms-regions status {store}`" if summary.failed or without else ""
    complete = counted(len(summary.complete), "segment")
    yield f"{store}: {complete} complete, {len(summary.failed):,} failed{without}{hint}"
    yield from cause_lines(summary.causes)
    yield from _coverage_lines(summary.coverage)
    if summary.doubts:
        yield f"{_named(list(summary.doubts))}: B0 or n0 do not fit what was measured; `mms-regions report` says how"
    if summary.synthetic:
        yield f"{counted(len(summary.synthetic), 'segment')} made wholly or partly from SYNTHETIC data"


def cause_lines(causes: Mapping[str, str]) -> Iterator[str]:
    """Why segments have failed or have no data: a line for each cause, whatever number of segments has it."""
    from mms_regions.core.outcomes import by_cause

    for cause, keys in by_cause(causes).items():
        yield f"{cause.status.replace('_', ' ')}, {cause.text} ({len(keys):,}): {_named(keys)}"


def _coverage_lines(coverage: Mapping[str, Coverage]) -> Iterator[str]:
    """Why samples have no label, for each segment with such samples; of many segments those with the fewest labels."""
    from mms_regions.model.coverage import together

    rows = sorted(coverage.values(), key=lambda one: one.share)
    if len(rows) <= _MOST_ROWS:
        yield from (f"{key}: {one}" for key, one in coverage.items() if one.labelled < one.samples)
        return
    yield f"all segments: {together(rows)}"
    some = [one for one in rows[:_MOST_ROWS] if one.labelled < one.samples]
    if some:
        yield "with the fewest labels:"
    yield from (f"  {one.key}: {one}" for one in some)


def _warnings(summary: Summary) -> list[str]:
    from mms_regions.model.coverage import ENOUGH

    few = [key for key, one in summary.coverage.items() if one.share < ENOUGH]
    said = f"fewer than {ENOUGH:.0%} of the samples have a label, and not a random part of them"
    return [f"{_named(few)}: {said}"] if few else []


def _named(keys: list[str]) -> str:
    more = len(keys) - _MOST_ROWS
    return ", ".join(keys[:_MOST_ROWS]) + (f" and {more:,} more" if more > 0 else "")
