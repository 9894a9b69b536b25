"""A process that is killed at any place leaves each segment whole or absent, and the next run makes the rest."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from signal import SIGKILL
from subprocess import CompletedProcess

import pytest
from cdf_files import truncate
from processes import Nursery, nursery
from stores import assert_absent_or_whole, assert_same_store, copied, left_over, run_folder, statuses

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.files import FAILPOINT, write_whole
from mms_regions.store.index import describe_store
from mms_regions.store.plan import Plan, require_plan, write_plan
from mms_regions.store.verify import verify

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

# What a process is killed before: a scenario, a line of its record, and which one of those that fit;
# whether it is tried in the quick tests too.
PLACES: dict[str, tuple[str, str, int, bool]] = {
    "the lock is made under a hidden name": ("relabel", "link *.run/lock.json", 1, True),
    "the lock is moved aside, to be removed": ("new", "unlink *.run/.lock.json.*", 0, True),
    "the plan is written, the arrays are not there": ("new", "rename *.run/labelled.json", 1, False),
    "the store is described": ("new", "rename *.run/provenance.json", 1, False),
    "files are obtained": ("new", "unlink *.run/logs/*", 1, False),
    "a segment is prepared": ("new", "unlink *.run/logs/*", 2, False),
    "a shard of an array is written under a hidden name": ("new", "rename *.zarr/time/c/*", 2, False),
    "half of a shard is written": ("new", "rename *.zarr/j_mag/c/*", 2, True),
    "a shard is written, its receipt is not": ("new", "rename *.run/receipts/features-*", 2, True),
    "half of a repair is moved in": ("repair", "rename *.zarr/j_mag/c/*", 1, True),
    "half of the labels of a shard are written": ("new", "rename *.zarr/label/c/*", 2, True),
    "labels are written, their receipt is not": ("new", "rename *.run/receipts/labels-*", 2, False),
    "labels of another model are withdrawn": ("relabel", "rename *.run/relabel-*/replaced-label-*", 1, True),
    "half of the labels of another model are swapped": ("relabel", "rename *.zarr/label", 1, True),
    "the index is not brought up to date": ("new", "rename *.zarr/zarr.json", 0, True),  # the last one
}
STEP = 17  # of the long sweep


@dataclass(frozen=True)
class Scenario:
    """Words that a process is killed amid, and the store that they begin with; `expected` is what comes of both."""

    words: Words
    begun: Path | None
    expected: Path


@dataclass(frozen=True, eq=False)
class Sweep:
    """What all kills share. undisturbed: stores by the name of their model."""

    scenarios: dict[str, Scenario]
    undisturbed: dict[str, Path]
    processes: Nursery
    here: Command
    environment: dict[str, str]
    folder: Path

    @cache  # noqa: B019  (one sweep for all tests)
    def record(self, name: str) -> list[str]:
        """Every rename, link, unlink and rmdir of a scenario that nobody disturbs, in order."""
        folder, scenario = self.folder / name, self.scenarios[name]
        folder.mkdir()
        if scenario.begun:
            copied(scenario.begun, folder / "x.zarr")
        done = self.here(*scenario.words(folder / "x.zarr"), env={FAILPOINT: f"0:{folder / 'record'}"})
        assert done.returncode == 0, done.stderr
        return (folder / "record").read_text().splitlines()

    def count_of(self, place: str) -> tuple[str, int]:
        """The scenario of a place, and the count at which it is passed."""
        name, pattern, which, _ = PLACES[place]
        found = [i + 1 for i, line in enumerate(self.record(name)) if fnmatch(line, pattern)]
        assert len(found) >= which, f"{place}: {pattern} is passed {len(found)} times in {name}"
        return name, found[which - 1]

    def crash(self, name: str, point: str, folder: Path, workers: int = 0) -> None:
        """Kill a process at a point, such as `12` or `2:FILE:PATTERN`; look at what is left; go on; look again."""
        folder.mkdir(exist_ok=True)
        scenario, record, store = self.scenarios[name], folder / "record", folder / "x.zarr"
        if scenario.begun:
            copied(scenario.begun, store)
        words = [*scenario.words(store), "--workers", workers]
        count, *pattern = point.split(":", 1)
        failpoint = ":".join([count, str(record), *pattern])
        died = self.processes.run(*words, env={**self.environment, FAILPOINT: failpoint})
        assert len(record.read_text().splitlines()) >= int(count), f"{point} was not reached: {died.stderr}"
        in_worker = workers > 0 and died.returncode == 0
        assert in_worker or died.returncode == -SIGKILL, died.stderr
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
        yield Sweep(scenarios, {"first": healthy, "second": second}, processes, mms_regions_here, environment, folder)


def test_every_place_that_matters_is_passed(sweep: Sweep) -> None:
    """The sweeps go over counts; these are the states between them that were thought of one by one."""
    assert {sweep.count_of(place)[0] for place in PLACES} == {"new", "repair", "relabel"}


@pytest.mark.parametrize(
    "place", [place if quick else pytest.param(place, marks=pytest.mark.long) for place, (*_, quick) in PLACES.items()]
)
def test_a_kill_leaves_segments_whole_or_absent_and_the_next_run_makes_the_rest(
    sweep: Sweep, place: str, tmp_path: Path
) -> None:
    name, count = sweep.count_of(place)
    sweep.crash(name, str(count), tmp_path)


def test_a_run_that_loses_a_worker_takes_away_what_it_was_writing(sweep: Sweep, tmp_path: Path) -> None:
    sweep.crash("new", "1:rename *.zarr/time/c/*", tmp_path, workers=2)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["new", "repair", "relabel", "growth"])
def test_a_kill_anywhere_in_driver_or_worker_and_during_growth(
    sweep: Sweep, name: str, workers: int, tmp_path: Path
) -> None:
    most = len(sweep.record(name)) - 8 * workers  # workers do not always do the same twice over
    for count in range(1 + workers, most, STEP if name != "relabel" else 3):
        sweep.crash(name, str(count), tmp_path / str(count), workers)


def test_a_repair_whose_worker_died_is_finished_without_the_files_of_what_is_sound(
    sweep: Sweep, run_words: Words, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker runs the same task again; here one try fails where the other worker would have died."""
    store, died = copied(sweep.scenarios["repair"].begun, tmp_path / "x.zarr"), []
    shutil.copytree(data_dir / "mms2", tmp_path / "data" / "mms2")

    def die_once(operation: str, path: Path) -> None:
        if (operation, path) == ("rename", store / "j_mag" / "c" / "0") and not died:
            died.append(path)
            raise OSError(errno.EIO, "the disk is busy")

    monkeypatch.setattr("mms_regions.core.files.failpoint", die_once)
    done = sweep.here(*run_words(store, "--data-dir", tmp_path / "data"))
    assert (done.returncode, len(died)) == (0, 1), done.stderr
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

    def write_few(path: Path, data: bytes, unsynced: set[Path] | None = None) -> None:
        if len(written) >= most:
            raise Killed
        written.append(path)
        write_whole(path, data, unsynced)

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
