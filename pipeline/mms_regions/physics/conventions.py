"""The two conventions: which products a segment is prepared from, and how its samples are made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, CdfFile, Product
from mms_regions.core.catalogue import Event
from mms_regions.core.settings import Settings
from mms_regions.core.types import SECOND, Flags
from mms_regions.physics.burst import Burst, Invalid, fill_or_out_of_range, fill_values, read_burst
from mms_regions.physics.corrected import corrected_samples
from mms_regions.physics.corrected_variables import corrected_variables
from mms_regions.physics.published import published_samples, published_variables
from mms_regions.physics.samples import Samples

if TYPE_CHECKING:
    import xarray as xr

_PLASMA_AND_FIELDS = (DIS, DES, FGM, EDP_BURST)


@dataclass(frozen=True)
class Convention:
    """How a segment is prepared: from which products, read with what margin, which values being missing, and how."""

    products: tuple[Product, ...]
    margin: float  # s
    invalid: Invalid
    samples: Callable[[Burst, Event], Samples]
    variables: Callable[[Burst, Event], dict[str, xr.DataArray]]  # by the published names, at their own cadences

    def read(self, files: Mapping[str, Sequence[CdfFile]], event: Event) -> Burst:
        """The files of a segment, as far as an event needs them. Raises SegmentProblem as `read_burst` does."""
        begin, end = event.trange
        around = round(self.margin * SECOND)
        return read_burst(files, (begin - around, end + around), self.invalid)


def convention(settings: Settings) -> Convention:
    """The convention that the settings name."""
    if settings.convention == "published":
        return Convention(
            (*_PLASMA_AND_FIELDS, EDP_FAST), 0.0, fill_or_infinite, published_samples, published_variables
        )
    return Convention(
        _PLASMA_AND_FIELDS,
        settings.margin,
        fill_or_out_of_range,
        lambda burst, event: corrected_samples(burst, event, settings.bridge),
        lambda burst, event: corrected_variables(burst, event, settings.bridge),
    )


def fill_or_infinite(values: NDArray[Any], attributes: Mapping[str, Any]) -> Flags:
    """What the published code masks, and infinite values: no instrument measures them, and they spoil a window."""
    invalid: Flags = fill_values(values, attributes) | np.isinf(values)
    return invalid
