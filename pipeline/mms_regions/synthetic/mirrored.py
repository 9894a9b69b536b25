"""A layer seen in a mirror across x, across z or both: what is earthward becomes tailward, what is north south."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import NO_LABEL, Floats
from mms_regions.synthetic.crossing import LayerLike
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

_ACROSS_X = {OUTFLOW_EARTHWARD: OUTFLOW_TAILWARD, OUTFLOW_TAILWARD: OUTFLOW_EARTHWARD}
_ACROSS_Z = {
    INFLOW_NORTH: INFLOW_SOUTH,
    INFLOW_SOUTH: INFLOW_NORTH,
    SEPARATRIX_NORTH: SEPARATRIX_SOUTH,
    SEPARATRIX_SOUTH: SEPARATRIX_NORTH,
}


def swapped(x: bool, z: bool) -> NDArray[np.int8]:
    """(8,) what each region becomes in a mirror across x and, or, z, by index; the last is no label (-1)."""
    names = np.append(np.arange(NONE_OF_THESE + 1), NO_LABEL).astype(np.int8)
    swaps = (_ACROSS_X if x else {}) | (_ACROSS_Z if z else {})
    return np.array([swaps.get(int(name), name) for name in names], np.int8)


@dataclass(frozen=True)
class Mirrored:
    """A layer in a mirror. B is an axial vector: in one mirror it is turned besides, in two it is not."""

    layer: LayerLike
    across_x: bool
    across_z: bool

    @property
    def inflow_n(self) -> float:
        """The density far from the sheet."""
        return self.layer.inflow_n

    def region(self, x: Floats, z: Floats) -> NDArray[np.int8]:
        """(m,) int8: the region of each place."""
        found: NDArray[np.int8] = swapped(self.across_x, self.across_z)[self.layer.region(*self._there(x, z))]
        return found

    def distance(self, x: Floats, z: Floats) -> Floats:
        """(m,) d_i: as of the layer."""
        return self.layer.distance(*self._there(x, z))

    def unrest(self, x: Floats, z: Floats) -> Floats:
        """(m,) how strong waves are, as a share."""
        return self.layer.unrest(*self._there(x, z))

    def plasma(self, x: Floats, z: Floats) -> Plasma:
        """Fields and moments at the places x, z (m,)."""
        signs = np.array([*self._signs[:1], 1.0, *self._signs[1:]])
        seen = self.layer.plasma(*self._there(x, z))
        polar = {name: signs * getattr(seen, name) for name in ("e", "v_i", "v_e")}
        return replace(seen, b=signs.prod() * signs * seen.b, **polar)

    @property
    def _signs(self) -> tuple[float, float]:
        return (-1.0 if self.across_x else 1.0), (-1.0 if self.across_z else 1.0)

    def _there(self, x: Floats, z: Floats) -> tuple[Floats, Floats]:
        along, across = self._signs
        return along * x, across * z
