"""Commands that need little start with little: nothing heavy is imported before it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from mms_regions.core.version import __version__

Command = Callable[..., "CompletedProcess[str]"]

HEAVY = {"torch", "dask", "distributed", "pyspedas", "zarr", "xarray", "pandas", "scipy"}

REPORT = """
import json, sys
from mms_regions.cli.main import main
try:
    main()
except SystemExit as stop:
    code = stop.code or 0
top = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([code, top]), file=sys.stderr)
"""


def modules_of(environment: dict[str, str], *words: object) -> tuple[set[str], str]:
    """The top-level modules that a command has imported when it ends well, and its stdout."""
    command = [sys.executable, "-c", REPORT, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    code, names = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(names), done.stdout


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["export", "-h"], ["catalogue", "list"], ["model", "list"], ["--version"]]
)
def test_words_are_answered_without_the_heavy_libraries(environment: dict[str, str], words: list[str]) -> None:
    modules, shown = modules_of(environment, *words)
    assert modules & HEAVY == set()
    assert shown.strip()


def test_help_names_the_commands_and_an_example(environment: dict[str, str]) -> None:
    _, shown = modules_of(environment, "--help")
    assert {"run", "label", "status", "export", "model", "catalogue"} <= set(shown.replace("│", " ").split())
    _, shown = modules_of({**environment, "COLUMNS": "120"}, "run", "--help")
    assert "--store" in shown
    assert "Example: mms-regions run" in shown


@pytest.mark.parametrize("command", ["status", "export"])
def test_reading_a_store_takes_neither_torch_nor_a_cluster(
    environment: dict[str, str], healthy: Path, tmp_path: Path, command: str
) -> None:
    out = ["--out", tmp_path, "--events", "A", "--probes", "1"] if command == "export" else []
    modules, _ = modules_of(environment, command, healthy, *out)
    assert "zarr" in modules
    assert modules & {"torch", "distributed", "pyspedas"} == set()


def test_the_version_is_that_of_the_package(mms_regions_here: Command) -> None:
    done = mms_regions_here("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mms-regions {__version__}\n", "")


def test_without_words_it_shows_what_there_is(mms_regions_here: Command) -> None:
    done = mms_regions_here()
    assert done.returncode == 2
    assert "Usage:" in done.stdout + done.stderr


def test_a_sentence_and_no_trace_unless_asked_for(mms_regions: Command, tmp_path: Path) -> None:
    done = mms_regions("status", tmp_path / "none.zarr")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mms-regions: ")
    assert "Traceback" not in done.stderr
    assert "Traceback" in mms_regions("status", tmp_path / "none.zarr", "--debug").stderr
