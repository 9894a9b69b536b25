"""The files of a segment become a segment that can be written: what a preparing worker does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from mms_regions.archive.fetch import files_of
from mms_regions.archive.manifest import Pinned
from mms_regions.core.catalogue import Event, Segment
from mms_regions.core.errors import SegmentProblem, explain
from mms_regions.core.settings import Settings
from mms_regions.physics.conventions import convention
from mms_regions.physics.samples import FEATURES, Samples
from mms_regions.store.plan import Slot
from mms_regions.store.receipts import InputFile, Prepared

if TYPE_CHECKING:
    pass


def prepare_segment(slot: Slot, pins: Sequence[Pinned], data_dir: Path, settings: Settings) -> Prepared:
    """Make a segment from these files, which lie under `data_dir` and were verified.

    Raises SegmentProblem where it cannot be made; the loop keeps the reason and goes on with the others.
    """
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
    return Prepared(segment.key, samples, inputs, (x, y, z))


def _refuse_bad_event(segment: Segment) -> None:
    """An event that was made past the checks of a catalogue fails here, and alone."""
    try:
        Event.model_validate(segment.event.model_dump())
    except ValidationError as problem:
        wrong = "; ".join(explain(problem).values())
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
