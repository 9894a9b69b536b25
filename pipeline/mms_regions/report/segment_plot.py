"""Pictures of labelled segments: fields and moments as lines, regions as strips of colour on the same time axis.

Figures are made without pyplot: nothing is global, and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mms_regions.core.files import write_whole
from mms_regions.core.origin import origin_of
from mms_regions.core.regions import regions_of
from mms_regions.core.types import Flags, Floats, Times
from mms_regions.model.card import names_are_inferred
from mms_regions.model.cautions import MEANING, cautions, low_confidence_of, probability_of
from mms_regions.physics.resample import nearest
from mms_regions.report.strips import (
    GAP,
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
    hatch,
    inches_wide,
    ns,
    runs,
    stack,
    superscript,
)
from mms_regions.store.plan import CADENCE_NS
from mms_regions.store.read import attributes_of, card_of, settings_of

LINE_COLOURS = ("#0000FF", "#00A000", "#FF0000", "#000000")  # of x, y, z and the magnitude, as the field draws them
DENSITY_COLOURS = ("#8B008B", "#000000")  # of ions and electrons
SCALAR_COLOURS = ("#000000",)
_VECTORS = {"b_gsm": "B", "vi_gsm": "vᵢ", "ve_gsm": "vₑ", "e_gsm": "E"}
_DENSITIES = {"ni": "ions", "ne": "electrons"}
_DRAWN = (  # of a segment
    *("label", "probability", "electron_spectrum_omni", "electron_energy", "j_dot_e_prime"),
    *(*_VECTORS, *_DENSITIES),
)
_LINES, _SPECTRUM, _PROBABILITY, _STABILITY = 1.05, 1.15, 1.0, 0.6  # inches, the height of a panel
_CELLS = 64  # of energy, in a spectrogram: twice the channels of FPI, whose two tables alternate
_COLUMNS = 2000  # of a spectrogram: no picture has more dots along time
_IMAGE: Mapping[str, Any] = {"cmap": "viridis", "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
_ALWAYS_SHOWN = ("slow_outflow", "wrong_side")  # others where there are any
FADED = 0.55  # as much white: more, and pale colours are too alike; less, and they are too like other full ones


def event_picture(segments: Mapping[str, xr.Dataset], truth: Mapping[str, xr.DataArray], title: str) -> Figure:
    """One event: B, v_i, v_e and E (GSM) and densities of the first spacecraft, then strips of regions of each.

    segments: by spacecraft ("mms1"), each as `store.open_segment` gives it. truth: by spacecraft, (n,) int regions on a
    coordinate `time`, -1 for none; drawn under the strip of the same spacecraft, and may be empty.
    Raises ValueError where there are no segments, one has no samples, or labels are not those of its regions.
    """
    if not segments:
        raise ValueError("a picture needs at least one segment: give complete segments of a store")
    first, data = next(iter(segments.items()))
    strips = list(_strips(segments, truth))
    rows = strips[0].top - strips[-1].top + 1
    figure, (*panels, regions) = stack(
        [1.5 * _LINES] * (len(_VECTORS) + 1) + [rows * STRIP_INCHES], 1.05, [one.labels for one in strips]
    )
    draw_fields(panels, data)
    panels[0].set_title(f"fields and moments of {first}, vectors in GSM", loc="left", fontsize=SMALL)
    draw_strips(regions, strips)
    draw_region_legend(figure, strips[0].regions, 0.1)
    draw_title(figure, title)
    return figure


def segment_picture(data: xr.Dataset, title: str = "", ion_spectrum: xr.DataArray | None = None) -> Figure:
    """One segment as `open_segment` gives it: fields, moments, J.E', spectra, probabilities, regions, cautions.

    ion_spectrum: (time, energy) as `ion_spectrum` gives it, with the coordinate `energy` in eV; it is in the CDF files
    alone, and without it the picture says so. Raises ValueError where there are no samples, no regions, or a variable
    is missing.
    """
    strip = Strip("region", 0.0, drawable(data)["label"])
    spectra = {} if ion_spectrum is None else {"ions": ion_spectrum}
    spectra["electrons"] = data["electron_spectrum_omni"].assign_coords(energy=data["electron_energy"])
    stable, lines = "stability" in data, len(_VECTORS) + 2
    heights = [_LINES] * lines + [_SPECTRUM] * len(spectra) + [_PROBABILITY] + [_STABILITY] * stable
    careful = _shown_cautions(data)
    figure, axes = stack([*heights, (1 + len(careful) + GAP) * STRIP_INCHES], 1.35, [data["label"]])
    draw_fields(axes[: lines - 1], data)
    product = data["j_dot_e_prime"]
    draw_lines(axes[lines - 1], ns(data), {"J.E'": product.values}, f"J.E' ({superscript(product.attrs['units'])})")
    for panel, (species, spectrum) in zip(axes[lines:], spectra.items(), strict=False):
        draw_spectrogram(panel, spectrum, species)
    draw_probabilities(axes[lines + len(spectra)], data)
    if stable:
        draw_stability(axes[-2], data)
    draw_strips(axes[-1], [strip])
    fade(axes[-1], data, strip.top)
    draw_cautions(axes[-1], data["label"], careful, strip.top - 1 - GAP)
    draw_region_legend(figure, strip.regions, 0.42)
    draw_title(figure, title or segment_title(data))
    figure.text(LEFT / WIDTH, 0.35 / figure.get_figheight(), _footnote(data, ion_spectrum), fontsize=SMALL, va="top")
    return figure


def _footnote(data: xr.Dataset, ion_spectrum: xr.DataArray | None) -> str:
    missing = "" if ion_spectrum is not None else "No ion spectrogram: it is in CDF files that are not at hand. "
    inferred = "\nNames of regions are inferred, not the authors'." if names_are_inferred(card_of(data)) else ""
    return f"{missing}Upper half faded: confidence below {low_confidence_of(data):g}. Vectors in GSM.{inferred}"


def drawable(data: xr.Dataset) -> xr.Dataset:
    """The same data. Raises ValueError, with their names, where variables that are drawn are missing or do not fit."""
    advice = "give a segment as `open_segment` gives it"
    if missing := [name for name in _DRAWN if name not in data]:
        raise ValueError(f"there is no {', '.join(missing)} in these data; {advice}")
    named, given = len(regions_of(data["label"].attrs)), data.sizes["region"]
    if named != given:
        raise ValueError(f"label names {named} regions, and probability has {given}; {advice}")
    return data


def segment_title(data: xr.Dataset) -> str:
    """Event, spacecraft, model and convention, as far as the attributes say them."""
    origin = origin_of(attributes_of(data)["inputs"])
    about = f"Event {data.attrs['event']}, MMS {data.attrs['probe']}"
    return origin.titled(f"{about}; model {card_of(data)['name']}, convention {settings_of(data)['convention']}")


def draw_spectrogram(axes: Axes, spectrum: xr.DataArray, species: str) -> None:
    """(time, energy) energy flux of these species on logarithmic scales, hatched where it is missing."""
    _decades(axes)
    axes.set_ylabel(f"{species} (eV)")
    _shade_missing_rows(axes, spectrum)
    edges, flux = on_one_grid(spectrum.sortby("time"), _CELLS)
    shown, begin, end = in_equal_columns(flux, _COLUMNS)
    good = np.isfinite(shown)
    if not good.any():
        axes.tick_params(axis="y", which="both", left=False, labelleft=False)
        return
    low, high = limits(shown[good])
    energies: tuple[float, float] = tuple(np.log10(edges[[0, -1]]).tolist())
    axes.set_ylim(*energies)
    axes.imshow(shown.T, extent=(*days(np.array([begin, end])), *energies), norm=LogNorm(low, high), **_IMAGE)
    _draw_scale(axes, np.log10(low), np.log10(high))


def _draw_scale(axes: Axes, low: float, high: float) -> None:
    """The colours of a spectrogram at its right, from the power of ten `low` to `high`: without axes of their own."""
    left, right = 1.008, 1.022
    colours = axes.imshow(np.arange(256)[:, None], extent=(left, right, 0, 1), transform=axes.transAxes, **_IMAGE)
    colours.set_clip_on(False)
    beside: dict[str, Any] = {"transform": axes.transAxes, "va": "center"}
    for power in range(int(np.ceil(low)), int(np.floor(high)) + 1):
        words = f"-{superscript(f'10^{power}')}"
        axes.text(right, (power - low) / (high - low), words, fontsize=SMALL - 1, **beside)
    # no longer than the panel is high
    axes.text(1.085, 0.5, "keV/(cm² s sr keV)", fontsize=SMALL - 1.5, rotation=90, **beside)


def _decades(axes: Axes) -> None:
    """Ticks at powers of ten, on an axis of decimal logarithms: images have cells of equal height."""
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(lambda power, _: superscript(f"10^{power:.0f}"))


def _shade_missing_rows(axes: Axes, spectrum: xr.DataArray) -> None:
    """Hatch over a spectrogram, whose cells reach over what is missing between them, at its own cadence."""
    time, flux = ns(spectrum), spectrum.values
    known = ((flux > 0) & np.isfinite(spectrum["energy"].values)).any(axis=1)
    cadence = int(np.median(np.abs(np.diff(time)))) if len(time) > 1 else CADENCE_NS
    shade_missing(axes, time, known, cadence, zorder=2)


def limits(flux: Floats) -> tuple[float, float]:
    """The lowest and the highest energy flux of a spectrogram that have colours of their own; flux: (n,) above 0."""
    low, high = np.quantile(flux, [0.02, 0.995]).tolist()
    low = max(low, high * 1e-5)  # beyond five decades there are no counts
    return low, max(high, 2 * low)


def on_one_grid(spectrum: xr.DataArray, cells: int) -> tuple[Floats, xr.DataArray]:
    """Edges of a grid of energies (eV), and in each cell the flux of the nearest channel, NaN where it is not above 0.

    One grid for all samples, for FPI alternates between two tables of energies.
    """
    energy = spectrum["energy"].values
    sound = (np.isfinite(energy) & (energy > 0)).all(axis=1)
    rows = np.ascontiguousarray(energy[sound])
    as_bytes = rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel()  # compared in a tenth of the time
    _, first, which = np.unique(as_bytes, return_index=True, return_inverse=True)
    tables = rows[first]
    low, high = (float(tables.min()), float(tables.max())) if len(tables) else (1.0, 10.0)
    edges: Floats = np.geomspace(low, high, cells + 1)
    middle = np.log(np.sqrt(edges[1:] * edges[:-1]))
    flux = np.full((len(energy), cells), np.nan)
    for i, table in enumerate(tables):
        channel = np.abs(middle[:, None] - np.log(table)).argmin(axis=1)
        some = np.flatnonzero(sound)[which == i]
        flux[some] = spectrum.values[some][:, channel]
    flux[~(flux > 0)] = np.nan
    return edges, xr.DataArray(flux, coords={"time": spectrum["time"]}, dims=("time", "cell"))


def in_equal_columns(flux: xr.DataArray, most: int) -> tuple[Floats, int, int]:
    """(columns, cell) the flux of the nearest sample, NaN where none is within a cadence, in columns of equal length.

    Also the begin of the first column and the end of the last one, ns. flux: (time, cell), in order of time; means of
    neighbours where there are more of them than the most columns.
    """
    step = -(-flux.sizes["time"] // most)
    if step > 1:
        flux = flux.coarsen({"time": step}, boundary="pad").mean()
    time = ns(flux)
    cadence = int(np.median(np.diff(time))) if len(time) > 1 else CADENCE_NS
    begin, end = int(time[0]) - cadence // 2, int(time[-1]) + cadence // 2
    columns = min(max(round((end - begin) / cadence), 1), most)
    middles = begin + (np.arange(columns) + 0.5) * (end - begin) / columns
    found = nearest(middles, time)
    near = np.abs(time[found] - middles) <= cadence
    return np.where(near[:, None], flux.values[found], np.nan), begin, end


def draw_probabilities(axes: Axes, data: xr.Dataset) -> None:
    """Probabilities of the regions on top of each other: marginal ones where the segment has them."""
    shown = probability_of(data)
    x, p = _broken(ns(data), shown.values)
    known = np.isfinite(p).all(axis=1)
    shade_missing(axes, ns(data), np.isfinite(shown.values).all(axis=1))
    low = np.zeros(len(p))
    for region in regions_of(data["label"].attrs):
        high = low + p[:, region.index]
        axes.fill_between(x, low, high, where=known, color=region.colour, linewidth=0, step="mid")
        low = high
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("marginal\nprobability (1)" if shown.name == "probability_marginal" else "probability (1)")


def draw_stability(axes: Axes, data: xr.Dataset) -> None:
    """The share of other labellings that agree with the label, as a line from 0 to 1."""
    x, stability = _broken(ns(data), data["stability"].values)
    shade_missing(axes, ns(data), np.isfinite(data["stability"].values))
    axes.plot(x, stability, color="black", linewidth=0.8, label="stability")
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 1])
    axes.set_ylabel("stability (1)")


def fade(axes: Axes, data: xr.Dataset, top: float) -> None:
    """Pale the upper half of a strip where confidence is low: the lower half keeps the colour of the region."""
    low = (probability_of(data).max("region") < low_confidence_of(data)).astype(np.int8)
    axes.broken_barh(_spans(low), (top - 0.5, 0.5), facecolor="white", alpha=FADED, linewidth=0, snap=False)


def _shown_cautions(data: xr.Dataset) -> dict[str, Flags]:
    """Where labels are to be taken with care, by what it is and the share of the labelled samples."""
    found = cautions(data)
    shown = [name for name in MEANING if name in _ALWAYS_SHOWN or found[name].any()]
    return {f"{name.replace('_', ' ')} {_percent(found.shares[name])}": found[name] for name in shown}


def draw_cautions(axes: Axes, label: xr.DataArray, careful: Mapping[str, Flags], top: float) -> None:
    """Black bars where a label is to be taken with care, a row for each reason, beneath the strip."""
    bars = []
    for name, where in careful.items():
        low = top - 0.8
        axes.axhspan(low, low + 0.5, facecolor="0.95", linewidth=0)
        begin, length = np.reshape(_spans(label.copy(data=where.astype(np.int8))), (-1, 2)).T
        bars += list(boxes(begin, begin + length, low, low + 0.5))
        points = SMALL * min(1, (LEFT - 0.15) / inches_wide(name, SMALL))
        axes.text(
            -0.006, low + 0.25, name, fontsize=points, ha="right", va="center", transform=axes.get_yaxis_transform()
        )
        top -= 1
    # With an edge even a single sample is seen.
    axes.add_collection(PolyCollection(bars, facecolor="black", edgecolor="black", linewidth=0.6), autolim=False)
    axes.set_ylim(top, axes.get_ylim()[1])


def _spans(where: xr.DataArray) -> list[tuple[float, float]]:
    """Begin and length, in days, of each run of 1."""
    begin, end, value = runs(where)
    found: list[tuple[float, float]] = np.column_stack([begin, end - begin])[value == 1].tolist()
    return found


def _percent(share: float) -> str:
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def shade_missing(axes: Axes, time: Times, known: Flags, cadence: int = CADENCE_NS, zorder: float = 0) -> None:
    """Hatch the stretches of a panel for which nothing is known, and those without samples."""
    series = xr.DataArray(known.astype(np.int8), coords={"time": time.astype("datetime64[ns]")}, dims="time")
    begin, end, value = runs(series, cadence)
    spans = np.concatenate([np.column_stack([begin, end])[value == 0], gaps(begin, end, cadence)])
    if len(spans):
        hatch(axes, spans, (0, 1), transform=axes.get_xaxis_transform(), zorder=zorder)


def save_picture(figure: Figure, path: Path, dpi: float = 100) -> None:
    """Write a PNG, whole or not at all, without a date in it. Raises OSError where it cannot be written."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()  # settles the layout, so that a figure saved twice gives the same bytes
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi, metadata={"Software": None})
    write_whole(path, image.getvalue())


def draw_fields(panels: Sequence[Axes], data: xr.Dataset) -> None:
    """Five panels: one for each vector, B with its magnitude, and the last for the densities."""
    time = ns(data)
    for axes, (name, symbol) in zip(panels[:-1], _VECTORS.items(), strict=True):
        lines = dict(zip("xyz", data[name].values.T, strict=True))
        if name == "b_gsm":
            lines["|B|"] = np.linalg.norm(data[name].values, axis=1)
        draw_lines(axes, time, lines, f"{symbol} ({superscript(data[name].attrs['units'])})", LINE_COLOURS)
    lines = {symbol: data[name].values for name, symbol in _DENSITIES.items()}
    draw_lines(panels[-1], time, lines, f"n ({superscript(data['ne'].attrs['units'])})", DENSITY_COLOURS)


def draw_lines(
    axes: Axes, time: Times, lines: Mapping[str, Floats], label: str, colours: Sequence[str] = SCALAR_COLOURS
) -> None:
    """Lines (n,) over time (n,), ns UTC, broken at gaps in time, with a zero line; hatched where all of them are NaN.

    Their names stand at the right in their colours: a legend takes ten times as long.
    """
    axes.axhline(0, color="0.7", linewidth=0.6, zorder=1)
    for row, ((name, values), colour) in enumerate(zip(lines.items(), colours, strict=False)):
        axes.plot(*_broken(time, values), color=colour, linewidth=0.7, label=name)
        place = (1.01, 0.5 + 0.18 * ((len(lines) - 1) / 2 - row))
        axes.text(*place, name, color=colour, transform=axes.transAxes, va="center", fontsize=SMALL)
    known = np.isfinite(np.array(list(lines.values())))
    shade_missing(axes, time, known.any(axis=0))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylabel(label)


def _broken(time: Times, values: Floats) -> tuple[Floats, Floats]:
    """Days and values, with NaN where time makes a step, so that lines end there."""
    steps = np.flatnonzero(np.abs(np.diff(time)) > 1.5 * CADENCE_NS) + 1
    return np.insert(days(time), steps, np.nan), np.insert(values, steps, np.nan, axis=0)


def _strips(segments: Mapping[str, xr.Dataset], truth: Mapping[str, xr.DataArray]) -> Iterator[Strip]:
    top = 0.0
    for spacecraft, data in segments.items():
        yield Strip(f"{spacecraft} model", top, data["label"])
        if spacecraft in truth:
            top -= 1
            yield Strip("truth", top, truth[spacecraft])
        top -= 1 + GAP
