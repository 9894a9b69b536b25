"""The nearest of the times of a series, which pictures and the truth of synthetic files are read at."""

from __future__ import annotations

import numpy as np
import pytest

from mms_regions.physics.resample import nearest


@pytest.mark.parametrize(
    ("at", "found"), [(-5, 0), (0, 0), (14, 0), (15, 0), (16, 1), (30, 1), (99, 1), (100, 2), (900, 2)]
)
def test_the_nearest_time_is_found_also_beyond_the_ends_and_of_two_the_earlier_one(at: int, found: int) -> None:
    assert nearest(np.array([at]), np.array([0, 30, 169])).tolist() == [found]


def test_of_one_time_all_are_nearest() -> None:
    assert nearest(np.array([-1, 0, 7]), np.array([3])).tolist() == [0, 0, 0]
