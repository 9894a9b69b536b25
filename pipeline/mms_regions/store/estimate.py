"""How much space a store takes: files and bytes, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from mms_regions.core.messages import counted, plural
from mms_regions.store.labels import MARGINAL_ARRAYS
from mms_regions.store.layout import FEATURE_ARRAYS, LABEL_ARRAYS, sample_bytes
from mms_regions.store.plan import Plan
from mms_regions.store.receipts import receipts

_COMPRESSED = 0.7  # of the bytes of samples in slots; the padding of shards takes next to nothing
_ARRAYS = len(FEATURE_ARRAYS) + len(LABEL_ARRAYS) + 1  # stability, where it is asked for
_SMALL_FILES = 64  # coordinates, the index, and what lies beside the store, but receipts
_SMALL_BYTES = 1_000_000  # of these and of all metadata; more for thousands of segments


@dataclass(frozen=True)
class Space:
    """files: of which a file system may allow so many. bytes: as they are on disk, about; folders not counted."""

    files: int
    bytes: int


@dataclass(frozen=True)
class Free:
    """What a file system has left; files is None where it does not count them."""

    files: int | None
    bytes: int


def space_for(plan: Plan, shards: int) -> Space:
    """What so many more shards of a plan take; the small files of the store are counted in."""
    arrays = _ARRAYS + (len(MARGINAL_ARRAYS) if plan.has_scale_errors else 0)
    files = (arrays + 2) * shards + arrays + _SMALL_FILES  # two receipts per shard
    return Space(files, _SMALL_BYTES + round(_bytes_of_a_shard(plan) * shards))


def _bytes_of_a_shard(plan: Plan) -> float:
    samples = sum(slot.length for slot in plan.slots)
    return _COMPRESSED * sample_bytes(plan.has_scale_errors) * samples / max(plan.n_shards, 1)


def free_at(place: Path) -> Free:
    """What is left where a path is, or is to be."""
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    about = os.statvfs(there)
    return Free(about.f_favail if about.f_files else None, about.f_bavail * about.f_frsize)


def space_needed(store: Path, plan: Plan, shards: int) -> str:
    """A clause for a message: how much space is needed for what is missing, and how much there is."""
    written = [receipt.size for receipt in receipts(store, plan, "features")]
    each = sum(written) / len(written) if written else _bytes_of_a_shard(plan)
    free = free_at(store)
    left = "" if free.files is None else f" and {counted(free.files, 'file')}"
    return (
        f"about {decimal(_SMALL_BYTES + round(each * shards))} are needed for what is missing, "
        f"{decimal(free.bytes)}{left} are free there; free some space"
    )


def shortage(needed: Space, free: Free) -> Iterable[str]:
    """What a file system has too little of, in sentences."""
    if free.bytes < needed.bytes:
        yield f"{decimal(needed.bytes)} are needed, {decimal(free.bytes)} are free"
    if free.files is not None and free.files < needed.files:
        yield f"{counted(needed.files, 'file')} {plural('is', needed.files)} needed, {free.files:,} more can be made"
