"""Benchmark of the first event: `mms-regions run` as it is typed against its imports and against the published script.

`MMS_REGIONS_PUBLISHED=FOLDER python benchmarks/one_event.py`: FOLDER has the four scripts and `best_model` of
github carawaters/mms_rnn_run, of which nothing is in this project. Without it only this project is measured. pyspedas
2 is needed, which holds what was pytplot.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from measure import Cost, cost_of, machine, table
from numpy.typing import NDArray

from mms_regions.core.catalogue import read_catalogue
from mms_regions.synthetic.write import synthesise

EVENT, PROBE = "A", 4  # the first event of the published script, and its spacecraft
IMPORTS = "import torch, numpy, xarray, zarr, pycdfpp, pydantic, typer, rich"
PUBLISHED = os.environ.get("MMS_REGIONS_PUBLISHED", "")
# Only where data come from is set, and that the first event alone is computed; the names are those of pyspedas 2.
SCRIPT = """
import os, re, sys
from pathlib import Path
import pyspedas
from pyspedas.projects import mms
from pyspedas.projects.mms.config import CONFIG

CONFIG["no_download"] = True
pyspedas.mms, sys.modules["pytplot"] = mms, pyspedas
sys.path.insert(0, os.getcwd())
code, found = re.subn(r"(?m)^nums\\b.*$", "nums = [0]", Path("rnn_run.py").read_text())
assert found == 1, "rnn_run.py does not choose its events in one line"
exec(compile(code, "rnn_run.py", "exec"), {"__name__": "__main__"})
"""


@dataclass(frozen=True)
class Case:
    """A folder with the CDF files of one segment in `data`. Commands run in it, and return what they cost."""

    here: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Of all processes: the data are here, and so are the models."""
        models = self.here / "models"
        return {**os.environ, "MMS_DATA_DIR": str(self.here / "data"), "MMS_REGIONS_MODEL_DIR": str(models)}

    def run(self, store: str, *more: str) -> Cost:
        shutil.rmtree(self.here / store, ignore_errors=True)
        shutil.rmtree(self.here / f"{store}.run", ignore_errors=True)
        return self.ours("run", "--store", store, "--events", EVENT, "--probes", str(PROBE), "--offline", *more)

    def ours(self, *words: str) -> Cost:
        return self.python("-m", "mms_regions", *words)

    def published(self) -> Cost:
        return self.python("-c", SCRIPT)

    def python(self, *words: str) -> Cost:
        return cost_of(words, self.here, self.environment)


def results(quick: bool = False) -> str:
    """The section of RESULTS.md on one event."""
    segments = [s for s in read_catalogue("rogers2023").segments(EVENT) if s.probe == PROBE]
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(folder))
        synthesise(segments, case.here / "data", 0)
        commands = {"run": partial(case.run, "typed.zarr"), "imports": partial(case.python, "-c", IMPORTS)}
        if PUBLISHED:
            for path in Path(PUBLISHED).iterdir():
                if path.is_file():
                    shutil.copy(path, case.here)
            commands["published"] = case.published
        costs = _least(commands, 1 if quick else 5)
        about = _agreement(case) if PUBLISHED else "The published script was not at hand (MMS_REGIONS_PUBLISHED)."
    return f"""## One event

`make bench`: {machine()}.
`mms-regions run --events {EVENT} --probes {PROBE} --offline`, nothing else set, synthetic files of 45 s that nobody has
checked; s of whole processes with their children, each the least of several runs, in turn.

{table(["what", "CPU", "wall"], [[name, f"{cost.cpu:.2f}", f"{cost.wall:.2f}"] for name, cost in costs.items()])}

{table(["ratio", "measured", "goal"], list(_ratios(costs)))}

Imports: `{IMPORTS}`. {about}
"""


def _least(commands: Mapping[str, Callable[[], Cost]], runs: int) -> dict[str, Cost]:
    """All of them once, then again; of each the least."""
    taken: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            os.sync()  # else a run waits for what the one before has left to the disk
            taken[name].append(command())
    return {
        name: Cost(min(c.wall for c in costs), min(c.cpu for c in costs), min(c.memory for c in costs))
        for name, costs in taken.items()
    }


def _ratios(costs: Mapping[str, Cost]) -> Sequence[list[str]]:
    run, imports = costs["run"], costs["imports"]
    rows = [["CPU beyond the imports / CPU of the imports", f"{run.cpu / imports.cpu - 1:.2f}", "0.25"]]
    if published := costs.get("published"):
        rows += [
            ["CPU / that of the published script", f"{run.cpu / published.cpu:.2f}", "0.40"],
            ["wall / that of the published script", f"{run.wall / published.wall:.2f}", "0.45"],
        ]
    return rows


def _agreement(case: Case) -> str:
    """What both say of the same files with the same weights, so that it is known that the script did its work."""
    case.ours("model", "import", "best_model")
    case.run("same.zarr", "--convention", "published", "--model", "waters2025")
    case.ours("export", "same.zarr", "--format", "csv", "--out", "csv")
    name = f"{EVENT}_mms{PROBE}/mms{PROBE}_probs.csv"
    ours, theirs = _labels(case.here / "csv" / name), _labels(case.here / "data" / name)
    assert len(ours) == len(theirs) > 1000, f"{len(ours)} labels here, {len(theirs)} of the published script"
    there = ours != ""
    same = int((ours[there] == theirs[there]).sum())
    return (
        f"With `--convention published` and the\npublished weights {same} of {int(there.sum())} labels are those of the"
        f" published script; {int((~there).sum())} samples lack an input\nand have no label here."
    )


def _labels(path: Path) -> NDArray[np.str_]:
    with path.open() as file:
        return np.array([row["Predicted"].removesuffix(".0") for row in csv.DictReader(file)])


if __name__ == "__main__":
    print(results("--quick" in sys.argv))
