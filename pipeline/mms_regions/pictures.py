"""Pictures of labelled segments: fields and moments as lines, regions as strips of colour on the same time axis.

Figures are made without pyplot: nothing is global, and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from mms_regions.arrays import NO_LABEL, SECOND, Floats, Times
from mms_regions.files import write_whole
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
_NO_LABEL_STYLE: Mapping[str, Any] = {"facecolor": "white", "edgecolor": "0.45", "hatch": "//////", "linewidth": 0}
_LINE_COLOURS = ("#004488", "#DDAA33", "#BB5566", "#000000")  # of x, y, z and the magnitude
_VECTORS = {"b_gsm": "$B$", "vi_gsm": "$v_i$", "ve_gsm": "$v_e$", "e_gsm": "$E$"}
_DENSITIES = {"ni": "$n_i$", "ne": "$n_e$"}

_CADENCE_NS = round(CADENCE * SECOND)
_DAY = 86_400.0  # s
_SIZE = (10.0, 13.0)  # inches
_STRIP_INCHES = 0.25
_STRIP_FILLS = 0.92  # share of its row
_GAP = 0.4  # rows between spacecraft


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


def event_picture(segments: Mapping[str, xr.Dataset], truth: Mapping[str, xr.DataArray], title: str) -> Figure:
    """One event: B, v_i, v_e and E (GSM) and densities of the first spacecraft, then strips of regions of each.

    segments: by spacecraft ("mms1"), each as `store.open_segment` gives it. truth: by spacecraft, (n,) int regions on a
    coordinate `time`, -1 for none; drawn under the strip of the same spacecraft, and may be empty.
    Raises ValueError where there are no segments, one has no samples, or labels are not those of the six regions.
    """
    if not segments:
        raise ValueError("a picture needs at least one segment: give complete segments of a store")
    first, data = next(iter(segments.items()))
    names = region_names(data["label"])
    strips = list(_strips(segments, truth))
    figure = Figure(figsize=_SIZE, layout="constrained")
    *panels, regions = _axes(figure, len(_VECTORS) + 1, rows=strips[0].top - strips[-1].top + 1)
    draw_fields(panels, data)
    panels[0].set_title(f"fields and moments of {first}, vectors in GSM", loc="left", fontsize="medium")
    draw_strips(regions, strips)
    draw_time_axis(regions, [strip.labels for strip in strips])
    draw_region_legend(figure, names)
    figure.suptitle(title)
    figure.align_ylabels(panels)
    return figure


def save_picture(figure: Figure, path: Path, dpi: float = 100) -> None:
    """Write a PNG, whole or not at all, without a date in it. Raises OSError where it cannot be written."""
    figure.draw_without_rendering()  # settles the layout, so that a figure saved twice gives the same bytes
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi, metadata={"Software": None})
    write_whole(path, image.getvalue())


def region_names(labels: xr.DataArray) -> tuple[str, ...]:
    """The six regions by class, for people to read. Raises ValueError where the labels' attributes do not say them."""
    meanings = str(labels.attrs.get("flag_meanings", ""))
    names = tuple(name.replace("_", " ") for name in meanings.split())
    if len(names) != len(REGION_COLOURS):
        raise ValueError(f"flag_meanings of `label` should name six regions, not {meanings!r}: label the store again")
    return names


def draw_fields(panels: Sequence[Axes], data: xr.Dataset) -> None:
    """Five panels: one for each vector, B with its magnitude, and the last for the densities."""
    time = _ns(data)
    for axes, (name, symbol) in zip(panels[:-1], _VECTORS.items(), strict=True):
        lines = dict(zip("xyz", data[name].values.T, strict=True))
        if name == "b_gsm":
            lines["|B|"] = np.linalg.norm(data[name].values, axis=1)
        draw_lines(axes, time, lines, f"{symbol} ({data[name].attrs['units']})")
    lines = {symbol: data[name].values for name, symbol in _DENSITIES.items()}
    draw_lines(panels[-1], time, lines, f"$n$ ({data['ne'].attrs['units']})")


def draw_lines(axes: Axes, time: Times, lines: Mapping[str, Floats], label: str) -> None:
    """Named lines (n,) over time (n,), ns UTC, broken at gaps in time, with a zero line and a legend at the right."""
    gaps = np.flatnonzero(np.abs(np.diff(time)) > 1.5 * _CADENCE_NS) + 1
    axes.axhline(0, color="0.7", linewidth=0.6, zorder=1)
    for (name, values), colour in zip(lines.items(), _LINE_COLOURS, strict=False):
        x, y = np.insert(_days(time), gaps, np.nan), np.insert(values, gaps, np.nan)
        axes.plot(x, y, color=colour, linewidth=0.8, label=name)
    axes.set_ylabel(label)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=1.0)


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
    none, row = label == NO_LABEL, (strip.top - 1 - _GAP / 4, 1 + _GAP / 4)
    # Each reaches beneath those after it: else white would shine through where edges share a pixel.
    spans = np.column_stack([begin, _reach(begin, end) - begin])[~none]
    colours = [REGION_COLOURS[region] for region in label[~none]]
    coloured = axes.broken_barh(spans.tolist(), row, facecolors=colours, linewidth=0, snap=False)
    spans = np.column_stack([begin, end - begin])[none]
    hatched = axes.broken_barh(spans.tolist(), row, snap=False, **_NO_LABEL_STYLE)
    # A clip ends at whole pixels: no blends of all colours along the long edges.
    inside = Rectangle((0, strip.top - 1), 1, _STRIP_FILLS, transform=axes.get_yaxis_transform())
    for bars in (coloured, hatched):
        bars.set_clip_path(inside)


def runs(labels: xr.DataArray) -> tuple[Floats, Floats, NDArray[np.integer[Any]]]:
    """Begin, end (days, as matplotlib counts them) and label of each run of equal labels without a gap in time.

    A sample stands for 30 ms around its time.
    """
    time, values = _ns(labels), labels.values
    steps = np.abs(np.diff(time))
    breaks = (np.diff(values) != 0) | (steps > 1.5 * _CADENCE_NS)
    first = np.flatnonzero(np.concatenate([[True], breaks]))
    last = np.flatnonzero(np.concatenate([breaks, [True]]))
    return _days(time[first] - _CADENCE_NS // 2), _days(time[last] + _CADENCE_NS // 2), values[first]


def _reach(begin: Floats, end: Floats) -> Floats:
    """(n,): where the last of the runs ends that follow each other without a gap."""
    is_last = np.append(begin[1:] - end[:-1] > 0.5 * CADENCE / _DAY, True)
    last = np.flatnonzero(is_last)
    reach: Floats = end[last[np.searchsorted(last, np.arange(len(end)))]]
    return reach


def draw_time_axis(axes: Axes, series: Sequence[xr.DataArray]) -> None:
    """UTC as HH:MM:SS, from the first to the last sample of any of the series, with the date beneath."""
    times = np.concatenate([_ns(one) for one in series])
    ends = np.array([times.min() - _CADENCE_NS // 2, times.max() + _CADENCE_NS // 2])
    short = ends[1] - ends[0] < 4 * SECOND  # ticks are less than a second apart
    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=6 if short else 8)  # type: ignore[no-untyped-call]
    formatter = DateFormatter("%H:%M:%S.%f" if short else "%H:%M:%S", tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlim(*_days(ends))
    days = dict.fromkeys(np.datetime_as_string(ends.astype("datetime64[ns]"), unit="D"))
    axes.set_xlabel(f"UTC, {' to '.join(days)}")


def draw_region_legend(figure: Figure, names: Sequence[str]) -> None:
    """The colours of the regions, by class, and of no label, beneath the figure; two sides of a kind in one column."""
    patches = [Patch(facecolor=colour, label=name) for colour, name in zip(REGION_COLOURS, names, strict=True)]
    patches.sort(key=lambda patch: str(patch.get_label()))
    patches.append(Patch(label="no label", **_NO_LABEL_STYLE))
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False)


def _axes(figure: Figure, panels: int, rows: float) -> list[Axes]:
    """Panels of equal height above one for rows of strips, on one time axis."""
    strips = rows * _STRIP_INCHES
    heights = [*[(_SIZE[1] - strips) / panels] * panels, strips]
    return list(figure.subplots(panels + 1, sharex=True, height_ratios=heights))


def _strips(segments: Mapping[str, xr.Dataset], truth: Mapping[str, xr.DataArray]) -> Iterator[Strip]:
    top = 0.0
    for spacecraft, data in segments.items():
        yield Strip(f"{spacecraft} model", top, data["label"])
        if spacecraft in truth:
            top -= 1
            yield Strip("truth", top, truth[spacecraft])
        top -= 1 + _GAP


def _ns(data: xr.Dataset | xr.DataArray) -> Times:
    """(n,) ns UTC: the coordinate `time`."""
    time: Times = data["time"].values.astype("datetime64[ns]").astype(np.int64)
    return time


def _days(time: Times) -> Floats:
    """Times as matplotlib counts them."""
    days: Floats = date2num(time.astype("datetime64[ns]"))  # type: ignore[no-untyped-call]
    return days
