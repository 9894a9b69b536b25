"""A current sheet without reconnection: the sheet before onset, the quiet plasma sheet, and the lobe, all at rest.

A Harris sheet with a constant normal field and a background, in pressure balance with the lobe; no electric field in
its own frame. Units and axes are those of `layer`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import Floats
from mms_regions.synthetic.layer import NONE_OF_THESE, Plasma

_PRESSURE_SUM = 0.5  # T_i + T_e of a sheet of density n0 that balances B0, m_i v_A^2


@dataclass(frozen=True)
class QuietSheet:
    """What makes one sheet differ from another. Raises ValueError for values that make no sheet."""

    half_width: float  # d_i
    normal_b: float  # B_z, everywhere
    guide_b: float  # B_y, everywhere
    background_n: float
    ion_share: float  # T_i / (T_i + T_e)
    drift: float  # v_x of the plasma, v_A: slow convection

    def __post_init__(self) -> None:
        free = ("normal_b", "guide_b", "drift")
        wrong = [f.name for f in fields(self) if f.name not in free and not getattr(self, f.name) > 0]
        wrong += ["ion_share"] if self.ion_share >= 1 else []
        if wrong:
            raise ValueError(f"no quiet sheet has {', '.join(f'{name} {getattr(self, name):g}' for name in wrong)}")

    @property
    def inflow_n(self) -> float:
        """The density far from the sheet."""
        return self.background_n

    def region(self, x: Floats, z: Floats) -> NDArray[np.int8]:
        """(m,) int8: none of the regions of reconnection, everywhere."""
        return np.full(len(z), NONE_OF_THESE, np.int8)

    def distance(self, x: Floats, z: Floats) -> Floats:
        """(m,) infinite: there is no separatrix."""
        return np.full(len(z), np.inf)

    def unrest(self, x: Floats, z: Floats) -> Floats:
        """(m,) how strong waves are, as a share: weak everywhere, a little less so in the sheet."""
        unrest: Floats = 0.15 + 0.2 / np.cosh(z / self.half_width) ** 2
        return unrest

    def plasma(self, x: Floats, z: Floats) -> Plasma:
        """Fields and moments at the places x, z (m,), d_i; the current is that of both species' drift along y."""
        zero = np.zeros(len(z))
        b = np.stack([np.tanh(z / self.half_width), zero + self.guide_b, zero + self.normal_b], axis=1)
        sheet = 1 / np.cosh(z / self.half_width) ** 2
        n = sheet + self.background_n
        current = sheet / self.half_width / n  # dB_x/dz along y, as a velocity
        along = zero + self.drift
        v_i = np.stack([along, self.ion_share * current, zero], axis=1)
        v_e = np.stack([along, (self.ion_share - 1) * current, zero], axis=1)
        e = -np.cross(np.stack([along, zero, zero], axis=1), b)
        t_i = zero + _PRESSURE_SUM * self.ion_share
        return Plasma(b, e, n, v_i, v_e, t_i, zero + _PRESSURE_SUM * (1 - self.ion_share))
