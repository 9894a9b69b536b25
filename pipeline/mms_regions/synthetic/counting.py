"""What counting few electrons does to moments: the noise, the empty samples, errors and flags of DES in a thin tail.

Measured on real burst files (mms2, 2017-07-26 07:16 to 07:37), about the running median of the density; docs/science.md
has the table. Velocities have heavy tails: Student's t with 2.5 degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import Flags, Floats

_DENSITY = np.array([0.005, 0.014, 0.028, 0.056, 0.3])  # cm^-3; noise is constant beyond both ends
_RELATIVE = np.array([1.6, 0.75, 0.45, 0.30, 0.06])  # sigma(n)/n
_EMPTY = np.array([0.30, 0.10, 0.015, 0.0, 0.0])  # share of accumulations without an electron
_SPEED = np.array(  # km/s, robust sigma of each component
    [[7_000, 7_000, 4_000], [5_500, 5_000, 2_400], [3_200, 3_000, 1_500], [2_150, 1_700, 1_000], [280, 280, 160]]
)
_REPORTED = np.array([0.999, 0.999, 0.999, 0.35, 0.07])  # numberdensity_err / numberdensity, as the files have it
_FREEDOM = 2.5
_T_ROBUST = 1.16  # quartile distance / 1.349 of Student's t with 2.5 degrees of freedom

_THIN, _THIN_FLAG = 0.05, 1 << 7
_OTHER_FLAGS = {1 << 4: 0.3, 1 << 5: 0.2, 1 << 9: 0.02}  # cold plasma, hot plasma, survey field: shares of real samples


@dataclass(frozen=True)
class Counted:
    """DES samples: density, its error (n,) in cm^-3, velocity, its error (n, 3) in km/s, measured / true density (n,).

    Where DES saw nothing all of these are 0. heat: (n,) measured over true temperature. flags: (n,) error flags.
    """

    n: Floats
    n_err: Floats
    v: Floats
    v_err: Floats
    share: Floats
    heat: Floats
    flags: NDArray[np.uint32]


def counted(n: Floats, v: Floats, rng: np.random.Generator) -> Counted:
    """What DES makes in 30 ms of electrons of this density (m,), cm^-3, and velocity (m, 3), km/s."""
    relative, empty_share = _by_density(n, _RELATIVE), _by_density(n, _EMPTY)
    empty = rng.uniform(size=len(n)) < empty_share
    share = np.where(empty, 0.0, _spread(relative, empty_share, rng) / (1 - empty_share))
    measured = n * share
    speed = np.stack([_by_density(n, column) for column in _SPEED.T], axis=1)
    noise = speed / _T_ROBUST * rng.standard_t(_FREEDOM, size=v.shape)
    return Counted(
        n=measured,
        n_err=measured * _by_density(np.maximum(measured, 1e-9), _REPORTED),
        v=np.where(empty[:, None], 0.0, v + noise),
        v_err=np.where(empty[:, None], 0.0, speed * rng.uniform(0.5, 1.5, size=v.shape)),
        share=share,
        heat=np.where(empty, 0.0, _spread(relative, np.zeros(len(n)), rng)),
        flags=_flags(measured, rng),
    )


def _spread(relative: Floats, empty: Floats, rng: np.random.Generator) -> Floats:
    """(m,): positive numbers of mean 1 that, with a share of zeros among them, scatter by `relative`."""
    variance = np.maximum((relative**2 + 1) * (1 - empty) - 1, 1e-6)
    spread: Floats = rng.gamma(1 / variance, variance)
    return spread


def _by_density(n: Floats, values: Floats) -> Floats:
    found: Floats = np.interp(np.log(n), np.log(_DENSITY), values)
    return found


def _flags(n: Floats, rng: np.random.Generator) -> NDArray[np.uint32]:
    flags = np.where(n < _THIN, _THIN_FLAG, 0)
    for bit, share in _OTHER_FLAGS.items():
        flags |= np.where(rng.uniform(size=len(n)) < share, bit, 0)
    return flags.astype(np.uint32)


def scattered(samples: int, share: float, longest: int, rng: np.random.Generator) -> Flags:
    """(samples,): about this share of them, in runs of 1 to `longest` samples."""
    chosen = np.zeros(samples, bool)
    for first in rng.integers(samples, size=round(share * samples / ((1 + longest) / 2))):
        chosen[first : first + rng.integers(1, longest + 1)] = True
    return chosen
