"""Values of long variables laid out in a CDF file as NASA's library does it: blocks of 64 KiB under a nested index.

pycdfpp writes blocks of 256 KiB under a flat index, which no archive file has; a reader must cope with what there is.
The format: "CDF Internal Format Description", version 3, of NASA's Space Physics Data Facility.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 65_536  # bytes of values
_LEAF, _BRANCH = 7, 3  # entries of an index: of blocks, of further indices
_VXR, _VVR, _CVVR = 6, 7, 13
_GDR_AT, _CDR_FLAGS = 20, 40  # bytes from the start of a file
_CHECKSUM_FLAGS = 0b1100  # of the CDR: there is a checksum, and it is an MD5


@dataclass(frozen=True)
class _Place:
    """Records `first` to `last` are at byte `at`."""

    first: int
    last: int
    at: int


def is_long(values: NDArray[Any]) -> bool:
    """Whether these values take more than one block."""
    return values.nbytes > BLOCK


def with_values(content: bytes, values: Mapping[str, NDArray[Any]]) -> bytes:
    """A CDF file (column-major, little-endian) whose variables of these names, which are empty, have these values.

    values: records first, in the type of the variable. Raises ValueError for a variable that the file has not.
    """
    file = bytearray(content)
    heads = _heads(file)
    if unknown := set(values) - set(heads):
        raise ValueError(f"the file has no variable {', '.join(sorted(unknown))}")
    for name, array in values.items():
        head = heads[name]
        packed = bool(struct.unpack_from(">i", file, head + 44)[0] & 4)
        per_block = max(1, BLOCK // (array.nbytes // len(array)))
        index = _indexed(file, list(_blocks(file, array, per_block, packed)))
        struct.pack_into(">iqq", file, head + 24, len(array) - 1, index.at, index.at)
        struct.pack_into(">i", file, head + 80, per_block)
    struct.pack_into(">q", file, _gdr(file) + 36, len(file))  # the end of the file, as its header says
    return bytes(file)


def with_checksum(content: bytes) -> bytes:
    """A CDF file with its MD5 behind its end, which every FPI and FGM file of the archive has."""
    file = bytearray(content)
    flags = struct.unpack_from(">i", file, _CDR_FLAGS)[0]
    struct.pack_into(">i", file, _CDR_FLAGS, flags | _CHECKSUM_FLAGS)
    return bytes(file) + hashlib.md5(file, usedforsecurity=False).digest()


def _gdr(file: bytearray) -> int:
    at: int = struct.unpack_from(">q", file, _GDR_AT)[0]
    return at


def _heads(file: bytearray) -> dict[str, int]:
    """Where the record of each variable (VDR) begins."""
    heads, at = {}, struct.unpack_from(">q", file, _gdr(file) + 20)[0]
    while at:
        name = bytes(file[at + 84 : at + 84 + 256]).split(b"\0")[0].decode()
        heads[name] = at
        at = struct.unpack_from(">q", file, at + 12)[0]
    return heads


def _blocks(file: bytearray, array: NDArray[Any], per_block: int, packed: bool) -> Iterator[_Place]:
    """Append the blocks of values to the file."""
    columns = np.moveaxis(array, range(1, array.ndim), range(array.ndim - 1, 0, -1))  # column-major within a record
    for first in range(0, len(array), per_block):
        some = np.ascontiguousarray(columns[first : first + per_block]).tobytes()
        place = _Place(first, min(first + per_block, len(array)) - 1, len(file))
        if packed:
            content = _gzip(some)
            file += struct.pack(">qiiq", 24 + len(content), _CVVR, 0, len(content)) + content
        else:
            file += struct.pack(">qi", 12 + len(some), _VVR) + some
        yield place


def _gzip(content: bytes) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(content) + packer.flush()


def _indexed(file: bytearray, places: list[_Place]) -> _Place:
    """Append indices of these blocks to the file, level by level; the place of the one on top."""
    places = [_index(file, places[i : i + _LEAF], _LEAF) for i in range(0, len(places), _LEAF)]
    while len(places) > 1:
        places = [_index(file, places[i : i + _BRANCH], _BRANCH) for i in range(0, len(places), _BRANCH)]
    return places[0]


def _index(file: bytearray, places: list[_Place], entries: int) -> _Place:
    at, free = len(file), entries - len(places)
    firsts, lasts = [p.first for p in places] + [-1] * free, [p.last for p in places] + [-1] * free
    offsets = [p.at for p in places] + [-1] * free
    record = struct.pack(f">{2 * entries}i{entries}q", *firsts, *lasts, *offsets)
    file += struct.pack(">qiqii", 28 + len(record), _VXR, 0, entries, len(places)) + record
    return replace(places[0], last=places[-1].last, at=at)
