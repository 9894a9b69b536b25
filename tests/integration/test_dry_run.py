"""What a run would make, and whether there is room for it, is said before anything is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest
from stores import run_folder

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


def everything(*folders: Path) -> dict[Path, int]:
    """All files, and when they were written last."""
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def planned(command: Command, words: list[object]) -> dict[str, Any]:
    done = command(*words, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["shortages"] == []
    return dict(told)


def work(told: dict[str, Any]) -> tuple[int, ...]:
    return tuple(told[name] for name in ("segments", "to_prepare", "to_write", "to_label", "without_files"))


def test_it_says_what_is_missing_and_writes_nothing(
    mms_regions_here: Command, run_words: Words, store: Path, own_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    before = everything(tmp_path)
    new = tmp_path / "none" / "x.zarr"
    assert work(planned(mms_regions_here, run_words(new))) == (5, 5, 3, 3, 0)
    assert work(planned(mms_regions_here, run_words(new, "--data-dir", tmp_path / "none"))) == (5, 5, 3, 3, 5)
    assert work(planned(mms_regions_here, run_words(new, "--events", "B"))) == (2, 2, 1, 1, 0)
    assert work(planned(mms_regions_here, run_words(store))) == (5, 0, 0, 0, 0)
    assert work(planned(mms_regions_here, run_words(store, "--redo", "A/mms1"))) == (5, 1, 1, 1, 0)
    assert planned(mms_regions_here, run_words(store, "--model", "second"))["to_label"] == 3
    assert everything(tmp_path) == before


def test_an_interval_and_a_list_on_stdin_are_run_like_a_file(
    mms_regions: Command, environment: dict[str, str], run_words: Words, tmp_path: Path
) -> None:
    interval = ["--interval", "2017-07-11/10:34:00/2017-07-11/10:34:06", "--b0", 12, "--n0", 0.2, "--probes", "mms1"]
    words = [word for word in run_words(tmp_path / "x.zarr") if not str(word).endswith(".csv")]
    assert work(planned(mms_regions, [*words, *interval])) == (1, 1, 1, 1, 0)
    rows = "Start;Stop;B0;n0;Probe;Jet\n2017-07-11/10:34;2017-192/10:34:06;12,0;0,2;mms1-2;fast\n"
    command = [sys.executable, "-m", "mms_regions", "run", "-", *words[1:], "--dry-run", "--json"]
    done = subprocess.run(
        list(map(str, command)), input=rows, env=environment, capture_output=True, text=True, check=False
    )
    assert work(json.loads(done.stdout)) == (2, 2, 1, 1, 0)
    assert done.stderr == "mms-regions: warning: stdin: unknown columns are kept as notes: 'Jet'\n"


def test_it_refuses_what_a_run_would_refuse(mms_regions_here: Command, run_words: Words, store: Path) -> None:
    for words, code in ((["--convention", "published"], 5), (["--redo", "Z"], 2), (["--events", "Z"], 2)):
        done = mms_regions_here(*run_words(store, *words, "--dry-run"))
        real = mms_regions_here(*run_words(store, *words))
        assert (done.returncode, done.stderr) == (code, real.stderr) and real.returncode == code


def test_the_words_say_the_same(mms_regions_here: Command, run_words: Words, tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    done = mms_regions_here(*run_words(store, "--dry-run"))
    first, second, third, last = done.stdout.splitlines()
    assert first == f"{store}: 5 segments, 5 to prepare"
    assert second == "3 shards to write, 3 to label with first"
    assert third.startswith("at most about 2.7 MB in ") and third.endswith(" free")
    assert last == "0 segments to prepare without any file in the data folder"


@pytest.mark.system
@pytest.mark.parametrize("shard_samples", [4096, pytest.param(65536, marks=pytest.mark.long)])
def test_a_store_is_as_large_as_was_said(
    mms_regions_here: Command, many_segments: Any, tmp_path: Path, shard_samples: int
) -> None:
    """92 segments: no more files, and the bytes to a factor of 1.5."""
    store, profile = tmp_path / "x.zarr", tmp_path / "profile.toml"
    profile.write_text(f'shard_samples = {shard_samples}\nmodel = "first"\ndevice = "cpu"\noffline = true\nworkers = 0')
    where = ["--store", store, "--data-dir", many_segments.data_dir, "--profile", profile]
    words = ["run", many_segments.catalogue, *where]
    needed = planned(mms_regions_here, words)["needed"]
    assert mms_regions_here(*words).returncode == 0
    made = [path for path in everything(store, run_folder(store)) if path.is_file()]
    assert 0.8 * needed["files"] < len(made) <= needed["files"]
    assert 1 / 1.5 < sum(path.stat().st_blocks * 512 for path in made) / needed["bytes"] < 1.5


@pytest.mark.parametrize(
    ("free", "sentence"),
    [
        ({"f_bavail": 500}, "2.7 MB are needed, 500.0 kB are free"),
        ({"f_favail": 40}, "310 files are needed, 40 more can be made"),
    ],
)
def test_a_disk_without_room_is_an_error(
    mms_regions_here: Command,
    run_words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: dict[str, int],
    sentence: str,
) -> None:
    room = {"f_bavail": 10**9, "f_frsize": 1000, "f_files": 10**9, "f_favail": 10**9, **free}
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(**room))
    store = tmp_path / "x.zarr"
    for words in (["--dry-run"], ["--dry-run", "--json"]):
        done = mms_regions_here(*run_words(store, *words))
        assert done.returncode == 5
        assert done.stderr == f"mms-regions: {store}: {sentence}; free some space, or choose another --store\n"
    assert json.loads(done.stdout)["shortages"] == [sentence]
    assert not everything(tmp_path)


def test_a_disk_that_does_not_count_files_has_no_want_of_them(
    mms_regions_here: Command, run_words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = {"f_bavail": 10**9, "f_frsize": 1000, "f_files": 0, "f_favail": 0}
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(**room))
    assert planned(mms_regions_here, run_words(tmp_path / "x.zarr"))["free"] == {"files": None, "bytes": 10**12}
