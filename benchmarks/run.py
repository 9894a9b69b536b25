"""Measure what the project promises in seconds or rates, and write RESULTS.md anew: `make bench`.

Figures of one run compare with each other; between machines only their ratios do.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from mms_regions.archive import find_files
from mms_regions.burst import read_burst
from mms_regions.catalogue import Event, Segment
from mms_regions.frames import gse_to_gsm
from mms_regions.label import label_windows
from mms_regions.model import RegionRNN
from mms_regions.prepare import convention
from mms_regions.settings import Settings

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import fetching  # noqa: E402  (of this folder)
import scale  # noqa: E402
import synthetic_events  # noqa: E402
from cdf_files import write_files  # noqa: E402

START = "2017-07-11T22:33:30"


@dataclass(frozen=True)
class Figure:
    """One row of the table: what was measured, the figure, and what was promised of it."""

    what: str
    figure: str
    promised: str = ""


def main() -> None:
    torch.set_num_threads(1)
    figures = [*rotation(), *start_up(), *labelling(), *preparation()]
    text = as_markdown(figures) + "\n" + fetching.results() + "\n" + synthetic_events.results()
    before = (HERE / "RESULTS.md").read_text() if (HERE / "RESULTS.md").exists() else ""
    (HERE / "RESULTS.md").write_text(scale.kept(before, text))
    print(text)


def seconds(function: Callable[[], object], runs: int = 5) -> float:
    """The median of several runs after one that is not counted."""
    function()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def rotation() -> list[Figure]:
    n = 1_000_000
    time_ns = np.datetime64(START, "ns").astype(np.int64) + np.arange(n) * 122_070
    xyz = np.random.default_rng(0).normal(size=(n, 3))
    return [
        Figure(
            "GSE to GSM, a million samples at 8192 Hz", f"{seconds(lambda: gse_to_gsm(time_ns, xyz)):.3f} s", "< 0.5 s"
        )
    ]


def start_up() -> list[Figure]:
    command = [sys.executable, "-m", "mms_regions", "--help"]
    took = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    return [Figure("`mms-regions --help`, whole process", f"{took:.2f} s", "< 0.5 s")]


def labelling() -> list[Figure]:
    torch.manual_seed(0)
    model = RegionRNN().eval()
    rng = np.random.default_rng(0)
    many = rng.normal(size=(1_000_000 // 32, 32, 14)).astype(np.float32)
    few = many[: 20_000 // 32]
    batched = many.size / 14 / seconds(lambda: label_windows(model, many, np.zeros(many.shape[:2], bool)), 3)
    single = few.size / 14 / seconds(lambda: one_by_one(model, few), 3)
    return [
        Figure("labelling 1e6 samples, one core", f"{batched / 1e6:.2f} M samples/s"),
        Figure("window at a time, 2e4 samples, one core", f"{single / 1e6:.3f} M samples/s"),
        Figure("ratio of the two", f"{batched / single:.0f}"),
    ]


def one_by_one(model: torch.nn.Module, windows: np.ndarray) -> None:
    with torch.inference_mode():
        for window in windows:
            model(torch.from_numpy(window)[None]).softmax(2).argmax(2)


def preparation() -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), 4, "2017-07-11T22:33:25", 55.0)
        event = Event(name="E", t_start=START, t_end="2017-07-11T22:34:15", B0=7.8, n0=0.2)
        for name in ("published", "corrected"):
            how = convention(Settings(convention=name))
            begin, end = event.trange
            around = round(how.margin * 1e9)
            files = find_files(Segment(event, 4), how.products, Path(folder), how.margin)
            trange = (begin - around, end + around)
            burst = read_burst(files, trange, how.invalid)
            read = seconds(lambda: read_burst(files, trange, how.invalid))  # noqa: B023
            make = seconds(lambda: how.samples(burst, event))  # noqa: B023
            figures.append(Figure(f"a 45 s segment, {name}: read / features and physics", f"{read:.3f} / {make:.3f} s"))
    return figures


def as_markdown(figures: list[Figure]) -> str:
    rows = "\n".join(f"| {f.what} | {f.figure} | {f.promised} |" for f in figures)
    cpus = len(os.sched_getaffinity(0))
    return f"""# Results of `make bench`

{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cpus} CPUs, Python {platform.python_version()}, numpy
{np.__version__}, torch {torch.__version__.partition("+")[0]}. Medians; good as ratios, other machines differ.

| what | figure | promised |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
