"""What is released as source: enough to build the images and run the tests."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from mms_regions.core.version import __version__

ROOT = Path(__file__).parents[2]
ALWAYS = {".gitignore", "pyproject.toml"}  # hatchling adds them by itself
NOT_RELEASED = {".ci", ".github", ".pre-commit-config.yaml"}  # of a checkout


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


def test_the_readme_on_a_package_index_has_no_link_to_a_file_beside_it() -> None:
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    readme = (ROOT / "README.md").read_text()
    assert "](docs/" in readme
    for substitution in hooks["fancy-pypi-readme"]["substitutions"]:
        readme = re.sub(substitution["pattern"], substitution["replacement"], readme)
    assert re.findall(r"\]\((?!https://)", readme) == []
    assert "getting started" in readme


def test_the_citation_is_of_this_version_and_has_a_date() -> None:
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {__version__}" in lines
    assert any(re.fullmatch(r"date-released: \d{4}-\d\d-\d\d", line) for line in lines)


def test_nothing_under_version_control_is_a_link() -> None:
    done = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no checkout of git")
    assert [line for line in done.stdout.splitlines() if line.startswith("120000")] == []
