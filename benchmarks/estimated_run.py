"""What it costs that B0 and n0 are not known: the same intervals with given scales, with estimates, with marginals too.

`python benchmarks/estimated_run.py [INTERVALS]`: 500 intervals of 10 s of one spacecraft, on two workers, each run one
command; synthetic files of a wavy field. The ratios are of one call, on one machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "helpers"))

from cdf_files import Scene, constant, write_files  # noqa: E402
from measure import machine, table  # noqa: E402
from scale import FILES, PER_FILE, PRODUCTS, SECONDS, START, STEP, WORKERS, write_catalogue  # noqa: E402

from mms_regions.core.types import Floats  # noqa: E402
from mms_regions.store.paths import run_folder  # noqa: E402

PROMISED = 1.3  # times the cost with given scales, without marginals
RUNS = {
    "B0 and n0 given": ("given", 0),
    "estimated, no marginals": ("estimated", 0),
    "estimated, 16 draws": ("estimated", 16),
}


@dataclass(frozen=True)
class Cost:
    """Seconds of one run: the command, as it passes, and CPU of all its tasks, by stage."""

    command: float
    by_stage: dict[str, float]

    @property
    def cpu(self) -> float:
        return sum(self.by_stage.values())

    def cells(self, given: Cost) -> list[str]:
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.by_stage.items())
        ratios = f"{self.command / given.command:.2f}", f"{self.cpu / given.cpu:.2f}"
        return [f"{self.command:.1f}", ratios[0], f"{self.cpu:.1f}", ratios[1], stages]


def wave(period: float, *sizes: float) -> Callable[[Floats], Floats]:
    return lambda t: np.sin(2 * np.pi * t[:, None] / period + np.arange(3)) * np.array(sizes)


def results(intervals: int) -> str:
    """The section of RESULTS.md."""
    scene = Scene(b_gse=wave(8.0, 15.0, 3.0, 4.0), v_i=wave(5.0, 500.0, 100.0, 100.0), n_e=constant(0.21))
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for i in range(FILES):
            begin = str(START + np.timedelta64(60 * i - 2, "s"))
            write_files(here / "data", 1, begin, SECONDS + PER_FILE * STEP + 5, scene, products=PRODUCTS)
        given = write_catalogue(here / "given.csv", intervals)
        (here / "estimated.csv").write_text(given.read_text().replace(",12.0,0.2\n", ",,\n"))
        costs = {title: _cost(here, *how) for title, how in RUNS.items()}
    plain = costs["B0 and n0 given"]
    return f"""## Intervals without B0 and n0

`python benchmarks/estimated_run.py {intervals}`: {machine()}.
{intervals} intervals of 10 s of one spacecraft, {WORKERS} workers, one command for each row. At most {PROMISED} times
the cost of given scales is promised without marginals; 16 draws are as many labellings more.

{
        table(
            ["run", "command (s)", "times", "CPU of tasks (s)", "times", "CPU by stage (s)"],
            [[title, *cost.cells(plain)] for title, cost in costs.items()],
        )
    }
"""


def _cost(here: Path, catalogue: str, draws: int) -> Cost:
    store = here / f"{catalogue}-{draws}.zarr"
    model = ["--model", "analytic-layer", "--device", "cpu", "--workers", str(WORKERS), "--draws", str(draws)]
    words = ["run", str(here / f"{catalogue}.csv"), "--probes", "1", "--store", str(store), "--offline", *model]
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mms_regions", *words, "--data-dir", str(here / "data")]
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - begin
    by_stage: dict[str, float] = {}
    for line in (run_folder(store) / "trace.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "TaskEnded":
            by_stage[event["stage"]] = by_stage.get(event["stage"], 0.0) + event["cpu"]
    return Cost(seconds, by_stage)


if __name__ == "__main__":
    print(results(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
