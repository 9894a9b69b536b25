"""Benchmark of the first look at files that nobody knows: are they complete, and what do they say?"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pycdfpp
from measure import cpu_seconds, machine, table

from mms_regions.archive.download import _sound
from mms_regions.archive.fetch import FetchOptions, check_offline
from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.events import Segment
from mms_regions.core.isolated import end_child
from mms_regions.core.settings import Settings
from mms_regions.physics.conventions import convention
from mms_regions.synthetic.instruments import Troubles
from mms_regions.synthetic.write import synthesise


def results(quick: bool = False) -> str:
    """The section of RESULTS.md on the first look."""
    segments = read_catalogue("rogers2023").segments("A" if quick else "A-H", "1")
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(Path(folder), segments, checksum, 1 if quick else 5) for checksum in (False, True)]
    return f"""## The first look at files

`make bench`: {machine()}.
CPU s for {len(segments)} segments, the start of the child included; beside it the sha256 of each file, which is needed
in any case, and reading all of its values with pycdfpp, which checks none of them.

{table(["files", "first look", "sha256", "reading", "first look / (sha256 + reading)"], rows)}
"""


def _row(folder: Path, segments: Sequence[Segment], checksum: bool, runs: int) -> list[str]:
    data = folder / str(checksum)
    synthesise(segments, data, 0, Troubles(checksum=checksum))
    paths = list(data.glob("mms1/*/brst/**/*.cdf"))
    variants: dict[str, Callable[[], object]] = {
        "look": lambda: _look(segments, data),
        "sha256": lambda: [hashlib.sha256(path.read_bytes()).digest() for path in paths],
        "read": lambda: [_read(path) for path in paths],
    }
    taken = cpu_seconds(variants, runs)
    ratio = taken["look"] / (taken["sha256"] + taken["read"])
    return ["with an MD5" if checksum else "without", *(f"{s:.2f}" for s in taken.values()), f"{ratio:.2f}"]


def _look(segments: Sequence[Segment], data: Path) -> None:
    _sound.cache_clear()
    end_child()
    options = FetchOptions(convention(Settings()).products, 1.0, data)
    for segment in segments:
        check_offline(segment, options)
    end_child()


def _read(path: Path) -> None:
    for _, variable in pycdfpp.load(str(path)).items():
        np.asarray(variable.values)


if __name__ == "__main__":
    print(results())
