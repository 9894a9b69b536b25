"""Temporary folders go at the end, and those of killed commands with the next one: only ours, only where free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mms_regions.workers.scratch
from mms_regions.workers.scratch import PREFIX, scratch_folder

HOLDS = """
import sys
from pathlib import Path
from mms_regions.workers.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "much").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_folder_goes_at_the_end(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_command_left_goes_with_the_next_and_what_is_in_use_stays(tmp_path: Path) -> None:
    code = [sys.executable, "-c", HOLDS, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(mms_regions.workers.scratch.__file__).parents[2])}
    with subprocess.Popen(code, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        with scratch_folder(tmp_path) as mine:
            assert {*tmp_path.iterdir()} == {left, mine}, "it is in use"
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (left / "much").exists()
        with scratch_folder(tmp_path) as mine:
            assert {*tmp_path.iterdir()} == {mine}


def test_what_is_another_users_or_has_no_lock_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("theirs", "unlocked"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
    (tmp_path / f"{PREFIX}theirs" / "lock").touch()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with scratch_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}theirs", f"{PREFIX}unlocked"]
    monkeypatch.undo()
    with scratch_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}unlocked"]
