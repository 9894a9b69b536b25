"""Workers, or all processes of a run, die at any moment: what was finished stays, and the next run makes the rest."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from processes import Nursery, Started, nursery
from stores import assert_one_model, assert_same_store, left_over, raw, run_folder, statuses

from mms_regions.store.verify import verify

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]

MOST_KILLS = 3


@dataclass(frozen=True)
class Killing:
    """What all rounds share."""

    words: Callable[[Path], list[object]]
    undisturbed: Path
    processes: Nursery
    here: Command
    environment: dict[str, str]


@pytest.fixture(scope="module")
def killing(
    tmp_path_factory: pytest.TempPathFactory,
    many_segments: Any,
    many_complete: Path,
    mms_regions_here: Command,
    environment: dict[str, str],
) -> Iterator[Killing]:
    folder = tmp_path_factory.mktemp("kill")
    (folder / "profile.toml").write_text('shard_samples = 4096\nmodel = "first"\ndevice = "cpu"\noffline = true\n')

    def words(store: Path) -> list[object]:
        where = ["--store", store, "--data-dir", many_segments.data_dir]
        return ["run", many_segments.catalogue, *where, "--profile", folder / "profile.toml", "--workers"]

    with nursery(folder, environment) as processes:
        yield Killing(words, many_complete, processes, mms_regions_here, environment)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_killed_again_and_again_completes(killing: Killing, seed: int, tmp_path: Path) -> None:
    kill_and_complete(killing, random.Random(seed), tmp_path / "x.zarr")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_whose_workers_all_die_right_after_the_first_shard_goes_on_or_says_so(
    processes: Nursery,
    mms_regions_here: Command,
    run_words: Callable[..., list[object]],
    healthy: Path,
    tmp_path: Path,
    workers: int,
) -> None:
    """As where the out-of-memory killer takes them: nothing waits for a worker that is no more."""
    words = run_words(tmp_path / "x.zarr")
    run = processes.start(*words, "--workers", workers, env={})
    run.until(" written\n")
    for worker in run.workers:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    done = run.wait()
    assert done.returncode in (0, 4), done.stderr
    assert mms_regions_here(*words).returncode == 0
    assert_same_store(tmp_path / "x.zarr", healthy)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 23))
def test_a_run_that_is_killed_again_and_again_completes_in_more_rounds(
    killing: Killing, seed: int, tmp_path: Path
) -> None:
    kill_and_complete(killing, random.Random(seed), tmp_path / "x.zarr")


def kill_and_complete(killing: Killing, chance: random.Random, store: Path) -> None:
    """A round: one to three kills, then a run to the end; what was finished at a kill has not been touched since."""
    finished: dict[Path, int] = {}
    kills = chance.randint(1, MOST_KILLS)
    while True:
        run = killing.processes.start(*killing.words(store), 2, env=killing.environment)
        kills = kill_some(run, kills, chance, store, finished)
        ended = run.wait()
        if ended.returncode != -signal.SIGKILL:
            break
        finished |= finished_files(store)
        assert_what_is_shown_is_whole(killing, store)
    assert ended.returncode == 0, ended.stderr
    assert finished, "nothing was finished when something was killed"
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert_same_store(store, killing.undisturbed)
    assert (verify(store).flaws, left_over(store)) == ((), [])


def kill_some(run: Started, kills: int, chance: random.Random, store: Path, finished: dict[Path, int]) -> int:
    """Kill workers of a run, until all of it is killed or it needs no more; how many kills are left."""
    progress = sorted(chance.uniform(0, 1) for _ in range(kills))
    for share in [*progress[:-1], *(max(0.5, last) for last in progress[-1:])]:
        whole = chance.random() < 0.5
        if not came_as_far_as(run, share):
            break
        time.sleep(chance.uniform(0, 0.3))
        kills -= 1
        if whole:
            with suppress(ProcessLookupError):  # it has ended well meanwhile
                os.killpg(run.pid, signal.SIGKILL)
            break
        if workers := run.workers:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
            finished |= finished_files(store)
    return kills


def came_as_far_as(run: Started, share: float) -> bool:
    """Wait until a run has prepared a segment, and this share of what it has to; False where it ends before."""
    while run.lives:
        said = run.said
        asked = re.search(r" (\d+) segments? to prepare", said)
        if asked and said.count("] prepared ") >= max(1, share * int(asked[1])):
            return True
        time.sleep(0.02)
    return False


def finished_files(store: Path) -> dict[Path, int]:
    """The files that receipts vouch for, and when they were written."""
    receipts = (run_folder(store) / "receipts").glob("*-[0-9]*.json")
    names = [name for receipt in receipts for name in json.loads(receipt.read_text())["files"]]
    return {store / name: (store / name).stat().st_mtime_ns for name in names}


def assert_what_is_shown_is_whole(killing: Killing, store: Path) -> None:
    """Every array of each segment that the index calls complete, and its row there; the others are not complete."""
    shown, sound = raw(store), raw(killing.undisturbed)
    complete = np.flatnonzero(shown["status"].values == "complete")
    keys = [f"{event}/mms{probe}" for event, probe in zip(shown["event"].values, shown["probe"].values, strict=True)]
    told = statuses(store, killing.here)
    assert [i for i, key in enumerate(keys) if told[key] == "complete"] == complete.tolist()
    samples = np.flatnonzero(np.isin(sound["segment_id"].values, complete))
    for name, array in sound.variables.items():
        rows = {"segment": complete, "sample": samples}.get(array.dims[0])
        if rows is not None:
            there, here = array.values[rows], shown[name].values[rows]
            same = there.tolist() == here.tolist() if there.dtype.kind == "T" else there.tobytes() == here.tobytes()
            assert same, name
    assert verify(store).flaws == ()
    assert_one_model(store)
