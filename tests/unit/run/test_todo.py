"""What is to be done of a store, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from plans import plan_of, seconds, shard_sizes

from mms_regions.run.todo import outstanding
from mms_regions.store.plan import ShardPlan, Slot


def ready_after(shard: ShardPlan, slots: Sequence[Slot]) -> int:
    """How many segments have been made when all of a shard have."""
    return 1 + max(i for i, slot in enumerate(slots) if slot in shard.slots)


@given(lengths=st.lists(seconds, min_size=1, max_size=30), size=shard_sizes)
def test_shards_fill_one_after_another_but_for_the_last_two(lengths: list[float], size: int) -> None:
    plan = plan_of(lengths, size)
    slots = list(outstanding(plan, {}, ()).segments)
    assert sorted(slots, key=lambda slot: slot.index) == list(plan.slots)
    for shard in plan.shards[:-2]:
        assert slots[: ready_after(shard, slots)] == list(plan.slots[: shard.slots[-1].index + 1])


@given(lengths=st.lists(st.sampled_from([7.0, 3.0]), min_size=9, max_size=200))
def test_the_last_two_shards_are_ready_at_one_time(lengths: list[float]) -> None:
    """When one is, no more is left of the other than goes between two segments of the first."""
    plan = plan_of(lengths, 1024)  # 4 to 8 to a shard, and none in two
    *_, one, other = plan.shards
    slots = list(outstanding(plan, {}, ()).segments)
    left = abs(ready_after(one, slots) - ready_after(other, slots))
    assert left <= max(-(-len(one.slots) // len(other.slots)), -(-len(other.slots) // len(one.slots)))
