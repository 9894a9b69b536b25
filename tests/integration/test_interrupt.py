"""Ctrl-C, as a terminal sends it: to the command and to its workers at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import xarray as xr

Command = Callable[..., "CompletedProcess[str]"]
HEADER = "event,t_start,t_end,B0,n0,probes"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A dozen overlapping intervals within one event's files: enough to be interrupted in the middle."""
    rows = [f"e{i},2017-07-11T14:36:{i:06.3f},2017-07-11T14:36:{i + 8:06.3f},12,0.2,1" for i in range(12)]
    path = tmp_path / "many.csv"
    path.write_text("\n".join([HEADER, *rows]))
    return path


def test_ctrl_c_ends_a_run_with_one_sentence_and_the_next_one_goes_on(
    mms_regions_here: Command, environment: dict[str, str], many: Path, data_dir: Path, profile: Path, tmp_path: Path
) -> None:
    words = ["run", many, "--data-dir", data_dir, "--profile", profile, "--store"]
    command = [sys.executable, "-m", "mms_regions", *map(str, words), str(tmp_path / "cut.zarr"), "--workers", "2"]
    with subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as run:
        assert run.stderr is not None
        seen = [line for line, _ in zip(run.stderr, range(4), strict=False)]  # three segments are prepared
        os.killpg(run.pid, signal.SIGINT)
        rest = run.stderr.read()
    assert run.returncode == 75, rest
    assert seen[0].startswith("12 segments to prepare")
    assert rest.endswith("mms-regions: interrupted (SIGINT); run the same command again to go on\n")
    assert "Traceback" not in rest

    again = mms_regions_here(*words, tmp_path / "cut.zarr")
    assert again.returncode == 0, again.stderr
    assert mms_regions_here(*words, tmp_path / "whole.zarr").returncode == 0
    cut, whole = (xr.open_zarr(tmp_path / name, chunks=None) for name in ("cut.zarr", "whole.zarr"))
    xr.testing.assert_equal(cut, whole)
