"""A picture of what scales were estimated from: field, density, and the field that balances the pressure."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mms_regions.core.types import Floats, Times
from mms_regions.physics.estimated_scales import Balance, ScaleEstimate
from mms_regions.report.segment_plot import draw_lines
from mms_regions.report.strips import draw_title, stack

_PANEL = 1.8  # inches


def scales_picture(time: Times, balance: Balance, scales: ScaleEstimate, title: str) -> Figure:
    """Three panels over time (n,), ns UTC, of one segment, with B0, n0 and their standard errors as bands."""
    series = xr.DataArray(time, coords={"time": time.astype("datetime64[ns]")}, dims="time")
    figure, panels = stack([_PANEL] * 3, 0.55, [series])
    _panel(panels[0], time, {"|B|": balance.field}, "|B| (nT)", (scales.b0, scales.b0_sigma))
    n0 = None if scales.n0 is None or scales.n0_sigma is None else (scales.n0, scales.n0_sigma)
    _panel(panels[1], time, {"nₑ": balance.density}, "nₑ (cm⁻³)", n0)
    balanced = "field that balances\nthe pressure (nT)"
    _panel(panels[2], time, {"B₀(t)": balance.lobe_field}, balanced, (scales.b0, scales.b0_sigma))
    draw_title(figure, title)
    return figure


def _panel(axes: Axes, time: Times, lines: Mapping[str, Floats], label: str, scale: tuple[float, float] | None) -> None:
    draw_lines(axes, time, lines, label)
    if scale is not None:
        value, sigma = scale
        axes.axhline(value, color="#BB5566", linewidth=1.2)
        axes.axhspan(value - sigma, value + sigma, color="#BB5566", alpha=0.2, linewidth=0)
