"""What the benchmarks write leaves alone what others have written."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_section_of_the_results_takes_the_place_of_the_one_of_its_title(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    measure = importlib.import_module("measure")
    before = "# Results\n\n## A\n\n1\n\n### of A\n\n## B\n\n2\n"
    after = "# Results\n\n## A\n\n3\n\n## B\n\n2\n\n## C\n\n4\n"
    assert measure.with_sections(before, "## A\n\n3\n\n## C\n\n4") == after
