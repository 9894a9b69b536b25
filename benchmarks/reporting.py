"""Benchmark of the report of a whole run: how long it takes to draw, and how large it is."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import machine

from mms_regions.core.catalogue import read_catalogue
from mms_regions.synthetic.demo import MODEL
from mms_regions.synthetic.write import synthesise


def results(quick: bool = False) -> str:
    """The section of RESULTS.md on reports."""
    with tempfile.TemporaryDirectory() as folder:
        here, data = Path(folder), Path(folder) / "data"
        segments = read_catalogue("rogers2023").segments("A" if quick else None)
        synthesise(segments, data, 0)
        words = ["--events", "A"] if quick else []
        where = ["--store", here / "x.zarr", "--data-dir", data, "--offline", "--model", MODEL, "--device", "cpu"]
        _command("run", *where, *words)
        begin, used = time.perf_counter(), _cpu()
        _command("report", here / "x.zarr", "--out", here / "report", "--data-dir", data, "--workers", "2")
        took, cpu = time.perf_counter() - begin, _cpu() - used
        size = sum(path.stat().st_size for path in (here / "report").rglob("*") if path.is_file())
    return f"""## The report of a run

`make bench`: {machine()}.
`mms-regions report STORE --out DIR --workers 2`, {len(segments)} segments at full length, with ion spectrograms:
{took:.0f} s (promised: 75), {cpu:.0f} s of CPU, {size / 1e6:.1f} MB (promised: 70).
"""


def _command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "mms_regions", *map(str, words)], check=True, capture_output=True)


def _cpu() -> float:
    """CPU seconds of all commands that have ended, and of what they started."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


if __name__ == "__main__":
    print(results())
