"""CDF files changed byte by byte, as no library writes them."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator
from pathlib import Path

VARIABLE, INDEX, COMPRESSED = 8, 6, 13  # types of records


def records(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, size and type of each record, in the order of the file, where they lie one after the other."""
    start = 8
    (end,) = struct.unpack_from(">q", data, struct.unpack_from(">q", data, 20)[0] + 36)
    while start < end:
        size, kind = struct.unpack_from(">qi", data, start)
        yield start, size, kind
        start += size


def of_kind(data: bytes, kind: int) -> list[int]:
    """Where the records of a type begin."""
    return [start for start, _, found in records(data) if found == kind]


def put(path: Path, form: str, place: int, *values: int) -> None:
    """Overwrite numbers of a file, in the big-endian form of `struct`."""
    data = bytearray(path.read_bytes())
    struct.pack_into(f">{form}", data, place, *values)
    path.write_bytes(data)


def add_md5(path: Path) -> None:
    """Say that the file has a checksum, and append it, in the place of an earlier one."""
    data = bytearray(path.read_bytes())
    (end,) = struct.unpack_from(">q", data, struct.unpack_from(">q", data, 20)[0] + 36)
    data[43] |= 4  # flags of the first record
    path.write_bytes(data[:end] + hashlib.md5(data[:end], usedforsecurity=False).digest())


def mutated(data: bytes, seed: int) -> bytes:
    """The file with one to twelve bytes changed in the heads of its records."""
    draw, changed = random.Random(seed), bytearray(data)
    heads = [(start, min(size, 400)) for start, size, _ in records(data)]
    for _ in range(draw.randint(1, 12)):
        start, length = draw.choice(heads)
        place = start + draw.randrange(length)
        changed[place] = draw.choice([draw.randrange(256), changed[place] ^ 1 << draw.randrange(8), 0, 255])
    return bytes(changed)
