"""Faults beside the work: output that fails, damaged notes, a damaged chunk, folders that cannot be removed."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from stores import assert_same_store, raw, run_folder, statuses

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.messages import Event
from mms_regions.core.settings import resolve_settings
from mms_regions.model.card import find_model
from mms_regions.run.begin import RunRequest
from mms_regions.run.run import run
from mms_regions.run.trace import all_runs
from mms_regions.store.verify import verify
from mms_regions.workers.local import local_pool

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


def test_who_watches_and_fails_is_not_told_any_more_and_the_run_goes_on(
    catalogue: Path, data_dir: Path, environment: dict[str, str], healthy: Path, tmp_path: Path
) -> None:
    """As a terminal that was closed, or a log on a full disk."""
    told: list[Event] = []

    def full(event: Event) -> None:
        told.append(event)
        raise OSError(errno.ENOSPC, "No space left on device")

    flags = {"data_dir": data_dir, "offline": True, "model": "first", "device": "cpu", "workers": 0}
    settings, chosen = resolve_settings({**flags, "shard_samples": 1024}, {}), read_catalogue(str(catalogue))
    request = RunRequest(chosen, chosen.segments(), tmp_path / "x.zarr", settings, find_model("first", environment))
    assert run(request, local_pool, full).failed == {}
    assert len(told) == 1
    assert_same_store(tmp_path / "x.zarr", healthy)


def test_a_damaged_manifest_of_a_store_is_made_again_with_a_warning(
    mms_regions_here: Command, run_words: Words, store: Path
) -> None:
    path = run_folder(store) / "manifest.json"
    names = {file["name"] for file in json.loads(path.read_bytes())["files"]}
    path.write_bytes(path.read_bytes()[:-40])
    done = mms_regions_here(*run_words(store, "--redo", "B"))
    assert done.returncode == 0, done.stderr
    assert f"The manifest {path} cannot be used" in done.stderr and "made again" in done.stderr
    again = {file["name"] for file in json.loads(path.read_bytes())["files"]}
    assert again and again <= names
    assert "manifest" not in mms_regions_here(*run_words(store, "--redo", "B")).stderr


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-40])])
def test_a_complete_store_gets_its_manifest_back(
    damage: Callable[[Path], object], mms_regions_here: Command, run_words: Words, store: Path
) -> None:
    path = run_folder(store) / "manifest.json"
    before = {file["name"]: file["sha256"] for file in json.loads(path.read_bytes())["files"]}
    damage(path)
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert {file["name"]: file["sha256"] for file in json.loads(path.read_bytes())["files"]} == before


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "7",
        '{"event": "TaskEnded"}',
        '{"event": "no such", "at": 1.0}',
        "\x00\xff",
        '{"event": "RunEnded", "outcome": "complete", "at": NaN}',
        '{"event": "RunStarted", "at": "noon", "segments": 1, "shards": 1}',
        "[" * 9999,
    ],
)
def test_a_damaged_line_of_a_trace_is_skipped(
    line: str, mms_regions_here: Command, store: Path, tmp_path: Path
) -> None:
    before = all_runs(store)
    trace = run_folder(store) / "trace.jsonl"
    first, *rest = trace.read_text().splitlines()
    trace.write_text("\n".join([first, line, *rest, line, ""]), errors="surrogateescape")
    assert all_runs(store) == before
    done = mms_regions_here("status", store)
    assert (done.returncode, done.stderr) == (0, f"mms-regions: warning: {trace}: 2 damaged or torn lines left out\n")


def test_run_and_report_say_once_that_lines_of_the_trace_are_left_out(
    mms_regions_here: Command, run_words: Words, store: Path, tmp_path: Path
) -> None:
    assert mms_regions_here("status", store).stderr == ""
    path = run_folder(store) / "trace.jsonl"
    with path.open("a") as trace:
        trace.write('[1]\n{"event": "TaskEn\n')
    warning = f"{path}: 2 damaged or torn lines left out\n"
    done = mms_regions_here("report", store, "--out", tmp_path / "report", "--events", "B", "--workers", 0)
    assert (done.returncode, done.stderr) == (0, f"mms-regions: warning: {warning}")
    again = mms_regions_here(*run_words(store))
    assert (again.returncode, again.stderr.count(warning)) == (0, 1)


def test_one_damaged_chunk_keeps_no_other_shard_from_new_labels_and_the_error_names_verify(
    mms_regions_here: Command, run_words: Words, store: Path, profile: Path, healthy: Path
) -> None:
    path = store / "features" / "c" / "1" / "0"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3] ^= 255
    path.write_bytes(damaged)
    relabel = ("label", store, "--model", "second", "--profile", profile)
    done = mms_regions_here(*relabel)
    assert done.returncode == 5
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"mms-regions: {store}: shard 1 cannot be read")
    assert f"`mms-regions verify {store}`" in last and "Traceback" not in done.stderr
    assert [f"shard {number} labelled" in done.stderr for number in range(3)] == [True, False, True]
    assert raw(store).attrs["model"]["name"] == "first", "readers see the old labels until all new ones are there"

    assert mms_regions_here("verify", store).returncode != 0
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert_same_store(store, healthy)
    assert mms_regions_here(*relabel).returncode == 0
    assert verify(store).flaws == ()


def test_folders_that_cannot_be_removed_yet_end_no_run(
    mms_regions_here: Command, run_words: Words, store: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, while somebody reads a file that was removed."""
    rmdir = Path.rmdir

    def silly(folder: Path) -> None:
        if any(name in str(folder) for name in ("relabel-", "repair-", "label", "probability")):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))
        rmdir(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rmdir", silly)
        for words in (
            ("label", store, "--model", "second", "--profile", profile),
            run_words(store, "--model", "second", "--redo", "A/mms1"),
            ("label", store, "--model", "first", "--profile", profile),
        ):
            done = mms_regions_here(*words)
            assert done.returncode == 0, done.stderr
            assert set(statuses(store, mms_regions_here).values()) == {"complete"}
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert verify(store).flaws == ()
