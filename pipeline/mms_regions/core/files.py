"""Files that are whole or absent under their name, also after a crash, and that notice if they were changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatch
from functools import wraps
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from mms_regions.core.errors import UsageProblem

P = ParamSpec("P")
T = TypeVar("T")

_BUSY = (errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)  # gone a moment later
_FULL = (errno.ENOSPC, errno.EDQUOT)
_IN_USE = (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY)
_WAITS = (0.5, 1.0, 2.0)  # s, before a busy disk is tried again
_MOST = 2**30  # bytes that are read of a file that somebody named
_SEAL = "sha256"
FAILPOINT = "MMS_REGIONS_DIE_BEFORE"  # `N:FILE` or `N:FILE:PATTERN`, see failpoint


class Damaged(ValueError):
    """A file is not as it was written."""


def expanded(path: Path) -> Path:
    """The path with `~` replaced by the home folder. Raises UsageProblem where there is no such home folder."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise UsageProblem(f"{path} is in a home folder that does not exist; give another path") from None


def write_whole(path: Path, data: bytes, unsynced: set[Path] | None = None) -> None:
    """Write beside, bring to disk, rename.

    unsynced: of a caller who writes many files; gets the folders that he is to bring to disk with `sync_folders`.
    Raises OSError, which names the path, and leaves nothing behind, where that cannot be done.
    """
    with made_whole(path, unsynced) as staging, staging.open("wb") as file:
        file.write(data)


@contextmanager
def made_whole(path: Path, unsynced: set[Path] | None = None) -> Iterator[Path]:
    """The same for libraries that want the path of a file: an empty one beside, renamed when all went well."""
    changed = set[Path]() if unsynced is None else unsynced
    _make_folder(path.parent, changed)
    staging = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        staging.open("xb").close()
        yield staging
        with staging.open("rb") as file:
            os.fsync(file.fileno())
        rename(staging, path)
    except BaseException as problem:
        remove(staging)
        if isinstance(problem, OSError) and problem.filename in (None, str(staging)):
            raise OSError(problem.errno, problem.strerror, str(path)) from problem
        raise
    changed.add(path.parent)
    if unsynced is None:
        sync_folders(changed)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, as umask and the folder above say, and bring their names to disk."""
    changed = set[Path]()
    _make_folder(folder, changed)
    sync_folders(changed)


def _make_folder(folder: Path, changed: set[Path]) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent, changed)
    with suppress(FileExistsError):  # another process makes it too
        folder.mkdir()
    changed.add(folder.parent)


def write_changed(path: Path, data: bytes, unsynced: set[Path] | None = None) -> bool:
    """As `write_whole`, unless that is what the file holds already; whether it was written."""
    if _content_of(path) == data:
        return False
    write_whole(path, data, unsynced)
    return True


def read_file(path: Path | Traversable) -> bytes:
    """What a file that somebody named holds. Raises OSError where there is none, or too much in it: see `read_all`."""
    with path.open("rb") as file:
        return read_all(file)


def read_all(stream: IO[bytes]) -> bytes:
    """What is left of a stream. Raises OSError where that is over 1 GiB: some have no end, such as /dev/zero."""
    found = stream.read(_MOST + 1)
    if len(found) > _MOST:
        raise OSError(errno.EFBIG, f"it has more than {_MOST:,} bytes")
    return found


def sealed(data: Mapping[str, Any]) -> bytes:
    """JSON, a line for each field, the sha256 of all before it at the end. Raises ValueError where data has one."""
    if _SEAL in data:
        raise ValueError(f"{_SEAL!r} is the name of the seal")
    said = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in data.items())
    return _with_seal(b"{\n" + said.encode())


def _with_seal(said: bytes) -> bytes:
    return said + f' "{_SEAL}": "{hashlib.sha256(said).hexdigest()}"\n}}\n'.encode()


def read_sealed(path: Path) -> dict[str, Any]:
    """What a sealed file says. Raises FileNotFoundError, and Damaged where a single bit of it is not as written."""
    found = path.read_bytes()
    if _with_seal(found[: -len(_with_seal(b""))]) != found:
        raise Damaged(f"{path} was changed or cut short since it was written")
    data: dict[str, Any] = json.loads(found)
    del data[_SEAL]
    return data


def write_twice(path: Path, data: Mapping[str, Any]) -> None:
    """Write a sealed file and its copy: it survives the loss of one of them.

    Both are on the disk before either gets its name, so that a full disk leaves both as they were.
    """
    content = sealed(data)
    with ExitStack() as names:
        for place in (copy_of(path), path):  # the file itself gets its name first
            if _content_of(place) != content:
                staging = names.enter_context(made_whole(place))
                with staging.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())


def _content_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def read_twice(path: Path) -> dict[str, Any] | None:
    """What a file or its copy says, or None where both are missing. Raises Damaged where neither can be used."""
    problem: Damaged | None = None
    for place in (path, copy_of(path)):
        try:
            return read_sealed(place)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except Damaged as found:
            problem = problem or found
    if problem:
        raise problem
    return None


def copy_of(path: Path) -> Path:
    """The second place of a file that is written twice: `plan.json` -> `plan.copy.json`."""
    return path.with_suffix(f".copy{path.suffix}")


def rename(old: Path, new: Path) -> None:
    """Give a file or folder another name, in place of a file that has it."""
    failpoint("rename", new)
    old.replace(new)


def link(old: Path, new: Path) -> None:
    """Make a hard link. Raises FileExistsError where the name is taken."""
    failpoint("link", new)
    os.link(old, new)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    failpoint("unlink", path)
    path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove an empty folder."""
    failpoint("rmdir", folder)
    folder.rmdir()


def remove_tree(folder: Path, *, best_effort: bool = False) -> None:
    """Remove a folder and all in it, never what links in it lead to; a folder that is absent is fine.

    A folder that is not empty afterwards stays, without an error: NFS keeps a file that somebody reads under another
    name until it is closed, and others may write there. best_effort: nothing that cannot be removed is an error.
    """
    with suppress(*([OSError] if best_effort else [FileNotFoundError])):
        with os.scandir(folder) as entries:
            found = [(Path(entry.path), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for path, is_folder in found:
            if is_folder:
                remove_tree(path, best_effort=best_effort)
            else:
                with suppress(*([OSError] if best_effort else [])):
                    remove(path)
        try:
            remove_folder(folder)
        except OSError as problem:
            if problem.errno not in _IN_USE:
                raise


def failpoint(operation: str, path: Path) -> None:
    """For tests of kills: every rename, link, unlink and rmdir of the package passes here before it is done.

    The variable FAILPOINT, `N:FILE`, kills the process that comes to the N-th of them, over all processes of a run,
    once; with N = 0 nobody. FILE gets a line for each, such as `rename x.zarr/time/c/0`. With `N:FILE:PATTERN` only
    lines that the pattern fits are counted.
    """
    setting = os.environ.get(FAILPOINT)
    if not setting:
        return
    number, record, *pattern = setting.split(":", 2)
    line = f"{operation} {path}"
    if pattern and not fnmatch(line, pattern[0]):
        return
    with open(record, "a+b", buffering=0) as file:  # noqa: PTH123  (appending counts right between processes)
        file.write(f"{line}\n".encode())
        passed = os.pread(file.fileno(), file.tell(), 0).count(b"\n")
    if passed == int(number):
        os.kill(os.getpid(), signal.SIGKILL)


def sync_folders(folders: set[Path]) -> None:
    """Bring to disk which names these folders hold, those above first."""
    for folder in sorted(folders):
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Bring to disk which names a folder holds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_full(error: OSError) -> bool:
    """Whether a disk has no space for what is to be written, or a quota forbids it."""
    return error.errno in _FULL


def is_busy(error: Exception) -> bool:
    """Whether a disk refused what it may grant a moment later, as those of clusters do now and then."""
    return isinstance(error, OSError) and error.errno in _BUSY


def busy_disk_retried(function: Callable[P, T]) -> Callable[P, T]:
    """A function that is called again, up to three times, where a disk is busy."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        for wait in _WAITS:
            try:
                return function(*args, **kwargs)
            except OSError as problem:
                if not is_busy(problem):
                    raise
            time.sleep(wait)
        return function(*args, **kwargs)

    return call
