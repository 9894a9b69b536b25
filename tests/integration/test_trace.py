"""How a run went is kept: each task in trace.jsonl, failures with their stack trace, and what ran, in the store."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import xarray as xr
from cdf_files import QUIET, write_files
from processes import Nursery
from stores import run_folder

from mms_regions.archive.http import NetworkProblem
from mms_regions.core.files import FAILPOINT
from mms_regions.core.version import __version__
from mms_regions.run.inputs import obtain_files
from mms_regions.run.trace import last_run
from mms_regions.store.read import open_segment

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

KEYS = ["A/mms1", "A/mms2", "LONG/mms1", "B/mms1", "B/mms2"]
SHARDS = ["shard 0", "shard 1", "shard 2"]


def tasks(store: Path) -> list[Mapping[str, Any]]:
    return [event for event in last_run(store) if event["event"] == "TaskEnded"]


def attempts(store: Path, stage: str) -> list[tuple[str, int, bool]]:
    """Of each task of a stage: what it was for, which attempt, and whether it went well."""
    return [(task["subject"], task["attempt"], not task["reason"]) for task in tasks(store) if task["stage"] == stage]


def test_each_task_is_kept_with_where_when_and_how_large_it_was(
    processes: Nursery, run_words: Words, tmp_path: Path
) -> None:
    store = tmp_path / "x.zarr"
    assert processes.run(*run_words(store, "--workers", 2), env={}).returncode == 0
    subjects: dict[str, list[str]] = {"load": [], "fetch": [], "prepare": [], "write": [], "label": []}
    for task in tasks(store):
        subjects[task["stage"]].append(task["subject"])
        assert task["host"] == platform.node() and task["worker"] != os.getpid()
        assert 1.7e9 < task["started"] <= task["ended"] <= task["at"]
        assert (task["bytes"] > 1000) == (task["stage"] != "load") and 5e7 < task["peak_memory"] < 1e11
        assert 0 < task["cpu"] <= task["cpu_ended"]
        assert (task["attempt"], task["reason"], task["trace"]) == (1, "", "")
    assert subjects["load"] == ["first"]
    assert Counter(subjects["fetch"]) == Counter(subjects["prepare"]) == Counter(KEYS)
    assert Counter(subjects["write"]) == Counter(SHARDS)
    assert sorted(re.findall(r"\d", " ".join(subjects["label"]))) == ["0", "1", "2"]  # some by one task, maybe
    assert not (run_folder(store) / "logs").exists()
    first, *_, last = last_run(store)
    assert (first["event"], first["segments"], first["shards"]) == ("RunStarted", 5, 3)
    assert (last["event"], last["outcome"]) == ("RunEnded", "complete")


def test_what_passes_on_the_second_try_succeeds_and_what_does_not_fails_after_it(
    mms_regions_here: Command, run_words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: Counter[str] = Counter()

    def unreliable(segment: Any, inputs: Any) -> Any:
        tried[segment.key] += 1
        if segment.key == "A/mms1" or (segment.key == "A/mms2" and tried[segment.key] == 1):
            raise NetworkProblem(f"{segment.key}: the server was not there")
        return obtain_files(segment, inputs)

    store = tmp_path / "x.zarr"
    monkeypatch.setattr("mms_regions.run.tasks.obtain_files", unreliable)
    done = mms_regions_here(*run_words(store, "--events", "A", "--json"))
    assert done.returncode == 4
    assert json.loads(done.stdout)["failed"] == {"A/mms1": "the server was not there"}
    assert sorted(attempts(store, "fetch")) == [
        ("A/mms1", 1, False),
        ("A/mms1", 2, False),
        ("A/mms2", 1, False),
        ("A/mms2", 2, True),
    ]
    log = (run_folder(store) / "logs" / "A_mms1.log").read_text()
    assert log.count("Traceback (most recent call last):") == 2
    assert "fetch, attempt 1, process " in log and "fetch, attempt 2, process " in log
    assert log.endswith("A/mms1 failed: the server was not there\n")
    assert not (run_folder(store) / "logs" / "A_mms2.log").exists()

    monkeypatch.undo()
    assert mms_regions_here(*run_words(store, "--events", "A")).returncode == 0
    assert not (run_folder(store) / "logs" / "A_mms1.log").exists()


def test_how_often_is_a_setting(
    mms_regions_here: Command, run_words: Words, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(segment: Any, inputs: Any) -> Any:
        raise NetworkProblem(f"{segment.key}: the server was not there")

    store = tmp_path / "x.zarr"
    (tmp_path / "patient.toml").write_text(profile.read_text() + "attempts = 4\n")
    monkeypatch.setattr("mms_regions.run.tasks.obtain_files", gone)
    words = run_words(store, "--events", "A", "--probes", "2", "--profile", tmp_path / "patient.toml")
    assert mms_regions_here(*words).returncode == 4
    assert attempts(store, "fetch") == [("A/mms2", i, False) for i in (1, 2, 3, 4)]


def test_what_no_second_try_can_help_is_not_tried_twice(
    mms_regions_here: Command, run_words: Words, own_data: Path, tmp_path: Path
) -> None:
    """A variable that is missing in A/mms2."""

    def without_velocity(arrays: dict[str, Any]) -> dict[str, Any]:
        return {name: values for name, values in arrays.items() if name != "bulkv_gse"}

    (path,) = own_data.rglob("mms2_*des-moms_20170711103358*")
    path.unlink()
    write_files(own_data, 2, "2017-07-11T10:33:58", 10.0, QUIET, products=["des"], edit={"des": without_velocity})
    store = tmp_path / "x.zarr"
    done = mms_regions_here(*run_words(store, "--data-dir", own_data))
    assert done.returncode == 4
    assert attempts(store, "prepare").count(("A/mms2", 1, False)) == 1
    assert [attempt for _, attempt, _ in attempts(store, "prepare")] == [1] * 5
    log = (run_folder(store) / "logs" / "A_mms2.log").read_text()
    assert "prepare, attempt 1" in log and "Traceback" in log and "mms2_des_bulkv_gse_brst" in log


TORN = ('{"event": "SegmentSt', '{"event": "SegmentSt{"event": "SegmentDone", "at": 1.0}\n', "\0\0\n")


@pytest.mark.parametrize("torn", TORN)
def test_a_line_that_was_torn_is_left_out(mms_regions_here: Command, run_words: Words, store: Path, torn: str) -> None:
    """By a kill, by a disk that was full for a moment, or by a machine that died."""
    path, before = run_folder(store) / "trace.jsonl", last_run(store)
    earlier = path.read_text()
    with path.open("a") as file:
        file.write(torn)
    assert last_run(store) == before
    assert mms_regions_here("status", store).returncode == 0
    assert mms_regions_here(*run_words(store, "--redo", "A/mms1")).returncode == 0
    later = path.read_text().removeprefix(earlier + torn).removeprefix("\n")
    assert json.loads(later.splitlines()[0])["event"] == "RunStarted"
    assert [task["subject"] for task in tasks(store) if task["stage"] == "prepare"] == ["A/mms1"]


# --- What ran


def test_each_run_that_changed_a_store_is_kept_in_it(
    mms_regions_here: Command, run_words: Words, store: Path, data_dir: Path, profile: Path, model_dir: Path
) -> None:
    given = {"MMS_REGIONS_REVISION": "v9-dirty", "APPTAINER_CONTAINER": "/images/a.sif", "MMS_REGIONS_MARGIN": "1.0"}
    assert mms_regions_here(*run_words(store, "--redo", "A/mms1"), env=given).returncode == 0
    assert mms_regions_here(*run_words(store), env=given).returncode == 0  # nothing to do, nothing to tell
    first, second = xr.open_zarr(store, chunks=None).attrs["provenance"]
    assert (first["command"], first["outcome"], second["outcome"]) == ("run", "complete", "complete")
    assert first["started"] <= first["ended"] <= second["started"] <= second["ended"]
    assert (second["mms_regions"], second["revision"]) == (__version__, "v9-dirty")
    assert second["container"] == "/images/a.sif"
    assert second["python"] == platform.python_version() and second["host"] == platform.node()
    for library in ("numpy", "zarr", "torch", "pycdfpp"):
        assert second["libraries"][library] == version(library)
    card = json.loads((model_dir / "first" / "card.json").read_text())
    assert second["model"] == {"name": "first", "weights_sha256": card["weights_sha256"]}
    settings, origins = second["settings"], second["origins"]
    assert (settings["data_dir"], origins["data_dir"]) == (str(data_dir), "flag --data-dir")
    assert (settings["margin"], origins["margin"]) == (1.0, "environment MMS_REGIONS_MARGIN")
    assert (settings["shard_samples"], origins["shard_samples"]) == (1024, f"profile {profile}")
    assert (settings["bridge"], origins["bridge"]) == (0.15, "default")
    assert set(origins) == set(settings)


def test_every_input_file_is_kept_with_version_and_sha256(store: Path, data_dir: Path) -> None:
    from mms_regions.core.files import sha256_of

    inputs = json.loads(xr.open_zarr(store, chunks=None)["inputs"].values[0])
    assert len(inputs) == 4
    for file in inputs:
        (path,) = data_dir.rglob(file["name"])
        assert file["size"] == path.stat().st_size and file["sha256"] == sha256_of(path)
        assert path.stem.endswith("_v" + file["version"])


def test_a_run_that_was_killed_is_kept_without_an_end(
    processes: Nursery, mms_regions_here: Command, run_words: Words, tmp_path: Path
) -> None:
    store = tmp_path / "x.zarr"
    crash = {FAILPOINT: f"1:{tmp_path / 'record'}:rename *.zarr/features/c/*"}
    assert processes.run(*run_words(store), env=crash).returncode == -signal.SIGKILL
    assert mms_regions_here(*run_words(store)).returncode == 0
    killed, finished = xr.open_zarr(store, chunks=None).attrs["provenance"]
    assert (killed["ended"], killed["outcome"]) == (None, "")
    assert finished["outcome"] == "complete" and killed["started"] <= finished["started"] <= finished["ended"]


def test_a_run_in_which_segments_have_no_data_says_so(
    mms_regions_here: Command, run_words: Words, own_data: Path, tmp_path: Path
) -> None:
    (path,) = own_data.rglob("mms2_*des-moms_20170711103358*")
    path.unlink()
    store = tmp_path / "x.zarr"
    assert mms_regions_here(*run_words(store, "--data-dir", own_data)).returncode == 4
    (run,) = xr.open_zarr(store, chunks=None).attrs["provenance"]
    assert run["outcome"] == "1 segment without data"


def test_without_a_server_a_segment_is_checked_and_prepared_in_one_go(
    processes: Nursery, run_words: Words, tmp_path: Path
) -> None:
    store = tmp_path / "x.zarr"
    assert processes.run(*run_words(store, "--workers", 2), env={}).returncode == 0
    told = {(task["stage"], task["subject"]): task for task in tasks(store)}
    for key in KEYS:
        check, prepare = told["fetch", key], told["prepare", key]
        assert (check["host"], check["worker"]) == (prepare["host"], prepare["worker"])
        between = [t for t in told.values() if check["ended"] < t["started"] < prepare["started"]]
        assert not [t for t in between if t["worker"] == check["worker"]], "nothing comes between them"
    manifest = json.loads((run_folder(store) / "manifest.json").read_text())
    inputs = {file["name"] for key in KEYS for file in json.loads(_inputs(store, key))}
    assert inputs <= {file["name"] for file in manifest["files"]}


def _inputs(store: Path, key: str) -> str:
    event, _, spacecraft = key.partition("/mms")
    return str(open_segment(store, event, int(spacecraft)).attrs["inputs"])
