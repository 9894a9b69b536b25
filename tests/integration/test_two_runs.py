"""One run at a time works on a store; whoever looks meanwhile sees what it does, and a killed one is no obstacle."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from processes import Nursery
from stores import assert_same_store, left_over

from mms_regions.store.paths import lock_path

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


def test_a_second_run_is_refused_until_the_first_one_is_dead(
    processes: Nursery, mms_regions_here: Command, run_words: Words, healthy: Path, slow_writes: Any, tmp_path: Path
) -> None:
    store, slow = tmp_path / "x.zarr", slow_writes(1000)
    words = run_words(store)
    run = processes.start(*words, "--workers", 1, env=slow.env)
    slow.wait_for(run)

    held = f"{lock_path(store)}: held by `mms-regions run`, pid {run.pid} on {re.escape(socket.gethostname())} since "
    for second in (words, ["label", store, "--model", "second"]):
        done = mms_regions_here(*second)
        assert done.returncode == 5
        assert re.search(held + r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ; wait for it to end, or stop it there", done.stderr)

    told = json.loads(mms_regions_here("status", store, "--json").stdout)
    assert (told["run_by"]["pid"], told["run_by"]["command"]) == (run.pid, "mms-regions run")
    states = {row["segment"]: row["status"] for row in told["segments"]}
    assert states["A/mms1"] == states["A/mms2"] == states["LONG/mms1"] == "running"
    assert set(states.values()) <= {"running", "missing"}
    assert mms_regions_here("verify", store).returncode == 0, "what is being written is not damaged"

    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait().returncode == -signal.SIGKILL
    told = json.loads(mms_regions_here("status", store, "--json").stdout)
    assert told["run_by"] is None and told["counts"]["missing"] == 5
    assert lock_path(store).exists()
    assert mms_regions_here(*words).returncode == 0
    assert_same_store(store, healthy)
    assert left_over(store) == []


def test_watching_ends_with_the_run(
    processes: Nursery, mms_regions_here: Command, run_words: Words, slow_writes: Any, tmp_path: Path
) -> None:
    store, slow = tmp_path / "x.zarr", slow_writes(3)
    run = processes.start(*run_words(store, "--events", "A"), "--workers", 1, env=slow.env)
    slow.wait_for(run)
    seen = mms_regions_here("status", store, "--watch")
    assert run.wait().returncode == 0
    assert seen.returncode == 0
    first, *_, last = seen.stdout.splitlines()
    by = rf"2 running; in use by `mms-regions run`, pid {run.pid} on \S+ since \S+; "
    assert re.fullmatch(by + r"1 worker, [\d.,]+ segments? per minute", first)
    assert last == "2 complete"
