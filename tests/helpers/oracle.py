"""The features of convention `published`, one sample after another, from the formulas alone: nothing of the package.

`python tests/oracle.py` writes the golden file anew; a test holds that it still would be the same file.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import cos, nan, pi, radians, sin, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ticks = NDArray[np.int64]

GOLDEN = Path(__file__).parents[1] / "golden" / "published_features.npz"
SEED, B0, N0 = 20170711, 15.0, 0.08
START = 1_499_812_440_123_456_789  # 2017-07-11T22:34:00 and a bit, ns UTC: no tick falls on a round number
LENGTH = 2_400_000_000
CADENCES = ((40_000_000, 150_000_000), (0, 30_000_000), (1_000_001, 7_812_500), (333, 1_953_125))  # first, step: ns
FIRST_DEGREE = {2015: (-29441.46, -1501.77, 4795.99), 2020: (-29403.41, -1451.37, 4653.35)}  # IGRF-14: g10, g11, h11


@dataclass(frozen=True)
class Measurements:
    """What the instruments give: times in ns UTC, vectors (n, 3) in GSE, NaN where there is no value."""

    ion_time: Ticks
    n_i: Array
    n_bg: Array
    v_i: Array
    electron_time: Ticks
    n_e: Array
    v_e: Array
    b_time: Ticks
    b: Array
    e_time: Ticks
    e: Array


def measure(seed: int) -> Measurements:
    """2.4 s of noise at MMS cadences (the electric field at 512 Hz, for brevity), with gaps in ions and fields."""
    random = np.random.RandomState(seed)  # its numbers never change with numpy's version
    times = [np.arange(START + first, START + LENGTH, step) for first, step in CADENCES]
    ion, electron, field, electric = times
    n_i, b, e = random.uniform(0.05, 0.2, len(ion)), noise(random, field, 20.0), noise(random, electric, 10.0)
    n_i[6], b[150:155], e[700:702] = nan, nan, nan
    n_bg = random.uniform(0.0, 0.04, len(ion))
    n_e = random.uniform(0.05, 0.2, len(electron))
    return Measurements(
        ion, n_i, n_bg, noise(random, ion, 500.0), electron, n_e, noise(random, electron, 2e3), field, b, electric, e
    )


def noise(random: np.random.RandomState, time: Ticks, size: float) -> Array:
    return random.uniform(-size, size, (len(time), 3))


def published_features(m: Measurements, b0: float, n0: float) -> Array:
    """(n, 14): Bx By Bz Ex Ey Ez ni ne vix viy viz vex vey vez at the shifted electron times."""
    v_a = b0 * 1e-9 / sqrt(n0 * 1e6 * 1.6726219e-27 * 4 * pi * 1e-7) / 1e3
    b, e = in_simulation_axes(m.b_time, m.b / b0), in_simulation_axes(m.e_time, m.e / (b0 * v_a * 1e-3))
    cleaned = m.n_i - m.n_bg
    ions = in_simulation_axes(m.ion_time, m.v_i * (m.n_i / cleaned)[:, None] / v_a, 0.075)
    electrons = in_simulation_axes(m.electron_time, m.v_e / v_a / sqrt(1836), 0.075)
    ion_time, b_time, e_time = ticks(m.ion_time, 0.075), ticks(m.b_time), ticks(m.e_time)
    rows = []
    for k, t in enumerate(ticks(m.electron_time, 0.075)):
        field = [*line(t, b_time, b), *line(t, e_time, e)]
        density = [*line(t, ion_time, cleaned[:, None] / n0), m.n_e[k] / n0]
        rows.append([*field, *density, *line(t, ion_time, ions), *electrons[k]])
    return np.array(rows)


def ticks(time: Ticks, shift: float = 0.0) -> list[int]:
    """Whole ns after the passes through float seconds: the one that shifts, where there is one, and two more."""
    passes = [shift, 0.0, 0.0] if shift else [0.0, 0.0]
    found = [int(t) for t in time]
    for seconds in passes:
        found = [int((t / 1e9 + seconds) * 1e9) for t in found]
    return found


def line(t: int, x: list[int], y: Array) -> list[float]:
    """y (n, k) at t: the interval is (x[k-1], x[k]], and nothing lies outside."""
    if t < x[0] or t > x[-1]:
        return [nan] * y.shape[1]
    k = max(bisect_left(x, t), 1)
    return [(r - left) / (x[k] - x[k - 1]) * (t - x[k - 1]) + left for left, r in zip(y[k - 1], y[k], strict=True)]


def in_simulation_axes(time: Ticks, gse: Array, shift: float = 0.0) -> Array:
    """(x, y, z) of the simulation = (x, -z, y) of GSM, each vector turned at its own time."""
    gsm = [axes(t) @ vector for t, vector in zip(ticks(time, shift), gse, strict=True)]
    return np.array([(x, -z, y) for x, y, z in gsm])


def axes(t: int) -> Array:
    """(3, 3): the rotation from GSE to GSM, both seen from inertial space (Russell 1971)."""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=t / 1e3)
    midnight = when.replace(hour=0, minute=0, second=0, microsecond=0)
    fraction = (when - midnight) / timedelta(days=1)
    days = (when - datetime(1899, 12, 31, 12, tzinfo=UTC)) / timedelta(days=1)
    anomaly = radians(358.475845 + 0.985600267 * days)
    equation = (1.91946 - 0.004789 * days / 36525) * sin(anomaly) + 0.020094 * sin(2 * anomaly)
    longitude = radians(279.696678 + 0.9856473354 * days + equation - 0.005686)
    tilt = radians(23.45229 - 0.0130125 * days / 36525)
    sun = np.array([cos(longitude), sin(longitude) * cos(tilt), sin(longitude) * sin(tilt)])
    pole = np.array([0.0, -sin(tilt), cos(tilt)])
    gse = np.array([sun, np.cross(pole, sun), pole])
    sidereal = radians(279.690983 + 0.9856473354 * days + 360 * fraction + 180)
    y = np.cross(dipole(midnight, sidereal), sun)
    y /= np.linalg.norm(y)
    gsm = np.array([sun, y, np.cross(sun, y)])
    return gsm @ gse.T


def dipole(day: datetime, sidereal: float) -> Array:
    """(3,): the Earth's magnetic axis on a day, towards north, turned from the Earth to inertial space."""
    part = (day.year + (day.timetuple().tm_yday - 1) / 365.25 - 2015) / 5
    early, late = np.array(FIRST_DEGREE[2015]), np.array(FIRST_DEGREE[2020])
    g10, g11, h11 = early + part * (late - early)
    return -np.array([cos(sidereal) * g11 - sin(sidereal) * h11, sin(sidereal) * g11 + cos(sidereal) * h11, g10])


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, features=published_features(measure(SEED), B0, N0).astype(np.float32))
