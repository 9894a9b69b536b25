"""The records of a CDF file: every number, count, size and offset is checked before a library follows it.

The format: "CDF Internal Format Description", version 3, of NASA's Space Physics Data Facility. A record begins with
its size (8 bytes), its type (4) and, in a list, the place of the next one (8); places are bytes from the start.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

from isal import isal_zlib

from mms_regions.core.messages import counted

_MAGIC = (0xCDF30001, 0x0000FFFF)  # version 3, not compressed as one
_CDR, _GDR, _RVDR, _ADR, _GLOBAL_ENTRY, _VXR, _VVR, _ZVDR, _VARIABLE_ENTRY, _CPR, _CVVR = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    11,
    13,
)
_HAS_PAD, _IS_COMPRESSED = 2, 4  # flags of a variable
_HAS_CHECKSUM = 4  # flag of the file: 16 bytes follow its end, the MD5 of all before them
_GZIP = 5
_IEEE = {1, 2, 4, 5, 6, 7, 9, 11, 12, 13, 17, 18}  # encodings; those of VAX are not read
_SIZES = {1: 1, 2: 2, 4: 4, 8: 8, 11: 1, 12: 2, 14: 4, 21: 4, 22: 8, 31: 8, 32: 16, 33: 8, 41: 1, 44: 4, 45: 8}
_SIZES |= {51: 1, 52: 1}  # bytes of a value, by CDF data type
_TEXTS = {51, 52}
_MOST_BYTES = 1 << 31  # of all values of a file; the longest burst files have 0.1 GB
_MOST_DIMENSIONS, _MOST_LEVELS = 10, 64
_HEAD, _LISTED = struct.Struct(">qi"), struct.Struct(">qiq")
_PLACE, _ENTRY = struct.Struct(">q"), struct.Struct(">3i")


class Block(NamedTuple):
    """Where compressed values of a variable are, and how many bytes they must have when they are inflated."""

    variable: str
    start: int
    size: int
    inflated: int


@dataclass(frozen=True)
class Records:
    """What the records of a file say. end: bytes without the checksum. md5: the one that it carries, or none."""

    end: int
    md5: bytes
    blocks: tuple[Block, ...]


def check_records(data: bytes | mmap) -> Records:
    """Follow all records of a file that are not unused. Raises ValueError with what is wrong where one does not fit.

    No record may be reached twice or overlap another one, so that lists end; the records of a variable's index must
    hold all of its values, and these be no more than a file of this size can hold.
    """
    if len(data) < 28 or struct.unpack_from(">II", data) != _MAGIC:
        raise ValueError("not a CDF file of version 3")
    walk = _Walk(data)
    start, _, _, encoding, flags = struct.unpack_from(">q4i", data, walk.record(8, _CDR, 56)[0] + 12)
    if encoding not in _IEEE:
        raise ValueError(f"damaged, there is no encoding {encoding}")
    place, _ = walk.record(start, _GDR, 84)
    r_variables, z_variables, attributes, end = struct.unpack_from(">4q", data, place + 12)
    n_r, n_attributes, _, n_dimensions, n_z = struct.unpack_from(">5i", data, place + 44)
    md5_size = 16 if flags & _HAS_CHECKSUM else 0
    if not 0 < end <= len(data) - md5_size:
        raise ValueError(f"truncated from {counted(end + md5_size, 'byte')}")
    walk.end = end
    shape = walk.integers(place + 84, n_dimensions, "dimensions", _MOST_DIMENSIONS)
    blocks: list[Block] = []
    for head, kind, count in ((r_variables, _RVDR, n_r), (z_variables, _ZVDR, n_z)):
        numbers = [_variable(walk, at, kind, shape, blocks) for at, _ in walk.list(head, kind, count, 344)]
        _refuse_other_numbers(numbers, count, "variables")
    if walk.values > _MOST_BYTES:
        raise ValueError(f"its records claim {counted(walk.values, 'byte')} of values, more than a file of MMS has")
    numbers = [_attribute(walk, at, n_r, n_z) for at, _ in walk.list(attributes, _ADR, n_attributes, 324)]
    _refuse_other_numbers(numbers, n_attributes, "attributes")
    walk.refuse_overlaps()
    return Records(end, data[end : end + md5_size], tuple(blocks))


def check_values(data: bytes | mmap, records: Records, variables: Collection[str] | None = None) -> None:
    """Raises ValueError where values of these variables, or of all, are not those that were written.

    The MD5 that real files of FPI and FGM carry covers all of the file. Where there is none, gzip has a checksum of
    each block of compressed values, which are nearly all; pycdfpp 0.19 does not look at it.
    """
    if records.md5:
        with memoryview(data) as view, view[: records.end] as before:
            md5 = hashlib.md5(before, usedforsecurity=False).digest()
        if md5 != records.md5:
            raise ValueError("damaged, its MD5 is not the one that it carries")
        return
    with memoryview(data) as view:
        for block in records.blocks:
            if variables is not None and block.variable not in variables:
                continue
            gzip = isal_zlib.decompressobj(wbits=31)
            try:
                values = gzip.decompress(view[block.start : block.start + block.size], block.inflated + 1)
            except isal_zlib.IsalError:  # type: ignore[misc]  # its stub says less
                values = b""
            if len(values) != block.inflated or not gzip.eof:
                raise ValueError(
                    f"damaged, the values of {block.variable} at byte {block.start} are not those that were compressed"
                )


class _Walk:
    """The records that were reached so far, and the bytes of values that they claim."""

    def __init__(self, data: bytes | mmap) -> None:
        self.data, self.end = data, len(data)
        self.values = 0
        self._reached: dict[int, int] = {}

    def record(self, start: int, kind: int, length: int) -> tuple[int, int]:
        """Start and size of the record at byte `start`, of this type, with at least `length` bytes; reached once."""
        if start in self._reached:
            raise ValueError(f"damaged, two records lead to byte {start}")
        size, found = _HEAD.unpack_from(self.data, start) if 8 <= start <= self.end - 12 else (0, 0)
        if found != kind:
            raise ValueError(f"damaged, no record of type {kind} at byte {start}")
        if not length <= size <= self.end - start:
            raise ValueError(f"damaged, the record at byte {start} cannot have {counted(size, 'byte')}")
        self._reached[start] = size
        return start, size

    def kind(self, start: int) -> int:
        """The type of the record at byte `start`; 0 where none can be."""
        return int(_HEAD.unpack_from(self.data, start)[1]) if 8 <= start <= self.end - 12 else 0

    def list(self, start: int, kind: int, count: int, length: int) -> Iterator[tuple[int, int]]:
        """The records of a list, which must be as many as the file says."""
        if count < 0:
            raise ValueError(f"damaged, it cannot have {counted(count, 'record')} of type {kind}")
        data, last, reached = self.data, self.end - length, self._reached
        for _ in range(count):
            size, found, following = _LISTED.unpack_from(data, start) if 8 <= start <= last else (0, 0, 0)
            if found != kind or start in reached or not length <= size <= self.end - start:
                self.record(start, kind, length)  # says what is wrong
            reached[start] = size
            yield start, size
            start = following
        if start != 0:
            raise ValueError(f"damaged, more than {counted(count, 'record')} of type {kind}")

    def integers(self, start: int, count: int, what: str, most: int) -> tuple[int, ...]:
        """That many numbers at byte `start`."""
        if not 0 <= count <= most or start + 4 * count > self.end:
            raise ValueError(f"damaged, it cannot have {count} {what}")
        return struct.unpack_from(f">{count}i", self.data, start)

    def refuse_overlaps(self) -> None:
        before = 8
        for start, size in sorted(self._reached.items()):
            if start < before:
                raise ValueError(f"damaged, records overlap at byte {start}")
            before = start + size


def _refuse_other_numbers(numbers: list[int], count: int, what: str) -> None:
    if sorted(numbers) != list(range(count)):
        raise ValueError(f"damaged, its {what} are not numbered from 0 to {count - 1}")


def _variable(walk: _Walk, start: int, kind: int, r_shape: tuple[int, ...], blocks: list[Block]) -> int:
    """The number of a variable whose index leads to all of its values; its compressed blocks are added to `blocks`."""
    data = walk.data
    name = _name(walk, start + 84)
    data_type, last, head, _, flags = struct.unpack_from(">2i2qi", data, start + 20)
    n_elements, number, compression = struct.unpack_from(">2iq", data, start + 64)
    shape, at = r_shape, start + 340
    if kind == _ZVDR:
        (n_dimensions,) = struct.unpack_from(">i", data, at)
        shape = walk.integers(at + 4, n_dimensions, "dimensions", _MOST_DIMENSIONS)
        at += 4 + 4 * n_dimensions
    varies = walk.integers(at, len(shape), "dimensions", _MOST_DIMENSIONS)
    if data_type not in _SIZES or min(shape, default=1) < 1 or last < -1:
        raise ValueError(f"damaged, the variable at byte {start} has an impossible type, shape or length")
    if n_elements < 1 or (n_elements > 1 and data_type not in _TEXTS):
        raise ValueError(f"damaged, the variable at byte {start} has values of {n_elements} elements")
    value = _SIZES[data_type] * n_elements
    record = value * math.prod(n for n, does in zip(shape, varies, strict=True) if does)
    size = struct.unpack_from(">q", data, start)[0]
    if at + 4 * len(shape) + (value if flags & _HAS_PAD else 0) > start + size:
        raise ValueError(f"damaged, the variable at byte {start} does not fit into its record")
    walk.values += (last + 1) * value * math.prod(shape)
    if flags & _IS_COMPRESSED:
        _refuse_other_compression(walk, compression)
    index = _Index(walk, name, record, bool(flags & _IS_COMPRESSED), blocks)
    end = index.follow(head, 0) if head > 0 else 0
    if end <= last:
        raise ValueError(f"damaged, the variable at byte {start} has {end} records of {last + 1}")
    return int(number)


def _name(walk: _Walk, start: int) -> str:
    """The name of a variable or attribute; pycdfpp cannot list one that is not UTF-8."""
    name = walk.data[start : start + 256].rstrip(b"\0")
    try:
        return name.decode().split("\0")[0]
    except UnicodeDecodeError:
        raise ValueError(f"the name {name.decode('latin-1')!r} in it is not written in UTF-8 but in Latin-1") from None


def _refuse_other_compression(walk: _Walk, start: int) -> None:
    """Variables may share a record that says how values are compressed, so it may be reached more than once."""
    if walk.kind(start) != _CPR or start + 28 > walk.end:
        raise ValueError(f"damaged, no record of type {_CPR} at byte {start}")
    size, _, method, _, n_parameters = struct.unpack_from(">q4i", walk.data, start)
    if not 0 <= n_parameters <= (min(size, walk.end - start) - 24) // 4:
        raise ValueError(f"damaged, the record at byte {start} cannot have {counted(n_parameters, 'parameter')}")
    if method != _GZIP:
        raise ValueError(f"its values are compressed by method {method}, not by gzip as in files of MMS,")


@dataclass(frozen=True)
class _Index:
    """The index of a variable with records of so many bytes."""

    walk: _Walk
    variable: str
    record: int
    is_compressed: bool
    blocks: list[Block]

    def follow(self, start: int, first: int, level: int = 0) -> int:
        """Follow a list of index records whose values begin with record `first`; the number after their last one."""
        if level > _MOST_LEVELS:
            raise ValueError("damaged, an index has no end")
        data = self.walk.data
        while True:
            _, size = self.walk.record(start, _VXR, 28)
            following, entries, used = struct.unpack_from(">q2i", data, start + 12)
            if not 0 <= used <= entries or 28 + 16 * entries > size:
                raise ValueError(f"damaged, the index at byte {start} cannot have {used} of {entries} entries")
            firsts = struct.unpack_from(f">{used}i", data, start + 28)
            lasts = struct.unpack_from(f">{used}i", data, start + 28 + 4 * entries)
            places = struct.unpack_from(f">{used}q", data, start + 28 + 8 * entries)
            for entry in zip(firsts, lasts, places, strict=True):
                if entry[0] != first or entry[1] < first:
                    raise ValueError(f"damaged, the index at byte {start} does not follow the order of records")
                self._entry(*entry, level)
                first = entry[1] + 1
            if following == 0:
                return first
            start = following

    def _entry(self, first: int, last: int, place: int, level: int) -> None:
        """Values, or a further index, of the records `first` to `last`."""
        kind, needed = self.walk.kind(place), (last - first + 1) * self.record
        if kind == _CVVR and self.is_compressed:
            _, size = self.walk.record(place, _CVVR, 24)
            (packed,) = _PLACE.unpack_from(self.walk.data, place + 16)
            if not 0 < packed <= size - 24:
                raise ValueError(f"damaged, the values at byte {place} cannot be {counted(packed, 'byte')} long")
            self.blocks.append(Block(self.variable, place + 24, packed, needed))
        elif kind == _VXR:
            if self.follow(place, first, level + 1) != last + 1:
                raise ValueError(f"damaged, the index at byte {place} does not end with record {last}")
        elif kind == _VVR:
            self.walk.record(place, _VVR, 12 + needed)
        else:
            raise ValueError(f"damaged, no values at byte {place}")


def _attribute(walk: _Walk, start: int, n_r: int, n_z: int) -> int:
    """The number of an attribute whose entries are in the file and belong to variables that are there."""
    first, scope, number, count, _, _, z_first, z_count = struct.unpack_from(">q5iqi", walk.data, start + 20)
    if scope not in (1, 2, 3, 4):
        raise ValueError(f"damaged, the attribute at byte {start} has no scope {scope}")
    _name(walk, start + 68)
    is_global = scope in (1, 3)
    for head, kind, entries, most in (
        (first, _GLOBAL_ENTRY, count, 1 << 31 if is_global else n_r),
        (z_first, _VARIABLE_ENTRY, z_count, n_z),
    ):
        for at, size in walk.list(head, kind, entries, 56):
            data_type, entry, n_elements = _ENTRY.unpack_from(walk.data, at + 24)
            if data_type not in _SIZES or not 0 <= n_elements * _SIZES[data_type] <= size - 56:
                raise ValueError(f"damaged, the entry of an attribute at byte {at} does not fit into its record")
            if not 0 <= entry < most:
                raise ValueError(f"damaged, the entry of an attribute at byte {at} is of no variable")
    return int(number)
