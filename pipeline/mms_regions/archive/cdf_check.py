"""Whether a CDF file is complete and holds what its name says, by its own records: nothing is trusted to be.

The format: "CDF Internal Format Description", version 3, of NASA's Space Physics Data Facility.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pycdfpp

from mms_regions.archive.products import CdfFile, product_of
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.types import DAY, Times

# CDF internal format: a record begins with its size (8 bytes), its type (4) and, in a list, where the next one is (8).
_MAGIC = (0xCDF30001, 0x0000FFFF)  # version 3, not packed as a whole
_GDR, _ADR, _GLOBAL_ENTRY, _VXR, _VVR, _VDR, _VARIABLE_ENTRY, _CVVR = 2, 4, 5, 6, 7, 8, 9, 13
SYNTHETIC = "SYNTHETIC DATA"  # in the global attribute TEXT of files that nobody measured
_MOST_INDICES = 1_000_000  # entries of an index of values; a file has a few


@dataclass(frozen=True)
class CdfContent:
    """What a sound file says of itself.

    times: the first and the last, ns UTC; None where it has no samples. origin: synthetic where the file says so.
    """

    times: tuple[int, int] | None
    origin: Literal["measured", "synthetic"]


def content_of(file: CdfFile, path: Path | None = None) -> CdfContent:
    """What is in a file that is complete and holds what its name says.

    path: where it lies, if not yet at `file.path`. Raises SegmentProblem for a file that is damaged, holds another
    product or spacecraft, or has its times far from where its name says that it begins.
    """
    path = path or file.path
    cdf = open_cdf(file, path)
    try:
        time = _times(cdf, file)
        is_synthetic = any(SYNTHETIC in text for text in _texts(cdf, "TEXT"))
    except (OSError, ValueError, RuntimeError, MemoryError, IndexError, KeyError) as problem:
        raise SegmentProblem(f"{path.name}: its times cannot be read ({problem}); fetch it again") from problem
    product = product_of(file)
    longest = product.longest if product else 2 * DAY
    if time.size and np.abs(time - file.start).max() > longest:
        raise SegmentProblem(
            f"{path.name}: its times (from {time[0]} to {time[-1]}, ns UTC) are not what its name says; fetch it again"
        )
    times = (int(time[0]), int(time[-1])) if time.size else None
    return CdfContent(times, "synthetic" if is_synthetic else "measured")


def open_cdf(file: CdfFile, path: Path | None = None) -> Any:
    """The CDF of a file, once it is known to be complete and of the product and spacecraft that its name says.

    Raises SegmentProblem for any other.
    """
    path = path or file.path
    refuse_damaged(path)
    try:
        cdf = pycdfpp.load(str(path))
        source = "".join(_texts(cdf, "Logical_source")[:1])
    except (OSError, ValueError, RuntimeError, MemoryError, IndexError) as problem:
        raise SegmentProblem(f"{path.name}: not a readable CDF file ({problem}); fetch it again") from problem
    expected = f"mms{file.probe}_{file.product}"
    if source and source != expected:
        raise SegmentProblem(f"{path.name}: holds {source}, not {expected} as its name says; fetch it again")
    return cdf


def _texts(cdf: Any, name: str) -> list[str]:
    """The entries of a global attribute; none where it is not there."""
    if name not in cdf.attributes:
        return []
    attribute = cdf.attributes[name]
    return [str(attribute[place]) for place in range(len(attribute))]


def _times(cdf: Any, file: CdfFile) -> Times:
    """(2,) ns UTC: the first and the last time of a CDF; (0,) where it has no samples."""
    instrument, mode, *_ = file.product.split("_")
    epoch = cdf[f"mms{file.probe}_edp_epoch_{mode}_l2" if instrument == "edp" else "Epoch"].values
    ends = epoch[[0, -1]] if len(epoch) else epoch
    return np.asarray(pycdfpp.to_datetime64(ends)).astype("datetime64[ns]").astype(np.int64)


def refuse_damaged(path: Path) -> None:
    """Raise SegmentProblem for a file that is not a whole CDF of version 3, by what its own records say.

    pycdfpp 0.19 ends the process on a file that is shorter than it says, or whose records lead nowhere because its end
    was never written; and without its attributes fill values would pass for data. Values are not looked at.
    """
    _refuse(path, _check_records)


def refuse_flipped(path: Path) -> None:
    """The same, and for values that are not those that were compressed: a bit may have flipped. Reads all of it.

    The archive's files compress nearly all of their values with gzip, which keeps a checksum that pycdfpp ignores.
    """
    _refuse(path, _check_values)


def _refuse(path: Path, check: Callable[[BinaryIO], object]) -> None:
    try:
        with path.open("rb") as file:
            check(file)
    except OSError as problem:
        raise SegmentProblem(f"{path}: cannot be read ({problem.strerror})") from problem
    except ValueError as problem:
        raise SegmentProblem(f"{path.name}: {problem} (it has {path.stat().st_size}); fetch it again") from None


def _check_records(file: BinaryIO) -> list[bytes]:
    """Follow the lists of variables and attributes, which must be as long as the header says; ValueError if not.

    Gives the heads of the variables' records.
    """
    *magic, _, _, start = struct.unpack(">IIqiq", file.read(28).ljust(28, b"\0"))
    if tuple(magic) != _MAGIC or start < 0:
        raise ValueError("not a CDF file of version 3")
    variables, attributes, end, n_attributes, n_variables = struct.unpack(
        ">20x3q4xi8xi", _record(file, start, _GDR, length=64)
    )
    if not 0 < end <= file.seek(0, 2):
        raise ValueError(f"truncated from {end} bytes")
    heads = _list(file, variables, _VDR, n_variables)
    for attribute in _list(file, attributes, _ADR, n_attributes):
        globals_, n_globals, entries, n_entries = struct.unpack(">20xq8xi8xqi", attribute[:60])
        _list(file, globals_, _GLOBAL_ENTRY, n_globals)
        _list(file, entries, _VARIABLE_ENTRY, n_entries)
    return heads


def _check_values(file: BinaryIO) -> None:
    """Follow the index of every variable to its values; ValueError where one leads nowhere or a checksum is wrong."""
    for variable in _check_records(file):
        if (start := int.from_bytes(variable[28:36], "big", signed=True)) > 0:
            _check_index(file, start, depth=0)


def _check_index(file: BinaryIO, start: int, depth: int) -> None:
    """An index has the places of blocks of values, or of further indices, and perhaps a next one."""
    for _ in range(_MOST_INDICES):
        following, size, used = struct.unpack(">12xqii", _record(file, start, _VXR, length=28))
        if not 0 <= used <= size <= _MOST_INDICES or depth > 3:
            raise ValueError(f"damaged, the index at byte {start} is none")
        places = file.read(16 * size)[8 * size :]
        for place in struct.unpack(f">{used}q", places[: 8 * used].ljust(8 * used, b"\0")):
            _check_block(file, place, depth)
        if following <= 0:
            return
        start = following
    raise ValueError("damaged, an index has no end")


def _check_block(file: BinaryIO, start: int, depth: int) -> None:
    file.seek(max(start, 0))
    length, kind, packed = struct.unpack(">qi4xq", file.read(24).ljust(24, b"\0"))
    if kind == _VXR:
        _check_index(file, start, depth + 1)
    elif kind == _CVVR:
        try:
            zlib.decompress(file.read(packed) if 0 < packed < length else b"", wbits=31)
        except zlib.error:
            raise ValueError(f"damaged, the values at byte {start} are not those that were compressed") from None
    elif kind != _VVR:
        raise ValueError(f"damaged, no values at byte {start}")


def _list(file: BinaryIO, start: int, kind: int, count: int) -> list[bytes]:
    """The heads of the records of a list; ValueError where one is not of its kind or there are more or fewer."""
    records = []
    for _ in range(count):
        records.append(_record(file, start, kind))
        start = int.from_bytes(records[-1][12:20], "big", signed=True)
    if start != 0:
        raise ValueError(f"damaged, more than {count} records of type {kind}")
    return records


def _record(file: BinaryIO, start: int, kind: int, length: int = 60) -> bytes:
    """The first bytes of the record at byte `start`, if it is one of this kind."""
    file.seek(max(start, 0))
    record = file.read(length)
    if len(record) < length or int.from_bytes(record[8:12], "big") != kind:
        raise ValueError(f"damaged, no record of type {kind} at byte {start}")
    return record
