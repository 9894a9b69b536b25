"""Where a file lies until it is whole, for one process at a time, and where bad ones are put aside.

Both are in `.mms-regions` in the data folder, as is the manifest: the archive's folders hold files of the archive only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from mms_regions.archive.http import Client, NetworkProblem
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.files import remove, rename, sync_folder
from mms_regions.core.messages import Waiting

_POLL = 0.1  # s
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


def workspace(data_dir: Path) -> Path:
    """Where everything lies that is no file of the archive."""
    return data_dir / ".mms-regions"


def quarantine(path: Path, data_dir: Path) -> None:
    """Put a bad file aside, under a name that says when."""
    folder = workspace(data_dir) / "quarantine"
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    _move(path, folder / f"{path.name}.{now}")


def _move(path: Path, target: Path) -> None:
    """Also into another file system: folders of a cache may be links to elsewhere."""
    try:
        rename(path, target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        shutil.copy2(path, target)
        remove(path)


@dataclass(frozen=True)
class Staging:
    """An open staging file that this process alone has, and beside it what identifies the server's version of it."""

    path: Path
    file: BinaryIO

    @property
    def _validator(self) -> Path:
        return self.path.with_name(f"{self.path.name}-validator")

    @property
    def size(self) -> int:
        return self.file.seek(0, os.SEEK_END)

    def headers(self) -> dict[str, str]:
        """What asks for the rest only, if the file is still the same; nothing where that is not known."""
        with suppress(OSError):
            if self.size:
                return {"Range": f"bytes={self.size}-", "If-Range": self._validator.read_text()}
        return {}

    def clear(self, validator: str = "") -> None:
        """Begin again; validator: the ETag or date of what is to come."""
        self.file.seek(0)
        self.file.truncate()
        remove(self._validator)
        if validator:
            self._validator.write_text(validator)

    def publish(self, path: Path) -> None:
        """Bring it to disk, then under its name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        rename(self.path, path)
        sync_folder(path.parent)
        remove(self._validator)


@contextmanager
def locked_staging(path: Path, data_dir: Path, client: Client) -> Iterator[Staging]:
    """The staging file of `path`, which waits until no other process has it; an empty one is not left behind."""
    staging = _staging_path(path, data_dir)
    with _locked(staging, path.name, client) as file:
        try:
            yield Staging(staging, file)
        finally:
            if not file.closed and os.fstat(file.fileno()).st_size == 0:
                remove(staging)


def _staging_path(path: Path, data_dir: Path) -> Path:
    """In the file system of `path`, so that it can be renamed; folders of a cache may be links to elsewhere."""
    folder = workspace(data_dir) / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_dev == path.parent.stat().st_dev:
        return folder / f"{path.name}.partial"
    return path.with_name(f".{path.name}.partial")


@contextmanager
def _locked(staging: Path, name: str, client: Client) -> Iterator[BinaryIO]:
    """The file, open and locked; the one that bears this name by then, not one that another process has renamed."""
    give_up = time.monotonic() + client.limits.longest_wait
    while True:
        with os.fdopen(os.open(staging, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+b") as file:
            if _has_lock(file, staging) and _is_still(file, staging):
                yield file
                return
        if (left := give_up - time.monotonic()) <= 0:
            raise NetworkProblem(f"{name}: another process has been fetching it for long; run again when it has ended")
        client.observe(Waiting(name, left, "another process fetches it"))
        time.sleep(_POLL)


def _has_lock(file: BinaryIO, staging: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as problem:
        if problem.errno not in _NO_LOCKS:
            raise
        raise EnvironmentProblem(
            f"{staging.parent}: the file system knows no locks; mount it with flock, or choose another --data-dir"
        ) from problem
    return True


def _is_still(file: BinaryIO, staging: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), staging.stat())
    except FileNotFoundError:
        return False
