"""Children search no module in the folder where a command was started."""

from __future__ import annotations

import pytest

from mms_regions.core.child_process import safe_path


@pytest.mark.parametrize(
    ("given", "kept"),
    [("", ""), ("/a:/b", "/a:/b"), (":/a", "/a"), ("/a:", "/a"), ("/a::/b", "/a:/b"), (".", ""), ("sub:/a:../b", "/a")],
)
def test_an_empty_or_relative_entry_of_pythonpath_is_not_for_children(given: str, kept: str) -> None:
    assert safe_path({"PYTHONPATH": given}) == {"PYTHONSAFEPATH": "1", "PYTHONPATH": kept}


def test_children_are_safe_without_a_pythonpath_too() -> None:
    assert safe_path({}) == {"PYTHONSAFEPATH": "1", "PYTHONPATH": ""}
