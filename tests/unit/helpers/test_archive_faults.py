"""Faults: those that cannot be, those drawn at random, and files of them."""

from __future__ import annotations

from typing import Any

import pytest
from archive_faults import KINDS, Fault, RandomFaults
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.core.errors import InputProblem


@pytest.mark.parametrize(
    "wrong",
    [
        dict(kind="gone"),
        dict(kind="busy", where="here"),
        dict(kind="flipped", where="listing"),
        dict(kind="busy", times=-1),
        dict(kind="slow", seconds=float("nan")),
        dict(kind="busy", match="("),
    ],
)
def test_a_fault_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputProblem, match=r"\.$"):
        Fault(**wrong)


@given(seed=st.integers(), share=st.floats(0.0, 1.0), most=st.integers(0, 3))
def test_random_faults_hang_on_nothing_but_seed_file_and_turn(seed: int, share: float, most: int) -> None:
    drawn = [RandomFaults(seed, share, KINDS, most).fault("download", "a.cdf", turn) for turn in range(8)]
    again = [RandomFaults(seed, share, KINDS, most).fault("download", "a.cdf", turn) for turn in reversed(range(8))]
    assert drawn == again[::-1]
    struck = [fault for fault in drawn if fault]
    assert len(struck) <= most
    assert all(fault.kind != "wrong_size" for fault in struck)
    assert share < 1 or len(struck) == most


def test_random_faults_strike_the_share_that_is_asked_for() -> None:
    random = RandomFaults(seed=1, share=0.2)
    struck = sum(random.fault("download", f"file {n}", 0) is not None for n in range(2000))
    assert struck == pytest.approx(400, abs=60)
