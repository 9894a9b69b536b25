"""Stretches of equal labels: what ends one, and how short ones are joined to others."""

from __future__ import annotations

import inspect
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mms_regions.cli.options import MinDurationOption
from mms_regions.core.types import NO_LABEL
from mms_regions.export.export import export
from mms_regions.notebook import Store
from mms_regions.store.stretches import DEFAULT_SHORTEST, Stretch, shortest_of, stretches

STEP = 30_000_000  # ns
START = np.datetime64("2017-07-11T22:34:00", "ns").astype(np.int64)


def times(steps: list[int]) -> np.ndarray:
    """(n + 1,) ns UTC, by the steps between samples in units of 30 ms."""
    return START + STEP * np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])


def regular(n: int) -> np.ndarray:
    return times([1] * (n - 1))


def regions(found: list[Stretch]) -> list[tuple[int, int, int]]:
    return [(one.region, one.first, one.last) for one in found]


def test_a_stretch_ends_where_the_label_changes() -> None:
    found = stretches(regular(6), np.array([3, 3, 0, 0, 0, 3]))
    assert regions(found) == [(3, 0, 1), (0, 2, 4), (3, 5, 5)]
    assert [one.length for one in found] == [2 * STEP, 3 * STEP, STEP]
    assert found[0].begin == START - STEP // 2 and found[0].end == found[1].begin


def test_a_stretch_ends_at_a_gap_at_missing_labels_and_where_time_runs_backwards() -> None:
    label = np.array([1, 1, 1, NO_LABEL, 1, 1, 1])
    found = stretches(times([1, 3, 1, 1, 1, -2]), label)
    assert regions(found) == [(1, 0, 1), (1, 2, 2), (1, 4, 5), (1, 6, 6)]


def test_nothing_labelled_is_no_stretch() -> None:
    assert stretches(regular(3), np.full(3, NO_LABEL)) == []
    assert stretches(np.empty(0, np.int64), np.empty(0, np.int8)) == []


def test_a_short_run_between_two_of_one_region_goes_to_both() -> None:
    assert regions(stretches(regular(9), np.array([1, 1, 1, 1, 5, 1, 1, 1, 1]), 0.06)) == [(1, 0, 8)]


def test_a_short_run_between_two_regions_goes_to_the_longer_one_or_the_earlier_of_equals() -> None:
    longer_after = np.array([1, 1, 5, 0, 0, 0])
    assert regions(stretches(regular(6), longer_after, 0.06)) == [(1, 0, 1), (0, 2, 5)]
    equals = np.array([1, 1, 5, 0, 0])
    assert regions(stretches(regular(5), equals, 0.06)) == [(1, 0, 2), (0, 3, 4)]


def test_the_shortest_run_goes_first() -> None:
    """Taken from the left, the two samples of 2 would be joined to 1, and 3 to 4 after it."""
    label = np.array([1, 1, 1, 2, 2, 3, 2, 2, 4, 4, 4])
    assert regions(stretches(regular(11), label, 0.09)) == [(1, 0, 2), (2, 3, 7), (4, 8, 10)]


def test_nothing_is_joined_across_a_gap_or_a_missing_label() -> None:
    label = np.array([1, 1, 1, 2, NO_LABEL, 1, 1, 1])
    assert regions(stretches(regular(8), label, 0.06)) == [(1, 0, 3), (1, 5, 7)]
    lonely = np.array([1, 1, 1, 2, 1, 1, 1])
    assert regions(stretches(times([1, 1, 4, 4, 1, 1]), lonely, 0.06)) == [(1, 0, 2), (2, 3, 3), (1, 4, 6)]


@given(
    rows=st.lists(st.tuples(st.integers(-1, 3), st.sampled_from([1, 1, 1, 1, 2, 7, 0, -3])), max_size=60),
    shortest=st.sampled_from([0.0, 0.03, 0.05, 0.1, 0.31, 100.0]),
)
@example(rows=[(0, 1), (1, 1), (0, 1), (1, 1)], shortest=0.05)
def test_merging_conserves_samples_and_leaves_nothing_short(rows: list[tuple[int, int]], shortest: float) -> None:
    label = np.array([region for region, _ in rows], np.int64)
    time = times([step for _, step in rows[1:]]) if rows else np.empty(0, np.int64)
    plain, merged = stretches(time, label), stretches(time, label, shortest)

    inside = [i for one in merged for i in range(one.first, one.last + 1)]
    assert inside == np.flatnonzero(label != NO_LABEL).tolist()  # each labelled sample once, in order, no other
    for one in merged:
        steps = np.diff(time[one.first : one.last + 1])
        assert (steps == STEP).all()  # no gap inside
        assert one.region in label[one.first : one.last + 1]
    for one, after in pairwise(merged):
        touching = after.begin == one.end and after.first == one.last + 1
        assert not touching or one.region != after.region
        if touching:
            assert min(one.length, after.length) >= round(shortest * 1e9)
    assert shortest > 0 or merged == plain


def test_a_stretch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no stretch"):
        Stretch(NO_LABEL, 0, 1, 0, 1)
    with pytest.raises(ValueError, match="no stretch"):
        Stretch(1, 2, 1, 0, 1)


def test_the_default_is_said_once_and_the_help_has_it() -> None:
    assert (shortest_of(None), shortest_of(0.0), shortest_of(1.5)) == (DEFAULT_SHORTEST, 0.0, 1.5)
    (option,) = MinDurationOption.__metadata__
    assert option.help.endswith(f"Default: {DEFAULT_SHORTEST:g}.")
    assert inspect.signature(Store.stretches).parameters["min_duration"].default is None
    assert inspect.signature(export).parameters["min_duration"].default is None
