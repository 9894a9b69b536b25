"""Whether there is room for store, cache and scratch, and whether their file systems can do what a run needs."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from mms_regions.core.cluster_settings import ClusterSettings
from mms_regions.core.settings import Settings
from mms_regions.doctor.finding import Finding

_LEAST_BYTES, _LEAST_FILES = 100_000_000, 500  # with less, nothing can be done
_STORE_BYTES, _CACHE_BYTES, _SCRATCH_BYTES = 2 * 10**9, 20 * 10**9, 10**9  # with less, a whole catalogue may not fit
_FEW_FILES = 10_000


@dataclass(frozen=True)
class Place:
    """What a file system grants in a folder. files: that can still be made there, None where it does not count them.

    links, locks: whether it knows hard links and flock.
    """

    folder: Path
    bytes: int
    files: int | None
    links: bool
    locks: bool

    def __str__(self) -> str:
        files = "" if self.files is None else f" and {self.files} files"
        known = [word for word, there in (("hard links", self.links), ("flock", self.locks)) if there]
        return f"{self.folder}: {decimal(self.bytes)}{files} free; {' and '.join(known) or 'neither links nor locks'}"


def try_out(path: Path) -> Place:
    """The folder that a path is, or is to be made in, tried out in a folder of its own, which is removed.

    Raises OSError where nothing can be written there.
    """
    folder = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    about = os.statvfs(folder)
    with tempfile.TemporaryDirectory(prefix=".mms-regions-doctor-", dir=folder) as own:
        file = Path(own) / "file"
        with file.open("xb") as opened:
            opened.write(b"1")
            opened.flush()
            os.fsync(opened.fileno())
            locks = _grants(lambda: fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB))
        links = _grants(lambda: os.link(file, Path(own) / "link"))
    return Place(folder, about.f_bavail * about.f_frsize, about.f_favail if about.f_files else None, links, locks)


def _grants(wish: Callable[[], None]) -> bool:
    try:
        wish()
    except OSError:
        return False
    return True


def store_place(store: Path | None) -> Finding:
    """The folder of a store, and of the run beside it, whose lock is a hard link."""
    if store is None:
        return Finding("store", "remark", "none named", "give --store to have its place looked at")
    from mms_regions.store.plan import run_folder

    if os.access(store, os.F_OK) and not os.access(store, os.W_OK | os.X_OK):
        return _unwritable("store", store, "it is not yours to write", "--store")
    try:
        place = try_out(run_folder(store))
    except OSError as problem:
        return _unwritable("store", store, problem.strerror or str(problem), "--store")
    found = _room("store", place, _STORE_BYTES)
    if found.state == "ok" and not place.links:
        advice = "never start two runs on one store at once, as its lock is less sure without hard links"
        return Finding("store", "remark", found.found, advice)
    return found


def cache_place(settings: Settings) -> Finding:
    """The data folder: to be read only, or to fetch into, which takes locks."""
    folder = settings.data_dir
    if folder is None:
        return Finding("cache", "remark", "no data folder named", "give --data-dir, or set MMS_DATA_DIR")
    if settings.offline:
        if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir():
            return Finding("cache", "ok", f"{folder} can be read; nothing is fetched, as offline = true")
        return Finding("cache", "problem", f"{folder} is no folder that can be read", "name another in --data-dir")
    try:
        place = try_out(folder)
    except OSError as problem:
        return _unwritable("cache", folder, problem.strerror or str(problem), "--data-dir, or work offline")
    if not place.locks:
        return Finding("cache", "problem", str(place), "mount it with flock, or name another folder in --data-dir")
    return _room("cache", place, _CACHE_BYTES)


def scratch_place(cluster: ClusterSettings, environ: Mapping[str, str]) -> Finding:
    """What workers write beside the store, on the node where they are; here that is only known of this machine."""
    folder = Path(environ.get("SLURM_TMPDIR") or environ.get("TMPDIR") or "/tmp")  # noqa: S108
    try:
        found = _room("scratch", try_out(folder), _SCRATCH_BYTES)
    except OSError as problem:
        found = _unwritable("scratch", folder, problem.strerror or str(problem), "TMPDIR")
    if cluster.kind != "local" and found.state == "problem":
        return Finding("scratch", "remark", f"{found.found} (the nodes of the cluster may differ)", found.advice)
    return found


def _unwritable(what: str, path: Path, why: str, flag: str) -> Finding:
    return Finding(what, "problem", f"{path} cannot be written: {why}", f"make room or get leave, or change {flag}")


def _room(what: str, place: Place, wanted: int) -> Finding:
    files = _FEW_FILES if place.files is None else place.files
    if place.bytes < _LEAST_BYTES or files < _LEAST_FILES:
        return Finding(what, "problem", str(place), "make room there, or name another place")
    if place.bytes < wanted or files < _FEW_FILES:
        return Finding(what, "remark", str(place), "make room if a whole catalogue is to go there")
    return Finding(what, "ok", str(place))
