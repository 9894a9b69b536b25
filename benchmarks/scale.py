"""Ten thousand segments: does cost grow with the work, and nothing else? `make bench-scale` writes it into RESULTS.md.

2,500 overlapping intervals of 10 s in ten burst files of 30 s, seen by four spacecraft, on two workers; and 500 of
these segments, to compare with.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "helpers"))

from cdf_files import write_files  # noqa: E402
from measure import write_sections  # noqa: E402

from mms_regions.store.layout import FEATURE_ARRAYS, LABEL_ARRAYS  # noqa: E402
from mms_regions.store.paths import run_folder  # noqa: E402

FILES, PER_FILE, STEP = 10, 250, 0.06  # s from one interval to the next
SECONDS, WORKERS = 10.0, 2
START = np.datetime64("2017-07-11T10:00:00", "ns")
PRODUCTS = ("dis", "des", "fgm", "edp_brst")
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """One run. started: s from the command to the first task; seconds: from there to the end of the last one.

    Memory in bytes: of the driver, which holds the scheduler, at a tenth of the run and at its end; of the workers, the
    most they had after a tenth of their tasks and after all.
    """

    segments: int
    started: float
    seconds: float
    driver: tuple[int, int]
    workers: tuple[int, int]
    files: int
    shards: int
    status: float
    resume: float

    @property
    def each(self) -> float:
        return self.seconds / self.segments


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        data = make_files(here / "data")
        few, many = (measure(here, data, events) for events in (125, 2500))
    text = section(few, many)
    write_sections(text)
    print(text)


def make_files(folder: Path) -> Path:
    for i in range(FILES):
        begin = START + np.timedelta64(60 * i - 2, "s")
        for probe in range(1, 5):
            write_files(folder, probe, str(begin), SECONDS + PER_FILE * STEP + 5, products=PRODUCTS)
    return folder


def write_catalogue(path: Path, events: int) -> Path:
    """So many events, spread evenly over the files."""
    rows = ["event,t_start,t_end,B0,n0"]
    for i in range(events):
        file, place = i % FILES, i // FILES
        begin = START + np.timedelta64(60 * file, "s") + np.timedelta64(round(place * STEP * 1e3), "ms")
        rows.append(f"e{i},{begin},{begin + np.timedelta64(round(SECONDS), 's')},12.0,0.2")
    path.write_text("\n".join(rows) + "\n")
    return path


def measure(folder: Path, data: Path, events: int) -> Measured:
    store, catalogue = folder / f"{events}.zarr", write_catalogue(folder / f"{events}.csv", events)
    model = ["--model", "analytic-layer", "--device", "cpu", "--workers", str(WORKERS)]
    words = ["run", str(catalogue), "--store", str(store), "--data-dir", str(data), "--offline", *model]
    begin = time.time()
    memory = watch([sys.executable, "-m", "mms_regions", *words])
    trace = [json.loads(line) for line in (run_folder(store) / "trace.jsonl").read_text().splitlines()]
    tasks = [event for event in trace if event["event"] == "TaskEnded"]
    first, last = min(task["started"] for task in tasks), max(task["ended"] for task in tasks)
    during = [size for at, size in memory if first <= at <= last]
    shards = sum(event["event"] == "ShardWritten" for event in trace)
    return Measured(
        segments=events * 4,
        started=first - begin,
        seconds=last - first,
        driver=(during[len(during) // 10], during[-1]),
        workers=(peak(tasks[: len(tasks) // 10]), peak(tasks)),
        files=sum(path.is_file() for path in store.rglob("*")),
        shards=shards,
        status=seconds(["status", str(store), "--json"]),
        resume=seconds(words),
    )


def watch(command: list[str]) -> list[tuple[float, int]]:
    """Run a command; the memory of its process, now and then."""
    found = []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            found.append((time.time(), resident(process.pid)))
            time.sleep(0.2)
    assert process.returncode == 0
    return found


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def peak(tasks: list[dict[str, int]]) -> int:
    return max(task["peak_memory"] for task in tasks)


def seconds(words: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mms_regions", *words], check=True, capture_output=True)
    return time.perf_counter() - begin


def section(few: Measured, many: Measured) -> str:
    promised = (len(FEATURE_ARRAYS) + len(LABEL_ARRAYS)) * (many.shards + 1) + 60
    growth = [end - begin for begin, end in (many.driver, many.workers)]
    return f"""## Ten thousand segments

{datetime.now(UTC):%Y-%m-%d}, `make bench-scale`: intervals of {SECONDS:g} s, {WORKERS} workers.

| what | {few.segments} segments | {many.segments} segments | promised |
|---|---|---|---|
| per segment, from the first task to the last | {1e3 * few.each:.1f} ms | {1e3 * many.each:.1f} ms | ratio < 1.25 |
| ratio | | {many.each / few.each:.2f} | |
| all of it | {few.seconds:.0f} s | {many.seconds:.0f} s | |
| from the command to the first task | {few.started:.1f} s | {many.started:.1f} s | |
| driver and scheduler, growth of memory | | {growth[0] / MIB:.0f} MiB | < 100 MB |
| workers, growth of their peak | | {growth[1] / MIB:.0f} MiB of {many.workers[1] / MIB:.0f} | flat |
| files of the store | {few.files} | {many.files} | <= {promised} |
| `status` | {few.status:.2f} s | {many.status:.2f} s | < 2 s |
| `run` again, all done | {few.resume:.1f} s | {many.resume:.1f} s | < 5 s |
"""


if __name__ == "__main__":
    main()
