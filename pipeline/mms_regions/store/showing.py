"""What the index of a store shows while a run goes on: nothing that is about to change, and soon what is whole."""

from __future__ import annotations

import time
from pathlib import Path

from mms_regions.core.messages import Event, ShardBegun, ShardLabelled, ShardWritten
from mms_regions.store.layout import shown_statuses
from mms_regions.store.plan import Plan
from mms_regions.store.shards import describe_store

_SHARE = 0.05  # of a run's time, at most, for bringing the index up to date


class IndexUpdater:
    """An observer that withdraws segments before their shard is written anew, and shows those that are complete.

    It is called before the writing begins.
    """

    def __init__(self, store: Path, plan: Plan):
        self._store, self._plan = store, plan
        index = zip(plan.slots, shown_statuses(store), strict=True)
        self._complete = {slot.segment.key for slot, status in index if status == "complete"}
        self._rewritten: set[int] = set()
        self._not_before = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case ShardBegun(number) if not self._complete.isdisjoint(self._plan.shards[number].keys):
                self._rewritten.add(number)
                self._describe()
            case ShardWritten(number):
                self._rewritten.discard(number)
            case ShardLabelled() if time.monotonic() >= self._not_before:
                self._describe()

    def _describe(self) -> None:
        began = time.monotonic()
        records = describe_store(self._store, self._plan, self._rewritten)
        self._complete = {key for key, record in records.items() if record.status == "complete"}
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / _SHARE
