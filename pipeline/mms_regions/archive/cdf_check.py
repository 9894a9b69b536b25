"""Whether a CDF file is complete and holds what its name says, and the values in it: no other module opens CDF files.

Nothing of a file is trusted. It is opened in a child process, since a library may die of it, and that is then an error
of this file. What is in this module below `_inspect` runs there; the child keeps files open until they are read.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pycdfpp
from numpy.typing import NDArray

from mms_regions.archive.cdf_records import Records, check_records, check_values
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.isolated import ChildDied, run_isolated
from mms_regions.core.messages import counted
from mms_regions.core.types import SECOND, Times

if TYPE_CHECKING:  # the child does without the rest of the package, so that it starts soon
    from mms_regions.archive.products import CdfFile

LIMITS = ("FILLVAL", "VALIDMIN", "VALIDMAX")
SYNTHETIC = "SYNTHETIC DATA"  # in the global attribute TEXT of files that nobody measured

_KEPT = 64 << 20  # bytes of the files that are kept open: those of a segment are read when all of them were inspected
_KEPT_LONGER = 5  # files that are kept when they were read: the next segment may be in them
_MOST_BYTES = 4 << 30  # of a file, which is read into memory; the largest that are used here have 0.1 GB
_UNREADABLE = (OSError, ValueError, RuntimeError, MemoryError, IndexError, KeyError)  # what pycdfpp raises


@dataclass(frozen=True)
class CdfContent:
    """What a sound file says of itself.

    times: the first and the last, ns UTC; None where it has no samples. origin: synthetic where the file says so.
    checks: what its values were checked by, when it was seen first: its own MD5, which covers all of it, or where it
    has none the checksums of the compressed values that are used. remark: what is odd about it, though it can be used;
    empty for nothing.
    """

    times: tuple[int, int] | None
    origin: Literal["measured", "synthetic"]
    checks: Literal["md5", "used"]
    remark: str = ""


@dataclass(frozen=True)
class Inspected:
    """A sound file: bytes, sha256, and what is in it."""

    size: int
    sha256: str
    content: CdfContent


@dataclass(frozen=True)
class Variable:
    """A variable as the file has it: values (n, ...), and between which LIMITS they are valid; times have none."""

    values: NDArray[Any]
    limits: Mapping[str, Any]
    is_tt2000: bool


@dataclass(frozen=True)
class _Expected:
    """What a file must be by its name: its source, its variable of times, when it begins, what it covers at most.

    reads: the variables that are used of it.
    """

    source: str
    epoch: str
    start: int
    longest: int
    reads: tuple[str, ...]

    @classmethod
    def of(cls, file: CdfFile) -> _Expected:
        return cls(file.source, file.epoch, file.start, file.longest, file.reads)


def inspect(file: CdfFile, path: Path | None = None, sha256: str = "", everything: bool = False) -> Inspected:
    """Read a file from end to end; its values are checked unless it has the sha256 that a sound one had.

    Of a file without an MD5 these are the values that are read, or with `everything` all of them: inflating is most of
    the work, and what nobody reads changes no result. path: where it lies, if not yet at `file.path`.

    Raises SegmentProblem for a file that is damaged, has another sha256, holds another product or spacecraft, has its
    times far from where its name says that it begins, or ends the process that reads it.
    """
    path = (path or file.path).absolute()  # the child may be in another folder
    with _own_problem(path):
        return run_isolated(_inspect, path, _Expected.of(file), sha256, everything)


def read_variables(file: CdfFile, names: Iterable[str]) -> dict[str, Variable]:
    """Those of the variables that a file has, complete; raises SegmentProblem as `inspect` does, but for its times."""
    with _own_problem(file.path):
        return run_isolated(_read_variables, file.path.absolute(), _Expected.of(file), tuple(names))


@contextmanager
def _own_problem(path: Path) -> Iterator[None]:
    try:
        yield
    except ChildDied as problem:
        raise SegmentProblem(f"{path.name}: the process that read it {problem}; {problem.advice}") from None


def _inspect(path: Path, expected: _Expected, known_sha256: str, everything: bool) -> Inspected:
    file = _open_files().file(path, expected)
    sha256 = hashlib.sha256(file.data).hexdigest()
    if known_sha256 and sha256 != known_sha256:
        raise SegmentProblem(f"{path.name}: its sha256 is not the one recorded when it was fetched; fetch it again")
    opened = file.opened
    if not known_sha256:
        try:
            check_values(file.data, opened.records, None if everything else expected.reads)
        except ValueError as problem:
            raise _damaged(path, file.data, problem) from None
    return Inspected(len(file.data), sha256, _content(path, opened, expected))


def _read_variables(path: Path, expected: _Expected, names: tuple[str, ...]) -> dict[str, Variable]:
    files = _open_files()
    cdf = files.file(path, expected).opened.cdf
    found = {name: _variable(path, name, cdf[name]) for name in names if name in cdf}
    files.was_read(path)
    return found


def _variable(path: Path, name: str, variable: Any) -> Variable:
    try:
        values = np.asarray(variable.values)
        limits = {limit: variable.attributes[limit].value for limit in LIMITS if limit in variable.attributes}
    except _UNREADABLE as problem:  # a damaged file shows only when values are read
        raise SegmentProblem(f"{path.name}: {name} cannot be read ({problem}); fetch it again") from None
    is_tt2000 = variable.type == pycdfpp.DataType.CDF_TIME_TT2000
    return Variable(values, {} if is_tt2000 else limits, is_tt2000)


@dataclass(frozen=True)
class _Opened:
    """A file whose records were checked."""

    records: Records
    cdf: Any
    remark: str


@dataclass(frozen=True)
class _File:
    """A file in memory, which is opened when that is first asked for: its sha256 may be another than the known one."""

    path: Path
    expected: _Expected
    state: tuple[int, ...]
    data: bytes

    @cached_property
    def opened(self) -> _Opened:
        """Raises SegmentProblem, and again the next time, as `inspect` does."""
        records = _records(self.path, self.data)
        return _Opened(records, *_load(self.path, self.data, self.expected))


class _OpenFiles:
    """The files that the child keeps: those that are still to be read as far as there is room, and some that were."""

    def __init__(self) -> None:
        self._waiting: dict[Path, _File] = {}
        self._read: dict[Path, _File] = {}

    def file(self, path: Path, expected: _Expected) -> _File:
        """The file as it is now. Raises SegmentProblem where it cannot be read."""
        state = _state(path)
        file = self._waiting.pop(path, None) or self._read.pop(path, None)
        if file is None or (file.expected, file.state) != (expected, state):
            file = _File(path, expected, state, _read(path))
        self._waiting[path] = file
        while len(self._waiting) > 1 and sum(len(other.data) for other in self._waiting.values()) > _KEPT:
            del self._waiting[next(iter(self._waiting))]
        return file

    def was_read(self, path: Path) -> None:
        self._read[path] = self._waiting.pop(path)
        if len(self._read) > _KEPT_LONGER:
            del self._read[next(iter(self._read))]


@cache
def _open_files() -> _OpenFiles:
    return _OpenFiles()


def _state(path: Path) -> tuple[int, ...]:
    """What changes with a file; another one each time where it was changed so lately that nothing may show it."""
    try:
        stat = path.stat()
    except OSError as problem:
        raise _unreadable(path, problem) from problem
    is_new = abs(time.time_ns() - stat.st_ctime_ns) < SECOND
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns, time.monotonic_ns() if is_new else 0


def _read(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise SegmentProblem(f"{path.name}: has {counted(size, 'byte')}, more than a file of MMS; fetch it again")
        return path.read_bytes()
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _unreadable(path: Path, problem: OSError) -> SegmentProblem:
    return SegmentProblem(f"{path}: cannot be read ({problem.strerror})")


def _records(path: Path, data: bytes) -> Records:
    try:
        return check_records(data)
    except ValueError as problem:
        raise _damaged(path, data, problem) from None


def _damaged(path: Path, data: bytes, problem: ValueError) -> SegmentProblem:
    return SegmentProblem(f"{path.name}: {problem} (it has {len(data):,}); fetch it again")


def _content(path: Path, opened: _Opened, expected: _Expected) -> CdfContent:
    try:
        times = _times(opened.cdf, expected.epoch)
        is_synthetic = any(SYNTHETIC in text for text in _texts(opened.cdf, "TEXT"))
    except _UNREADABLE as problem:
        raise SegmentProblem(f"{path.name}: its times cannot be read ({problem}); fetch it again") from problem
    if times.size and np.abs(times - expected.start).max() > expected.longest:
        span = f"from {times[0]} to {times[-1]}, ns UTC"
        raise SegmentProblem(f"{path.name}: its times ({span}) are not what its name says; fetch it again")
    ends = (int(times[0]), int(times[-1])) if times.size else None
    return CdfContent(
        ends, "synthetic" if is_synthetic else "measured", "md5" if opened.records.md5 else "used", opened.remark
    )


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
