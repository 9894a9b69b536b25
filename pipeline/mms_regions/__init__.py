"""mms-regions: which region of magnetic reconnection a spacecraft is in, sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mms_regions.core.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from mms_regions.api import Store


__all__ = ["__version__", "open"]


def open(store: Path | str) -> Store:
    """The store of a run, to look at: `open("a.zarr").segment("A", 4)`. Raises UsageProblem where there is none."""
    from mms_regions.api import open_for_people

    return open_for_people(store)
