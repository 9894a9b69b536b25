"""A function in a child process: what it returns, what it raises, and what is left when the child dies of it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_a_child import add, die, die_once, process, refuse

from mms_regions.core.isolated import ChildDied, end_child, run_isolated, safe_path


def test_it_returns_and_raises_what_the_function_does() -> None:
    assert run_isolated(add, 1, other=2) == 3
    with pytest.raises(ValueError, match="for a reason"):
        run_isolated(refuse, "for a reason")


def test_one_child_serves_many_calls_and_ends_when_asked() -> None:
    one = run_isolated(process)
    assert one == run_isolated(process) != os.getpid()
    end_child()
    assert run_isolated(process) != one


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_its_death_is_an_error_and_the_next_call_has_a_new_child(number: signal.Signals) -> None:
    before = run_isolated(process)
    with pytest.raises(ChildDied, match=f"was ended by {number.name}") as died:
        run_isolated(die, number)
    assert died.value.advice.startswith("the system" if number == signal.SIGKILL else "fetch")
    assert run_isolated(process) not in (before, os.getpid())


@pytest.mark.parametrize("has_served", [True, False])
def test_what_a_child_died_of_is_tried_again_for_others_may_be_to_blame(has_served: bool, tmp_path: Path) -> None:
    """An earlier call, or the system, which kills what it likes where memory is short."""
    end_child()
    before = run_isolated(process) if has_served else 0
    assert run_isolated(die_once, tmp_path / "tried") not in (before, os.getpid())


def test_large_arrays_come_back_whole_also_where_files_may_not_be_large() -> None:
    end_child()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # which its child inherits
    try:
        large = run_isolated(np.arange, 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        end_child()
    assert np.array_equal(large, np.arange(100_000))
    assert np.array_equal(run_isolated(np.arange, 100_000), large)


def test_it_ends_with_its_parent_and_takes_no_module_from_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('taken from the working folder')")
    code = "from mms_regions.core.isolated import run_isolated; import os; print(run_isolated(os.getpid)); os._exit(0)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    child = int(done.stdout)
    for _ in range(600):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        signal.sigtimedwait([], 0.1)
    pytest.fail("the child outlives its parent")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("", ""), ("/a:/b", "/a:/b"), (":/a", "/a"), ("/a:", "/a"), ("/a::/b", "/a:/b"), (".", ""), ("sub:/a:../b", "/a")],
)
def test_an_empty_or_relative_entry_of_pythonpath_is_not_for_children(given: str, kept: str) -> None:
    assert safe_path({"PYTHONPATH": given}) == {"PYTHONSAFEPATH": "1", "PYTHONPATH": kept}


def test_children_are_safe_without_a_pythonpath_too() -> None:
    assert safe_path({}) == {"PYTHONSAFEPATH": "1", "PYTHONPATH": ""}
