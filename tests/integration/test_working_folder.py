"""Files of the user's own in the folder where a command is started are imported by nothing that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

Words = Callable[..., list[object]]

SHADOWS = "calendar code numpy queue random select signal tempfile types zarr".split()
COMMAND = "from mms_regions.cli.main import main\nif __name__ == '__main__':\n    main()\n"


@pytest.fixture
def shadowed(tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, as it is installed, started in a folder with such files."""
    script, here = tmp_path / "bin" / "mms-regions", tmp_path / "here"
    for folder in (script.parent, here):
        folder.mkdir()
    script.write_text(COMMAND)
    for name in SHADOWS:
        (here / f"{name}.py").write_text('raise SystemExit("a file of the user was imported")\n')
    plain = {name: value for name, value in environment.items() if name != "PYTHONSAFEPATH"}

    def call(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *map(str, args)]
        return subprocess.run(command, cwd=here, env=plain, capture_output=True, text=True, check=False)

    return call


@pytest.mark.parametrize("command", ["run", "report", "doctor"])
def test_no_child_imports_from_the_working_folder(
    command: str,
    shadowed: Callable[..., subprocess.CompletedProcess[str]],
    run_words: Words,
    healthy: Path,
    tmp_path: Path,
) -> None:
    words = {
        "run": run_words(tmp_path / "x.zarr", "--workers", 1, "--events", "A"),
        "report": ["report", healthy, "--out", tmp_path / "report", "--workers", 2],
        "doctor": ["doctor", "--json"],
    }
    done = shadowed(*words[command])
    assert "a file of the user was imported" not in done.stdout + done.stderr
    if command != "doctor":
        assert done.returncode == 0, done.stderr


def test_the_files_would_be_imported_otherwise(
    shadowed: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, "-c", "import random"],
        cwd=tmp_path / "here",
        env=plain,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a file of the user was imported" in done.stderr
