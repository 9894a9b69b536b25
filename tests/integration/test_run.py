"""A run makes the same store whatever the workers, goes on where it stopped, and lets a bad segment fail alone."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import xarray as xr
from cdf_files import PRODUCTS, QUIET, take_rows, truncate, write_files
from processes import log_lines
from rich.console import Console
from stores import assert_same_numbers, assert_same_store, raw, receipt_files, shard_files, shards_written

from mms_regions.cli.progress import PlainLines, ProgressBar
from mms_regions.core.errors import UsageProblem
from mms_regions.core.messages import RunStarted, SegmentDone, ShardLabelled, ShardWritten
from mms_regions.core.types import WINDOW
from mms_regions.physics.samples import QUALITY_BITS
from mms_regions.store.read import open_segment
from mms_regions.workers.pool import Pool, PoolRequest

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

ALL = ["A/mms1", "A/mms2", "LONG/mms1", "B/mms1", "B/mms2"]


@contextmanager
def no_pool(request: PoolRequest, dashboard: bool) -> Iterator[Pool]:
    raise AssertionError("a run with nothing to do started a cluster")
    yield


def test_a_run_says_as_json_what_the_store_holds(mms_regions_here: Command, run_words: Words, store: Path) -> None:
    done = mms_regions_here(*run_words(store, "--json"))
    answer = json.loads(done.stdout)
    assert (done.returncode, list(answer["coverage"])) == (0, ALL)
    about_labels = ("coverage", "scale_cautions", "warnings")  # see test_coverage.py
    assert {name: value for name, value in answer.items() if name not in about_labels} == {
        "store": str(store),
        "complete": ALL,
        "failed": {},
        "no_data": {},
        "synthetic": ALL,
        "causes": {},
    }


def test_status_says_of_each_segment_that_it_is_complete(mms_regions_here: Command, healthy: Path) -> None:
    done = mms_regions_here("status", healthy, "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["counts"] == {"complete": 5, "prepared": 0, "running": 0, "failed": 0, "no_data": 0, "missing": 0}
    assert [row["segment"] for row in told["segments"]] == ALL
    lines = mms_regions_here("status", healthy).stdout.splitlines()
    assert lines[1].split() == ["A/mms1", "complete", "100%", "labelled;", "SYNTHETIC", "data"]
    assert lines[-1] == "5 complete"


def test_settings_of_zarr_in_the_environment_change_nothing(mms_regions: Command, healthy: Path) -> None:
    """With this one zarr reads nothing at all."""
    plain, odd = (mms_regions("status", healthy, env=env) for env in ({}, {"ZARR_ASYNC__CONCURRENCY": "many"}))
    assert (odd.returncode, odd.stdout) == (plain.returncode, plain.stdout)
    assert "complete" in plain.stdout


def test_worker_processes_make_the_same_store(
    mms_regions: Command, run_words: Words, healthy: Path, tmp_path: Path
) -> None:
    (scratch := tmp_path / "scratch").mkdir()
    done = mms_regions(*run_words(tmp_path / "two.zarr", "--workers", 2, "--json"), env={"TMPDIR": str(scratch)})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["complete"] == ALL
    assert not list(scratch.iterdir()), "Dask would leave its dask-scratch-space"
    assert "\x1b" not in done.stderr
    lines = log_lines(done.stderr)
    assert lines[:2] == ["starting workers", "5 segments to prepare, 3 shards to label"]
    assert sorted(line for line in lines if line.startswith("shard")) == [
        f"shard {i} {what}" for i in range(3) for what in ("labelled", "written")
    ]
    assert len(lines) == 2 + 5 + 6  # nothing but these: no chatter of the cluster
    assert_same_store(tmp_path / "two.zarr", healthy)


def test_padding_holds_no_value_and_segments_lie_in_their_slots(healthy: Path) -> None:
    data = xr.open_zarr(healthy, chunks=None)
    assert data["first"].values.tolist() == [0, 224, 448, 1664, 2048]
    assert data["n_samples"].values.tolist() == [200, 200, 1200, 250, 250]  # LONG is longer than a shard
    assert data.sizes["sample"] == 3072
    segment = np.full(3072, -1)
    for row, (first, n) in enumerate(zip(data["first"].values, data["n_samples"].values, strict=True)):
        segment[first : first + n] = row
    np.testing.assert_array_equal(data["segment_id"].values, segment)
    padding = data.isel(sample=segment < 0)
    assert np.isnat(padding["time"].values).all()
    assert (padding["label"].values == -1).all()
    assert (padding["quality"].values == 0).all()
    floats = [name for name, array in padding.data_vars.items() if "sample" in array.dims and array.dtype.kind == "f"]
    assert len(floats) > 50
    assert [name for name in floats if not np.isnan(padding[name].values).all()] == []


def test_running_again_touches_no_shard_and_starts_no_cluster(
    mms_regions_here: Command, run_words: Words, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mms_regions.workers.open.local_pool", no_pool)
    before = shard_files(store), receipt_files(store), raw(store).load()
    done = mms_regions_here(*run_words(store, "--workers", 2))
    assert (done.returncode, done.stderr) == (0, "")
    assert (shard_files(store), receipt_files(store)) == before[:2]
    assert_same_numbers(raw(store), before[2])


def test_one_segment_is_made_without_a_cluster(
    mms_regions_here: Command, catalogue: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started() -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("mms_regions.workers.local.require_dask", started)
    words = ["run", catalogue, "--events", "A", "--data-dir", data_dir, "--offline", "--model", "first"]
    one = mms_regions_here(*words, "--probes", 1, "--store", tmp_path / "one.zarr", "--json")
    assert (one.returncode, json.loads(one.stdout)["complete"]) == (0, ["A/mms1"]), one.stderr
    assert "starting workers" not in one.stderr
    two = mms_regions_here(*words, "--store", tmp_path / "two.zarr", "--workers", 2)
    assert two.returncode != 0 and "a cluster was started" in two.stderr


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--convention", "published"], 5, r"other settings \(convention 'corrected' there and 'published' here"),
        (["--convention", "published", "--redo", "A"], 5, r"choose another --store, or make all of it again"),
        (["--redo", "Z"], 2, r"--redo Z names no segment of the store"),
    ],
)
def test_a_store_that_was_made_for_something_else_is_refused(
    mms_regions_here: Command, run_words: Words, store: Path, more: list[str], code: int, message: str
) -> None:
    before = shard_files(store), receipt_files(store)
    done = mms_regions_here(*run_words(store, *more))
    assert done.returncode == code
    assert re.search(message, done.stderr), done.stderr
    assert (shard_files(store), receipt_files(store)) == before


def test_what_a_killed_run_has_left_out_is_made(mms_regions_here: Command, run_words: Words, store: Path) -> None:
    """Without the receipts of shard 1, and of the labels of shard 2, these are made again, and nothing else."""
    expected, before = raw(store).load(), shard_files(store)
    receipts = store.with_name("all.zarr.run") / "receipts"
    (receipts / "features-00001.json").unlink()
    next(receipts.glob("labels-*-00002.json")).unlink()
    status = json.loads(mms_regions_here("status", store, "--json").stdout)
    assert [row["status"] for row in status["segments"]] == [*["complete"] * 2, *["missing"] * 2, "prepared"]
    done = mms_regions_here(*run_words(store))
    assert done.returncode == 0
    assert log_lines(done.stderr)[0] == "2 segments to prepare, 2 shards to label"
    after = shard_files(store)
    labels = {"label/c/1", "probability/c/1/0"}  # made from the very same features, so still good
    assert {path for path in after if after[path] != before[path]} == {
        *(path for path in after if path.split("/")[2] == "1" and path not in labels),
        "label/c/2",
        "probability/c/2/0",
    }
    assert_same_numbers(raw(store), expected)


def file_of(data_dir: Path, pattern: str) -> Path:
    (path,) = data_dir.rglob(pattern)
    return path


SPOILT = "mms2_*des-moms_20170711103358*"  # of A/mms2


def spoil(data: Path) -> Callable[[], object]:
    """Truncate a file that A/mms2 needs; gives what makes it whole again."""
    path = file_of(data, SPOILT)
    whole = path.read_bytes()
    truncate(path, 0.6)
    return lambda: path.write_bytes(whole)


def test_a_bad_segment_fails_alone_and_is_made_once_its_file_is_whole(
    mms_regions_here: Command, run_words: Words, healthy: Path, own_data: Path, tmp_path: Path
) -> None:
    store, sound = tmp_path / "x.zarr", file_of(own_data, SPOILT)
    mend = spoil(own_data)
    words = run_words(store, "--data-dir", own_data, "--json")
    done = mms_regions_here(*words)
    assert done.returncode == 4
    told = json.loads(done.stdout)
    assert told["complete"] == [key for key in ALL if key != "A/mms2"]
    assert list(told["failed"]) == ["A/mms2"]
    reason = told["failed"]["A/mms2"]
    assert sound.name in reason
    assert f"failed A/mms2: {reason}" in done.stderr and "A/mms2" not in reason

    index = xr.open_zarr(store, chunks=None)
    assert index["status"].values.tolist() == ["complete", "failed", "complete", "complete", "complete"]
    assert index["reason"].values.tolist() == ["", reason, "", "", ""]
    with pytest.raises(UsageProblem, match=rf"^A/mms2 is failed: {re.escape(reason)}$"):
        open_segment(store, "A", 2)
    assert (index["label"].values[index["segment_id"].values < 0] == -1).all()
    shown = mms_regions_here("status", store).stdout
    assert re.search(rf"^A/mms2 +failed +{re.escape(reason)}$", shown, re.M)
    assert "failed, files cannot be fetched or read (1): A/mms2" in shown.splitlines()
    for event, probe in [("A", 1), ("LONG", 1), ("B", 1), ("B", 2)]:
        assert_same_numbers(open_segment(store, event, probe), open_segment(healthy, event, probe))

    before = shard_files(store)
    mend()
    done = mms_regions_here(*words)
    assert (done.returncode, json.loads(done.stdout)["complete"]) == (0, ALL)
    assert shards_written(before, shard_files(store)) == {"0"}
    assert_same_numbers(raw(store), raw(healthy))


def test_sound_segments_are_kept_without_their_files_while_a_failed_one_is_tried_again(
    mms_regions_here: Command, run_words: Words, healthy: Path, own_data: Path, tmp_path: Path
) -> None:
    store, words, mend = tmp_path / "x.zarr", run_words(tmp_path / "x.zarr", "--data-dir", own_data), spoil(own_data)
    assert mms_regions_here(*words).returncode == 4
    shutil.rmtree(own_data / "mms1")

    before = shard_files(store)
    again = mms_regions_here(*words)
    assert again.returncode == 4
    assert "1 segment to prepare" in again.stderr
    assert shards_written(before, shard_files(store)) == set()

    mend()
    assert mms_regions_here(*words).returncode == 0
    assert shards_written(before, shard_files(store)) == {"0"}
    assert_same_numbers(raw(store), raw(healthy))


def test_a_shard_that_is_damaged_when_it_should_be_kept_is_prepared_anew(
    mms_regions_here: Command, run_words: Words, healthy: Path, own_data: Path, tmp_path: Path
) -> None:
    store, words, mend = tmp_path / "x.zarr", run_words(tmp_path / "x.zarr", "--data-dir", own_data), spoil(own_data)
    assert mms_regions_here(*words).returncode == 4
    mend()
    shard = store / "ve_gsm" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1])

    again = mms_regions_here(*words)
    assert again.returncode == 0, again.stderr
    assert_same_numbers(raw(store), raw(healthy))


def valid(features: np.ndarray, bridged: np.ndarray) -> np.ndarray:
    """Contract 3: all features are finite from the window's start to the sample, which is not bridged itself."""
    found = np.zeros(len(features), bool)
    for i in range(len(features)):
        start = i - i % WINDOW
        found[i] = np.isfinite(features[start : i + 1]).all() and not bridged[i]
    return found


@pytest.fixture(scope="module")
def gappy(
    tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command, run_words: Words, data_dir: Path
) -> Path:
    """A store of A/mms1 whose electrons are missing for 0.99 s (33 samples), and whose field is for 0.1 s."""
    folder = tmp_path_factory.mktemp("gappy")
    start = np.datetime64("2017-07-11T10:34:00", "ns").astype(np.int64)

    def without(begin: float, end: float) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
        def edit(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            seconds = (arrays["epoch"] - start) / 1e9
            return take_rows(arrays, (seconds < begin) | (seconds >= end))

        return edit

    write_files(
        folder / "data",
        1,
        "2017-07-11T10:33:58",
        10.0,
        QUIET,
        products=[product for product in PRODUCTS if product != "edp_fast"],
        edit={"des": without(1.5, 2.49), "fgm": without(4.0, 4.1)},
    )
    done = mms_regions_here(
        *run_words(folder / "gappy.zarr", "--data-dir", folder / "data", "--events", "A", "--probes", "1")
    )
    assert done.returncode == 0, done.stderr
    return folder / "gappy.zarr"


def test_what_is_missing_has_no_label(gappy: Path) -> None:
    data = open_segment(gappy, "A", 1)
    seconds = (data["time"].values - np.datetime64("2017-07-11T10:34:00", "ns")) / np.timedelta64(1, "s")
    np.testing.assert_allclose(np.diff(seconds), 0.03, atol=1e-6)
    assert data.sizes["time"] == 200
    missing = np.isnan(data["features"].values).any(axis=1)
    bridged = (data["quality"].values & QUALITY_BITS["bridged"]) != 0
    np.testing.assert_array_equal(missing, (seconds > 1.5) & (seconds < 2.5))
    assert missing.sum() == 33
    assert bridged.any()
    assert ((seconds[bridged] > 3.97) & (seconds[bridged] < 4.13)).all()
    labelled = valid(data["features"].values, bridged)
    np.testing.assert_array_equal(data["label"].values >= 0, labelled)
    assert set(data["label"].values[~labelled]) == {-1}
    np.testing.assert_array_equal(np.isfinite(data["probability"].values), np.repeat(labelled[:, None], 6, axis=1))
    after = labelled[np.flatnonzero(bridged)[-1] + 1]
    assert after, "a bridged gap must not end its window"
    assert 0 < (~labelled).sum() < 100


def test_what_is_missing_is_empty_in_the_csv_files(gappy: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    assert mms_regions_here("export", gappy, "--out", tmp_path / "csv").returncode == 0
    label = open_segment(gappy, "A", 1)["label"].values
    rows = (tmp_path / "csv" / "A_mms1" / "mms1_probs.csv").read_text().splitlines()[1:]
    assert [row == "," for row in rows] == (label < 0).tolist()
    assert "nan" not in (tmp_path / "csv" / "A_mms1" / "mms1_nndata.csv").read_text().lower()


EVERYTHING = (
    RunStarted(2, 1),
    SegmentDone("A/mms1"),
    SegmentDone("A/mms2", "no file in [/data/mms2]; fetch it"),
    ShardWritten(0),
    ShardLabelled(0),
)


def test_plain_lines_are_a_line_per_event() -> None:
    lines: list[str] = []
    with PlainLines(lines.append) as observe:
        for event in EVERYTHING:
            observe(event)
    assert log_lines("\n".join(lines)) == [
        "2 segments to prepare, 1 shard to label",
        "[1/2] prepared A/mms1",
        "[2/2] failed A/mms2: no file in [/data/mms2]; fetch it",
        "shard 0 written",
        "shard 0 labelled",
    ]


def test_the_progress_bar_shows_what_is_done_and_each_failure_as_it_is_worded() -> None:
    screen = io.StringIO()
    with ProgressBar(Console(file=screen, force_terminal=True, width=120)) as observe:
        for event in EVERYTHING:
            observe(event)
    shown = screen.getvalue()
    assert "A/mms2: no file in [/data/mms2]; fetch it" in shown
    last = shown[shown.rindex("segments prepared") :]
    assert "2/2" in last
    assert "1/1" in last[last.index("shards labelled") :]
