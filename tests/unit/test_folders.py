"""The folders models/ and jobs/profiles/ hold no data, and say how to get a copy of what the package has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_command_that_copies_a_profile_works(tmp_path: Path) -> None:
    (line,) = re.findall(
        r"^    (mms-regions config init .*)$", (ROOT / "jobs" / "profiles" / "README.md").read_text(), re.MULTILINE
    )
    command = line.replace("mms-regions", f"{sys.executable} -m mms_regions", 1)
    here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "pipeline")}
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=here, check=True)
    original = ROOT / "pipeline" / "mms_regions" / "core" / "profiles" / "slurm-cpu.toml"
    assert (tmp_path / "my-cluster.toml").read_bytes() == original.read_bytes()


@pytest.mark.parametrize("folder", ["models", "jobs/profiles"])
def test_the_folder_that_a_readme_names_is_there_and_the_readme_is_alone(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    (named,) = set(re.findall(r"`(pipeline/\S+/)`", readme.read_text()))
    assert list((ROOT / named).iterdir())
    assert [path.name for path in (ROOT / folder).iterdir()] == ["README.md"]
