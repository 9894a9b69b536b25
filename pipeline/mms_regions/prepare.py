"""The files of a segment become a segment that can be written: what a preparing worker does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mms_regions.archive import DES, DIS, EDP_BURST, EDP_FAST, FGM, CdfFile, Product
from mms_regions.arrays import SECOND, Flags
from mms_regions.burst import Burst, Invalid, fill_or_out_of_range, fill_values, read_burst
from mms_regions.catalogue import Event, Segment
from mms_regions.corrected import corrected_samples
from mms_regions.crash import crash_point
from mms_regions.errors import SegmentProblem
from mms_regions.fetch import files_of
from mms_regions.manifest import Pinned
from mms_regions.native import corrected_variables
from mms_regions.plan import Slot
from mms_regions.published import published_samples, published_variables
from mms_regions.receipts import InputFile, Prepared
from mms_regions.samples import FEATURES, Samples
from mms_regions.settings import Settings

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


def prepare_segment(slot: Slot, pins: Sequence[Pinned], data_dir: Path, settings: Settings) -> Prepared:
    """Make a segment from these files, which lie under `data_dir` and were verified.

    Raises SegmentProblem where it cannot be made; the loop keeps the reason and goes on with the others.
    """
    crash_point("files-obtained")
    segment, how = slot.segment, convention(settings)
    _refuse_bad_event(segment)
    files = files_of(pins, how.products, data_dir)
    burst = how.read(files, segment.event)
    samples = how.samples(burst, segment.event)
    if len(samples) > slot.length:
        raise SegmentProblem(
            f"{segment.key}: {len(samples)} electron samples, more than the {slot.length} that "
            f"{segment.event.seconds:g} s can hold at 30 ms; times repeat or overlap in its files"
        )
    _refuse_nothing_complete(segment, samples)
    known = {pin.name: pin for pin in pins}
    used = (known[file.name] for file in burst.files)
    inputs = tuple(InputFile(pin.name, pin.version, pin.size, pin.sha256) for pin in used)
    x, y, z = (float(value) for value in burst.position_gse)
    crash_point("segment-prepared")
    return Prepared(segment.key, samples, inputs, (x, y, z))


def _refuse_bad_event(segment: Segment) -> None:
    """An event that was made past the checks of a catalogue fails here, and alone."""
    try:
        Event.model_validate(segment.event.model_dump())
    except ValidationError as problem:
        wrong = "; ".join(f"{error['loc'][0]} {error['msg']}" for error in problem.errors())
        raise SegmentProblem(
            f"{segment.key}: its event cannot be used ({wrong}); correct it in the catalogue"
        ) from None


def _refuse_nothing_complete(segment: Segment, samples: Samples) -> None:
    """Where no sample can have a label, a reason says more than a slot full of -1."""
    present = np.isfinite(samples.features)
    if present.all(axis=1).any():
        return
    never = [name for name, column in zip(FEATURES, present.T, strict=True) if not column.any()]
    missing = f"{', '.join(never)} never" if never else "each of them at some time, but not together"
    raise SegmentProblem(
        f"{segment.key}: no sample from {segment.event.interval} has all features ({missing}): the files hold only "
        "fill values, flagged or infinite samples, or zero ion density; leave it out, or look for newer versions"
    )
