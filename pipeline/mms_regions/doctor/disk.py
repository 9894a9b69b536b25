"""Whether there is space for store, cache and scratch, and whether their file systems can do what a run needs."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from mms_regions.core.cluster_settings import ClusterSettings
from mms_regions.core.messages import counted
from mms_regions.core.settings import Settings
from mms_regions.doctor.finding import Finding

_LEAST_BYTES, _LEAST_FILES = 100_000_000, 500  # with less, nothing can be done
_STORE_BYTES, _CACHE_BYTES, _SCRATCH_BYTES = 2 * 10**9, 20 * 10**9, 10**9  # with less, a full catalogue may not fit
_FEW_FILES = 10_000


@dataclass(frozen=True)
class Place:
    """What a file system offers in a folder. files: that can still be created, None where it has no such limit.

    links, locks: whether it knows hard links and flock.
    """

    folder: Path
    bytes: int
    files: int | None
    links: bool
    locks: bool

    def __str__(self) -> str:
        files = "" if self.files is None else f" and {counted(self.files, 'file')}"
        known = [name for name, there in (("hard links", self.links), ("flock", self.locks)) if there]
        return f"{self.folder}: {decimal(self.bytes)}{files} free; {' and '.join(known) or 'no hard links, no flock'}"


def inspect(path: Path) -> Place:
    """Test the folder of a path, or the nearest one that exists, with a temporary folder in it.

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
            locks = _works(lambda: fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB))
        links = _works(lambda: os.link(file, Path(own) / "link"))
    return Place(folder, about.f_bavail * about.f_frsize, about.f_favail if about.f_files else None, links, locks)


def _works(operation: Callable[[], None]) -> bool:
    try:
        operation()
    except OSError:
        return False
    return True


def store_place(store: Path | None) -> Finding:
    """The folder of a store and of the run folder beside it, whose lock needs hard links."""
    if store is None:
        return Finding("store", "warning", "not set", "give --store to check that location")
    from mms_regions.store.paths import run_folder

    if store.exists() and not os.access(store, os.W_OK | os.X_OK):
        return Finding("store", "problem", f"{store} cannot be written: no permission", "choose another --store")
    found, place = _writable("store", run_folder(store), _STORE_BYTES, "--store")
    if place and not place.links and found.state == "ok":
        advice = "do not start two runs on one store at the same time: its lock is less safe without hard links"
        return Finding("store", "warning", found.found, advice)
    return found


def cache_place(settings: Settings) -> Finding:
    """The data folder: read only, or to fetch into, which needs flock."""
    folder = settings.data_dir
    if folder is None:
        return Finding("cache", "warning", "data folder not set", "give --data-dir, or set MMS_DATA_DIR")
    if settings.offline:
        if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir():
            return Finding("cache", "ok", f"{folder} is readable; nothing is fetched, as offline = true")
        return Finding("cache", "problem", f"{folder} is not a readable folder", "give another --data-dir")
    found, place = _writable("cache", folder, _CACHE_BYTES, "--data-dir, or work offline")
    if place and not place.locks:
        return Finding("cache", "problem", str(place), "mount it with flock, or give another --data-dir")
    return found


def scratch_place(cluster: ClusterSettings, environ: Mapping[str, str]) -> Finding:
    """The temporary folder of workers: the nodes of a cluster may have another."""
    folder = Path(environ.get("SLURM_TMPDIR") or environ.get("TMPDIR") or "/tmp")  # noqa: S108
    found, _ = _writable("scratch", folder, _SCRATCH_BYTES, "TMPDIR")
    if cluster.kind != "local" and found.state == "problem":
        return Finding("scratch", "warning", f"{found.found} (the nodes of the cluster may differ)", found.advice)
    return found


def _writable(what: str, path: Path, wanted: int, flag: str) -> tuple[Finding, Place | None]:
    try:
        place = inspect(path)
    except OSError as problem:
        why = problem.strerror or str(problem)
        advice = f"get write permission there, or choose another {flag}"
        return Finding(what, "problem", f"{path} cannot be written: {why}", advice), None
    files = _FEW_FILES if place.files is None else place.files
    if place.bytes < _LEAST_BYTES or files < _LEAST_FILES:
        return Finding(what, "problem", str(place), f"free some space there, or choose another {flag}"), place
    if place.bytes < wanted or files < _FEW_FILES:
        return Finding(what, "warning", str(place), "a full catalogue may need more space"), place
    return Finding(what, "ok", str(place)), place
