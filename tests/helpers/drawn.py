"""Labels to draw, and what can be read in a picture and seen by readers of any colour vision."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from itertools import combinations

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mms_regions.core.regions import regions_named

REGIONS = "inflow_north outflow_earthward inflow_south separatrix_north outflow_tailward separatrix_south"
COLOURS = [region.colour for region in regions_named(REGIONS.split())]
START = np.datetime64("2017-05-28T03:58:30", "ns")
STEP = np.timedelta64(30, "ms")
ALL = np.repeat([0, 1, 2, -1, 3, 4, 5], 50)
# What is seen of linear RGB without one kind of cones (Machado et al. 2009, doi 10.1109/TVCG.2009.113).
SIGHTS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def labels(values: Iterable[int], start: np.datetime64 = START) -> xr.DataArray:
    """Labels 30 ms apart."""
    values = np.fromiter(values, np.int8)
    time = start + np.arange(len(values)) * STEP
    return xr.DataArray(values, coords={"time": time}, dims="time", attrs={"flag_meanings": REGIONS})


UNITS = {"b_gsm": "nT", "vi_gsm": "km/s", "ve_gsm": "km/s", "e_gsm": "mV/m", "ni": "cm^-3", "ne": "cm^-3"}


def segment(label: xr.DataArray) -> xr.Dataset:
    """What a store gives of a segment, as far as a picture needs it."""
    phase = np.linspace(0, 20, label.size)
    waves = {name: (("time", "xyz"), 900 * np.sin(phase[:, None] + [0, 1, 2])) for name in UNITS if "gsm" in name}
    densities = {name: ("time", 0.1 + 0.05 * np.cos(phase)) for name in ("ni", "ne")}
    data = xr.Dataset({**waves, **densities, "label": label})
    for name, unit in UNITS.items():
        data[name].attrs["units"] = unit
    return data


def whole_segment(samples: int = 1500) -> xr.Dataset:
    """What a store gives of a segment: slow flows, B_x > 0 before the middle, electrons missing for a while."""
    data = segment(labels(np.resize(ALL, samples)))
    first, energy = np.arange(samples) < samples // 2, np.geomspace(10, 3e4, 32)
    data["b_gsm"].values[:, 0] = np.where(first, 10.0, -10.0)
    data["vi_gsm"].values[:] = np.where(np.arange(samples) % 2 == 0, 1.0, 2000.0)[:, None]
    data["j_dot_e_prime"] = ("time", np.linspace(-1, 1, samples), {"units": "nW m^-3"})
    spectrum = np.tile(1e6 * np.exp(-energy / 3e3), (samples, 1))
    spectrum[100:200] = np.nan
    data["electron_spectrum_omni"] = (("time", "energy"), spectrum)
    data["electron_energy"] = (("time", "energy"), np.tile(energy, (samples, 1)))
    probability = np.full((samples, 6), 0.02)
    known = data["label"].values >= 0
    probability[known, data["label"].values[known]] = 0.9
    probability[~known] = np.nan
    data["probability"] = (("time", "region"), probability)
    where = {"event": "A", "probe": 1, "b0": 12.0, "n0": 0.2}
    parts = {"model": {"name": "first"}, "deciding": {"convention": "corrected"}, "inputs": []}
    return data.assign_attrs({**where, **{name: json.dumps(part) for name, part in parts.items()}})


def ion_spectrum(data: xr.Dataset) -> xr.DataArray:
    return data["electron_spectrum_omni"].assign_coords(energy=data["electron_energy"])


@lru_cache(maxsize=2)
def pixels(figure: Figure) -> np.ndarray:
    """(height, width, 3) 0 to 1, the first row at the bottom, as a figure counts; of one that changes no more."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255


def words_drawn(figure: Figure) -> list[Text]:
    """All that can be read; labels of ticks beyond the ends of an axis exist too, and are not drawn."""
    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = axis.get_view_interval()
        outside = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        beyond |= {label for tick in outside for label in (tick.label1, tick.label2)}
    words = [text for text in figure.findobj(Text) if isinstance(text, Text) and text not in beyond]
    return [text for text in words if text.get_visible() and text.get_text().strip()]


def words_apart(figure: Figure) -> list[str]:
    """All that can be read, after a look that no two words overlap, and that none reaches out of the picture."""
    FigureCanvasAgg(figure)  # has one renderer for all words
    figure.draw_without_rendering()
    words = words_drawn(figure)
    boxes = [text.get_window_extent().padded(-1) for text in words]  # letters fill less than their boxes
    pairs = combinations(zip(words, boxes, strict=True), 2)
    assert not [(a.get_text(), b.get_text()) for (a, box_a), (b, box_b) in pairs if box_a.overlaps(box_b)]
    clipped = [
        word.get_text()
        for word, box in zip(words, boxes, strict=True)
        if not all(figure.bbox.containsx(x) and figure.bbox.containsy(y) for x, y in box.corners())
    ]
    assert not clipped
    return [text.get_text() for text in words]


def seen(colours: np.ndarray, sight: str) -> np.ndarray:
    """(n, 3) sRGB as it is seen."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.clip(linear @ np.transpose(SIGHTS[sight]), 0, 1) ** (1 / 2.4)


def is_hatched(found: np.ndarray) -> bool:
    """Grey lines on white, many of them, and no hue."""
    grey = ((found > 0.3) & (found < 0.95)).all(axis=1)
    return bool(np.ptp(found, axis=1).max() < 0.02 and found.max() > 0.98 and 0.2 < grey.mean() < 0.8)
