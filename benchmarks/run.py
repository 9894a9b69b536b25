"""Measure what the project promises in seconds or rates, and write it into RESULTS.md: `make bench`.

Figures of one run compare with each other; between machines only their ratios do. `--quick` tries all of it on little
data, and writes nothing: figures of it mean nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mms_regions.physics.frames import gse_to_gsm

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "helpers"))

import fetching  # noqa: E402  (of this folder)
import first_look  # noqa: E402
import gpu  # noqa: E402
import labelling  # noqa: E402
import many_workers  # noqa: E402
import one_event  # noqa: E402
import preparing  # noqa: E402
import reporting  # noqa: E402
import sensitivity  # noqa: E402
import synthetic_events  # noqa: E402
import whole_catalogue  # noqa: E402
from measure import machine, table, wall_seconds, write_sections  # noqa: E402

START = "2017-07-11T22:33:30"


def main() -> None:
    torch.set_num_threads(1)
    quick = "--quick" in sys.argv
    sections = [
        partial(small, quick),
        partial(labelling.results, quick),
        partial(on_a_gpu, quick),
        partial(one_event.results, quick),
        partial(first_look.results, quick),
        partial(preparing.results, quick),
        partial(whole_catalogue.results, quick),
        partial(reporting.results, quick),
        partial(sensitivity.results, quick),
    ]
    if quick:
        sections += [partial(many_workers.results, quick)]
    else:
        sections += [fetching.results, synthetic_events.results]
    found = []
    for section in sections:
        begin = time.perf_counter()
        found.append(section())
        print(found[-1], f"({time.perf_counter() - begin:.0f} s)\n", sep="\n", flush=True)
    if not quick:
        write_sections("\n".join(found))


def seconds(function: Callable[[], object], runs: int) -> float:
    """The median of several runs after one that is not counted."""
    function()
    return float(np.median([wall_seconds({"": function}, 1)[""] for _ in range(runs)]))


def rotation(runs: int) -> tuple[str, str, str]:
    n = 1_000_000
    time_ns = np.datetime64(START, "ns").astype(np.int64) + np.arange(n) * 122_070
    xyz = np.random.default_rng(0).normal(size=(n, 3))
    took = seconds(lambda: gse_to_gsm(time_ns, xyz), runs)
    return "GSE to GSM, a million samples at 8192 Hz", f"{took:.3f} s", "< 0.5 s"


def start_up(runs: int) -> tuple[str, str, str]:
    command = [sys.executable, "-m", "mms_regions", "--help"]
    took = seconds(lambda: subprocess.run(command, check=True, capture_output=True), runs)
    return "`mms-regions --help`, whole process", f"{took:.2f} s", "< 0.5 s"


def on_a_gpu(quick: bool) -> str:
    """The section of RESULTS.md on GPUs; `quick` tries the program on the CPU."""
    if quick:
        return gpu.results(10_000, "cpu:0", 1)
    return gpu.results(100_000_000, "cuda", 5) if torch.cuda.is_available() else "## On a GPU\n\nThere was no GPU.\n"


def small(quick: bool) -> str:
    """The section of RESULTS.md on what needs no section of its own."""
    runs = 1 if quick else 5
    rows = [list(figure) for figure in (rotation(runs), start_up(runs))]
    return f"""## In passing

`make bench`: {machine()}. Medians, in seconds as they pass.

{table(["what", "figure", "promised"], rows)}
"""


if __name__ == "__main__":
    main()
