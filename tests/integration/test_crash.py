"""A process that dies at any named point leaves each segment whole or absent, and the next run makes the rest."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from subprocess import CompletedProcess
from typing import get_args

import pytest
from cdf_files import truncate
from processes import Nursery, nursery
from stores import assert_absent_or_whole, assert_same_store, copied, left_over, run_folder, statuses

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.crash import VARIABLE, CrashPoint
from mms_regions.core.files import write_whole
from mms_regions.store.plan import Plan, require_plan, write_plan
from mms_regions.store.shards import describe_store
from mms_regions.store.verify import verify

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

IN_WORKERS: tuple[CrashPoint, ...] = (
    "files-obtained",
    "segment-prepared",
    "array-unnamed",
    "shard-half-written",
    "shard-unreceipted",
    "repair-half-moved",
    "labels-half-written",
    "labels-unreceipted",
)
OF_REPAIRS: tuple[CrashPoint, ...] = ("repair-half-moved",)
OF_RELABELLING: tuple[CrashPoint, ...] = ("labels-withdrawn", "labels-half-swapped")
PASSES: dict[CrashPoint, int] = {  # at least, where it is not once
    "files-obtained": 3,
    "segment-prepared": 3,
    "array-unnamed": 3,
    "shard-half-written": 3,
    "shard-unreceipted": 3,
    "labels-half-written": 3,
    "labels-unreceipted": 3,
    "labels-half-swapped": 2,
}
PASSES_IN_GROWTH: dict[CrashPoint, int] = {"shard-half-written": 2, "shard-unreceipted": 1}


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
        if in_worker:
            assert (set(left.values()), left_over(store)) == ({"complete"}, [])

        done = self.here(*scenario.words(store))
        assert done.returncode == 0, done.stderr
        assert_same_store(store, scenario.expected)
        assert set(statuses(store, self.here).values()) == {"complete"}
        assert (verify(store).flaws, left_over(store)) == ((), [])


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
    count = 3 if point == "labels-half-written" else min(2, PASSES.get(point, 1))  # when something is complete
    sweep.crash(point, scenario_of(point), tmp_path, count)


def test_a_run_that_loses_a_worker_takes_away_what_it_was_writing(sweep: Sweep, tmp_path: Path) -> None:
    sweep.crash("array-unnamed", "new", tmp_path, workers=2)


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("growing", [False, True], ids=["alone", "growing"])
@pytest.mark.parametrize("point", get_args(CrashPoint))
def test_a_crash_anywhere_in_driver_or_worker_and_during_growth(
    sweep: Sweep, point: CrashPoint, growing: bool, count: int, workers: int, tmp_path: Path
) -> None:
    most = PASSES_IN_GROWTH.get(point, PASSES.get(point, 1)) if growing else PASSES.get(point, 1)
    if count > most:
        pytest.skip(f"{point} is passed no more than {most} times")
    sweep.crash(point, "growth" if growing else scenario_of(point), tmp_path, count, workers)


def test_a_repair_whose_worker_died_is_finished_without_the_files_of_what_is_sound(
    sweep: Sweep, run_words: Words, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker runs the same task again; here one try fails where the other worker would have died."""
    store, died = copied(sweep.scenarios["repair"].begun, tmp_path / "x.zarr"), []
    shutil.copytree(data_dir / "mms2", tmp_path / "data" / "mms2")

    def die_once(point: CrashPoint) -> None:
        if point == "repair-half-moved" and not died:
            died.append(point)
            raise OSError(errno.EIO, "the disk is busy")

    monkeypatch.setattr("mms_regions.store.shards.crash_point", die_once)
    done = sweep.here(*run_words(store, "--data-dir", tmp_path / "data"))
    assert (done.returncode, died) == (0, ["repair-half-moved"]), done.stderr
    assert_same_store(store, sweep.scenarios["repair"].expected)


class Killed(BaseException):
    """As SIGKILL, for those who write no more."""


def grow(store: Path, catalogue: Path) -> Plan:
    """Let the plan of a store have all events."""
    chosen = read_catalogue(str(catalogue))
    plan = require_plan(store).grown(chosen, chosen.segments())
    write_plan(store, plan)
    return plan


def forget_index(store: Path) -> Plan:
    """Let the index of a store know nothing, as if a run had made all of it and was not done."""
    plan, receipts, aside = require_plan(store), run_folder(store) / "receipts", run_folder(store) / "aside"
    shutil.copytree(receipts, aside)
    for receipt in receipts.glob("*-[0-9]*.json"):
        receipt.unlink()
    describe_store(store, plan)
    for receipt in aside.glob("*-[0-9]*.json"):
        shutil.copy(receipt, receipts)
    shutil.rmtree(aside)
    return plan


def describe_in_part(store: Path, plan: Plan, most: float) -> int:
    """Describe a store, but be killed where more files would be written than `most`; how many were."""
    written = []

    def write_few(path: Path, data: bytes) -> None:
        if len(written) >= most:
            raise Killed
        written.append(path)
        write_whole(path, data)

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr("mms_regions.core.files.write_whole", write_few)
        describe_store(store, plan)
    return len(written)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8, 0.9, 0.95, 1.0])
def test_a_crash_while_a_grown_store_is_described_hides_nothing_and_is_no_damage(
    sweep: Sweep, share: float, catalogue: Path, tmp_path: Path
) -> None:
    """This share of the files beside the shards is written, and no more: of 1.0, all but the last one."""
    begun, whole, store = sweep.scenarios["growth"].begun, tmp_path / "whole.zarr", tmp_path / "x.zarr"
    before = statuses(begun, sweep.here)
    files = describe_in_part(copied(begun, whole), grow(whole, catalogue), math.inf)
    describe_in_part(copied(begun, store), grow(store, catalogue), min(round(share * files), files - 1))
    found = assert_absent_or_whole(store, sweep.here, sweep.undisturbed)
    assert {key: found[key] for key in before} == before
    assert set(found) - set(before) == {"B/mms1", "B/mms2"}


def test_a_crash_while_the_index_is_brought_up_to_date_shows_nothing_by_halves(
    sweep: Sweep, healthy: Path, tmp_path: Path
) -> None:
    """After each of the last files that are written."""
    store = copied(healthy, tmp_path / "x.zarr")
    files = describe_in_part(store, forget_index(store), math.inf)
    assert files >= 6
    for most in range(files - 4, files):
        describe_in_part(store, forget_index(store), most)
        assert_absent_or_whole(store, sweep.here, sweep.undisturbed)
