"""What is released as source: enough to build the images and run the tests."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALWAYS = {".gitignore", "pyproject.toml"}  # hatchling adds them by itself
NOT_RELEASED = {".ci", ".pre-commit-config.yaml"}  # of a checkout


def released() -> set[str]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = table["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    assert [path for path in included if not (ROOT / path.removeprefix("/")).exists()] == []
    return {path.removeprefix("/") for path in included} | ALWAYS


def test_all_that_the_images_are_made_of_is_released() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert "pipeline" in allowed
    assert {path.partition("/")[0] for path in allowed} <= released()
    assert {"Dockerfile", "apptainer.def", ".dockerignore"} <= released()


def test_what_is_kept_under_version_control_is_released_but_for_a_few() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no checkout of git")
    assert {path.partition("/")[0] for path in done.stdout.splitlines()} == released() | NOT_RELEASED
