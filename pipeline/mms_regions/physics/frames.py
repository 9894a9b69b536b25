"""GSE -> GSM for arrays of vectors and tensors.

GSE and GSM share the x axis (to the Sun); GSM's z axis lies in the plane of x and the Earth's dipole. So the
transformation is a rotation about x by one angle, which varies slowly: it is computed once a second and interpolated.
The solar position is the low-precision one of Russell (1971, Cosmic Electrodynamics 2, 184) as SPEDAS uses it, the
dipole is that of IGRF-14 (Alken et al., first-degree terms), taken once a day.
"""

from __future__ import annotations

import numpy as np

from mms_regions.core.types import DAY, SECOND, Floats, Times

# First-degree IGRF-14 terms in nT (g10, g11, h11) and, for the last epoch, their change per year.
_IGRF_YEARS = np.array([2010.0, 2015.0, 2020.0, 2025.0, 2030.0])
_IGRF_TERMS = np.array(
    [
        [-29496.57, -1586.42, 4944.26],
        [-29441.46, -1501.77, 4795.99],
        [-29403.41, -1451.37, 4653.35],
        [-29350.00, -1410.30, 4545.50],
        [-29350.00 + 5 * 12.60, -1410.30 + 5 * 10.00, 4545.50 - 5 * 21.50],
    ]
)
_NOON_1899_12_31 = np.datetime64("1899-12-31T12:00:00", "ns").astype(np.int64)


def gse_to_gsm(time: Times, xyz: Floats) -> Floats:
    """Rotate vectors from GSE to GSM.

    time: (n,) int64, ns UTC since 1970, in any order; 2010 to 2030 (the span of the dipole model here).
    xyz: (n, 3), any unit. Returns (n, 3) float64.
    Raises ValueError for times outside 2010-2030 or shapes that do not match.
    """
    _require_vectors("gse_to_gsm", time, xyz)
    return _turned(xyz, _angle(time)) if len(time) else np.empty((0, 3))


def gsm_to_gse(time: Times, xyz: Floats) -> Floats:
    """Rotate vectors from GSM to GSE: the inverse of `gse_to_gsm`, with the same shapes, times and errors."""
    _require_vectors("gsm_to_gse", time, xyz)
    return _turned(xyz, -_angle(time)) if len(time) else np.empty((0, 3))


def tensor_gse_to_gsm(time: Times, tensor: Floats) -> Floats:
    """Rotate (n, 3, 3) tensors from GSE to GSM: R T R^T; units, times and errors as in `gse_to_gsm`."""
    if tensor.shape != (len(time), 3, 3):
        raise ValueError(f"tensor_gse_to_gsm wants shape ({len(time)}, 3, 3), one per time, and got {tensor.shape}")
    if not len(time):
        return np.empty((0, 3, 3))
    angle = _angle(time)
    rows = np.stack([_turned(tensor[:, :, j], angle) for j in range(3)], axis=2)
    return np.stack([_turned(rows[:, i, :], angle) for i in range(3)], axis=1)


def _require_vectors(name: str, time: Times, xyz: Floats) -> None:
    if xyz.shape != (len(time), 3):
        raise ValueError(f"{name} wants vectors of shape ({len(time)}, 3), one per time, and got {xyz.shape}")


def _turned(xyz: Floats, angle: Floats) -> Floats:
    """(n, 3): vectors in axes that are turned about x by an angle (n,)."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = xyz[:, 0], xyz[:, 1], xyz[:, 2]
    return np.stack([x, cos * y - sin * z, sin * y + cos * z], axis=1)


def _angle(time: Times) -> Floats:
    """(n,) rad: the angle from GSE z to GSM z about x, exact at whole seconds and linear between them."""
    first, last = int(time.min()), int(time.max())
    if first < _year_start(2010) or last >= _year_start(2030):
        raise ValueError("GSE to GSM is defined here for 2010 to 2030; the times given are outside")
    if (last - first) // SECOND > len(time):  # sparse times: exact everywhere is cheaper
        return _dipole_angle(time, _dipole_geographic(time))
    seconds = np.arange(first // SECOND, last // SECOND + 1, dtype=np.int64) * SECOND
    dipole = _dipole_geographic(seconds)  # a second belongs to one day, also the one before midnight
    begin, end = _dipole_angle(seconds, dipole), _dipole_angle(seconds + SECOND, dipole)
    k, rest = np.divmod(time - seconds[0], SECOND)
    angle: Floats = begin[k] + (rest / SECOND) * (end - begin)[k]
    return angle


def _dipole_angle(time: Times, dipole_geographic: Floats) -> Floats:
    """(n,) rad: atan2(y, z) of the dipole axis (3, n) in GSE; always within 35 degrees of 0."""
    sidereal, right_ascension, declination, obliquity = _sun(time)
    x, y, z = dipole_geographic
    cos, sin = np.cos(sidereal), np.sin(sidereal)
    dipole = np.stack([cos * x - sin * y, sin * x + cos * y, z])  # inertial (GEI)
    to_sun = np.stack(
        [
            np.cos(declination) * np.cos(right_ascension),
            np.cos(declination) * np.sin(right_ascension),
            np.sin(declination),
        ]
    )
    z_gse = np.stack([np.zeros_like(obliquity), -np.sin(obliquity), np.cos(obliquity)])
    y_gse = np.cross(z_gse, to_sun, axis=0)
    angle: Floats = np.arctan2((dipole * y_gse).sum(axis=0), (dipole * z_gse).sum(axis=0))
    return angle


def _sun(time: Times) -> tuple[Floats, Floats, Floats, Floats]:
    """Greenwich sidereal time, and right ascension, declination of the Sun, obliquity of the ecliptic; all in rad."""
    days = (time - _NOON_1899_12_31) / DAY
    fraction = (time % DAY) / DAY
    centuries = days / 36525.0
    sidereal = np.radians((279.690983 + 0.9856473354 * days + 360.0 * fraction + 180.0) % 360.0)
    mean_longitude = (279.696678 + 0.9856473354 * days) % 360.0
    anomaly = np.radians((358.475845 + 0.985600267 * days) % 360.0)
    centre = (1.91946 - 0.004789 * centuries) * np.sin(anomaly) + 0.020094 * np.sin(2 * anomaly)
    aberration = 0.005686 - 0.025e-4 * centuries
    longitude = np.radians(mean_longitude + centre - aberration)
    obliquity = np.radians(23.45229 - 0.0130125 * centuries)
    declination = np.arcsin(np.sin(obliquity) * np.sin(longitude))
    right_ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    return sidereal, right_ascension, declination, obliquity


def _dipole_geographic(time: Times) -> Floats:
    """(3, n): the unit vector along the Earth's magnetic axis towards north, in geographic coordinates."""
    day = time.astype("datetime64[ns]").astype("datetime64[D]")
    unique, where = np.unique(day, return_inverse=True)
    start = unique.astype("datetime64[Y]")
    year = start.astype(np.int64) + 1970 + (unique - start.astype("datetime64[D]")).astype(np.int64) / 365.25
    g10, g11, h11 = (np.interp(year, _IGRF_YEARS, terms) for terms in _IGRF_TERMS.T)
    axis = -np.stack([g11, h11, g10])
    unit: Floats = axis / np.linalg.norm(axis, axis=0)
    return unit[:, where]


def _year_start(year: int) -> int:
    return int(np.datetime64(f"{year}-01-01", "ns").astype(np.int64))
