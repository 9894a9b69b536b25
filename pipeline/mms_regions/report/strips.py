"""Strips of regions along time, their colours, and the time axis they share with other panels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from mms_regions.core.regions import Region, by_kind, regions_of
from mms_regions.core.types import NO_LABEL, SECOND, Floats, Times
from mms_regions.store.plan import CADENCE, CADENCE_NS

NO_LABEL_STYLE: Mapping[str, Any] = {"facecolor": "white", "edgecolor": "0.45", "hatch": "//////", "linewidth": 0}

STRIP_INCHES = 0.25
WIDTH = 10.0  # inches, of each picture
LEFT, RIGHT, TOP = 1.3, 0.85, 0.5  # inches beside and above panels
SMALL = 8.3  # points
GAP = 0.4  # rows between strips of different spacecraft
_STRIP_FILLS = 0.92  # share of its row
DAY = 86_400.0  # s
_POWER = re.compile(r"(?:\^|(?<=[A-Za-z]))(-?\d+)")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Strip:
    """Regions along time, drawn in the row that ends at height `top` and is 1 high; labels: (n,) int on `time`.

    Raises ValueError for no labels, for attributes that do not name the regions, and for labels that are no region.
    """

    name: str
    top: float
    labels: xr.DataArray

    def __post_init__(self) -> None:
        if not self.labels.size:
            raise ValueError(f"{self.name}: there are no samples to draw; give complete segments of a store")
        last = len(self.regions) - 1
        unknown = [label for label in np.unique(self.labels.values).tolist() if not NO_LABEL <= label <= last]
        if unknown:
            raise ValueError(f"{self.name}: labels {unknown} are no regions; use 0 to {last}, and {NO_LABEL} for none")

    @property
    def regions(self) -> tuple[Region, ...]:
        return regions_of(self.labels.attrs)


def superscript(unit: str) -> str:
    """A unit of an attribute, such as `nW m^-3` or `cm-3`, with superscripts of Unicode: nW m⁻³, cm⁻³.

    Formulas of matplotlib look the same, and take a quarter of the time of a picture.
    """
    return _POWER.sub(lambda power: power[1].translate(_RAISED), unit)


def stack(
    heights: Sequence[float], bottom: float, series: Sequence[xr.DataArray], gap: float = 0.13
) -> tuple[Figure, list[Axes]]:
    """A figure with panels of these heights beneath each other, with margins for text, on one time axis.

    It goes from the first to the last sample of any of the series. All in inches: where edges are known beforehand
    nothing has to be drawn to find them, which takes twice as long.
    """
    tall = TOP + sum(heights) + gap * (len(heights) - 1) + bottom
    figure, panels, y = Figure(figsize=(WIDTH, tall)), list[Axes](), tall - TOP
    wide = WIDTH - LEFT - RIGHT
    for height in heights:
        y -= height
        axes = figure.add_axes((LEFT / WIDTH, y / tall, wide / WIDTH, height / tall))
        axes.tick_params(labelsize=SMALL)
        axes.yaxis.label.set_fontsize(SMALL)
        axes.yaxis.set_label_coords(-0.72 / wide, 0.5)
        axes.xaxis.set_label_coords(0.5, -0.27 / height)
        panels.append(axes)
        y -= gap
    _draw_time_axis(panels, series)
    return figure, panels


def _draw_time_axis(panels: Sequence[Axes], series: Sequence[xr.DataArray]) -> None:
    """UTC as HH:MM:SS beneath the last panel, with the date; in the others lines at the same times.

    Panels share no axis: each would make and draw ticks of its own, which takes a third of the time of a picture.
    """
    times = np.concatenate([ns(one) for one in series])
    ends = np.array([times.min() - CADENCE_NS // 2, times.max() + CADENCE_NS // 2])
    short = ends[1] - ends[0] < 4 * SECOND  # ticks are less than a second apart
    locator = AutoDateLocator(tz=UTC, minticks=3 if short else 4, maxticks=6 if short else 9)  # type: ignore[no-untyped-call]
    formatter = DateFormatter("%H:%M:%S.%f" if short else "%H:%M:%S", tz=UTC)  # type: ignore[no-untyped-call]
    for axes in panels:
        axes.set_xlim(*days(ends))
        axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    dates = dict.fromkeys(np.datetime_as_string(ends.astype("datetime64[ns]"), unit="D"))
    axes.set_xlabel(f"UTC, {' to '.join(dates)}", fontsize=SMALL)
    inside = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    for axes in panels[:-1]:
        _draw_times(axes, inside)


def _draw_times(axes: Axes, times: Sequence[float]) -> None:
    """A pale line through the panel at each of these times (days), and a tick beneath it."""
    lines = [[(time, low), (time, high)] for low, high in ((0, 1), (-0.04, 0)) for time in times]
    colours = ["0.88"] * len(times) + ["black"] * len(times)
    style: dict[str, Any] = {"linewidths": 0.8, "zorder": -1, "clip_on": False}
    drawn = LineCollection(lines, colors=colours, transform=axes.get_xaxis_transform(), **style)
    axes.add_collection(drawn, autolim=False)


def draw_title(figure: Figure, title: str, points: float = 11) -> None:
    """Above all panels, shortened where it is too long for the picture."""
    short = shortened(title, WIDTH - 0.3, points)
    figure.text(0.5, 1 - 0.1 / figure.get_figheight(), short, fontsize=points, ha="center", va="top")


@lru_cache(maxsize=1000)
def inches_wide(text: str, points: float, weight: str = "normal") -> float:
    """How wide a line of text is when it is drawn, a little more rather than less."""
    font = FontProperties(size=points, weight=weight)
    wide: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return wide * 1.03 / 72


def shortened(text: str, inches: float, points: float, weight: str = "normal") -> str:
    """The text in one line, with an ellipsis where it would be longer than that."""
    text = " ".join(text.split())
    if inches_wide(text, points, weight) <= inches:
        return text
    low, high = 0, len(text)  # so much fits, so much does not
    while high - low > 1:
        middle = (low + high) // 2
        fits = inches_wide(text[:middle].rstrip() + "…", points, weight) <= inches
        low, high = (middle, high) if fits else (low, middle)
    return text[:low].rstrip() + "…"


def draw_strips(axes: Axes, strips: Sequence[Strip]) -> None:
    """Strips under each other, with their names at the left."""
    for strip in strips:
        draw_strip(axes, strip)
    axes.set_ylim(strips[-1].top - 1.15, strips[0].top)
    axes.set_yticks([strip.top - 0.5 for strip in strips], [strip.name for strip in strips])
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "right", "top"]].set_visible(False)


def draw_strip(axes: Axes, strip: Strip) -> None:
    """Regions as rectangles in their colours; hatched where there is no label, or no sample between others."""
    begin, end, label = runs(strip.labels)
    none, row = label == NO_LABEL, (strip.top - 1 - GAP / 4, 1 + GAP / 4)
    # Each reaches beneath those after it: else white would shine through where edges share a pixel.
    spans = np.column_stack([begin, reach(begin, end) - begin])[~none]
    colour = [region.colour for region in strip.regions]
    colours = [colour[region] for region in label[~none]]
    coloured = axes.broken_barh(spans.tolist(), row, facecolors=colours, linewidth=0, snap=False)
    hatched = hatch(axes, np.concatenate([np.column_stack([begin, end])[none], gaps(begin, end)]), row)
    # A clip ends at whole pixels: no blends of all colours along the long edges.
    inside = Rectangle((0, strip.top - 1), 1, _STRIP_FILLS, transform=axes.get_yaxis_transform())
    for bars in (coloured, hatched):
        bars.set_clip_path(inside)


def hatch(axes: Axes, spans: Floats, row: tuple[float, float], **style: Any) -> PathPatch:
    """(n, 2) begin and end of what has no label, in a row from so low and so high; one path, for each takes long."""
    return hatch_boxes(axes, boxes(spans[:, 0], spans[:, 1], row[0], row[0] + row[1]), **style)


def hatch_boxes(axes: Axes, corners: Floats, **style: Any) -> PathPatch:
    """(n, 4, 2) corners of boxes that have no label."""
    path = Path.make_compound_path_from_polys(np.concatenate([corners, corners[:, :1]], axis=1))
    patch = PathPatch(path, **{"transform": axes.transData, "snap": False, **NO_LABEL_STYLE, **style})
    axes.add_artist(patch)
    return patch


def boxes(begin: Floats, end: Floats, low: float, high: float) -> Floats:
    """(n, 4, 2) corners of boxes."""
    bottom, top = np.full(len(begin), low), np.full(len(begin), high)
    return np.stack([np.stack([begin, end, end, begin], axis=1), np.stack([bottom, bottom, top, top], axis=1)], axis=2)


def runs(labels: xr.DataArray, cadence: int = CADENCE_NS) -> tuple[Floats, Floats, NDArray[np.integer[Any]]]:
    """Begin, end (days, as matplotlib counts them) and label of each run of equal labels without a gap in time.

    A sample covers one cadence (ns) around its time.
    """
    time, values = ns(labels), labels.values
    steps = np.abs(np.diff(time))
    breaks = (np.diff(values) != 0) | (steps > 1.5 * cadence)
    first = np.flatnonzero(np.concatenate([[True], breaks]))
    last = np.flatnonzero(np.concatenate([breaks, [True]]))
    return days(time[first] - cadence // 2), days(time[last] + cadence // 2), values[first]


def gaps(begin: Floats, end: Floats, cadence: int = CADENCE_NS) -> Floats:
    """(k, 2) begin and end, in days, of the time between runs for which there are no samples."""
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.maximum.accumulate(end[order])
    found = np.column_stack([end[:-1], begin[1:]])
    return found[np.diff(found)[:, 0] > 0.5 * cadence / SECOND / DAY]


def reach(begin: Floats, end: Floats) -> Floats:
    """(n,): where the last of the runs ends that follow each other without a gap."""
    is_last = np.append(begin[1:] - end[:-1] > 0.5 * CADENCE / DAY, True)
    last = np.flatnonzero(is_last)
    ends: Floats = np.maximum(end, end[last[np.searchsorted(last, np.arange(len(end)))]])
    return ends


def draw_region_legend(figure: Figure, regions: Sequence[Region], inches: float) -> None:
    """The colours of the regions and of no label, so far above the lower edge; two sides of a kind in one column."""
    words: list[tuple[str, Mapping[str, Any]]] = [(one.title, {"facecolor": one.colour}) for one in by_kind(regions)]
    words.append(("no label, or missing", NO_LABEL_STYLE))
    rows = -(-len(words) // 4)
    columns = [words[i : i + rows] for i in range(0, len(words), rows)]
    wide = [max(inches_wide(word, SMALL) for word, _ in column) + 0.6 for column in columns]
    x = (WIDTH - sum(wide)) / 2
    style: dict[str, Any] = {"transform": figure.dpi_scale_trans}
    for column, step in zip(columns, wide, strict=True):
        for row, (word, colour) in enumerate(column):
            y = inches + 0.05 + 0.16 * (rows - 1 - row)
            figure.add_artist(Rectangle((x, y), 0.23, 0.08, **style, **colour))
            figure.text(x + 0.32, y + 0.04, word, fontsize=SMALL, va="center", parse_math=False, **style)
        x += step


def ns(data: xr.Dataset | xr.DataArray) -> Times:
    """(n,) ns UTC: the coordinate `time`."""
    time: Times = data["time"].values.astype("datetime64[ns]").astype(np.int64)
    return time


def days(time: Times) -> Floats:
    """Times as matplotlib counts them."""
    days: Floats = date2num(time.astype("datetime64[ns]"))  # type: ignore[no-untyped-call]
    return days
