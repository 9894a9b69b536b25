"""A process that dies at any named point leaves each segment whole or absent, and the next run makes the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from subprocess import CompletedProcess
from typing import get_args

import pytest
from cdf_files import truncate
from processes import Nursery, nursery
from stores import assert_absent_or_whole, assert_same_store, copied, left_over

from mms_regions.crash import VARIABLE, CrashPoint

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

IN_WORKERS: tuple[CrashPoint, ...] = (
    "files-obtained",
    "segment-prepared",
    "shard-half-written",
    "shard-unreceipted",
    "repair-half-moved",
    "labels-half-written",
    "labels-unreceipted",
)
OF_REPAIRS: tuple[CrashPoint, ...] = ("repair-half-moved",)
OF_RELABELLING: tuple[CrashPoint, ...] = ("labels-withdrawn", "labels-half-swapped")
PASSED_OFTEN = {*IN_WORKERS, "labels-half-swapped"} - {*OF_REPAIRS}


@dataclass(frozen=True)
class Scenario:
    """Words that a process is killed amid, and the store that they begin with; `expected` is what comes of both."""

    words: Words
    begun: Path | None
    expected: Path


@dataclass(frozen=True)
class Sweep:
    """What all crashes share. undisturbed: stores by the name of their model."""

    scenarios: dict[str, Scenario]
    undisturbed: dict[str, Path]
    processes: Nursery
    here: Command
    environment: dict[str, str]

    def crash(self, point: CrashPoint, name: str, folder: Path, count: int = 1, workers: int = 0) -> None:
        """Kill who reaches the point for the `count`-th time; look at what is left; go on; look again."""
        scenario, counter, store = self.scenarios[name], folder / "count", folder / "x.zarr"
        if scenario.begun:
            copied(scenario.begun, store)
        words = [*scenario.words(store), "--workers", workers]
        died = self.processes.run(*words, env={**self.environment, VARIABLE: f"{point}:{count}:{counter}"})
        assert counter.stat().st_size >= count, f"{point} was not reached {count} times: {died.stderr}"
        in_worker = workers > 0 and point in IN_WORKERS
        assert died.returncode == (0 if in_worker else -SIGKILL), died.stderr
        left = assert_absent_or_whole(store, self.here, self.undisturbed)
        assert (set(left.values()) == {"complete"}) == in_worker

        done = self.here(*scenario.words(store))
        assert done.returncode == 0, done.stderr
        assert_same_store(store, scenario.expected)
        assert set(assert_absent_or_whole(store, self.here, self.undisturbed).values()) == {"complete"}
        assert left_over(store) == []


@pytest.fixture(scope="module")
def sweep(
    tmp_path_factory: pytest.TempPathFactory,
    mms_regions_here: Command,
    run_words: Words,
    healthy: Path,
    data_dir: Path,
    profile: Path,
    environment: dict[str, str],
) -> Iterator[Sweep]:
    folder = tmp_path_factory.mktemp("crash")
    spoilt = Path(shutil.copytree(data_dir, folder / "data"))
    truncate(next(spoilt.rglob("mms2_*des-moms_20170711103358*")), 0.6)  # of A/mms2

    def make(code: int, *words: object) -> None:
        done = mms_regions_here(*words)
        assert done.returncode == code, done.stderr

    def anew(store: Path) -> list[object]:
        return ["label", store, "--model", "second", "--profile", profile]

    def more(store: Path) -> list[object]:
        return run_words(store, "--model", "second")

    one_failed, fewer, second, grown = (folder / f"{name}.zarr" for name in ("one-failed", "fewer", "second", "grown"))
    make(4, *run_words(one_failed, "--data-dir", spoilt))
    make(4, *run_words(fewer, "--data-dir", spoilt, "--events", "A,LONG"))
    make(0, *run_words(second, "--model", "second"))
    make(0, *run_words(grown, "--events", "A,LONG"))
    make(0, *more(grown))
    scenarios = {
        "new": Scenario(run_words, None, healthy),
        "repair": Scenario(run_words, one_failed, healthy),
        "relabel": Scenario(anew, healthy, second),
        "growth": Scenario(more, fewer, grown),  # with a repair, and another model
    }
    with nursery(folder, environment) as processes:
        yield Sweep(scenarios, {"first": healthy, "second": second}, processes, mms_regions_here, environment)


def scenario_of(point: CrashPoint) -> str:
    return "repair" if point in OF_REPAIRS else "relabel" if point in OF_RELABELLING else "new"


@pytest.mark.parametrize("point", get_args(CrashPoint))
def test_a_crash_leaves_segments_whole_or_absent_and_the_next_run_makes_the_rest(
    sweep: Sweep, point: CrashPoint, tmp_path: Path
) -> None:
    sweep.crash(point, scenario_of(point), tmp_path, count=2 if point in PASSED_OFTEN else 1)


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("growing", [False, True], ids=["alone", "growing"])
@pytest.mark.parametrize("point", get_args(CrashPoint))
def test_a_crash_anywhere_in_driver_or_worker_and_during_growth(
    sweep: Sweep, point: CrashPoint, growing: bool, count: int, workers: int, tmp_path: Path
) -> None:
    most = 1 if point not in PASSED_OFTEN else 2 if point == "labels-half-swapped" else 3
    if count > most:
        pytest.skip(f"{point} is passed no more than {most} times")
    sweep.crash(point, "growth" if growing else scenario_of(point), tmp_path, count, workers)
