"""The names of what lies in a store and beside it."""

from __future__ import annotations

from pathlib import Path

from mms_regions.store.plan import run_folder


def lock_path(store: Path) -> Path:
    """Where it is said which process works on a store."""
    return run_folder(store) / "lock.json"
