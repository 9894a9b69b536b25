"""Labels under other scales and later windows: what is scaled, which samples have which runs, how often one labels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mms_regions.model.stability import SHIFTS, feature_factors, moved_scales, sensitivity_of
from mms_regions.physics.features import scaled_features


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_features_are_scaled_as_if_made_with_other_b0_and_n0(fraction: float) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(0, 100, (4, 50, 3))
    densities = rng.uniform(0.01, 2, (2, 50))
    made = scaled_features(vectors[0], vectors[1], *densities, vectors[2], vectors[3], 12.0, 0.2)
    scales = moved_scales(fraction)
    assert len(set(scales)) == 8
    for b0, n0 in scales:
        anew = scaled_features(vectors[0], vectors[1], *densities, vectors[2], vectors[3], 12.0 * b0, 0.2 * n0)
        np.testing.assert_allclose(made * feature_factors(b0, n0), anew, rtol=1e-6)


def place_in_window(windows: NDArray[np.float32], withheld: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Labels by the place in the window alone: 0 in its first half, 1 in its second; none after what is missing."""
    complete = np.logical_and.accumulate(np.isfinite(windows).all(axis=2), axis=1)
    half = np.broadcast_to(np.arange(windows.shape[1]) // 16, withheld.shape)
    return np.where(complete & ~withheld, half, -1).astype(np.int8)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2))
def test_windows_begin_later_in_each_segment_and_never_in_the_one_before(lengths: list[int], padding: int) -> None:
    edges = [0, *np.cumsum(lengths).tolist()]
    windows = np.ones((edges[-1] + padding, 32, 14), np.float32)
    windows[edges[-1] :] = np.nan
    withheld = np.zeros(windows.shape[:2], bool)
    label = place_in_window(windows, withheld)
    found = sensitivity_of(label, windows, withheld, [32 * e for e in edges[:-1]], 0.1, place_in_window).stability
    for first, last in pairwise(edges):
        for i in range(32 * (last - first)):
            others = [((i - shift) % 32) // 16 for shift in SHIFTS if i >= shift]
            expected = (8 + sum(other == (i % 32) // 16 for other in others)) / (8 + len(others))
            assert found[32 * first + i] == np.float32(expected)
    assert np.isnan(found[32 * edges[-1] :]).all()


def test_samples_without_a_label_have_no_stability_and_runs_without_one_do_not_count() -> None:
    windows = np.ones((2, 32, 14), np.float32)
    windows[0, 20] = np.nan  # the windows begun 8 and 16 samples later have no label from there on
    withheld = np.zeros((2, 32), bool)
    withheld[1, 5] = True
    label = place_in_window(windows, withheld)
    found = sensitivity_of(label, windows, withheld, [0], 0.1, place_in_window).stability
    np.testing.assert_array_equal(np.isnan(found), label.reshape(-1) == -1)
    assert found[32] == np.float32(9 / 9)  # 8 moved, and the one begun at 24: half 0 there too


def test_a_sample_changes_where_one_moved_run_says_so() -> None:
    def strong(windows: NDArray[np.float32], withheld: NDArray[np.bool_]) -> NDArray[np.int8]:
        return (windows[:, :, 0] > 1).astype(np.int8)

    windows = np.full((1, 32, 14), 0.95, np.float32)
    windows[0, 16:] = 0.5
    withheld = np.zeros((1, 32), bool)
    found = sensitivity_of(strong(windows, withheld), windows, withheld, [0], 0.1, strong)
    assert found.changes.tolist() == [True] * 16 + [False] * 16  # 0.95 / 0.9 > 1, for each of three n0
    assert found.stability[0] == np.float32(5 / 8)
    np.testing.assert_array_equal(found.stability[16:], 1)


@given(st.integers(1, 40))
def test_each_window_is_labelled_eleven_times_more_and_never_otherwise(count: int) -> None:
    asked = []

    def counted(windows: NDArray[np.float32], withheld: NDArray[np.bool_]) -> NDArray[np.int8]:
        asked.append(windows.shape)
        return place_in_window(windows, withheld)

    windows, withheld = np.ones((count, 32, 14), np.float32), np.zeros((count, 32), bool)
    sensitivity_of(place_in_window(windows, withheld), windows, withheld, [0], 0.1, counted)
    assert asked == [(count, 32, 14)] * 11
