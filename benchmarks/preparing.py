"""Benchmark of one segment: from CDF files to labels, by stage, and how that grows with the length of the event."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, count
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pycdfpp
from cdf_files import Scene, write_files
from in_a_child import forget_files
from measure import cpu_seconds, machine, table

from mms_regions.archive.cdf_check import Variable, inspect, read_variables
from mms_regions.archive.products import CdfFile, find_files
from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.events import Event, Segment
from mms_regions.core.files import sha256_of
from mms_regions.core.isolated import run_isolated
from mms_regions.core.settings import Settings
from mms_regions.model.card import find_model
from mms_regions.model.label import as_windows, label_windows
from mms_regions.model.network import RegionRNN
from mms_regions.physics.burst import Burst, read_burst
from mms_regions.physics.conventions import Convention, convention
from mms_regions.physics.samples import FEATURES, QUANTITIES, Samples
from mms_regions.store.labels import Labelled
from mms_regions.store.layout import FEATURE_ARRAYS, LABEL_ARRAYS, _array, _feature_arrays, whole_store
from mms_regions.store.layout import write_files as write_store
from mms_regions.store.plan import make_plan
from mms_regions.store.receipts import Prepared
from mms_regions.store.shards import write_features

START = np.datetime64("2017-07-11T20:00:00", "ns")
LONGEST_FILE = 180.0  # s
PRODUCTS = ("dis", "des", "fgm", "edp_brst")
REFERENCE = os.environ.get("MMS_REGIONS_REFERENCE", "")


@dataclass(frozen=True)
class Case:
    """A segment and how it is prepared; its files lie below `folder`."""

    segment: Segment
    folder: Path
    how: Convention

    @property
    def trange(self) -> tuple[int, int]:
        begin, end = self.segment.event.trange
        margin = round(self.how.margin * 1e9)
        return begin - margin, end + margin

    def files(self) -> Mapping[str, Sequence[CdfFile]]:
        return find_files(self.segment, self.how.products, self.folder, self.how.margin)

    def burst(self) -> Burst:
        """As a run reads files that are known: each is compared with its sha256 first, and opened then."""
        run_isolated(forget_files)
        files = self.files()
        for file in chain.from_iterable(files.values()):
            inspect(file, sha256=_sha256(file.path))
        return read_burst(files, self.trange, self.how.invalid)

    def samples(self) -> Samples:
        return self.how.samples(self.burst(), self.segment.event)


def results(quick: bool = False) -> str:
    """The sections of RESULTS.md on single segments."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        return "\n".join([_stages(here, quick), _growth(here, quick), _store(here, quick)])


def made_case(folder: Path, seconds: float) -> Case:
    """A segment of so many seconds with files of noise, several of them where one would be too long."""
    here, left, at = folder / f"{seconds:g}", seconds + 10, START - np.timedelta64(5, "s")
    while left > 0 and not (here / "done").exists():
        length = min(left, LONGEST_FILE)
        write_files(here, 4, str(at), length, _noise(), products=PRODUCTS)
        left, at = left - length, at + np.timedelta64(round(length), "s")
    (here / "done").touch()
    end = START + np.timedelta64(round(seconds * 1e3), "ms")
    event = Event(name="E", t_start=str(START), t_end=str(end), B0=7.8, n0=0.2)
    return Case(Segment(event, 4), here, convention(Settings()))


_sha256 = cache(sha256_of)


def _noise() -> Scene:
    rng = np.random.default_rng(0)
    return Scene(b_gse=lambda t: rng.normal(size=(len(t), 3)), e_gse=lambda t: rng.normal(size=(len(t), 3)))


def _reference_cases() -> dict[str, Case]:
    """Reference case A, where it is at hand."""
    folder = Path(REFERENCE) / "reference" / "A-mms4" / "inputs"
    if not REFERENCE or not folder.exists():
        return {}
    segment = next(s for s in read_catalogue("rogers2023").segments() if s.key == "A/mms4")
    words = ("corrected", "published")
    return {f"A/mms4, `{word}`": Case(segment, folder, convention(Settings(convention=word))) for word in words}


def _stages(folder: Path, quick: bool) -> str:
    cases = {} if quick else _reference_cases()
    cases |= {f"{seconds:g} s": made_case(folder, seconds) for seconds in ((10,) if quick else (45, 180))}
    rows = [_row(name, case, 1 if quick else 7) for name, case in cases.items()]
    head = [
        "segment",
        "reading alone",
        "reading, checked",
        "features, physics",
        "labels",
        "all of it",
        "ratio",
        "memory",
    ]
    return f"""## One segment from CDF files to labels

`make bench`: {machine()}.
CPU ms in one warm process and its child. Reading alone: the needed variables with pycdfpp, nothing else; checked: as a
run does it in its child, each file compared with its sha256, its records followed. Promised of A/mms4, which has 45 s:
all of it at most 6 times reading alone, and less than 250 MB above the imports.

{table(head, rows)}
"""


def _row(name: str, case: Case, runs: int) -> list[str]:
    needed, burst, samples, model = _needed(case), case.burst(), case.samples(), RegionRNN().eval()

    def everything() -> None:
        _labels(model, case.samples())

    stages: dict[str, Callable[[], object]] = {
        "alone": partial(_read_alone, needed),
        "read": case.burst,
        "make": lambda: case.how.samples(burst, case.segment.event),
        "label": lambda: _labels(model, samples),
        "all": everything,
    }
    everything()
    taken = cpu_seconds(stages, runs)
    milliseconds = [f"{1e3 * seconds:.1f}" for seconds in taken.values()]
    return [name, *milliseconds, f"{taken['all'] / taken['alone']:.2f}", f"{_peak_memory(case):.0f} MB"]


def _labels(model: RegionRNN, samples: Samples) -> None:
    windows = as_windows(samples.features)
    label_windows(model, windows, np.zeros(windows.shape[:2], bool))


def _needed(case: Case) -> dict[Path, set[str]]:
    """Which variables are read of which file."""
    needed: dict[Path, set[str]] = {}

    def noted(file: CdfFile, names: Iterable[str]) -> dict[str, Variable]:
        found = read_variables(file, names)
        needed.setdefault(file.path, set()).update(found)
        return found

    with patch("mms_regions.physics.burst.read_variables", noted):
        case.burst()
    return needed


def _read_alone(needed: Mapping[Path, set[str]]) -> None:
    for path, names in needed.items():
        cdf = pycdfpp.load(str(path))
        for name in names:
            np.asarray(cdf[name].values)


def _peak_memory(case: Case) -> float:
    """MB that a process takes at most for a segment, above what it has after its imports."""
    words = [str(case.folder), case.segment.event.name, *(str(at) for at in case.segment.event.trange)]
    words += [str(case.segment.event.B0), str(case.segment.event.n0), str(int(case.how.margin == 0))]
    paths = [str(Path(__file__).parents[1] / "tests" / "helpers"), os.environ.get("PYTHONPATH", "")]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True, env=environ
    )
    return float(done.stdout)


def _measure_memory(folder: str, name: str, begin: str, end: str, b0: str, n0: str, published: str) -> float:
    start, stop = (str(np.datetime64(int(at), "ns")) for at in (begin, end))
    event = Event(name=name, t_start=start, t_end=stop, B0=float(b0), n0=float(n0))
    how = convention(Settings(convention="published" if published == "1" else "corrected"))
    model = RegionRNN().eval()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    _labels(model, Case(Segment(event, 4), Path(folder), how).samples())
    most = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return (int(most.split()[1]) * 1024 - before) / 1e6  # getrusage would count what the process before exec had


def _growth(folder: Path, quick: bool) -> str:
    lengths = (0.1, 0.3) if quick else (1, 3, 10, 20)
    cases = {f"{minutes:g}": made_case(folder, 60 * minutes) for minutes in lengths}
    taken = cpu_seconds({name: case.samples for name, case in cases.items()}, 1 if quick else 5)
    each = {name: 1e3 * seconds / float(name) for name, seconds in taken.items()}
    rows = [["CPU ms per minute", *(f"{milliseconds:.1f}" for milliseconds in each.values())]]
    ratio = each[f"{lengths[-1]:g}"] / each[f"{lengths[1]:g}"]
    return f"""## Longer events

From CDF files of at most {LONGEST_FILE:g} s to features and physics. Promised: a minute of {lengths[-1]:g} costs at
most 1.1 times a minute of {lengths[1]:g}; it costs {ratio:.2f} times as much.

{table(["minutes", *each], rows)}
"""


def _store(folder: Path, quick: bool) -> str:
    """Creating a store for the whole catalogue, and writing its first shard full of noise."""
    settings = Settings(shard_samples=4096) if quick else Settings()
    catalogue = read_catalogue("rogers2023")
    plan = make_plan(catalogue, catalogue.segments(), settings.shard_samples, settings.result_settings())
    shard, store, labelled = plan.shards[0], folder / "x.zarr", Labelled(find_model("analytic-layer", {}).card)
    noise = _noise_samples(max(slot.length for slot in shard.slots))
    outcomes = [_cut(slot.segment.key, noise, slot.length) for slot in shard.slots]

    fresh = map("{}.zarr".format, count())

    def create() -> None:
        for made_once in (_array, _feature_arrays):  # as in a process that has made no store yet
            made_once.cache_clear()
        write_store(folder / next(fresh), whole_store(plan, {}, labelled, []))

    write_store(store, whole_store(plan, {}, labelled, []))
    taken = cpu_seconds({"create": create, "write": lambda: write_features(store, shard, outcomes)}, 2 if quick else 5)
    arrays = len(FEATURE_ARRAYS) + len(LABEL_ARRAYS)
    return f"""## Writing the store

{arrays} arrays of {plan.n_samples} samples: {1e3 * taken["create"] / arrays:.1f} CPU ms per array to create. A shard of
{plan.shard_samples} samples: {1e3 * taken["write"] / len(FEATURE_ARRAYS):.1f} CPU ms per array to compress, hash and
bring to disk. Promised: 7 each.
"""


def _noise_samples(n: int) -> Samples:
    rng = np.random.default_rng(0)
    physics = {q.name: rng.standard_normal((n, *q.shape), np.float32) for q in QUANTITIES}
    features = rng.standard_normal((n, len(FEATURES)), np.float32)
    return Samples(30_000_000 * np.arange(n), features, np.zeros(n, np.uint16), physics)


def _cut(key: str, samples: Samples, n: int) -> Prepared:
    cut = Samples(
        samples.time[:n],
        samples.features[:n],
        samples.quality[:n],
        {name: values[:n] for name, values in samples.physics.items()},
    )
    return Prepared(key, cut, (), (0.0, 0.0, 0.0))


if __name__ == "__main__":
    print(_measure_memory(*sys.argv[1:]) if len(sys.argv) > 1 else results())
