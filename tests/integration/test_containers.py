"""The images, built and run for real by tests/containers.sh; what it says is shown at the end of the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("made_from", ["image", pytest.param("base", marks=pytest.mark.long)])
def test_images_are_built_and_run(made_from: str, record_property: Callable[[str, object], None]) -> None:
    code, said = _containers(made_from)
    record_property("containers", said)
    assert code == 0, said
    missing = [line for line in said.splitlines() if line.startswith("SKIPPED: CONTAINER IMAGES")]
    if missing:
        pytest.skip(missing[0])


def test_a_word_that_the_script_does_not_know_is_refused() -> None:
    code, said = _containers("everything")
    assert code == 2
    assert "'everything'" in said


def _containers(word: str) -> tuple[int, str]:
    """The exit code of the script and what it said, on both channels."""
    script = subprocess.Popen(
        [ROOT / "tests" / "containers.sh", word],
        env={**os.environ, "PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = script.communicate()
    except BaseException:  # out of time, or Ctrl-C: its builds end too, and it tidies up
        os.killpg(script.pid, signal.SIGTERM)
        script.communicate()
        raise
    return script.returncode, said
