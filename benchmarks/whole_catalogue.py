"""Benchmark of the whole catalogue, synthetic: does the command keep its workers busy, and are its labels right?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import machine, table

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.events import Segment
from mms_regions.model.card import find_model
from mms_regions.store.paths import run_folder
from mms_regions.synthetic.demo import MODEL, compare, total
from mms_regions.synthetic.write import synthesise

STAGES = ("fetch", "prepare", "write", "label")


@dataclass(frozen=True)
class Measured:
    """One run. Seconds: command, as it passes; working, from all workers ready to the last receipt; cpu of all stages.

    by_stage: CPU seconds that its tasks count; what overlaps on a worker is in both, and once in `cpu`.
    """

    workers: int
    command: float
    working: float
    cpu: float
    by_stage: Mapping[str, float]

    @property
    def efficiency(self) -> float:
        return self.cpu / self.workers / self.working

    def row(self) -> list[str]:
        stages = ", ".join(f"{stage} {self.by_stage[stage]:.1f}" for stage in STAGES)
        seconds = f"{self.command:.1f}", f"{self.working:.1f}", f"{self.cpu:.1f}"
        return [str(self.workers), *seconds, f"{100 * self.efficiency:.0f} %", stages]


def results(quick: bool = False) -> str:
    """The section of RESULTS.md on the whole catalogue."""
    with tempfile.TemporaryDirectory() as folder:
        here, data = Path(folder), Path(folder) / "data"
        segments = read_catalogue("rogers2023").segments("A" if quick else None)
        begin = time.perf_counter()
        synthesise(segments, data, 0)
        made = time.perf_counter() - begin
        os.sync()  # else the disk is still busy with the files that were just made
        rows = [_measure(here / f"{workers}.zarr", data, segments, workers).row() for workers in (2, 1)]
        return f"""## The whole catalogue, synthetic, at full length

`make bench`: {machine()}.
`mms-regions run --offline --workers N`, the files there, none checked before; {len(segments)} segments, {
            sum(s.event.seconds for s in segments):.0f} s of data.
Seconds: the whole command; from all workers ready to the last receipt; CPU of all stages. Promised of two workers: the
command less than 30 s, efficiency (CPU / workers / working) 85 %. Making the files took {made:.0f} s on one core.

{table(["workers", "command", "working", "CPU", "efficiency", "CPU by stage, overlapping"], rows)}

{_agreement(here / "2.zarr", data)}
"""


def _measure(store: Path, data: Path, segments: Sequence[Segment], workers: int) -> Measured:
    events = ",".join(dict.fromkeys(segment.event.name for segment in segments))
    words = ["--store", str(store), "--data-dir", str(data), "--offline", "--events", events, "--model", MODEL]
    words += ["--device", "cpu", "--workers", str(workers)]
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mms_regions", "run", *words], check=True, capture_output=True)
    took = time.perf_counter() - begin
    lines = [json.loads(line) for line in (run_folder(store) / "trace.jsonl").read_text().splitlines()]
    ready = next(line["at"] for line in lines if line["event"] == "RunStarted")
    tasks = [line for line in lines if line["event"] == "TaskEnded"]
    by_stage: dict[str, float] = defaultdict(float)
    for task in tasks:
        by_stage[task["stage"]] += task["cpu"]
    return Measured(workers, took, max(task["ended"] for task in tasks) - ready, _computed(tasks), by_stage)


def _computed(tasks: Sequence[Mapping[str, Any]]) -> float:
    """CPU seconds of the workers while they had a task, each counted once."""
    found = 0.0
    for worker in {task["worker"] for task in tasks}:
        until = 0.0
        spans = [(task["cpu_ended"] - task["cpu"], task["cpu_ended"]) for task in tasks if task["worker"] == worker]
        for begin, end in sorted(spans):
            found += max(0.0, end - max(begin, until))
            until = max(until, end)
    return found


def _agreement(store: Path, data: Path) -> str:
    compared = compare(store, data, find_model(MODEL, {}))
    network, linear = total(compared)
    return (
        f"{len(compared)} segments complete, {sum(len(c.label) for c in compared)} samples; {network.overall:.1%} of\n"
        f"them agree with the truth ({network.balanced:.1%} balanced), of the logistic regression {linear.overall:.1%} "
        f"({linear.balanced:.1%})."
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    print(results())
