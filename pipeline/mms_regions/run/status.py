"""What a store holds and what is being done to it, from its run folder alone: also while a run is going on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from mms_regions.core.catalogue import Catalogue
from mms_regions.core.errors import UsageProblem
from mms_regions.core.events import Segment
from mms_regions.core.lock import Owner, owner_of
from mms_regions.core.messages import (
    Pace,
    RunStarted,
    SegmentDone,
    SegmentStarted,
    ShardLabelled,
    TaskEnded,
    counted,
)
from mms_regions.model.coverage import Coverage
from mms_regions.run.trace import last_run
from mms_regions.store.index import shown_statuses
from mms_regions.store.labels import read_labelled
from mms_regions.store.paths import lock_path
from mms_regions.store.plan import Plan, require_plan
from mms_regions.store.receipts import coverage_by_segment, labelled_shards, shown_records, written_shards

_RECENT = 600.0  # s; tasks take seconds to minutes
_NO_TASK = f"no task has ended in the last {_RECENT / 60:g} min"

State = Literal["complete", "prepared", "running", "failed", "no_data", "missing"]


@dataclass(frozen=True)
class SegmentStatus:
    """What became of a segment; running: a run is at it, or at its shard.

    prepared: its labels are missing, or are there but not shown yet by the index, by which people open segments.
    origin: of its data: measured, synthetic, mixed or unknown; empty where it has none. coverage: where it is known.
    cause: the code of `core.outcomes.Cause`, once it is on disk.
    """

    segment: Segment
    state: State
    reason: str = ""
    origin: str = ""
    coverage: Coverage | None = None
    cause: str = ""


@dataclass(frozen=True)
class Activity:
    """How a run gets on, from its trace. workers, jobs: processes, and batch jobs, that ended a task in `_RECENT` s.

    pace: of its segments, or, where it has none to prepare, of its shards; None before its workers have started.
    """

    workers: int = 0
    jobs: int = 0
    pace: Pace | None = None

    def __str__(self) -> str:
        if self.pace is None:
            return "its workers have not started yet"
        jobs = f" in {counted(self.jobs, 'job')}" if self.jobs else ""
        working = f"{counted(self.workers, 'worker')}{jobs}" if self.workers else _NO_TASK
        return ", ".join(filter(None, (working, str(self.pace))))


@dataclass(frozen=True)
class StoreStatus:
    """What is known of each segment of a store, and who works on it now, and how."""

    segments: tuple[SegmentStatus, ...]
    run_by: Owner | None = None
    activity: Activity | None = None

    @property
    def counts(self) -> dict[State, int]:
        """How many segments are in each state."""
        found = Counter(row.state for row in self.segments)
        return {state: found[state] for state in get_args(State)}


def store_status(store: Path) -> StoreStatus:
    """What a store holds. Raises UsageProblem where there is no store."""
    plan, owner = require_plan(store), owner_of(lock_path(store))
    states, coverage, causes = _on_disk(store, plan)
    activity = None
    if owner is not None:
        events = _since(owner, last_run(store))
        activity = activity_of(events, time.time())
        sound = {key: state for key, state in states.items() if state[0] not in ("failed", "no_data")}
        states = {**states, **_under_way(events), **sound}
    rows = []
    for segment in (slot.segment for slot in plan.slots):
        state, reason, origin = states.get(segment.key, ("missing", "", ""))
        known = coverage.get(segment.key) if state == "complete" else None
        cause = causes.get(segment.key, "") if state in ("failed", "no_data") else ""
        rows.append(SegmentStatus(segment, state, reason, origin, known, cause))
    return StoreStatus(tuple(rows), owner, activity)


def _since(owner: Owner, events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The events of the run that has the lock: none, where the last one that began is an earlier run."""
    with suppress(ValueError):  # a lock may say anything
        if events and events[0]["at"] < datetime.fromisoformat(owner.since).timestamp():
            return ()
    return events


def activity_of(events: Sequence[Mapping[str, Any]], now: float) -> Activity:
    """How a run gets on at a time, s since 1970, from its events so far."""
    begun = next((event for event in events if event["event"] == RunStarted.__name__), None)
    if begun is None:
        return Activity()
    tasks = [e for e in events if e["event"] == TaskEnded.__name__ and e["at"] > now - _RECENT]
    noun, kind, name = ("segment", SegmentDone, "key") if begun["segments"] else ("shard", ShardLabelled, "shard")
    done = {event[name] for event in events if event["event"] == kind.__name__}
    return Activity(
        workers=len({(task["host"], task["worker"]) for task in tasks}),
        jobs=len({task["batch_job"] for task in tasks if task["batch_job"]}),
        pace=Pace(noun, len(done), begun[f"{noun}s"], now - begun["at"]),
    )


def _on_disk(store: Path, plan: Plan) -> tuple[dict[str, tuple[State, str, str]], dict[str, Coverage], dict[str, str]]:
    """What receipts say, the only record of what is done; what the index does not show yet is not complete.

    By key: state, reason and origin; the coverage of those whose labels are there; and causes.
    """
    labelled, written = read_labelled(store), written_shards(store, plan)
    shown = labelled if labelled and not labelled.swapping else None
    with_labels = labelled_shards(store, store, plan, written, shown) if shown else {}
    found = shown_records(plan, written, with_labels)
    index = zip(plan.slots, shown_statuses(store), strict=False)  # which is shorter while a store grows
    open_to_all = {slot.segment.key for slot, status in index if status == "complete"}
    hidden: dict[str, tuple[State, str]] = {
        key: ("prepared", "") for key, r in found.items() if r.status == "complete" and key not in open_to_all
    }
    origins = {key: r.origin if r.inputs else "" for key, r in found.items()}
    states = {key: (*hidden.get(key, (r.status, r.reason)), origins[key]) for key, r in found.items()}
    return states, coverage_by_segment(with_labels), {key: r.cause for key, r in found.items()}


def _under_way(events: Sequence[Mapping[str, Any]]) -> dict[str, tuple[State, str, str]]:
    """What a run in progress has reported of segments since it began."""
    found: dict[str, tuple[State, str, str]] = {}
    for event in events:
        match event:
            case {"event": RunStarted.__name__}:
                found.clear()
            case {"event": SegmentStarted.__name__, "key": key}:
                found[key] = ("running", "", "")
            case {"event": SegmentDone.__name__, "key": key, "reason": reason} if reason:
                found[key] = ("no_data" if event.get("no_data") else "failed", reason, "")
    return found


def planned_segments(store: Path, events: str | None = None, probes: str | None = None) -> tuple[Segment, ...]:
    """The segments of a store that a selection such as `A,C-F` and `1-4` names, whatever became of them.

    Raises UsageProblem for words that name nothing in the store, and where there is none.
    """
    return _chosen(store, require_plan(store), events, probes)


def complete_segments(store: Path, events: str | None = None, probes: str | None = None) -> tuple[Segment, ...]:
    """Those of them that are complete. Raises UsageProblem as `planned_segments`, and where nothing is complete."""
    plan = require_plan(store)
    complete = {key for key, (state, *_) in _on_disk(store, plan)[0].items() if state == "complete"}
    found = tuple(segment for segment in _chosen(store, plan, events, probes) if segment.key in complete)
    if not found:
        raise UsageProblem(f"{store}: none of the segments asked for is complete; see `mms-regions status {store}`")
    return found


def _chosen(store: Path, plan: Plan, events: str | None, probes: str | None) -> tuple[Segment, ...]:
    wanted = set(Catalogue(store.name, plan.events).segments(events, probes))
    return tuple(slot.segment for slot in plan.slots if slot.segment in wanted)
