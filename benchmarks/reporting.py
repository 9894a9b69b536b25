"""Benchmark of reports: how long they take, and how large they are, of a whole run and of very many segments.

`python benchmarks/reporting.py` is of a whole run; with two numbers of events, of stores of four segments each, such as
`250 500`, it is of very many segments, and takes half an hour.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "helpers"))

import scale  # noqa: E402  (of this folder)
from measure import Cost, cost_of, machine, table  # noqa: E402

from mms_regions.core.catalogue import read_catalogue  # noqa: E402
from mms_regions.report.survey import MOST  # noqa: E402
from mms_regions.synthetic.demo import MODEL  # noqa: E402
from mms_regions.synthetic.write import synthesise  # noqa: E402

PROMISED = 600.0  # s on two cores, 10,000 segments


def results(quick: bool = False) -> str:
    """The section of RESULTS.md on the report of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        here, data = Path(folder), Path(folder) / "data"
        segments = read_catalogue("rogers2023").segments("A" if quick else None)
        synthesise(segments, data, 0)
        words = ["--events", "A"] if quick else []
        _run(here / "x.zarr", data, *words)
        made = _report(here / "x.zarr", here / "report", "--data-dir", data)
    return f"""## The report of a run

`make bench`: {machine()}.
`mms-regions report STORE --out DIR --workers 2`, {len(segments)} segments at full length, with ion spectrograms:
{made.cost.wall:.0f} s (promised: 75), {made.cost.cpu:.0f} s of CPU, {made.size / 1e6:.1f} MB (promised: 70).
"""


def large(events: tuple[int, int]) -> str:
    """The section on reports of more segments than are drawn; events: of two stores, of four segments each."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        data = scale.make_files(here / "data")
        few, many = (_large_report(here, data, number) for number in events)
    each = (many.cost.cpu - few.cost.cpu) / (4 * (events[1] - events[0]))
    whole = many.cost.cpu + each * (10_000 - 4 * events[1])
    rows = [
        [
            f"{4 * number:,}",
            str(made.pages),
            f"{made.cost.cpu:.0f}",
            f"{made.cost.memory / 2**20:.0f}",
            f"{made.size / 1e6:.0f}",
        ]
        for number, made in zip(events, (few, many), strict=True)
    ]
    return f"""## The report of very many segments

`python benchmarks/reporting.py {events[0]} {events[1]}`: {machine()}.
`mms-regions report STORE --out DIR --workers 2`, intervals of {scale.SECONDS:g} s, of which at most {MOST} are drawn.

{table(["segments", "pages of events", "CPU s", "largest process, MiB", "MB of all pages"], rows)}

A segment that is not drawn takes {1e3 * each:.0f} ms of CPU. So 10,000 segments take {whole:.0f} s of CPU
(computed), which two cores do in {whole / 2:.0f} s (promised: {PROMISED:.0f}).
"""


@dataclass(frozen=True)
class _Made:
    cost: Cost
    size: int  # bytes
    pages: int  # of events


def _large_report(folder: Path, data: Path, events: int) -> _Made:
    store = folder / f"{events}.zarr"
    _run(store, data, scale.write_catalogue(folder / f"{events}.csv", events), "--workers", 0)
    return _report(store, folder / f"report-{events}")


def _run(store: Path, data: Path, *words: object) -> None:
    where = ["--store", store, "--data-dir", data, "--offline", "--model", MODEL, "--device", "cpu"]
    cost_of(["-m", "mms_regions", "run", *words, *where])


def _report(store: Path, out: Path, *words: object) -> _Made:
    cost = cost_of(["-m", "mms_regions", "report", store, "--out", out, "--workers", 2, *words])
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return _Made(cost, size, len(list(out.glob("events/*.html"))))


if __name__ == "__main__":
    print(large((int(sys.argv[1]), int(sys.argv[2]))) if sys.argv[1:] else results())
