"""A full disk ends a run with a sentence and leaves nothing half-written; with room again the run goes on."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import small_disk
from processes import Nursery
from small_files import no_file_larger_than
from stores import assert_same_store, half_written

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

NEED = (
    r"about (?P<bytes>[\d.]+ [kM]B) are needed for what is missing, [\d.]+ \w+( and [\d,]+ files)? are free there; "
    "free some space"
)


def test_the_first_write_that_fails_is_named_whichever_it_is(
    mms_regions_here: Command, run_words: Words, healthy: Path, tmp_path: Path
) -> None:
    store = tmp_path / "x.zarr"
    for size, path in ((100, "x.zarr.run/lock.json"), (500, "x.zarr.run/plan.copy.json"), (60_000, "x.zarr/zarr.json")):
        with no_file_larger_than(size):
            done = mms_regions_here(*run_words(store))
        assert done.returncode == 5
        limit = r"raise the limit of file sizes \(`ulimit -f`\), or choose another file system"
        assert re.match(rf"mms-regions: {tmp_path / path}: .*File too large\)?; {limit}\n", done.stderr), done.stderr
        assert half_written(store) == []
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert_same_store(store, healthy)


def test_a_shard_that_workers_cannot_write_ends_the_run_which_goes_on_with_room(
    processes: Nursery, mms_regions_here: Command, run_words: Words, healthy: Path, tmp_path: Path
) -> None:
    words = run_words(tmp_path / "x.zarr")
    run = processes.start(*words, "--workers", 2, env={})
    run.until(" to prepare")
    for worker in run.workers:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (10_000, 10_000))
    done = run.wait()
    assert done.returncode == 5, done.stderr
    last = done.stderr.splitlines()[-1]
    assert re.match(rf"mms-regions: {tmp_path}/x.zarr/\S+: File too large; raise the limit of file sizes", last)
    assert "Traceback" not in done.stderr
    assert half_written(tmp_path / "x.zarr") == []
    assert mms_regions_here(*words).returncode == 0
    assert_same_store(tmp_path / "x.zarr", healthy)


def test_on_a_full_disk_each_try_goes_on_where_the_last_one_ended(
    environment: dict[str, str], run_words: Words, healthy: Path, tmp_path: Path
) -> None:
    """A little more room each time: descriptions, shards, receipts and labels are what fails."""
    disk, result = tmp_path / "disk", tmp_path / "result"
    tries = runs_on_a_small_disk(environment, run_words(disk / "x.zarr"), disk, result)
    *failed, last = tries
    assert last["code"] == 0
    assert [one["half_written"] for one in tries] == [[]] * len(tries)
    said = [str(one["said"]).splitlines()[-1] for one in failed]
    sentence = rf"mms-regions: (?P<path>{disk}\S+) cannot be written: No space left on device; {NEED}"
    found = [re.match(sentence, line) for line in said]
    assert None not in found, said
    paths = {Path(match["path"]).relative_to(disk) for match in found if match}
    assert Path("x.zarr") in paths and Path("x.zarr/zarr.json") in paths and len(paths) > 4
    needed = [match["bytes"] for match in found if match]
    assert needed[0] == "2.7 MB" and needed[-1] != "2.7 MB", "less is needed as there is more"
    assert_same_store(result / "x.zarr", healthy)


def runs_on_a_small_disk(
    environment: dict[str, str], words: list[object], disk: Path, result: Path
) -> list[dict[str, object]]:
    """How runs end, one after another, on a disk in memory that grows until the run succeeds."""
    disk.mkdir()
    result.mkdir()
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "none", disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    path = os.pathsep.join([environment["PYTHONPATH"], str(Path(small_disk.__file__).parent)])
    command = [*alone, sys.executable, small_disk.__file__, str(disk), str(result), "150000", *map(str, words)]
    done = subprocess.run(command, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
