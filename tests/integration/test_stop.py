"""Asked to stop, a run finishes what it writes and says how to go on; asked twice, it ends now."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from processes import Nursery, log_lines
from stores import assert_same_store, half_written, run_folder, shard_files

import mms_regions.core.files

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]
Sweep = Callable[[list[signal.Signals]], None]

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@pytest.fixture
def at_the_first_write(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    """Have this process get signals when the first shard is half written; it hears Ctrl-C, whoever started it."""

    def send(signals: list[signal.Signals]) -> None:
        def in_the_middle(operation: str, path: Path) -> None:
            while "features/c" in str(path) and signals:
                os.kill(os.getpid(), signals.pop(0))

        monkeypatch.setattr(mms_regions.core.files, "failpoint", in_the_middle)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield send
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("asked", SIGNALS)
def test_what_is_being_written_is_finished_and_nothing_more_is_begun(
    mms_regions_here: Command,
    run_words: Words,
    healthy: Path,
    tmp_path: Path,
    at_the_first_write: Sweep,
    asked: signal.Signals,
) -> None:
    store = tmp_path / "x.zarr"
    before = {name: signal.getsignal(name) for name in SIGNALS}
    at_the_first_write([asked])
    done = mms_regions_here(*run_words(store))
    assert done.returncode == 75
    stopping = f"stopping ({asked.name}): pending writes have 30 s to finish; repeat to stop at once\n"
    *prepared, written, last = log_lines(done.stderr.partition(stopping)[2])
    assert all(" prepared " in line for line in prepared), "in one process they were before it was asked"
    assert written == "shard 0 written"
    assert last == f"mms-regions: interrupted ({asked.name}); run the same command again to go on"
    assert {name: signal.getsignal(name) for name in SIGNALS} == before
    assert half_written(store) == []
    told = json.loads(mms_regions_here("status", store, "--json").stdout)
    assert [row["status"] for row in told["segments"]] == [*["prepared"] * 2, *["missing"] * 3]

    finished = {path: when for path, when in shard_files(store).items() if path.split("/")[2] == "0"}
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert_same_store(store, healthy)
    assert finished.items() <= shard_files(store).items(), "what was finished was written again"


def test_asked_twice_a_run_in_one_process_does_not_finish_what_it_writes(
    mms_regions_here: Command, run_words: Words, healthy: Path, tmp_path: Path, at_the_first_write: Sweep
) -> None:
    store = tmp_path / "x.zarr"
    at_the_first_write([signal.SIGTERM, signal.SIGTERM])
    done = mms_regions_here(*run_words(store))
    assert done.returncode == 75
    assert done.stderr.splitlines()[-1].startswith("mms-regions: interrupted")
    assert not list(run_folder(store).glob("receipts/features-*"))
    assert half_written(store) == []
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert_same_store(store, healthy)


def test_who_is_told_to_ignore_a_signal_does_so(
    mms_regions_here: Command, run_words: Words, tmp_path: Path, at_the_first_write: Sweep
) -> None:
    """As nohup does, and a shell for what runs in its background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at_the_first_write([signal.SIGINT])
        done = mms_regions_here(*run_words(tmp_path / "x.zarr"))
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGHUP])
def test_workers_go_on_writing_though_the_whole_group_gets_the_signal(
    processes: Nursery,
    mms_regions_here: Command,
    run_words: Words,
    healthy: Path,
    slow_writes: Any,
    tmp_path: Path,
    asked: signal.Signals,
) -> None:
    """As a terminal sends Ctrl-C, and SIGHUP when it is closed, and a batch system SIGTERM or SIGUSR1."""
    words, slow = run_words(tmp_path / "x.zarr"), slow_writes(1)
    run = processes.start(*words, "--workers", 2, env=slow.env)
    slow.wait_for(run)
    os.killpg(run.pid, asked)
    done = run.wait()
    assert done.returncode == 75, done.stderr
    _, stopping, afterwards = done.stderr.partition(f"stopping ({asked.name}): ")
    *_, last = afterwards.splitlines()
    assert stopping and re.search(r"Z shard \d written$", afterwards, re.MULTILINE)
    assert last == f"mms-regions: interrupted ({asked.name}); run the same command again to go on"
    assert "Traceback" not in done.stderr
    assert half_written(tmp_path / "x.zarr") == []
    assert mms_regions_here(*words).returncode == 0
    assert_same_store(tmp_path / "x.zarr", healthy)


def test_a_signal_while_the_cluster_starts_is_heard(
    processes: Nursery, mms_regions_here: Command, run_words: Words, tmp_path: Path
) -> None:
    run = processes.start(*run_words(tmp_path / "x.zarr"), "--workers", 2, env={})
    while not run.workers:
        assert run.lives, run.said
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGTERM)
    done = run.wait()
    assert done.returncode == 75, done.stderr
    assert "prepared" not in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "mms-regions: interrupted (SIGTERM); run the same command again to go on"
    assert half_written(tmp_path / "x.zarr") == []


@pytest.mark.parametrize(("grace", "signals"), [(60, 2), (1, 1)])
def test_a_slow_write_is_waited_for_until_the_grace_ends_or_the_second_signal_comes(
    processes: Nursery,
    mms_regions_here: Command,
    run_words: Words,
    healthy: Path,
    profile: Path,
    slow_writes: Any,
    tmp_path: Path,
    grace: int,
    signals: int,
) -> None:
    (tmp_path / "grace.toml").write_text(profile.read_text() + f"grace = {grace}\n")
    words = run_words(tmp_path / "x.zarr", "--profile", tmp_path / "grace.toml")
    slow = slow_writes(1000)  # longer than a test may take
    run = processes.start(*words, "--workers", 2, env=slow.env)
    slow.wait_for(run)
    os.kill(run.pid, signal.SIGTERM)
    run.until(f"stopping (SIGTERM): pending writes have {grace} s")
    if signals == 2:
        time.sleep(1)
        assert run.lives
        os.kill(run.pid, signal.SIGTERM)
    done = run.wait()
    assert done.returncode == 75, done.stderr
    word = "at once" if signals == 2 else "(SIGTERM)"
    assert done.stderr.splitlines()[-1] == f"mms-regions: interrupted {word}; run the same command again to go on"
    assert "Traceback" not in done.stderr
    assert half_written(tmp_path / "x.zarr") == []
    assert mms_regions_here(*words).returncode == 0
    assert_same_store(tmp_path / "x.zarr", healthy)
