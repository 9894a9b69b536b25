"""One verified file into the cache: whole under its name, or not there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mms_regions.archive.cdf_check import CdfContent, inspect
from mms_regions.archive.http import (
    CHUNK,
    Client,
    NetworkProblem,
    RequestFailed,
    announced_bytes,
    refuse_status,
    shortly,
)
from mms_regions.archive.products import CdfFile
from mms_regions.archive.staging import Staging, locked_staging, quarantine
from mms_regions.core.errors import EnvironmentProblem, SegmentProblem, advice
from mms_regions.core.files import sha256_of
from mms_regions.core.messages import BytesArrived, Quarantined, TransferDone, TransferStarted, counted, plural

if TYPE_CHECKING:
    import requests

_REPORTED_EVERY = 1 << 20  # bytes between two words to the observer
_REMEMBERED = 4096  # sound files of a process
_MOST_BYTES = 4 << 30  # of a file; the largest of MMS that are used here have 0.1 GB
_MAGIC = b"\xcd\xf3\x00\x01"  # CDF version 3


class StaleListing(NetworkProblem):
    """The server does not have what it listed, or not in this size: a newer version may have come."""


@dataclass(frozen=True)
class FileSpec:
    """A file that is to be in the cache at `file.path`, and what it must be like.

    size: in bytes, as listed or pinned, where known. sha256: where it is pinned. known_sha256: as recorded when the
    file was fetched before; a file in the cache that still has it is sound whatever a listing says.
    """

    file: CdfFile
    url: str = ""
    size: int | None = None
    sha256: str = ""
    known_sha256: str = ""

    @property
    def name(self) -> str:
        return self.file.name


@dataclass(frozen=True)
class Obtained:
    """A sound file of the cache: size in bytes, sha256, what is in it, and whether this call brought it."""

    size: int
    sha256: str
    content: CdfContent
    is_new: bool


def keep_nothing(obtained: Obtained) -> None:
    """Where nobody keeps a record of new files."""


def obtain(
    wanted: FileSpec, data_dir: Path, client: Client, keep: Callable[[Obtained], None] = keep_nothing
) -> Obtained:
    """The file in the cache; transferred if it is not there, put aside and transferred again if it is bad.

    keep: is to record a new file. It is called just before that gets its name, so that no kill leaves one unrecorded.
    Raises NetworkProblem where it cannot be had, StaleListing where the server no longer has what it listed, and
    EnvironmentProblem where the disk is in the way. Whatever happens, nothing bad is left under its name.
    """
    with _disk_problems(wanted.file.path):
        with suppress(SegmentProblem):
            return check_cached(wanted)
        wanted.file.path.parent.mkdir(parents=True, exist_ok=True)
        with locked_staging(wanted.file.path, data_dir, client) as staging:
            return _obtain_alone(wanted, data_dir, staging, client, keep)


def check_cached(wanted: FileSpec) -> Obtained:
    """A file of the cache, read from end to end. Raises SegmentProblem where it is not there or not sound.

    A process reads it once, as long as it is the same by its size, inode and times: a bit that turns over without a
    trace in these is seen by the next process.
    """
    path, pinned = wanted.file.path, wanted.sha256 or wanted.known_sha256
    if not path.is_file():
        raise SegmentProblem(f"{path}: not there; fetch it")
    try:
        stat = path.stat()
        if not pinned and wanted.size not in (None, stat.st_size):
            size = counted(stat.st_size, "byte")
            raise SegmentProblem(f"{path.name}: has {size}, not {wanted.size:,}; fetch it again")
        state = (stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns)
        sha256, content = _sound(wanted.file, pinned, state)
        return Obtained(stat.st_size, sha256, content, is_new=False)
    except OSError as problem:
        raise SegmentProblem(f"{path}: cannot be read ({problem.strerror})") from problem


@lru_cache(maxsize=_REMEMBERED)
def _sound(file: CdfFile, pinned: str, state: tuple[int, ...]) -> tuple[str, CdfContent]:
    """The sha256 and content of a file in this state. Raises SegmentProblem, which is not remembered, if not sound."""
    inspected = inspect(file, sha256=pinned)
    return inspected.sha256, inspected.content


def _obtain_alone(
    wanted: FileSpec, data_dir: Path, staging: Staging, client: Client, keep: Callable[[Obtained], None]
) -> Obtained:
    """The same, while no other process is at this file."""
    path = wanted.file.path
    try:
        return check_cached(wanted)  # another process may have brought it meanwhile
    except SegmentProblem as problem:
        if os.path.lexists(path):
            quarantine(path, data_dir)
            client.observe(Quarantined(path.name, str(problem)))

    def once() -> Obtained:
        _receive(wanted, staging, client)
        return _verified(wanted, staging)

    obtained = client.persist(path.name, wanted.url, once)
    keep(obtained)
    staging.publish(path)
    client.observe(TransferDone(path.name, obtained.size, obtained.sha256, wanted.url))
    return obtained


def _receive(wanted: FileSpec, staging: Staging, client: Client) -> None:
    """Bring into the staging file what it lacks. Raises RequestFailed."""
    name, headers = wanted.file.name, staging.headers()
    if headers and staging.size == wanted.size:
        return  # all of it arrived before a process ended
    with client.get(wanted.url, headers) as response:
        if response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{staging.size}":
            return
        _refuse_no_file(response, staging)
        offset = _offset(response, staging)
        size = _announced(response, offset, wanted)
        most = min(_MOST_BYTES, offset + _free_bytes(staging, (size or offset) - offset))
        client.observe(TransferStarted(name, size, offset))
        chunks = response.iter_content(CHUNK)
        if offset == 0:
            first = next(chunks, b"")
            _refuse_no_cdf(first)
            staging.clear(_validator(response))
            chunks = chain([first], chunks)
        for count in _write(staging, chunks, size, most):
            client.observe(BytesArrived(name, count))


def _write(staging: Staging, chunks: Iterator[bytes], size: int | None, most: int) -> Iterator[int]:
    """Write what comes behind what is there; how many bytes, now and then. RequestFailed where it is not `size`."""
    end = reported = staging.size
    for chunk in chunks:
        end += len(chunk)
        if end > (most if size is None else size):
            staging.clear()
            taken = f"{counted(most, 'byte')}, the most that is taken"
            announced = taken if size is None else f"the {counted(size, 'byte')} it announced"
            raise RequestFailed(f"the server sends more than {announced}", again=size is not None)
        staging.file.write(chunk)
        if end - reported >= _REPORTED_EVERY:
            yield end - reported
            reported = end
    staging.file.flush()
    yield end - reported
    if size is not None and end < size:
        raise RequestFailed(f"{counted(end, 'byte')} of {size:,} came", again=True)


def _refuse_no_file(response: requests.Response, staging: Staging) -> None:
    if response.status_code == 404:
        raise RequestFailed("the server has no such file (404)", again=False, becomes=StaleListing, status=404)
    if response.status_code == 416:
        staging.clear()
        raise RequestFailed("the server has not as many bytes as came before", again=True, status=416)
    refuse_status(response)


def _offset(response: requests.Response, staging: Staging) -> int:
    """Where in the file the body begins."""
    if response.status_code == 200:
        return 0
    begins = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    if begins and int(begins[1]) == staging.size:
        return staging.size
    staging.clear()
    raise RequestFailed("the server sends another part than the one asked for", again=True)


def _announced(response: requests.Response, offset: int, wanted: FileSpec) -> int | None:
    """The size of the whole file, in bytes; RequestFailed where the server contradicts its listing."""
    length = announced_bytes(response)
    if length is None:
        return wanted.size
    size = offset + length
    if size > _MOST_BYTES:
        raise RequestFailed(f"the server announces {counted(size, 'byte')}, more than a file of MMS has", again=False)
    kind = response.headers.get("Content-Type", "")
    if wanted.size in (None, size) or kind.startswith(("text/", "application/json")):
        return size
    raise RequestFailed(
        f"the server sends a file of {counted(size, 'byte')}, not {wanted.size:,} as listed or pinned",
        again=False,
        becomes=StaleListing,
    )


def _free_bytes(staging: Staging, missing: int) -> int:
    """What the file system has left. Raises EnvironmentProblem where that is less than what is to come."""
    free = shutil.disk_usage(staging.path.parent).free
    if missing > free:
        raise EnvironmentProblem(
            f"{staging.path.parent}: {counted(missing, 'byte')} {plural('is', missing)} to come, and {free:,} "
            f"{plural('is', free)} free; free some space, or choose another --data-dir"
        )
    return free


def _refuse_no_cdf(start: bytes) -> None:
    if not start.startswith(_MAGIC):
        text = start.decode("utf-8", errors="replace")
        raise RequestFailed(f"the server sends no CDF file, but {shortly(text)}", again=True)


def _validator(response: requests.Response) -> str:
    """What If-Range takes: a strong ETag, or a date."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _verified(wanted: FileSpec, staging: Staging) -> Obtained:
    """The staging file as one that may be published; else it is emptied, and RequestFailed says why."""
    staging.file.flush()
    try:
        if wanted.size not in (None, staging.size):
            raise SegmentProblem(f"{counted(staging.size, 'byte')} came, not {wanted.size:,}")
        if wanted.sha256 and (sha256 := sha256_of(staging.path)) != wanted.sha256:
            raise SegmentProblem(f"the server's file has sha256 {sha256}, not {wanted.sha256} as pinned")
        found = inspect(wanted.file, staging.path, everything=True)
    except SegmentProblem as problem:
        staging.clear()
        raise RequestFailed(str(problem).removeprefix(f"{staging.path.name}: "), again=True) from None
    return Obtained(found.size, found.sha256, found.content, is_new=True)


@contextmanager
def _disk_problems(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno is None:  # of a throttle, not of a disk
            raise
        raise EnvironmentProblem(f"{path}: cannot be written ({problem.strerror}); {advice(problem)}") from problem
