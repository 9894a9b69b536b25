"""Snapshots as the simulation writes them, but in closed form: two sheets with an X-line each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CELLS, SIDE = 128, 25.6
H = SIDE / CELLS
X_LINE = 40  # column of the lower sheet; that of the upper one is half a box further
GUIDE = 0.2


def flux(z: NDArray[Any], x: NDArray[Any], reconnected: float) -> NDArray[Any]:
    """Of a sheet at z = 0 with its X-line at x = 0, and the island half a box away."""
    return -np.log(np.cosh(z)) - 0.5 * reconnected * np.cos(2 * np.pi * x / SIDE) * np.exp(-((z / 2) ** 2))


def snapshot(reconnected: float = 1.4) -> dict[str, NDArray[Any]]:
    """Two sheets as the simulation has them, with an electric field towards the sheet along its separatrices."""
    at = np.arange(CELLS) * H
    z, x = np.meshgrid(at, at, indexing="ij")
    lower = z < SIDE / 2
    z_here = np.where(lower, z - SIDE / 4, z - 3 * SIDE / 4)
    x_here = np.where(lower, x - X_LINE * H, x - X_LINE * H - SIDE / 2)
    a = flux(z_here, x_here, reconnected)
    s = a - flux(np.zeros(1), np.zeros(1), reconnected)[0]
    sign = np.where(lower, 1, -1)
    e = np.zeros((3, CELLS, CELLS))
    e[1] = 0.1 * sign
    e[2] = -np.sign(z_here) * np.exp(-(((s - 0.15) / 0.15) ** 2))
    b = np.stack([np.tanh(z_here) * sign, np.full(a.shape, GUIDE), np.sin(2 * np.pi * x_here / SIDE) * sign])
    v = np.stack([np.sin(2 * np.pi * x_here / SIDE), 0 * a, 0 * a])
    n, p = np.full(a.shape, 0.5), np.full(a.shape, 0.1)
    return {"a_y": a * sign, "e": e, "b": b, "v_i": v, "v_e": 2 * v, "n_i": n, "n_e": n, "p_i": p, "p_e": p,
            "h": np.float64(H), "time": np.float64(9.0)}  # fmt: skip
