"""The command `simulate`: snapshots, a log and a picture of a small box; running again; what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

TINY = ("--length", "6.4", "--cells", "100", "--per-density", "60", "--end", "0.6", "--threads", "1")


def simulate(environment: dict[str, str], *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mms_regions", "simulate", *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_tiny_box_from_the_command_line(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "sheet"
    done = simulate(environment, "--out", out, *TINY, "--guide", "0.2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 2 snapshots, the last drawn in")
    assert (out / "last.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 50, 100, 150]
    assert all(line["gauss_error"] < 1e-6 for line in lines)
    again = simulate(environment, "--out", out, *TINY)
    assert again.returncode == 2 and "guide 0.2 there, 0.0 here" in again.stderr


def test_a_box_that_light_outruns_is_a_usage_error(environment: dict[str, str], tmp_path: Path) -> None:
    done = simulate(environment, "--out", tmp_path / "x", "--cells", "2000")
    assert done.returncode == 2
    assert "light would cross more than a cell" in done.stderr
    assert not (tmp_path / "x").exists()
