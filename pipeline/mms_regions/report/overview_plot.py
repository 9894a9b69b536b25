"""Pictures of many segments: four spacecraft of an event and how they agree, and a catalogue as a table of strips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mms_regions.core.regions import Region, by_kind
from mms_regions.core.types import NO_LABEL, Floats, Times
from mms_regions.model.cautions import low_confidence_of
from mms_regions.physics.resample import nearest
from mms_regions.report.segment_plot import fade, shade_missing
from mms_regions.report.strips import (
    DAY,
    LEFT,
    SMALL,
    STRIP_INCHES,
    WIDTH,
    Strip,
    boxes,
    days,
    draw_region_legend,
    draw_strips,
    draw_title,
    gaps,
    hatch_boxes,
    inches_wide,
    ns,
    reach,
    runs,
    shortened,
    stack,
)
from mms_regions.store.plan import CADENCE_NS

ROWS_PER_OVERVIEW = 100
# Inches of a catalogue; full dots at 100 dots per inch, so that edges are sharp.
_ROW, _ABOVE, _BELOW, _MARGIN = 0.18, 1.0, 0.45, 0.2
_SHARES, _BETWEEN = 1.7, 0.65  # the column of shares, and space before it for durations
_KEY = 1.5  # the widest event
_FILLS = 7 / 9  # of a row, that its strip is high
_BETWEEN_EVENTS = 0.5  # rows
_POINTS = 7.5  # of words in a row
_SHORT = 0.1  # of the longest strip: shorter ones are magnified, by
_MAGNIFIED = (2, 5, 10, 20, 50, 100, 200, 500, 1000)


def event_overview(segments: Mapping[str, xr.Dataset], title: str, without: Mapping[str, str] | None = None) -> Figure:
    """The regions of an event as its spacecraft see them, above each other, and how far they agree.

    segments: by spacecraft ("mms1"), each as `store.open_segment` gives it. without: of spacecraft that have none, why;
    their rows are hatched and say it.
    Raises ValueError where there are no segments, one has no samples, or labels are not those of its regions.
    """
    if not segments:
        raise ValueError("an overview needs at least one segment: give complete segments of a store")
    labels = {spacecraft: data["label"] for spacecraft, data in segments.items()}
    rows = {spacecraft: -1.0 * row for row, spacecraft in enumerate(sorted({*segments, *(without or {})}))}
    strips = [Strip(spacecraft, rows[spacecraft], label) for spacecraft, label in labels.items()]
    figure, (regions, panel) = stack([1.4 * STRIP_INCHES * len(rows), 0.9], 1.3, list(labels.values()))
    draw_strips(regions, strips)
    regions.set_ylim(-len(rows) - 0.15, 0)
    regions.set_yticks([top - 0.5 for top in rows.values()], list(rows))
    for spacecraft, why in (without or {}).items():
        _draw_absent(regions, rows[spacecraft], why)
    for strip, data in zip(strips, segments.values(), strict=True):
        fade(regions, data, strip.top)
    _draw_agreement(panel, agreement(labels))
    draw_region_legend(figure, strips[0].regions, 0.4)
    draw_title(figure, title)
    low = max(low_confidence_of(data) for data in segments.values())
    said = (
        f"Upper half faded: confidence below {low:g}. Agreement: of the spacecraft with a label, the share "
        "with the most frequent one."
    )
    figure.text(LEFT / WIDTH, 0.3 / figure.get_figheight(), said, fontsize=SMALL, va="top")
    return figure


def _draw_absent(axes: Axes, top: float, why: str) -> None:
    """A row of a spacecraft without labels: hatched, with the reason."""
    across = axes.get_yaxis_transform()
    row = boxes(np.zeros(1), np.ones(1), top - 0.92, top - 0.02)
    hatch_boxes(axes, row, transform=across)
    words = shortened(why, axes.get_position().width * WIDTH - 0.6, SMALL)
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "parse_math": False}
    axes.text(0.5, top - 0.5, words, transform=across, bbox=paper, **style)


def _draw_agreement(axes: Axes, share: xr.DataArray) -> None:
    known = np.isfinite(share.values)
    shade_missing(axes, ns(share), known)
    x = days(ns(share))
    axes.fill_between(x, 0, share.values, where=known, color="0.8", step="mid", linewidth=0)
    axes.plot(x, share.values, color="black", linewidth=0.8, drawstyle="steps-mid")
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.set_ylabel("agreement (1)")


def agreement(labels: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Of the spacecraft that have a label at a time, the share whose label is the most frequent one; (time,) 0 to 1.

    labels: by spacecraft, (n,) int on `time`, -1 for none. Times are 30 ms apart, from the first sample of all to the
    last; each spacecraft counts with its nearest sample, if that is within half a cadence. NaN where fewer than two
    have a label. Raises ValueError where there are no samples.
    """
    found = {spacecraft: label for spacecraft, label in labels.items() if label.size}
    if not found:
        raise ValueError("there are no samples to compare: give labels of at least one spacecraft")
    times = [ns(label) for label in found.values()]
    grid = np.arange(min(time.min() for time in times), max(time.max() for time in times) + 1, CADENCE_NS)
    at = np.stack([_nearest(label, grid) for label in found.values()])
    counts = np.stack([(at == region).sum(axis=0) for region in range(at.max(initial=0) + 1)])
    labelled = counts.sum(axis=0)
    share = np.where(labelled >= 2, counts.max(axis=0) / np.maximum(labelled, 1), np.nan)
    attrs = {"units": "1", "long_name": "share of spacecraft with the most frequent label"}
    return xr.DataArray(share, coords={"time": grid.astype("datetime64[ns]")}, dims="time", attrs=attrs)


def _nearest(label: xr.DataArray, grid: Times) -> NDArray[np.integer[Any]]:
    """(len(grid),) the label of the nearest sample, NO_LABEL where none is within half a cadence."""
    order = np.argsort(ns(label), kind="stable")
    time, values = ns(label)[order], label.values[order]
    found = nearest(grid, time)
    near = np.abs(time[found] - grid) <= CADENCE_NS // 2
    return np.where(near, values[found], NO_LABEL)


@dataclass(frozen=True)
class OverviewRow:
    """A segment in a catalogue: its key ("A/mms4"), and its labels, (n,) int on `time`, or why it has none."""

    key: str
    labels: xr.DataArray | None
    reason: str = ""

    @property
    def event(self) -> str:
        return self.key.partition("/")[0]

    @property
    def spacecraft(self) -> str:
        return self.key.partition("/")[2]


def overview_pages(rows: Sequence[OverviewRow]) -> Iterator[Sequence[OverviewRow]]:
    """Rows for one picture each, at most ROWS_PER_OVERVIEW; the spacecraft of an event stay together."""
    page: list[OverviewRow] = []
    for _, group in groupby(rows, key=lambda row: row.event):
        event = list(group)
        if page and len(page) + len(event) > ROWS_PER_OVERVIEW:
            yield page
            page = []
        page += event
        while len(page) > ROWS_PER_OVERVIEW:  # an event of more rows than a page has
            yield page[:ROWS_PER_OVERVIEW]
            page = page[ROWS_PER_OVERVIEW:]
    if page:
        yield page


def catalogue_overview(rows: Sequence[OverviewRow], title: str) -> Figure:
    """A table of segments: event, spacecraft, a strip of regions, how long it is, the share of time of each region.

    All strips have one scale and begin with their first sample; one that is too short to be seen is magnified, and
    says so. Raises ValueError where there are no rows, one has no samples, or labels are not those of its regions.
    """
    if not rows:
        raise ValueError("an overview needs at least one row: choose segments that the store has")
    tops = _tops(rows)
    lines = {
        top: _timeline(Strip(row.key, top, row.labels))
        for top, row in zip(tops.tolist(), rows, strict=True)
        if row.labels is not None
    }
    figure, strips, shares, left = _columns(rows, 1 - tops[-1])
    _draw_keys(strips, rows, tops, left)
    _draw_reasons(strips, rows, tops)
    if lines:
        regions = next(iter(lines.values())).regions
        _draw_timelines(strips, lines)
        _draw_shares(shares, lines, regions)
        draw_region_legend(figure, regions, figure.get_figheight() - 0.72)
    else:
        strips.set(xticks=[], xlabel="")
        strips.spines[:].set_visible(False)
        shares.remove()
    draw_title(figure, title)
    return figure


@dataclass(frozen=True)
class _Timeline:
    """Runs of equal labels, begin and end in s since the segment begins; the share of time of each label, none last."""

    begin: Floats
    end: Floats
    label: NDArray[np.integer[Any]]
    shares: Floats
    regions: tuple[Region, ...]

    @property
    def seconds(self) -> float:
        return float(self.end.max())

    def magnified(self, scale: float) -> int:
        """How many times longer it is drawn, to be seen where the longest is `scale` (s) long."""
        if self.seconds >= _SHORT * scale:
            return 1
        return max((times for times in _MAGNIFIED if times * self.seconds <= 0.4 * scale), default=1)


def _timeline(strip: Strip) -> _Timeline:
    values, none = strip.labels.values, len(strip.regions)
    begin, end, label = runs(strip.labels)
    first = begin.min()
    counts = np.bincount(np.where(values == NO_LABEL, none, values), minlength=none + 1)
    return _Timeline((begin - first) * DAY, (end - first) * DAY, label, counts / values.size, strip.regions)


def _tops(rows: Sequence[OverviewRow]) -> Floats:
    """(rows,) the upper edges of rows, downwards from 0, with space between events."""
    new = [before.event != row.event for before, row in pairwise(rows)]
    return -np.arange(len(rows)) - _BETWEEN_EVENTS * np.cumsum([0, *new])


def _columns(rows: Sequence[OverviewRow], height: float) -> tuple[Figure, Axes, Axes, float]:
    """A figure with a column for strips and one for shares, of so many rows, and where the first begins, in inches."""
    left = _MARGIN + _widest([row.event for row in rows], "bold") + _widest([row.spacecraft for row in rows]) + 0.25
    tall = _ABOVE + height * _ROW + _BELOW
    figure = Figure(figsize=(WIDTH, tall))
    places = (left, WIDTH - left - _BETWEEN - _SHARES - _MARGIN), (WIDTH - _MARGIN - _SHARES, _SHARES)
    strips, shares = (
        figure.add_axes((x / WIDTH, _BELOW / tall, wide / WIDTH, height * _ROW / tall)) for x, wide in places
    )
    for axes, words in ((strips, "s since the first sample"), (shares, "share of time (%)")):
        axes.set_ylim(-height, 0)
        axes.set_yticks([])
        axes.tick_params(axis="x", labelsize=_POINTS, length=2, pad=2, top=True, labeltop=True)
        axes.spines[["left", "right"]].set_visible(False)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(words, fontsize=_POINTS)
    shares.set_xlim(0, 100)
    shares.set_xticks([0, 50, 100])
    return figure, strips, shares, left


def _widest(texts: Sequence[str], weight: str = "normal") -> float:
    """Inches, no more than _KEY."""
    return min(max(inches_wide(text, _POINTS, weight) for text in texts), _KEY)


def _draw_keys(axes: Axes, rows: Sequence[OverviewRow], tops: Floats, left: float) -> None:
    """Events, once for all their spacecraft, and spacecraft, at the left of their rows."""
    across = axes.get_yaxis_transform()
    inch = 1 / (axes.get_position().width * WIDTH)
    style: dict[str, Any] = {"transform": across, "fontsize": _POINTS, "va": "center", "parse_math": False}
    place = 0
    for event, group in groupby(rows, key=lambda row: row.event):
        many = len(list(group))
        middle = tops[place : place + many].mean() - 0.5
        axes.text((_MARGIN - left) * inch, middle, shortened(event, _KEY, _POINTS, "bold"), weight="bold", **style)
        place += many
    for row, top in zip(rows, tops, strict=True):
        axes.text(-0.08 * inch, top - 0.5, shortened(row.spacecraft, _KEY, _POINTS), ha="right", **style)


def _draw_reasons(axes: Axes, rows: Sequence[OverviewRow], tops: Floats) -> None:
    """In the place of a strip why there is none."""
    width = axes.get_position().width * WIDTH + _BETWEEN - 0.1
    for row, top in zip(rows, tops, strict=True):
        if row.labels is None:
            words = shortened(row.reason or "no labels", width, _POINTS)
            place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(0, top - 0.5, words, fontsize=_POINTS, parse_math=False, **place)


def _draw_timelines(axes: Axes, lines: Mapping[float, _Timeline]) -> None:
    """Strips of all rows in two collections, for there are thousands of runs; behind each how long it is."""
    scale = max(line.seconds for line in lines.values())
    corners, labels = [], []
    for top, line in lines.items():
        times = line.magnified(scale)
        # Each reaches a little beneath those after it: else white would shine through where edges share a pixel.
        beneath = np.minimum(reach(line.begin / DAY, line.end / DAY) * DAY, line.end + 0.01 * scale / times)
        end = np.where(line.label == NO_LABEL, line.end, beneath)
        missing = gaps(line.begin / DAY, line.end / DAY) * DAY
        spans = times * np.concatenate([np.column_stack([line.begin, end]), missing])
        corners.append(_row_of_boxes(spans[:, 0], spans[:, 1], top))
        labels.append(np.append(line.label, np.full(len(missing), NO_LABEL)))
        _draw_duration(axes, line, top, scale)
    regions = next(iter(lines.values())).regions
    _draw_boxes(axes, np.concatenate(corners), np.concatenate(labels), regions)
    axes.set_xlim(0, scale)
    if any(line.magnified(scale) > 1 for line in lines.values()):
        words = f"{axes.get_xlabel()}; a number behind a strip: it is drawn that many times longer"
        axes.set_xlabel(words)


def _draw_duration(axes: Axes, line: _Timeline, top: float, scale: float) -> None:
    style: dict[str, Any] = {"fontsize": _POINTS, "va": "center"}
    right = 1 + (_BETWEEN - 0.1) / (axes.get_position().width * WIDTH)
    digits = 0 if line.seconds >= 9.95 else 1 if line.seconds >= 0.95 else 2
    words = f"{line.seconds:.{digits}f} s"
    axes.text(right, top - 0.5, words, ha="right", transform=axes.get_yaxis_transform(), **style)
    times = line.magnified(scale)
    if times > 1:
        words = f"\N{MULTIPLICATION SIGN} {times}"
        axes.text(times * line.seconds + 0.01 * scale, top - 0.5, words, color="0.35", **style)


def _draw_shares(axes: Axes, lines: Mapping[float, _Timeline], regions: Sequence[Region]) -> None:
    """Shares of time on top of each other, both sides of a kind beside each other, those of no label last."""
    labels = np.array([*(region.index for region in by_kind(regions)), NO_LABEL])
    corners = []
    for top, line in lines.items():
        ends = 100 * np.cumsum(line.shares[labels])
        corners.append(_row_of_boxes(np.append(0, ends[:-1]), ends, top))
    _draw_boxes(axes, np.concatenate(corners), np.tile(labels, len(lines)), regions)


def _row_of_boxes(begin: Floats, end: Floats, top: float) -> Floats:
    return boxes(begin, end, top - (1 + _FILLS) / 2, top - (1 - _FILLS) / 2)


def _draw_boxes(axes: Axes, corners: Floats, labels: NDArray[np.integer[Any]], regions: Sequence[Region]) -> None:
    """Boxes (n, 4, 2) in the colours of their labels, in few artists."""
    none = labels == NO_LABEL
    colours = [regions[label].colour for label in labels[~none]]
    axes.add_collection(PolyCollection(list(corners[~none]), facecolors=colours, linewidth=0), autolim=False)
    hatch_boxes(axes, corners[none])
