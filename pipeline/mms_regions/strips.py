"""Strips of regions along time, their colours, and the time axis they share with other panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from mms_regions.arrays import NO_LABEL, SECOND, Floats, Times
from mms_regions.plan import CADENCE

# By class; Okabe and Ito's colours, which readers with any colour vision tell apart. Two sides of a kind are a pair.
REGION_COLOURS: tuple[str, ...] = (
    "#0072B2",  # inflow, north
    "#009E73",  # outflow, earthward
    "#56B4E9",  # inflow, south
    "#D55E00",  # separatrix, north
    "#CC79A7",  # outflow, tailward
    "#E69F00",  # separatrix, south
)
NO_LABEL_STYLE: Mapping[str, Any] = {"facecolor": "white", "edgecolor": "0.45", "hatch": "//////", "linewidth": 0}

CADENCE_NS = round(CADENCE * SECOND)
STRIP_INCHES = 0.25
GAP = 0.4  # rows between strips of different spacecraft
_STRIP_FILLS = 0.92  # share of its row
_DAY = 86_400.0  # s


@dataclass(frozen=True)
class Strip:
    """Regions along time, drawn in the row that ends at height `top` and is 1 high; labels: (n,) int on `time`.

    Raises ValueError for no labels, and for labels that are neither NO_LABEL nor a class.
    """

    name: str
    top: float
    labels: xr.DataArray

    def __post_init__(self) -> None:
        if not self.labels.size:
            raise ValueError(f"{self.name}: there are no samples to draw; give complete segments of a store")
        known = {NO_LABEL, *range(len(REGION_COLOURS))}
        unknown = sorted(set(np.unique(self.labels.values).tolist()) - known)
        if unknown:
            raise ValueError(f"{self.name}: labels {unknown} are no regions; use 0 to 5, and {NO_LABEL} for none")


def region_names(labels: xr.DataArray) -> tuple[str, ...]:
    """The six regions by class, for people to read. Raises ValueError where the labels' attributes do not say them."""
    meanings = str(labels.attrs.get("flag_meanings", ""))
    names = tuple(name.replace("_", " ") for name in meanings.split())
    if len(names) != len(REGION_COLOURS):
        raise ValueError(f"flag_meanings of `label` should name six regions, not {meanings!r}: label the store again")
    return names


def draw_strips(axes: Axes, strips: Sequence[Strip]) -> None:
    """Strips under each other, with their names at the left."""
    for strip in strips:
        draw_strip(axes, strip)
    axes.set_ylim(strips[-1].top - 1.15, strips[0].top)
    axes.set_yticks([strip.top - 0.5 for strip in strips], [strip.name for strip in strips])
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "right", "top"]].set_visible(False)


def draw_strip(axes: Axes, strip: Strip) -> None:
    """Regions as rectangles in their colours; hatched where there is no label, empty where there are no samples."""
    begin, end, label = runs(strip.labels)
    none, row = label == NO_LABEL, (strip.top - 1 - GAP / 4, 1 + GAP / 4)
    # Each reaches beneath those after it: else white would shine through where edges share a pixel.
    spans = np.column_stack([begin, _reach(begin, end) - begin])[~none]
    colours = [REGION_COLOURS[region] for region in label[~none]]
    coloured = axes.broken_barh(spans.tolist(), row, facecolors=colours, linewidth=0, snap=False)
    spans = np.column_stack([begin, end - begin])[none]
    hatched = axes.broken_barh(spans.tolist(), row, snap=False, **NO_LABEL_STYLE)
    # A clip ends at whole pixels: no blends of all colours along the long edges.
    inside = Rectangle((0, strip.top - 1), 1, _STRIP_FILLS, transform=axes.get_yaxis_transform())
    for bars in (coloured, hatched):
        bars.set_clip_path(inside)


def runs(labels: xr.DataArray) -> tuple[Floats, Floats, NDArray[np.integer[Any]]]:
    """Begin, end (days, as matplotlib counts them) and label of each run of equal labels without a gap in time.

    A sample stands for 30 ms around its time.
    """
    time, values = ns(labels), labels.values
    steps = np.abs(np.diff(time))
    breaks = (np.diff(values) != 0) | (steps > 1.5 * CADENCE_NS)
    first = np.flatnonzero(np.concatenate([[True], breaks]))
    last = np.flatnonzero(np.concatenate([breaks, [True]]))
    return days(time[first] - CADENCE_NS // 2), days(time[last] + CADENCE_NS // 2), values[first]


def _reach(begin: Floats, end: Floats) -> Floats:
    """(n,): where the last of the runs ends that follow each other without a gap."""
    is_last = np.append(begin[1:] - end[:-1] > 0.5 * CADENCE / _DAY, True)
    last = np.flatnonzero(is_last)
    reach: Floats = end[last[np.searchsorted(last, np.arange(len(end)))]]
    return reach


def draw_time_axis(axes: Axes, series: Sequence[xr.DataArray]) -> None:
    """UTC as HH:MM:SS, from the first to the last sample of any of the series, with the date beneath."""
    times = np.concatenate([ns(one) for one in series])
    ends = np.array([times.min() - CADENCE_NS // 2, times.max() + CADENCE_NS // 2])
    short = ends[1] - ends[0] < 4 * SECOND  # ticks are less than a second apart
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=6 if short else 8)  # type: ignore[no-untyped-call]
    formatter = DateFormatter("%H:%M:%S.%f" if short else "%H:%M:%S", tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlim(*days(ends))
    dates = dict.fromkeys(np.datetime_as_string(ends.astype("datetime64[ns]"), unit="D"))
    axes.set_xlabel(f"UTC, {' to '.join(dates)}")


def draw_region_legend(figure: Figure, names: Sequence[str]) -> None:
    """The colours of the regions, by class, and of no label, beneath the figure; two sides of a kind in one column."""
    patches = [Patch(facecolor=colour, label=name) for colour, name in zip(REGION_COLOURS, names, strict=True)]
    patches.sort(key=lambda patch: str(patch.get_label()))
    patches.append(Patch(label="no label", **NO_LABEL_STYLE))
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False)


def ns(data: xr.Dataset | xr.DataArray) -> Times:
    """(n,) ns UTC: the coordinate `time`."""
    time: Times = data["time"].values.astype("datetime64[ns]").astype(np.int64)
    return time


def days(time: Times) -> Floats:
    """Times as matplotlib counts them."""
    days: Floats = date2num(time.astype("datetime64[ns]"))  # type: ignore[no-untyped-call]
    return days
