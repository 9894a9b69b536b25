"""Whether a CDF file is complete and holds what its name says: nothing of it is trusted to be so.

A file that nobody vouches for is looked at in a child process (`inspect`), since a library may die of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pycdfpp

from mms_regions.archive.cdf_records import Records, check_records, check_values
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.isolated import ChildDied, run_isolated
from mms_regions.core.types import Times

if TYPE_CHECKING:  # the child does without the rest of the package, so that it starts soon
    from mms_regions.archive.products import CdfFile

SYNTHETIC = "SYNTHETIC DATA"  # in the global attribute TEXT of files that nobody measured

_UNREADABLE = (OSError, ValueError, RuntimeError, MemoryError, IndexError, KeyError)  # what pycdfpp raises


@dataclass(frozen=True)
class CdfContent:
    """What a sound file says of itself.

    times: the first and the last, ns UTC; None where it has no samples. origin: synthetic where the file says so.
    remark: what is odd about it, though it can be used; empty for nothing.
    """

    times: tuple[int, int] | None
    origin: Literal["measured", "synthetic"]
    remark: str = ""


@dataclass(frozen=True)
class Inspected:
    """A sound file: bytes, sha256, and what is in it."""

    size: int
    sha256: str
    content: CdfContent


@dataclass(frozen=True)
class _Expected:
    """What a file must be by its name: its source, its variable of times, when it begins and what it covers at most."""

    source: str
    epoch: str
    start: int
    longest: int

    @classmethod
    def of(cls, file: CdfFile) -> _Expected:
        return cls(file.source, file.epoch, file.start, file.longest)


def inspect(file: CdfFile, path: Path | None = None) -> Inspected:
    """Read a file that nobody vouches for from end to end, in a child process.

    path: where it lies, if not yet at `file.path`. Raises SegmentProblem for a file that is damaged, holds another
    product or spacecraft, has its times far from where its name says that it begins, or ends the process that reads it.
    """
    path = path or file.path
    try:
        return run_isolated(_inspect, path, _Expected.of(file))
    except ChildDied as problem:
        raise SegmentProblem(f"{path.name}: the process that read it {problem}; fetch it again") from None


def content_of(file: CdfFile) -> CdfContent:
    """What is in a file whose sha256 is that of a sound one. Raises SegmentProblem as `inspect` does."""
    data = _read(file.path)
    _records(file.path, data)
    return _content(file.path, data, _Expected.of(file))


def open_cdf(file: CdfFile) -> Any:
    """The CDF of a file, once its records were checked, and that it is of the product and spacecraft of its name.

    Raises SegmentProblem for any other.
    """
    data = _read(file.path)
    _records(file.path, data)
    return _load(file.path, data, _Expected.of(file))[0]


def _inspect(path: Path, expected: _Expected) -> Inspected:
    data = _read(path)
    records = _records(path, data)
    try:
        check_values(data, records)
    except ValueError as problem:
        raise _damaged(path, data, problem) from None
    return Inspected(len(data), hashlib.sha256(data).hexdigest(), _content(path, data, expected))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise SegmentProblem(f"{path}: cannot be read ({problem.strerror})") from problem


def _records(path: Path, data: bytes) -> Records:
    try:
        return check_records(data)
    except ValueError as problem:
        raise _damaged(path, data, problem) from None


def _damaged(path: Path, data: bytes, problem: ValueError) -> SegmentProblem:
    return SegmentProblem(f"{path.name}: {problem} (it has {len(data)}); fetch it again")


def _content(path: Path, data: bytes, expected: _Expected) -> CdfContent:
    cdf, remark = _load(path, data, expected)
    try:
        time = _times(cdf, expected.epoch)
        is_synthetic = any(SYNTHETIC in text for text in _texts(cdf, "TEXT"))
    except _UNREADABLE as problem:
        raise SegmentProblem(f"{path.name}: its times cannot be read ({problem}); fetch it again") from problem
    if time.size and np.abs(time - expected.start).max() > expected.longest:
        raise SegmentProblem(
            f"{path.name}: its times (from {time[0]} to {time[-1]}, ns UTC) are not what its name says; fetch it again"
        )
    times = (int(time[0]), int(time[-1])) if time.size else None
    return CdfContent(times, "synthetic" if is_synthetic else "measured", remark)


def _load(path: Path, data: bytes, expected: _Expected) -> tuple[Any, str]:
    """The CDF, and what is odd about its source."""
    try:
        cdf = pycdfpp.load(data)
        source = "".join(_texts(cdf, "Logical_source")[:1])
    except _UNREADABLE as problem:
        raise SegmentProblem(f"{path.name}: not a readable CDF file ({problem}); fetch it again") from problem
    found, named = (text.strip().lower().split("_") for text in (source, expected.source))
    if not source or found == named:
        return cdf, ""
    if found[:2] + found[3:] != named[:2] + named[3:]:
        raise SegmentProblem(f"{path.name}: holds {source}, not {expected.source} as its name says; fetch it again")
    return cdf, f"says that it holds {source}, another mode than its name"


def _texts(cdf: Any, name: str) -> list[str]:
    """The entries of a global attribute; none where it is not there."""
    if name not in cdf.attributes:
        return []
    attribute = cdf.attributes[name]
    return [str(attribute[place]) for place in range(len(attribute))]


def _times(cdf: Any, epoch: str) -> Times:
    """(2,) ns UTC: the first and the last time of a CDF; (0,) where it has no samples."""
    values = cdf[epoch].values
    ends = values[[0, -1]] if len(values) else values
    return np.asarray(pycdfpp.to_datetime64(ends)).astype("datetime64[ns]").astype(np.int64)
