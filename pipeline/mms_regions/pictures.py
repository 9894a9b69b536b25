"""Pictures of labelled segments: fields and moments as lines, regions as strips of colour on the same time axis.

Figures are made without pyplot: nothing is global, and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from mms_regions.arrays import Flags, Floats, Times
from mms_regions.cautions import cautions
from mms_regions.files import write_whole
from mms_regions.strips import (
    CADENCE_NS,
    GAP,
    NO_LABEL_STYLE,
    REGION_COLOURS,
    STRIP_INCHES,
    Strip,
    days,
    draw_region_legend,
    draw_strips,
    draw_time_axis,
    ns,
    region_names,
    runs,
)

_LINE_COLOURS = ("#004488", "#DDAA33", "#BB5566", "#000000")  # of x, y, z and the magnitude
_VECTORS = {"b_gsm": "$B$", "vi_gsm": "$v_i$", "ve_gsm": "$v_e$", "e_gsm": "$E$"}
_DENSITIES = {"ni": "$n_i$", "ne": "$n_e$"}
_SIZE = (10.0, 13.0)  # inches
LOW_CONFIDENCE = 0.7  # below it a strip is faded


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


def segment_picture(data: xr.Dataset, title: str = "", ion_spectrum: xr.DataArray | None = None) -> Figure:
    """One segment as `open_segment` gives it: fields, moments, J.E', spectra, probabilities, regions, cautions.

    ion_spectrum: (time, energy) keV/(cm2 s sr keV) with the coordinate `energy` (time, energy) in eV; it is in the CDF
    files alone, and without it the picture says so. Raises ValueError where there are no samples, or no regions.
    """
    names, strip = region_names(data["label"]), Strip("region", 0.0, data["label"])
    spectra = {} if ion_spectrum is None else {"ions": ion_spectrum}
    spectra["electrons"] = data["electron_spectrum_omni"].assign_coords(energy=data["electron_energy"])
    figure = Figure(figsize=(10.0, 14.0), layout="constrained")
    heights = [1.0] * (len(_VECTORS) + 2 + len(spectra) + 1) + [0.9]
    axes = list(figure.subplots(len(heights), sharex=True, height_ratios=heights))
    fields, last = axes[: len(_VECTORS) + 1], axes[-1]
    draw_fields(fields, data)
    product = data["j_dot_e_prime"]
    draw_lines(axes[len(fields)], ns(data), {"$J.E'$": product.values}, f"$J.E'$ ({product.attrs['units']})")
    for panel, (species, spectrum) in zip(axes[len(fields) + 1 :], spectra.items(), strict=False):
        draw_spectrogram(figure, panel, spectrum, species)
    draw_probabilities(axes[-2], data)
    draw_strips(last, [strip])
    fade(last, data, strip.top)
    draw_cautions(last, data, strip.top - 1 - GAP)
    draw_time_axis(last, [data["label"]])
    draw_region_legend(figure, names)
    figure.suptitle(title or segment_title(data))
    missing = "" if ion_spectrum is not None else "No ion spectrogram: it is in CDF files that are not at hand. "
    inferred = "\nNames of regions are inferred, not the authors'." if data.attrs["model"].get("source_sha256") else ""
    last.text(
        0,
        -0.9,
        f"{missing}Upper half faded: confidence below {LOW_CONFIDENCE}. Vectors in GSM.{inferred}",
        transform=last.transAxes,
        fontsize="small",
        va="top",
    )
    figure.align_ylabels(axes)
    return figure


def segment_title(data: xr.Dataset) -> str:
    """Event, spacecraft, model and convention, as far as the attributes say them."""
    model, deciding = data.attrs.get("model", {}), data.attrs.get("deciding", {})
    where = f"Event {data.attrs.get('event', '?')}, MMS {data.attrs.get('probe', '?')}"
    return f"{where}; model {model.get('name', '?')}, convention {deciding.get('convention', '?')}"


def draw_spectrogram(figure: Figure, axes: Axes, spectrum: xr.DataArray, species: str) -> None:
    """(time, energy) energy flux of these species on logarithmic scales, hatched where it is missing."""
    flux, energy = spectrum.values, spectrum["energy"].values
    good = np.isfinite(flux) & (flux > 0)
    shade_missing(axes, ns(spectrum), good.any(axis=1))
    axes.set_yscale("log")
    axes.set_ylabel(f"{species} (eV)")
    if not good.any():
        return
    low, high = np.quantile(flux[good], [0.02, 0.995])
    low = max(low, high * 1e-5)  # beyond five decades there are no counts
    x = np.broadcast_to(days(ns(spectrum))[:, None], energy.shape)
    sound = np.isfinite(energy).all(axis=1)
    image = axes.pcolormesh(
        x[sound],
        energy[sound],
        np.where(good, flux, np.nan)[sound],
        norm=LogNorm(low, max(high, 2 * low)),
        cmap="viridis",
        shading="nearest",
        rasterized=True,
    )
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=8)
    bar.set_label("keV/(cm$^2$ s sr keV)", fontsize="x-small")  # no longer than the panel is high


def draw_probabilities(axes: Axes, data: xr.Dataset) -> None:
    """Probabilities of the regions on top of each other, and the line `stability` where there is one."""
    p = data["probability"].values
    known, x = np.isfinite(p).all(axis=1), days(ns(data))
    shade_missing(axes, ns(data), known)
    low = np.zeros(len(p))
    for region, colour in enumerate(REGION_COLOURS):
        high = low + p[:, region]
        axes.fill_between(x, low, high, where=known, color=colour, linewidth=0, step="mid")
        low = high
    if "stability" in data:
        axes.plot(x, data["stability"].values, color="black", linewidth=1.2, label="stability")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=1.0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability (1)")


def fade(axes: Axes, data: xr.Dataset, top: float) -> None:
    """Pale the upper half of a strip where confidence is low: the lower half keeps the colour, which tells regions."""
    low = (data["probability"].max("region") < LOW_CONFIDENCE).astype(np.int8)
    begin, end, value = runs(low)
    spans = np.column_stack([begin, end - begin])[value == 1]
    axes.broken_barh(spans.tolist(), (top - 0.5, 0.5), facecolor="white", alpha=0.65, linewidth=0, snap=False)


def draw_cautions(axes: Axes, data: xr.Dataset, top: float) -> None:
    """Black bars where a label is to be taken with care, with the share of labelled samples, beneath the strip."""
    found, rows = cautions(data), []
    for name, where in (("quiet", found.quiet), ("wrong_side", found.wrong_side)):
        begin, end, value = runs(data["label"].copy(data=where.astype(np.int8)))
        spans = np.column_stack([begin, end - begin])[value == 1]
        axes.broken_barh(spans.tolist(), (top - 0.85, 0.6), facecolor="black", linewidth=0)
        rows.append((top - 0.55, f"{name.replace('_', ' ')} {_percent(found.shares[name])}"))
        top -= 1
    strips = list(zip(axes.get_yticks(), [text.get_text() for text in axes.get_yticklabels()], strict=True))
    places, words = zip(*[*strips, *rows], strict=True)
    axes.set_ylim(top, axes.get_ylim()[1])
    axes.set_yticks(places, words)


def _percent(share: float) -> str:
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def shade_missing(axes: Axes, time: Times, known: Flags) -> None:
    """Hatch the stretches of a panel for which nothing is known."""
    begin, end, value = runs(
        xr.DataArray(known.astype(np.int8), coords={"time": time.astype("datetime64[ns]")}, dims="time")
    )
    spans = np.column_stack([begin, end - begin])[value == 0]
    axes.broken_barh(spans.tolist(), (0, 1), transform=axes.get_xaxis_transform(), zorder=0, **NO_LABEL_STYLE)


def save_picture(figure: Figure, path: Path, dpi: float = 100) -> None:
    """Write a PNG, whole or not at all, without a date in it. Raises OSError where it cannot be written."""
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
        draw_lines(axes, time, lines, f"{symbol} ({data[name].attrs['units']})")
    lines = {symbol: data[name].values for name, symbol in _DENSITIES.items()}
    draw_lines(panels[-1], time, lines, f"$n$ ({data['ne'].attrs['units']})")


def draw_lines(axes: Axes, time: Times, lines: Mapping[str, Floats], label: str) -> None:
    """Named lines (n,) over time (n,), ns UTC, broken at gaps in time, with a zero line and a legend at the right."""
    gaps = np.flatnonzero(np.abs(np.diff(time)) > 1.5 * CADENCE_NS) + 1
    axes.axhline(0, color="0.7", linewidth=0.6, zorder=1)
    for (name, values), colour in zip(lines.items(), _LINE_COLOURS, strict=False):
        x, y = np.insert(days(time), gaps, np.nan), np.insert(values, gaps, np.nan)
        axes.plot(x, y, color=colour, linewidth=0.8, label=name)
    axes.set_ylabel(label)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=1.0)


def _axes(figure: Figure, panels: int, rows: float) -> list[Axes]:
    """Panels of equal height above one for rows of strips, on one time axis."""
    strips = rows * STRIP_INCHES
    heights = [*[(_SIZE[1] - strips) / panels] * panels, strips]
    return list(figure.subplots(panels + 1, sharex=True, height_ratios=heights))


def _strips(segments: Mapping[str, xr.Dataset], truth: Mapping[str, xr.DataArray]) -> Iterator[Strip]:
    top = 0.0
    for spacecraft, data in segments.items():
        yield Strip(f"{spacecraft} model", top, data["label"])
        if spacecraft in truth:
            top -= 1
            yield Strip("truth", top, truth[spacecraft])
        top -= 1 + GAP
