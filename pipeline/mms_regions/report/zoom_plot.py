"""Panels of a segment that can be zoomed in a browser: models of bokeh as JSON, drawn by bokeh's own script.

The script is copied from the installed package, so a report needs no network. All text is plain: bokeh would take
`$$...$$` for a formula, and a store may come from somebody else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import xarray as xr
from bokeh.core.serialization import Serializer
from bokeh.embed import json_item
from bokeh.layouts import gridplot
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    CrosshairTool,
    DatetimeTickFormatter,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    PanTool,
    PlainText,
    Range1d,
    ResetTool,
    ToolProxy,
    WheelZoomTool,
)
from bokeh.models.annotations import Span
from bokeh.palettes import Viridis256
from bokeh.plotting import figure
from numpy.typing import NDArray

from mms_regions.core.regions import Region, regions_of
from mms_regions.core.types import NO_LABEL, Flags, Floats, Times
from mms_regions.model.cautions import low_confidence_of, probability_of
from mms_regions.report.segment_plot import DENSITY_COLOURS, FADED, LINE_COLOURS, in_equal_columns, limits, on_one_grid
from mms_regions.report.strips import gaps, ns, runs, superscript
from mms_regions.store.plan import CADENCE_NS

SCRIPT = "bokeh.min.js"  # beside the pages of a report
_MS = 1_000_000  # ns
_TALL, _STRIP, _LAST = 110, 55, 24  # pixels: a panel, the strip of regions, the time axis below it
_MARGIN = 62  # pixels at the left of each panel, so that their time axes are below each other
_VECTORS = {"b_gsm": "B", "vi_gsm": "vᵢ", "ve_gsm": "vₑ", "e_gsm": "E"}
_CELLS, _COLUMNS = 40, 2000  # of a spectrogram, along energy and time
_DAY_MS = 86_400_000.0
_ID = re.compile(r'"p(\d+)"')


def bokeh_script() -> bytes:
    """The script that draws the panels, as the installed package has it."""
    return files("bokeh").joinpath("server", "static", "js", SCRIPT).read_bytes()


def zoomable(data: xr.Dataset, ion_spectrum: xr.DataArray | None = None) -> str:
    """The panels of a segment as `open_segment` gives it: JSON for `Bokeh.embed.embed_item`.

    B, v_i, v_e and E (GSM), densities, spectrograms, probabilities and regions over one time axis (UTC). ion_spectrum:
    as `ion_spectrum` gives it. The same data give the same text. Raises ValueError where there are no samples.
    """
    if not data.sizes["time"]:
        raise ValueError("there are no samples to draw; give complete segments of a store")
    spectra = {} if ion_spectrum is None else {"ions": ion_spectrum}
    spectra["electrons"] = data["electron_spectrum_omni"].assign_coords(energy=data["electron_energy"])
    units = tuple(data[name].attrs["units"] for name in (*_VECTORS, "ne"))
    item = json.loads(_layout(units, regions_of(data["label"].attrs), tuple(spectra)))
    time = _milliseconds(ns(data)[[0, -1]])
    filled = {"time": _range(time.min(), time.max()), "lines": _columns(data), **_spans_of(data)}
    for species, spectrum in spectra.items():
        filled |= _image(spectrum, species)
    _fill(item, filled)
    return json.dumps(item, separators=(",", ":"))


@cache
def _layout(units: Sequence[str], regions: Sequence[Region], spectra: Sequence[str]) -> str:
    """The panels without data, whose named parts `_fill` takes: to make them takes a second, to fill them 20 ms."""
    shared = Range1d(name="time")
    lines = _empty("lines", *_lines_of(len(regions)))
    panels = [
        _vector(shared, lines, name, symbol, unit)
        for (name, symbol), unit in zip(_VECTORS.items(), units, strict=False)
    ]
    densities = list(zip(("ni", "ne"), DENSITY_COLOURS, strict=True))
    panels.append(_draw_lines(_panel(shared, f"n ({superscript(units[-1])})"), lines, densities))
    panels += [_spectrogram(shared, species) for species in spectra]
    panels += [_probabilities(shared, lines, regions), _regions(shared)]
    for panel in panels[:-1]:
        panel.xaxis.visible = False
    crosshair = CrosshairTool(overlay=Span(dimension="height", line_color="#555555", line_width=1))
    for panel in panels:
        panel.add_tools(crosshair)
    children: list[Any] = panels
    layout = gridplot(children, ncols=1, toolbar_location="above", sizing_mode="stretch_width")
    layout.toolbar.logo = None  # a link to a web page
    merged = [tool for tool in layout.toolbar.tools if isinstance(tool, ToolProxy)]
    layout.toolbar.active_drag = next(one for one in merged if isinstance(one.tools[0], BoxZoomTool))
    found: dict[str, int] = {}  # ids from 0 on, whatever else the process has drawn before
    return _ID.sub(lambda one: f'"p{found.setdefault(one[1], len(found))}"', json.dumps(json_item(layout)))


def _fill(item: Any, filled: Mapping[str, Mapping[str, Any]]) -> None:
    """Give the models of these names their data, or their begin and end."""
    if isinstance(item, list):
        for one in item:
            _fill(one, filled)
    elif isinstance(item, dict):
        attributes = item.get("attributes", {})
        name = str(attributes.get("name")) if isinstance(attributes, dict) else ""
        if name in filled:
            is_range = item["name"] == Range1d.__name__
            attributes |= filled[name] if is_range else {"data": Serializer(deferred=False).encode(filled[name])}
        else:
            for one in item.values():
                _fill(one, filled)


def _empty(name: str, *columns: str) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in columns}, name=name)


def _range(low: float, high: float) -> dict[str, Any]:
    return {"start": float(low), "end": float(high), "bounds": [float(low), float(high)]}


def _milliseconds(time: Times) -> Floats:
    """Since 1970, as bokeh counts time; to a microsecond."""
    return np.asarray(time, np.int64) / _MS


def _lines_of(regions: int) -> list[str]:
    """The columns of the source of all lines."""
    vectors = [f"{name}_{axis}" for name in _VECTORS for axis in "xyz"]
    return ["time", "ni", "ne", *vectors, "b_gsm_total", *(f"p{region}" for region in range(regions))]


def _columns(data: xr.Dataset) -> dict[str, Floats]:
    """Lines by name, with NaN where time makes a step, so that they end there; (n,) float32, `time` in ms."""
    time = ns(data)
    steps = np.flatnonzero(np.abs(np.diff(time)) > 1.5 * CADENCE_NS) + 1
    found = {"time": _milliseconds(np.insert(time, steps, time[steps - 1] + CADENCE_NS))}
    lines: dict[str, Floats] = {name: data[name].values for name in ("ni", "ne")}
    for name in _VECTORS:
        lines |= {f"{name}_{axis}": values for axis, values in zip("xyz", data[name].values.T, strict=True)}
    lines["b_gsm_total"] = np.linalg.norm(data["b_gsm"].values, axis=1)
    lines |= {f"p{region}": values for region, values in enumerate(probability_of(data).values.T)}
    return found | {name: np.insert(values.astype(np.float32), steps, np.nan) for name, values in lines.items()}


def _panel(shared: Range1d, label: str, height: int = _TALL, **more: Any) -> figure:
    tools = [BoxZoomTool(dimensions="width"), PanTool(dimensions="width"), WheelZoomTool(dimensions="width")]
    options: dict[str, Any] = {
        "height": height,
        "sizing_mode": "stretch_width",
        "x_axis_type": "datetime",
        "x_range": shared,
        "tools": [*tools, ResetTool()],
        "active_drag": tools[0],
        "active_scroll": None,  # the wheel scrolls the page until it is asked to zoom
        "min_border_left": _MARGIN,
        "min_border_right": 10,
        "min_border_top": 4,
        "min_border_bottom": 4,
    }
    panel = figure(**options, **more)
    panel.yaxis.axis_label = PlainText(text=label)
    panel.yaxis.axis_label_text_font_style = "normal"
    panel.yaxis.axis_label_text_font_size = panel.yaxis.major_label_text_font_size = "11px"
    formats: dict[str, Any] = dict.fromkeys(("seconds", "minsec", "minutes", "hourmin", "hours"), "%H:%M:%S")
    formats |= dict.fromkeys(("milliseconds", "microseconds"), "%H:%M:%S.%3N")
    panel.xaxis.formatter = DatetimeTickFormatter(**formats)
    return panel


def _draw_lines(panel: figure, source: ColumnDataSource, lines: Sequence[tuple[str, str]]) -> figure:
    """Each by its column and colour, with the time and the value at the pointer: numbers alone."""
    style: dict[str, Any] = {"source": source, "line_width": 1}
    drawn: list[Any] = [panel.line("time", name, line_color=colour, **style) for name, colour in lines]
    tips = [("UTC", "$x{%H:%M:%S.%3N}"), ("value", "$y{0.[000]}")]
    panel.add_tools(HoverTool(renderers=drawn, tooltips=tips, formatters={"$x": "datetime"}, line_policy="nearest"))
    return panel


def _vector(shared: Range1d, source: ColumnDataSource, name: str, symbol: str, unit: str) -> figure:
    lines = [(f"{name}_{axis}", colour) for axis, colour in zip("xyz", LINE_COLOURS, strict=False)]
    if name == "b_gsm":
        lines.append(("b_gsm_total", LINE_COLOURS[3]))
    return _draw_lines(_panel(shared, f"{symbol} ({superscript(unit)})"), source, lines)


def _spectrogram(shared: Range1d, species: str) -> figure:
    """Nothing where it is missing, else colours from the smallest to the largest flux, on a logarithmic scale."""
    panel = _panel(shared, f"{species} (eV)", y_axis_type="log", y_range=Range1d(name=f"{species} energy"))
    colours = LinearColorMapper(palette=Viridis256, low=1, high=255, low_color="rgba(0, 0, 0, 0)")
    source = _empty(f"{species} flux", "image", "x", "y", "dw", "dh")
    place: dict[str, Any] = {"x": "x", "y": "y", "dw": "dw", "dh": "dh", "color_mapper": colours}
    panel.image("image", source=source, **place)
    return panel


def _image(spectrum: xr.DataArray, species: str) -> dict[str, dict[str, Any]]:
    edges, flux = on_one_grid(spectrum.sortby("time"), _CELLS)
    low, high = float(edges[0]), float(edges[-1])
    levels, begin, end = _columns_of(flux)
    place = {"x": [begin / _MS], "y": [low], "dw": [(end - begin) / _MS], "dh": [high - low]}
    return {f"{species} flux": {"image": [levels], **place}, f"{species} energy": _range(low, high)}


def _columns_of(flux: xr.DataArray) -> tuple[NDArray[np.uint8], int, int]:
    """(energy, time) levels from 1 to 255 of the logarithm, 0 where nothing is known, in columns of equal length.

    Also the begin of the first column and the end of the last one, ns. flux: (time, energy), in order of time.
    """
    found, begin, end = in_equal_columns(flux, _COLUMNS)
    good = np.isfinite(found)
    levels = np.zeros(found.shape, np.uint8)
    if good.any():
        low, high = np.log(limits(found[good]))
        levels[good] = 1 + np.rint(254 * ((np.log(found[good]) - low) / (high - low)).clip(0, 1))
    return np.ascontiguousarray(levels.T), begin, end


def _probabilities(shared: Range1d, source: ColumnDataSource, regions: Sequence[Region]) -> figure:
    panel = _panel(shared, "probability", y_range=(-0.02, 1.02))
    panel.yaxis.ticker = FixedTicker(ticks=[0, 0.5, 1])
    return _draw_lines(panel, source, [(f"p{one.index}", one.colour) for one in regions])


def _regions(shared: Range1d) -> figure:
    """Runs of equal labels, hatched where there is none, the upper half pale where confidence is low."""
    panel = _panel(shared, "region", _STRIP + _LAST, y_range=(0, 1))
    panel.yaxis.ticker = FixedTicker(ticks=[])
    panel.ygrid.visible = False
    styles: dict[str, dict[str, Any]] = {
        "labelled": {"fill_color": "colour"},
        "unlabelled": {"fill_color": "white", "hatch_pattern": "/", "hatch_color": "#888888", "hatch_scale": 6},
        "unsure": {"fill_color": "white", "fill_alpha": FADED, "bottom": 0.5},
    }
    for name, style in styles.items():
        box = {"left": "begin", "right": "end", "top": 1, "bottom": 0, "line_color": None, **style}
        panel.quad(source=_empty(name, "begin", "end", "colour"), **box)
    return panel


def _spans_of(data: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Runs of samples with a label, without one, and with a low confidence; begin and end in ms."""
    colours = {one.index: one.colour for one in regions_of(data["label"].attrs)}
    begin, end, label = runs(data["label"])
    known = label != NO_LABEL
    low = (probability_of(data).max("region") < low_confidence_of(data)).astype(np.int8)
    low_begin, low_end, is_low = runs(low)
    missing = gaps(begin, end)
    return {
        "labelled": {**_boxes(begin, end, known), "colour": [colours[one] for one in label[known].tolist()]},
        "unlabelled": {
            "begin": np.concatenate([begin[~known], missing[:, 0]]) * _DAY_MS,
            "end": np.concatenate([end[~known], missing[:, 1]]) * _DAY_MS,
        },
        "unsure": _boxes(low_begin, low_end, is_low == 1),
    }


def _boxes(begin: Floats, end: Floats, chosen: Flags) -> dict[str, Floats]:
    return {"begin": begin[chosen] * _DAY_MS, "end": end[chosen] * _DAY_MS}
