"""A picture of a simulated current sheet: flux, Hall field, density and outflow of one snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mms_regions.report.segment_plot import save_picture

_X, _Y = 0, 1
_PANELS = (  # title, quantity, component
    ("out-of-plane field $B_y$ ($B_0$)", "b", _Y),
    ("electron density ($n_0$)", "n_e", None),
    ("ion velocity $v_{ix}$ ($v_A$)", "v_i", _X),
    ("electron velocity $v_{ex}$ ($v_A$)", "v_e", _X),
)


def simulation_picture(snapshot: Mapping[str, NDArray[Any]]) -> Figure:
    """Four panels over x and z, in d_i, with lines of force (lines of equal flux function).

    snapshot: as `training.simulation.moments` gives it, with `h` (d_i) and `time` (inverse ion gyrofrequencies).
    """
    flux, h = snapshot["a_y"], float(snapshot["h"])
    nz, nx = flux.shape
    figure = Figure(figsize=(11, 9.5), layout="constrained")
    for axes, (title, name, component) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        signed = component is not None
        shown = snapshot[name][component] if signed else snapshot[name]
        most = float(np.nanquantile(np.abs(shown), 0.998)) or 1.0
        drawn = axes.imshow(
            shown,
            origin="lower",
            extent=(0, nx * h, 0, nz * h),
            cmap="RdBu_r" if signed else "viridis",
            vmin=-most if signed else 0.0,
            vmax=most,
        )
        axes.contour(np.arange(nx) * h, np.arange(nz) * h, flux, levels=18, colors="0.25", linewidths=0.5)
        figure.colorbar(drawn, ax=axes, shrink=0.8)
        axes.set(title=title, xlabel="x ($d_i$, earthward)", ylabel="z ($d_i$, northward)")
    figure.suptitle(f"Particle-in-cell simulation at $t = {float(snapshot['time']):.1f}\\,\\Omega_{{ci}}^{{-1}}$")
    return figure


def save_simulation_picture(snapshot: Path, picture: Path) -> None:
    """Draw a snapshot file into a PNG file. Raises OSError where one cannot be read, the other not written."""
    with np.load(snapshot, allow_pickle=False) as data:
        save_picture(simulation_picture({name: data[name] for name in data.files}), picture)
