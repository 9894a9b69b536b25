"""Benchmark of fetching from a server that takes its time: what several transfers at once gain."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cdf_files import write_files

from mms_regions.core.catalogue import Catalogue
from mms_regions.core.events import Event
from mms_regions.core.messages import TransferStarted
from mms_regions.core.settings import Settings
from mms_regions.run.prefetch import prestage
from mms_regions.workers.local import local_pool

DELAY, EVENTS, SECONDS = 0.05, 12, 1.0  # s before each answer; events x four spacecraft, s each
PRODUCTS = ("dis", "des", "fgm", "edp_brst")


def results() -> str:
    """The section of RESULTS.md on fetching."""
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "served"
        catalogue = _serve(served)
        words = ("serve-archive", str(served), "--delay", str(DELAY))
        with subprocess.Popen(
            [sys.executable, "-m", "mms_regions", *words], stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            one, four = (_seconds(catalogue, Path(folder) / f"cache-{n}", address, n) for n in (0, 4))
            server.terminate()
    segments = EVENTS * 4
    return f"""## Fetching from a server that waits {1000 * DELAY:.0f} ms before each answer

{segments} segments, {segments * len(PRODUCTS)} files, as many listings, from the first to the last of them:
one at a time (`--workers 0`) {one:.1f} s, `--workers 4` {four:.1f} s, ratio {one / four:.2f}.
"""


def _serve(folder: Path) -> Catalogue:
    """Short events, and their files."""
    events = []
    for minute in range(EVENTS):
        start = f"2017-07-11T10:{2 * minute:02d}:05"
        for probe in (1, 2, 3, 4):
            write_files(folder, probe, f"2017-07-11T10:{2 * minute:02d}:04", SECONDS + 2.2, products=PRODUCTS)
        end = f"2017-07-11T10:{2 * minute:02d}:{5 + SECONDS:02.0f}"
        events.append(Event(name=f"E{minute}", t_start=start, t_end=end, B0=10.0, n0=0.2))
    return Catalogue("benchmark", tuple(events))


def _seconds(catalogue: Catalogue, cache: Path, address: str, workers: int) -> float:
    """From when the first file begins to arrive to the last one, without the start of workers."""
    began: list[float] = []

    def observe(event: object) -> None:
        if isinstance(event, TransferStarted) and not began:
            began.append(time.perf_counter())

    settings = Settings(data_dir=cache, archive_url=address, workers=workers)
    fetched = prestage(catalogue.segments(), settings, local_pool, observe)
    assert not fetched.failed, fetched.failed
    return time.perf_counter() - began[0]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    print(results())
