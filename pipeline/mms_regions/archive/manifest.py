"""Which files there are, exactly: name, version, size, sha256, source and time of each, kept as manifest.json.

In a cache manifest.journal is beside it: a line of JSON per file, added as files come, merged when a run ends.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mms_regions.archive.products import CdfFile, Query, Reaching, file_named, parse_name, product_of, reaching
from mms_regions.archive.staging import quarantine, workspace
from mms_regions.core.errors import EnvironmentProblem, InputProblem, explain
from mms_regions.core.events import Segment
from mms_regions.core.files import read_file, remove, write_whole
from mms_regions.core.messages import Notify, Waiting, ignore_messages
from mms_regions.core.types import DAY

SourceName = Literal["sdc", "spdf", "cache"]

_MOST_PROBLEMS = 5
_NEAR = 2 * DAY
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
_LONGEST_WAIT, _POLL = 300.0, 0.1  # s, for another process that writes a manifest
_SYNC = 1 << 16  # bytes of a journal: what a machine that dies may cost; a process that dies costs nothing


class Pinned(BaseModel):
    """One file, exactly.

    size: bytes. source: sdc, spdf, or cache for a file that was there. fetched: UTC. origin: what the file says of
    itself. checks: what its values were checked by; `blocks`, all compressed values, is no longer written. Both are
    empty in manifests of before 2026-12.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    size: Annotated[int, Field(gt=0, strict=True)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    source: SourceName
    url: str = ""
    fetched: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    origin: Literal["measured", "synthetic", ""] = ""
    checks: Literal["md5", "used", "blocks", ""] = ""

    @model_validator(mode="after")
    def _version_as_in_name(self) -> Self:
        if self.as_named.version_text != self.version:
            raise ValueError(f"version {self.version} is not that of {self.name}")
        return self

    @property
    def as_named(self) -> CdfFile:
        """What the name says, wherever the file lies."""
        file = parse_name(Path(self.name))
        if file is None or file.name != self.name or product_of(file) is None:
            raise ValueError(f"{self.name!r} is not the name of an MMS file that is used here")
        return file

    def file(self, data_dir: Path) -> CdfFile:
        """The file as its name describes it, where it lies below `data_dir`."""
        return file_named(self.name, data_dir) or self.as_named

    def adds_to(self, known: Pinned | None) -> bool:
        """Whether it can take the place of what is known; that a file was there does not say where it came from."""
        return known is None or self.source != "cache" or self.sha256 != known.sha256

    def or_known(self, known: Pinned | None) -> Pinned:
        """This entry, or the known one, with its origin, where this one says nothing new of where it came from."""
        if known is None or self.adds_to(known):
            return self
        return known.model_copy(update={"origin": self.origin, "checks": self.checks})


class Manifest(BaseModel):
    """Files, each once, sorted by name when written. Raises pydantic.ValidationError for a name that is there twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    files: tuple[Pinned, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(self._by_name) < len(self.files):
            raise ValueError("it names a file twice")
        return self

    @cached_property
    def _by_name(self) -> dict[str, Pinned]:
        return {pinned.name: pinned for pinned in self.files}

    @cached_property
    def _starts(self) -> dict[int, list[tuple[int, int]]]:
        """Of each spacecraft, when its files begin (ns UTC), in order, and the place of each in `files`."""
        starts: dict[int, list[tuple[int, int]]] = {}
        for place, pinned in enumerate(self.files):
            file = pinned.as_named
            starts.setdefault(file.probe, []).append((file.start, place))
        return {probe: sorted(found) for probe, found in starts.items()}

    def get(self, name: str) -> Pinned | None:
        """What is known of a file."""
        return self._by_name.get(name)

    def reaching(self, query: Query) -> Reaching[Pinned]:
        """The files that may reach into the interval of a query."""
        return reaching(self.files, query)

    def near(self, segment: Segment) -> Manifest:
        """All that it knows of a spacecraft within two days of an event: what a task needs of a large manifest."""
        begin, end = segment.event.trange
        starts = self._starts.get(segment.probe, [])
        near = slice(bisect_left(starts, (begin - _NEAR + 1, 0)), bisect_left(starts, (end + _NEAR, 0)))
        return _of_checked(self.files[place] for place in sorted(place for _, place in starts[near]))

    def merged(self, newer: Iterable[Pinned]) -> Manifest:
        """This manifest with `newer` entries in the place of older ones of the same name."""
        files = dict(self._by_name)
        for pinned in newer:
            if pinned.adds_to(files.get(pinned.name)):
                files[pinned.name] = pinned
        return _of_checked(files[name] for name in sorted(files))


def _of_checked(files: Iterable[Pinned]) -> Manifest:
    """A manifest of entries that were checked when they were made; doing that again takes most of the time."""
    return Manifest.model_construct(files=tuple(files))


def manifest_path(data_dir: Path) -> Path:
    """The manifest of a cache."""
    return workspace(data_dir) / "manifest.json"


def read_manifest(path: Path) -> Manifest:
    """A manifest that somebody wrote. Raises InputProblem with what is wrong and where."""
    try:
        return Manifest.model_validate_json(read_file(path))
    except FileNotFoundError:
        raise InputProblem(
            f"There is no manifest {path}; give the path of one, such as {manifest_path(Path())}."
        ) from None
    except OSError as problem:
        raise InputProblem(
            f"The manifest {path} cannot be read: {problem.strerror}; give a readable file."
        ) from problem
    except ValidationError as problem:
        raise InputProblem(
            f"The manifest {path} cannot be used: {_first_few(problem)}. Correct it or fetch again."
        ) from None


def known_files(data_dir: Path) -> Manifest:
    """The manifest of a cache, what is in its journal merged; empty where there is neither, or neither can be read.

    What can be read of a damaged manifest is taken, see `damage_of`.
    """
    path = manifest_path(data_dir)
    while True:
        noted = _content(_journal_path(path)) or b""
        known = _usable(_content(path))
        if (_content(_journal_path(path)) or b"").startswith(noted):  # else it went into the manifest meanwhile
            return known.merged(_entries(noted)) if noted else known


def damage_of(data_dir: Path) -> str:
    """A sentence on the manifest of a cache where it is damaged; empty where it is sound, closed or not there."""
    path = manifest_path(data_dir)
    content = _content(path)
    if content is None or _parsed(content) is not None:
        return ""
    return (
        f"{path} is damaged; {len(_usable(content).files)} of its entries can be used, and other files are looked at "
        "again and noted where the folder can be written"
    )


def _content(path: Path) -> bytes | None:
    """What a file of notes holds; None where it is not there or closed to us, as by another user's umask."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _parsed(content: bytes) -> Manifest | None:
    with suppress(ValidationError):
        return Manifest.model_validate_json(content)
    return None


def _usable(content: bytes | None) -> Manifest:
    """The entries of a manifest, of a damaged one those that can be used."""
    if content is None:
        return Manifest()
    if (whole := _parsed(content)) is not None:
        return whole
    entries: dict[str, Pinned] = {}
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        for entry in json.loads(content)["files"]:
            with suppress(ValidationError):
                pinned = Pinned.model_validate_json(json.dumps(entry))
                entries[pinned.name] = pinned
    return _of_checked(entries[name] for name in sorted(entries))


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write it whole, sorted by name. Raises EnvironmentProblem where that cannot be done."""
    try:
        write_whole(path, manifest.merged(()).model_dump_json(indent=1).encode() + b"\n")
    except OSError as problem:
        raise EnvironmentProblem(f"{path} cannot be written: {problem.strerror or problem}") from problem


def record(data_dir: Path, newer: Iterable[Pinned], notify: Notify = ignore_messages) -> None:
    """Add entries to the journal of a cache; a kill of this process, right afterwards, costs none of them.

    notify: gets a wait for another process. Raises EnvironmentProblem where that cannot be done.
    """
    path = manifest_path(data_dir)
    lines = [pinned.model_dump_json().encode() + b"\n" for pinned in newer]
    with _locked(path, notify):
        _append(_journal_path(path), lines)


def record_found(data_dir: Path, found: Iterable[Pinned], notify: Notify = ignore_messages) -> None:
    """Add files that were there to the journal of a cache, unless it is one that we cannot write."""
    with _unless_closed():
        record(data_dir, found, notify)


def settle(data_dir: Path, notify: Notify = ignore_messages) -> None:
    """Merge the journal of a cache into its manifest, also while other processes add to it; replace a damaged one.

    A cache that we cannot write is left as it is. Raises EnvironmentProblem where a disk is full.
    """
    path = manifest_path(data_dir)
    if _content(_journal_path(path)) is None and not damage_of(data_dir):
        return
    with _unless_closed(), _locked(path, notify):
        known = known_files(data_dir)
        if damage_of(data_dir):
            quarantine(path, data_dir)
        write_manifest(path, known)
        remove(_journal_path(path))


@contextmanager
def _unless_closed() -> Iterator[None]:
    """A folder that is read-only, belongs to others or knows no locks is used as it is."""
    try:
        yield
    except EnvironmentProblem as problem:
        if not isinstance(problem.__cause__, OSError) or problem.__cause__.errno not in _CLOSED:
            raise


def _journal_path(path: Path) -> Path:
    return path.with_suffix(".journal")


def _entries(noted: bytes) -> list[Pinned]:
    """The lines of a journal but those that were cut off, by a crash or a full disk."""
    entries = []
    for line in noted.splitlines():
        with suppress(ValidationError):
            entries.append(Pinned.model_validate_json(line))
    return entries


def _append(journal: Path, lines: list[bytes]) -> None:
    """One write for each line; the first starts a new line where the last one was cut off."""
    with journal.open("a+b", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        if before and os.pread(file.fileno(), 1, before - 1) != b"\n":
            lines = [b"\n", *lines]
        for line in lines:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if before // _SYNC < file.tell() // _SYNC:
            os.fsync(file.fileno())


@contextmanager
def _locked(path: Path, notify: Notify) -> Iterator[None]:
    """While no other process writes this manifest or its journal."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("a") as lock:
            _wait_for(lock, path.with_suffix(".lock"), notify)
            yield
    except OSError as problem:
        raise EnvironmentProblem(f"{path} cannot be written: {problem.strerror or problem}") from problem


def _wait_for(lock: IO[str], path: Path, notify: Notify) -> None:
    give_up = time.monotonic() + _LONGEST_WAIT
    while True:
        with suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (left := give_up - time.monotonic()) <= 0:
            raise EnvironmentProblem(
                f"{path}: another process has held this lock for {_LONGEST_WAIT:g} s; end that process, or wait for "
                "it, and run again"
            )
        notify(Waiting(path.name, left, "another process writes the manifest of the cache"))
        time.sleep(_POLL)


def _first_few(problem: ValidationError) -> str:
    wrong = list(explain(problem).values())
    more = [f"and {len(wrong) - _MOST_PROBLEMS} more"] if len(wrong) > _MOST_PROBLEMS else []
    return "; ".join(wrong[:_MOST_PROBLEMS] + more)
