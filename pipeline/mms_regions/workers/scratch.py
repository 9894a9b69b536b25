"""Temporary folders of commands, and what killed commands have left of them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mms_regions.core.files import remove_tree, rename

PREFIX = "mms-regions-scratch-"
_LOCK = "lock"


@contextmanager
def scratch_folder(parent: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """A temporary folder, removed at the end; those that killed commands of this user have left here go first.

    parent: where; the system's temporary folder by default. prefix: of its name. While the block lasts the file `lock`
    in the folder is locked, so that nobody takes it away; a kill frees the lock. Where file systems know no locks
    nothing is swept.
    """
    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        with (folder / f".{_LOCK}").open("w") as held:
            with suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rename(folder / f".{_LOCK}", folder / _LOCK)  # locked before it has its name
            yield folder
    finally:
        remove_tree(folder, best_effort=True)


def _sweep(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # another user's, just removed, or in use
            if folder.lstat().st_uid == os.getuid() and not folder.is_symlink():
                with (folder / _LOCK).open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_tree(folder, best_effort=True)
