"""The two conventions: which products a segment is prepared from, and how its samples are made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, CdfFile, Product
from mms_regions.core.events import Event
from mms_regions.core.settings import Settings
from mms_regions.core.types import SECOND, Flags
from mms_regions.physics.burst import Burst, Invalid, fill_or_out_of_range, fill_values, read_burst
from mms_regions.physics.corrected import corrected_samples
from mms_regions.physics.corrected_variables import corrected_variables
from mms_regions.physics.published import published_samples, published_variables
from mms_regions.physics.samples import Samples
from mms_regions.physics.screening import Screening

if TYPE_CHECKING:
    import xarray as xr

_PLASMA_AND_FIELDS = (DIS, DES, FGM, EDP_BURST)


@dataclass(frozen=True)
class Convention:
    """How a segment is prepared.

    products: those it is made from. margin: s read around the interval. invalid: which values of a file are missing.
    samples: the rows and features of a segment. variables: its quantities at their own cadences, by published names.
    """

    products: tuple[Product, ...]
    margin: float
    invalid: Invalid
    samples: Callable[[Burst, Event], Samples]
    variables: Callable[[Burst, Event], dict[str, xr.DataArray]]

    def read(self, files: Mapping[str, Sequence[CdfFile]], event: Event) -> Burst:
        """The files of a segment, as far as an event needs them. Raises SegmentProblem as `read_burst` does."""
        begin, end = event.trange
        around = round(self.margin * SECOND)
        return read_burst(files, (begin - around, end + around), self.invalid)


def convention(settings: Settings) -> Convention:
    """The convention that the settings name."""
    return _published() if settings.convention == "published" else _corrected(settings)


def _published() -> Convention:
    return Convention(
        products=(*_PLASMA_AND_FIELDS, EDP_FAST),
        margin=0.0,
        invalid=fill_or_infinite,
        samples=published_samples,
        variables=published_variables,
    )


def _corrected(settings: Settings) -> Convention:
    screening = Screening(settings.electrons, settings.electron_average, settings.edp_quality)
    return Convention(
        products=_PLASMA_AND_FIELDS,
        margin=settings.margin,
        invalid=fill_or_out_of_range,
        samples=partial(corrected_samples, bridge=settings.bridge, screening=screening),
        variables=partial(corrected_variables, bridge=settings.bridge, screening=screening),
    )


def fill_or_infinite(values: NDArray[Any], attributes: Mapping[str, Any]) -> Flags:
    """What the published code masks, and infinite values: no instrument measures them, and they spoil a window."""
    invalid: Flags = fill_values(values, attributes) | np.isinf(values)
    return invalid
