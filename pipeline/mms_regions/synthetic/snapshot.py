"""A simulated current sheet as a layer to cross: fields and moments between grid points, and the region by the flux.

The flux function A_y tells what is connected to what: field lines whose A is that of the X-line are the separatrices.
s = A - A_X is negative in the inflow and positive in the exhausts, in B0 d_i. A separatrix region begins a little
outside (s = -0.1) and ends, inwards, where the electric field that points to the sheet, which the Hall effect makes
there, has fallen below half of its peak in that column, and at the latest at the inner third of the exhaust: near the
X-line that field reaches to the middle of the sheet, though ions flow out there. Lapenta et al. (2022, arXiv
1910.12067) define regions by local values instead; these follow from the topology, and so have no noise.

Units and axes are those of `layer`. Electron velocities are multiplied so that they are the same share of the electron
Alfven speed as in the simulation, whose electrons are heavy.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.files import write_whole
from mms_regions.core.types import NO_LABEL, Flags, Floats
from mms_regions.physics.features import ION_TO_ELECTRON_MASS
from mms_regions.synthetic.layer import (
    INFLOW_NORTH,
    INFLOW_SOUTH,
    NONE_OF_THESE,
    OUTFLOW_EARTHWARD,
    OUTFLOW_TAILWARD,
    SEPARATRIX_NORTH,
    SEPARATRIX_SOUTH,
    Plasma,
)

OUTSIDE, SHARE = -0.1, 0.5  # B0 d_i of flux outside the separatrix; of the peak of the inward field
CORE = 1 / 3  # of the exhaust's depth, which is outflow in any case
PRE_ONSET, ACTIVE, LARGE = 0.35, 1.2, 2.6  # B0 d_i reconnected: nothing has begun; lobes flow in; images are felt
SHIPPED = Path(__file__).with_name("sheets.npz")  # of a simulation that no model was trained on, for demonstrations
_SMOOTHING, _COLUMNS = 8, 64  # passes of the 1-2-1 filter: 0.12 d_i at h = 0.0625; along x for edges: 0.35 d_i
_MIDDLE = 0.5  # d_i from the middle of a sheet
_CHANNELS = ("b", "e", "v_i", "v_e", "n", "t_i", "t_e", "s")
_CHANNEL_OF_N = 12  # behind four vectors
_FLIPPED = {"b": (-1, 1, -1), "e": (1, -1, 1), "v_i": (1, -1, 1), "v_e": (1, -1, 1)}  # seen in a mirror across y


@dataclass(frozen=True)
class Edges:
    """Where separatrix regions begin and end: flux outside the separatrix (B0 d_i), and share of the peak of E.

    core: the part of the exhaust's depth that they never have.
    """

    outside: float = OUTSIDE
    share: float = SHARE
    core: float = CORE


@dataclass(frozen=True, eq=False)
class Sheet:
    """One sheet of a snapshot. values: (16, nz, nx) by `_CHANNELS`; regions: (nz, nx), on the same grid.

    x, z: of the first point, d_i from the X-line. h: d_i between points. reconnected: B0 d_i. time: inverse ion
    gyrofrequencies. reach: |x| (d_i) which reconnection has reached and images have not. There is no region beyond it,
    nor beyond a |z| of an eighth of the box: halfway to the other sheet nothing flows in.
    """

    values: NDArray[np.float32]
    regions: NDArray[np.int8]
    x: float
    z: float
    h: float
    time: float
    reconnected: float
    reach: float

    @property
    def s(self) -> NDArray[np.float32]:
        """(nz, nx): the flux function less that of the X-line."""
        s: NDArray[np.float32] = self.values[-1]
        return s

    @property
    def height(self) -> float:
        """|z| (d_i) up to which there are regions."""
        return float(self.regions.shape[1] * self.h / 8)

    @property
    def within_reach(self) -> Flags:
        """(nz, nx): whether a point has a region."""
        nz, nx = self.regions.shape
        near_z = np.abs(self.z + self.h * np.arange(nz)) <= self.height
        return np.outer(near_z, np.abs(self.x + self.h * np.arange(nx)) <= self.reach)

    @property
    def inflow_n(self) -> float:
        """The density far from the sheet."""
        return float(self.values[_CHANNEL_OF_N, [0, -1]].mean())

    def region(self, x: Floats, z: Floats) -> NDArray[np.int8]:
        """(m,) int8: the region of the nearest grid point; -1 out of reach."""
        k, i = np.rint((z - self.z) / self.h).astype(int), np.rint((x - self.x) / self.h).astype(int)
        nz, nx = self.regions.shape
        inside = (np.abs(z) <= self.height) & (np.abs(x) <= self.reach)
        return np.where(inside, self.regions[k.clip(0, nz - 1), i.clip(0, nx - 1)], NO_LABEL).astype(np.int8)

    def distance(self, x: Floats, z: Floats) -> Floats:
        """(m,) d_i, about: signed distance to the separatrix, positive in the inflow; from s and the field."""
        found = self._at(x, z)
        distance: Floats = -found[-1] / np.maximum(np.hypot(found[0], found[2]), 0.1)
        return distance

    def unrest(self, x: Floats, z: Floats) -> Floats:
        """(m,) how strong waves are, as a share: strong from the separatrices inwards, weak in the inflow."""
        unrest: Floats = 0.15 + 0.85 * 0.5 * (1 + np.tanh((self._at(x, z)[-1] - OUTSIDE / 2) / 0.05))
        return unrest

    def plasma(self, x: Floats, z: Floats) -> Plasma:
        """Fields and moments at the places x, z (m,), d_i from the X-line; of the edge outside the box."""
        found = self._at(x, z)
        b, e, v_i, v_e = found[:12].reshape(4, 3, -1).transpose(0, 2, 1)
        n, t_i, t_e = found[_CHANNEL_OF_N : _CHANNEL_OF_N + 3]
        return Plasma(b, e, n, v_i, v_e, t_i, t_e)

    def _at(self, x: Floats, z: Floats) -> Floats:
        """(16, m): the values there, linear between grid points."""
        nz, nx = self.regions.shape
        row, column = ((z - self.z) / self.h).clip(0, nz - 1.001), ((x - self.x) / self.h).clip(0, nx - 1.001)
        k, i = row.astype(int), column.astype(int)
        up, right = row - k, column - i
        low = self.values[:, k, i] * (1 - right) + self.values[:, k, i + 1] * right
        high = self.values[:, k + 1, i] * (1 - right) + self.values[:, k + 1, i + 1] * right
        found: Floats = low * (1 - up) + high * up
        return found


def read_sheets(path: Path = SHIPPED) -> tuple[Sheet, ...]:
    """The sheets that `write_sheets` has left."""
    numbers = {f.name for f in fields(Sheet)} - {"values", "regions"}
    with np.load(path, allow_pickle=False) as data:
        return tuple(
            Sheet(
                values=data[f"values_{n}"].astype(np.float32),
                regions=data[f"regions_{n}"],
                **{name: float(data[f"{name}_{n}"]) for name in numbers},
            )
            for n in range(int(data["sheets"]))
        )


def write_sheets(path: Path, sheets: tuple[Sheet, ...]) -> None:
    """Every second point of these sheets, as float16: what `read_sheets` reads, about half a megabyte each."""
    arrays: dict[str, Any] = {"sheets": np.int64(len(sheets))}
    for n, sheet in enumerate(sheets):
        thinned = replace(
            sheet, values=sheet.values[:, ::2, ::2].astype(np.float16), regions=sheet.regions[::2, ::2], h=2 * sheet.h
        )
        arrays |= {f"{f.name}_{n}": getattr(thinned, f.name) for f in fields(Sheet)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def sheets_of(
    snapshot: Mapping[str, NDArray[Any]], mass_ratio: float = 25.0, edges: Edges | None = None
) -> tuple[Sheet, Sheet]:
    """Both sheets of a snapshot as `training.simulation.moments` gives it, with `h` and `time`; the upper one mirrored.

    In a mirror across y its current flows as in the magnetotail, and its guide field stays as it is.
    """
    half = len(snapshot["a_y"]) // 2
    lower = {name: values[..., :half, :] for name, values in snapshot.items() if values.ndim}
    upper = {name: values[..., half:, :] for name, values in snapshot.items() if values.ndim}
    for name, signs in _FLIPPED.items():
        upper[name] = upper[name] * np.reshape(signs, (3, 1, 1))
    upper["a_y"] = -upper["a_y"]
    h, time = float(snapshot["h"]), float(snapshot["time"])
    first, second = (_sheet(part, h, time, mass_ratio, edges or Edges()) for part in (lower, upper))
    return first, second


def _sheet(part: Mapping[str, NDArray[Any]], h: float, time: float, mass_ratio: float, edges: Edges) -> Sheet:
    """The sheet of half a box, rolled so that the X-line is in the middle of the columns."""
    a = _smooth(np.asarray(part["a_y"], np.float64), 2)
    ridge = a.max(axis=0)
    line, middle = int(_smooth(ridge[None], _COLUMNS, axes=(1,)).argmin()), a.shape[1] // 2
    rolled = {name: np.roll(np.asarray(values, np.float64), middle - line, axis=-1) for name, values in part.items()}
    a, reconnected = np.roll(a, middle - line, axis=1), float(np.ptp(ridge))
    s, sheet_row = a - ridge[line], _ridge_rows(a)
    quantities = {**_smooth_moments(rolled, mass_ratio), "s": s}
    if reconnected < PRE_ONSET:
        regions, front = np.full(s.shape, NONE_OF_THESE, np.int8), np.inf
    else:
        front = _front(quantities["e"][1], sheet_row, middle, h)
        regions = _regions(s, quantities["e"][2], sheet_row, middle, edges)
    stacked = np.concatenate([quantities[name].reshape(-1, *s.shape) for name in _CHANNELS]).astype(np.float32)
    return Sheet(
        values=stacked,
        regions=regions,
        x=-middle * h,
        z=-float(sheet_row[middle]) * h,
        h=h,
        time=time,
        reconnected=reconnected,
        reach=min(front, s.shape[1] * h / 4),
    )


def _front(e_y: Floats, sheet_row: Floats, line: int, h: float) -> float:
    """How far from the X-line (d_i) reconnection has come, on the slower side.

    There E_y, in the middle of the sheet, falls below half of what it is at the X-line.
    """
    rows = np.abs(np.arange(len(e_y))[:, None] - sheet_row) * h < _MIDDLE
    along = _smooth((e_y * rows).sum(axis=0, keepdims=True) / rows.sum(axis=0), _COLUMNS, axes=(1,))[0]
    near = round(2 * _MIDDLE / h)
    weak = along < 0.5 * along[line - near : line + near + 1].mean()
    weak[line - near : line + near + 1] = False
    sides = (weak[line:], weak[line::-1])
    return float(min(np.argmax(side) if side.any() else len(side) for side in sides)) * h


def _smooth_moments(part: Mapping[str, Floats], mass_ratio: float) -> dict[str, Floats]:
    """Averaged over about 0.3 d_i, as conserved quantities: the noise of particles is less than that of instruments."""
    n = {kind: np.maximum(_smooth(part[f"n_{kind}"], _SMOOTHING), 1e-3) for kind in "ie"}
    found = {"b": _smooth(part["b"], 2), "e": _smooth(part["e"], _SMOOTHING), "n": 0.5 * (n["i"] + n["e"])}
    for kind in "ie":
        flow = np.nan_to_num(part[f"v_{kind}"]) * part[f"n_{kind}"]
        found[f"v_{kind}"] = _smooth(flow, _SMOOTHING) / n[kind]
        found[f"t_{kind}"] = _smooth(part[f"p_{kind}"], _SMOOTHING) / n[kind]
    found["v_e"] = found["v_e"] * np.sqrt(ION_TO_ELECTRON_MASS / mass_ratio)
    return found


def _smooth(values: Floats, passes: int, axes: tuple[int, ...] = (-2, -1)) -> Floats:
    """So many passes of the 1-2-1 filter; periodic in x, with the edge repeated in z."""
    for axis in axes:
        moved = np.moveaxis(values, axis, -1)
        for _ in range(passes):
            around = np.concatenate(
                [moved[..., -1:], moved, moved[..., :1]]
                if axis in (-1, 1)
                else [moved[..., :1], moved, moved[..., -1:]],
                axis=-1,
            )
            moved = 0.25 * around[..., :-2] + 0.5 * around[..., 1:-1] + 0.25 * around[..., 2:]
        values = np.moveaxis(moved, -1, axis)
    return values


def _ridge_rows(a: Floats) -> Floats:
    """(nx,) row of the middle of the sheet, where A is largest, smooth along x."""
    rows: Floats = _smooth(a.argmax(axis=0).astype(np.float64)[None], _COLUMNS, axes=(1,))[0]
    return rows


def _regions(s: Floats, e_z: Floats, sheet_row: Floats, line: int, edges: Edges) -> NDArray[np.int8]:
    """(nz, nx): the region of each point."""
    rows, columns = np.indices(s.shape)
    north, earthward = rows >= sheet_row, columns >= line
    inward = _smooth(np.where(north, -e_z, e_z), _COLUMNS, axes=(1,))
    layer = np.zeros(s.shape, bool)
    for side in (north, ~north):
        layer |= _layer(s, inward, np.abs(rows - sheet_row), side, edges)
    outflow = np.where(earthward, OUTFLOW_EARTHWARD, OUTFLOW_TAILWARD)
    inside = np.where(layer, np.where(north, SEPARATRIX_NORTH, SEPARATRIX_SOUTH), outflow)
    return np.where(s < edges.outside, np.where(north, INFLOW_NORTH, INFLOW_SOUTH), inside).astype(np.int8)


def _layer(s: Floats, inward: Floats, depth: Floats, side: Flags, edges: Edges) -> Flags:
    """(nz, nx): points of the separatrix region of one side. depth: rows from the middle of the sheet."""
    candidate = side & (s >= edges.outside)
    field = np.where(candidate, inward, -np.inf)
    at = field.argmax(axis=0)
    peak, depth_of_peak = field.max(axis=0), np.take_along_axis(depth, at[None], axis=0)[0]
    weak_inside = candidate & (depth <= depth_of_peak) & (inward < edges.share * peak)
    inner = np.where(weak_inside, depth, -np.inf).max(axis=0)
    outermost = np.where(candidate, depth, 0.0).max(axis=0)
    inner = _smooth(np.clip(inner, edges.core * outermost, outermost)[None], _COLUMNS, axes=(1,))[0]
    within: Flags = candidate & (depth > inner)
    return within
