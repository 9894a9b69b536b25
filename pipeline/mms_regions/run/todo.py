"""What is still to be done of a store: segments to prepare, shards that wait for them, shards without labels.

Also what is to be done again: the segments that `--redo` names are kept in a file until they have been made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from mms_regions.archive.manifest import Manifest, read_manifest
from mms_regions.core.catalogue import Catalogue
from mms_regions.core.errors import EnvironmentProblem, SegmentProblem, UsageProblem
from mms_regions.core.events import Segment
from mms_regions.core.files import copy_of, remove
from mms_regions.core.messages import plural
from mms_regions.core.settings import Settings
from mms_regions.run.inputs import Inputs, obtain_files, open_inputs
from mms_regions.store.paths import redo_path
from mms_regions.store.plan import Plan, ShardPlan, Slot
from mms_regions.store.receipts import Failed, Receipt, Record, Reused, records_of, torn, written_shards
from mms_regions.store.state import read_state, write_state
from mms_regions.workers.pool import Future

ALL, CHANGED = "all", "changed"

SegmentOutcome = Future | Failed | Reused  # the result of a segment; a prepared one stays where it was made


@dataclass
class Outstanding:
    """What is left to do, and the results of segments whose shards are not written yet; shrinks while a run goes on."""

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
        """Note the result of a segment; returns the shards that waited for nothing else."""
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

    def lose(self, key: str) -> None:
        """What was made of a segment is lost: the shards that it is for wait for it again."""
        del self.settled[key]
        for number in self.wanted[key]:
            self._waiting[number].add(key)

    def waits(self, shard: ShardPlan) -> bool:
        """Whether a shard waits for segments."""
        return bool(self._waiting[shard.number])

    def put_back(self, shard: ShardPlan) -> None:
        """What was to be kept of a shard is damaged: all of its segments that are not at hand are made again."""
        lost = [slot for slot in shard.slots if isinstance(self.settled.get(slot.segment.key), Reused)]
        for slot in lost:
            del self.settled[slot.segment.key]
        self.segments.extend(lost)
        self._want(shard)


def outstanding(
    plan: Plan, written: Mapping[int, Receipt], labelled: Collection[int], redo: Collection[str] = ()
) -> Outstanding:
    """What receipts do not show as done: shards without features or with segments not made, shards without labels.

    redo: keys of segments that are made again though they are there. Of the shards that are written again, segments
    that are complete in the store are kept and not prepared again.
    """
    again = {*redo, *torn(written)}
    unwritten = {shard.number: shard for shard in plan.shards if _is_unwritten(shard, written, again)}
    complete = [record for record in records_of(plan, written).values() if record.status == "complete"]
    kept: dict[str, SegmentOutcome] = {record.key: Reused(record) for record in complete if record.key not in again}
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


def _is_unwritten(shard: ShardPlan, written: Mapping[int, Receipt], again: Set[str]) -> bool:
    receipt = written.get(shard.number)
    return receipt is None or receipt.has_failures or not again.isdisjoint(shard.keys)


def subject(numbers: Sequence[int]) -> str:
    """What tasks are about, as it is reported: `shard 3`, or `shards 3 5 6`."""
    return f"{plural('shard', len(numbers))} {' '.join(map(str, numbers))}"


# --- What is to be made again


def keys_to_redo(store: Path, plan: Plan, settings: Settings, asked: str) -> set[str]:
    """The keys that are to be made again, as asked now, and as asked before a kill; nothing is written.

    Raises UsageProblem where the store has no such segments, EnvironmentProblem where a manifest names other files than
    those that complete segments were made from.
    """
    records = records_of(plan, written_shards(store, plan))
    changed = cache(partial(_changed, plan, records, settings))
    before, keys = read_redo(store, plan)
    if asked and asked != before:
        keys |= keys_named(asked, plan, changed)
    if settings.manifest and (other := sorted(set(changed()) - keys)):
        raise EnvironmentProblem(
            f"{store}: {', '.join(other[:5])}{' and others' if len(other) > 5 else ''} were made from other files than "
            f"those of {settings.manifest}; choose another --store, or make them again with --redo {CHANGED}"
        )
    return keys


def _changed(plan: Plan, records: Mapping[str, Record], settings: Settings) -> Collection[str]:
    """The complete segments that today's files, those of the manifest or of the data folder, would make otherwise."""
    done = {key: record for key, record in records.items() if record.status == "complete"}
    there = [(slot.segment, done[slot.segment.key]) for slot in plan.slots if slot.segment.key in done]
    if settings.manifest:
        pinned = read_manifest(settings.manifest)
        return [segment.key for segment, record in there if not _is_from(record, pinned)]
    offline = open_inputs(settings.model_copy(update={"offline": True}))
    return [segment.key for segment, record in there if _has_other_files(segment, record, offline)]


def _is_from(record: Record, pinned: Manifest) -> bool:
    known = [pinned.get(file.name) for file in record.inputs]
    return all(pin is not None and pin.sha256 == file.sha256 for pin, file in zip(known, record.inputs, strict=True))


def _has_other_files(segment: Segment, record: Record, inputs: Inputs) -> bool:
    try:
        pins = obtain_files(segment, inputs.near(segment))
    except SegmentProblem:
        return False  # files that are gone from a folder have not changed
    return {(pin.name, pin.sha256) for pin in pins} != {(file.name, file.sha256) for file in record.inputs}


def keys_named(asked: str, plan: Plan, changed: Callable[[], Collection[str]]) -> set[str]:
    """The keys that a request such as `A,C-F,B/mms4` name; `all` is all, `changed` what is not made from today's files.

    Raises UsageProblem for a word that names nothing in the plan.
    """
    return {key for word in asked.split(",") if word.strip() for key in _named(word.strip(), plan, changed)}


def _named(word: str, plan: Plan, changed: Callable[[], Collection[str]]) -> Collection[str]:
    keys = [slot.segment.key for slot in plan.slots]
    if word == ALL:
        return keys
    if word == CHANGED:
        return changed()
    if word in keys:
        return [word]
    try:
        events = {segment.event.name for segment in Catalogue("the store", plan.events).segments(word)}
    except UsageProblem:
        raise UsageProblem(
            f"--redo {word} names no segment of the store; give keys such as {keys[0]}, events such as "
            f"{plan.events[0].name}, `{CHANGED}` or `{ALL}`"
        ) from None
    return [slot.segment.key for slot in plan.slots if slot.segment.event.name in events]


def read_redo(store: Path, plan: Plan) -> tuple[str, set[str]]:
    """What was asked to be made again, and which keys of it are still to be; nothing where nothing is."""
    try:
        data = read_state(redo_path(store), plan.uuids)
    except EnvironmentProblem:
        data = None  # a request that is lost is made again
    return (data["asked"], set(data["keys"])) if data else ("", set())


def write_redo(store: Path, uuid: str, asked: str, keys: Collection[str]) -> None:
    """Keep what is still to be made again, for a run that goes on after this one was killed."""
    if keys:
        write_state(redo_path(store), uuid, {"asked": asked, "keys": sorted(keys)})
    else:
        for path in (redo_path(store), copy_of(redo_path(store))):
            remove(path)
