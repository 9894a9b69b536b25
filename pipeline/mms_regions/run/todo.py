"""What is still to be done of a store: segments to prepare, shards that wait for them, shards without labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from mms_regions.store.plan import Plan, ShardPlan, Slot
from mms_regions.store.receipts import Failed, Receipt, Reused, records_of, torn
from mms_regions.workers.pool import Future

SegmentOutcome = Future | Failed | Reused  # what became of a segment; a prepared one stays where it was made


@dataclass
class Outstanding:
    """What is left, and what became of segments whose shards are not written yet; shrinks while a run goes on."""

    plan: Plan
    segments: deque[Slot]
    unwritten: dict[int, ShardPlan]
    unlabelled: deque[ShardPlan]
    settled: dict[str, SegmentOutcome] = field(default_factory=dict)
    _waiting: dict[int, set[str]] = field(init=False)  # by shard, the segments that it waits for
    wanted: dict[str, set[int]] = field(init=False)  # by segment, the shards that it is to be written into

    def __post_init__(self) -> None:
        self._waiting, self.wanted = {}, {}
        for shard in self.unwritten.values():
            self._want(shard)

    @classmethod
    def of_labels(cls, plan: Plan, unlabelled: Sequence[ShardPlan]) -> Outstanding:
        """Labels alone."""
        return cls(plan, deque(), {}, deque(unlabelled))

    def __bool__(self) -> bool:
        return bool(self.unwritten or self.unlabelled)

    def _want(self, shard: ShardPlan) -> None:
        self._waiting[shard.number] = {key for key in shard.keys if key not in self.settled}
        for key in shard.keys:
            self.wanted.setdefault(key, set()).add(shard.number)

    def settle(self, key: str, outcome: SegmentOutcome) -> Iterator[ShardPlan]:
        """Note what became of a segment; the shards that waited for nothing else."""
        self.settled[key] = outcome
        for number in sorted(self.wanted.get(key, ())):
            waiting = self._waiting[number]
            if key in waiting:
                waiting.remove(key)
                if not waiting:
                    yield self.unwritten[number]

    def of(self, shard: ShardPlan) -> list[SegmentOutcome]:
        """What became of the segments of a shard."""
        return [self.settled[key] for key in shard.keys]

    def written(self, shard: ShardPlan) -> None:
        """A shard is on disk: let go of segments that no other one waits for."""
        del self.unwritten[shard.number], self._waiting[shard.number]
        for key in shard.keys:
            self.wanted[key].discard(shard.number)
            if not self.wanted[key]:
                del self.wanted[key], self.settled[key]

    def put_back(self, shard: ShardPlan) -> None:
        """What was to be kept of a shard is damaged: all of its segments that are not at hand are made anew."""
        lost = [slot for slot in shard.slots if isinstance(self.settled.get(slot.segment.key), Reused)]
        for slot in lost:
            del self.settled[slot.segment.key]
        self.segments.extend(lost)
        self._want(shard)


def outstanding(
    plan: Plan, written: Mapping[int, Receipt], labelled: Collection[int], redo: Collection[str] = ()
) -> Outstanding:
    """What receipts do not show as done: shards without features or with failed segments, shards without labels.

    redo: keys of segments that are made anew though they are there. Of the shards that are written anew, segments
    that are complete in the store are kept and not prepared again.
    """
    anew = {*redo, *torn(written)}
    unwritten = {shard.number: shard for shard in plan.shards if _is_unwritten(shard, written, anew)}
    complete = [record for record in records_of(plan, written).values() if record.status == "complete"]
    kept: dict[str, SegmentOutcome] = {record.key: Reused(record) for record in complete if record.key not in anew}
    slots = {slot.index: slot for shard in unwritten.values() for slot in shard.slots if slot.segment.key not in kept}
    unlabelled = deque(s for s in plan.shards if s.number not in unwritten and s.number not in labelled)
    wanted = {key for shard in unwritten.values() for key in shard.keys}
    settled = {key: outcome for key, outcome in kept.items() if key in wanted}
    return Outstanding(plan, deque(_in_turn(unwritten, slots)), unwritten, unlabelled, settled)


def _in_turn(unwritten: Mapping[int, ShardPlan], slots: Mapping[int, Slot]) -> list[Slot]:
    """Shard after shard, so that what is done is safe soon; the last two side by side, to be written at one time.

    One worker alone would write the last of all, and the others wait for it.
    """
    numbers = sorted(unwritten)
    turns: dict[int, tuple[int, float]] = {}
    for number in reversed(numbers):  # a segment that reaches into two shards belongs to the first
        shard, group = unwritten[number], min(number, *numbers[-2:])
        turns |= {slot.index: (group, i / len(shard.slots)) for i, slot in enumerate(shard.slots)}
    return [slots[i] for i in sorted(slots, key=turns.__getitem__)]


def _is_unwritten(shard: ShardPlan, written: Mapping[int, Receipt], anew: Set[str]) -> bool:
    receipt = written.get(shard.number)
    return receipt is None or receipt.has_failures or not anew.isdisjoint(shard.keys)


def subject(shards: Sequence[ShardPlan]) -> str:
    """Such as `shard 3`, or `shards 3 5 6`, for those who watch."""
    numbers = " ".join(str(shard.number) for shard in shards)
    return f"shard{'s' if len(shards) > 1 else ''} {numbers}"
