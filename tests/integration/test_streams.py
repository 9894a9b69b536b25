"""Standard streams that are closed, full, or a pipe without a reader: exit codes stay those of the table."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mms_regions.run.status import store_status

SHOW = "catalogue show"


@pytest.fixture
def shell(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a line of bash, in which `mms` is the command; prints what came of it as `code N` on stderr."""

    def call(line: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = f'mms() {{ {shlex.quote(sys.executable)} -m mms_regions "$@"; }}\n{line}'
        return subprocess.run(
            ["bash", "-c", command], env={**environment, **env}, capture_output=True, text=True, check=False
        )

    return call


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [SHOW, "config schema", "--help", "model show waters2025"])
def test_a_reader_that_has_enough_is_no_error(
    shell: Callable[..., subprocess.CompletedProcess[str]], command: str, unbuffered: str
) -> None:
    done = shell(f"mms {command} | true; exit ${{PIPESTATUS[0]}}", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_keeps_its_exit_code_though_nobody_reads_it(
    shell: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert shell("mms catalogue check nowhere.csv 2>&1 | true; exit ${PIPESTATUS[0]}").returncode == 3
    for stderr in ("2>/dev/full", "2>&-"):
        assert shell(f"mms catalogue check nowhere.csv {stderr}").returncode == 3
        assert shell(f"mms catalogue check {stderr}").returncode == 0


def test_results_that_cannot_be_printed_are_an_error_of_the_machine(
    shell: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = shell(f"mms {SHOW} >/dev/full")
    assert done.returncode == 5
    assert done.stderr == (
        "mms-regions: stdout cannot be written: No space left on device; redirect it to another place\n"
    )


def test_with_all_streams_closed_a_run_is_complete(
    shell: Callable[..., subprocess.CompletedProcess[str]], run_words: Callable[..., list[object]], tmp_path: Path
) -> None:
    """Else files of the store would get the descriptors of stdout and stderr, and what is printed would go there."""
    store = tmp_path / "a.zarr"
    args = shlex.join(map(str, run_words(store, "--workers", 0)))
    assert shell(f"mms {args} <&- >&- 2>&-").returncode == 0
    counts = store_status(store).counts
    assert counts["complete"] == sum(counts.values()) > 0
    assert shell(f"mms verify {store} <&- >&- 2>&-").returncode == 0


def test_descriptors_below_three_are_never_those_of_other_files(environment: dict[str, str]) -> None:
    code = (
        "import os\nfrom mms_regions.cli.streams import protect_streams\nprotect_streams()\n"
        "file = os.open('/', os.O_RDONLY)\nos._exit(file >= 3)"
    )
    line = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", line], env=environment, check=False).returncode == 1


def test_too_little_memory_is_named_as_the_cause(shell: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = shell("ulimit -v 250000; mms model check analytic-layer", OMP_NUM_THREADS="1")
    assert done.returncode == 5, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mms-regions: there is not enough memory: this shell limits a process to 0.2 GiB")
    assert os.linesep + "Traceback" not in done.stderr
