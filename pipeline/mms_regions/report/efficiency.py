"""How well runs used their workers: time by stage, bytes and retries, from `trace.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mms_regions.core.messages import RunEnded, RunStarted, TaskEnded, TaskLost
from mms_regions.run.trace import all_runs

_Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class StageFigures:
    """The tasks of one stage of a run: s as they pass and of CPU, bytes of files read or written.

    Tasks side by side in one process share its CPU time, so `cpu` of stages that overlap may count some of it twice.
    """

    name: str
    tasks: int
    seconds: float
    cpu: float
    bytes: int
    failed: int
    repeated: int  # tries after the first one


@dataclass(frozen=True)
class TaskSpan:
    """A task in time, s since 1970; worker: its machine and process, as people read them."""

    stage: str
    worker: str
    started: float
    ended: float
    failed: bool


@dataclass(frozen=True)
class RunFigures:
    """A run as it went. started, ended: UTC; ended is the time of the last event where the run did not finish.

    workers: processes that ended a task. busy: share of their time, from the first task's begin to the last one's end,
    in which they were at one or more; None without tasks. peak_memory: bytes, of the largest process. lost: tasks whose
    workers died. segments, shards: what there was to prepare and to label, where the run recorded it.
    """

    started: datetime
    ended: datetime
    outcome: str
    segments: int
    shards: int
    stages: tuple[StageFigures, ...]
    workers: int
    hosts: int
    batch_jobs: int
    busy: float | None
    peak_memory: int
    lost: int
    spans: tuple[TaskSpan, ...] = ()

    @property
    def seconds(self) -> float:
        return (self.ended - self.started).total_seconds()


def efficiency(store: Path) -> tuple[RunFigures, ...]:
    """Every run of a store that left a trace, in order; empty where nothing is known."""
    return tuple(_figures(events) for events in all_runs(store))


def _figures(events: _Events) -> RunFigures:
    tasks = [event for event in events if event["event"] == TaskEnded.__name__]
    begun = next((event for event in events if event["event"] == RunStarted.__name__), {})
    outcomes = [event["outcome"] for event in events if event["event"] == RunEnded.__name__]
    return RunFigures(
        started=_utc(events[0]["at"]),
        ended=_utc(events[-1]["at"]),
        outcome=outcomes[-1] if outcomes else "did not finish: killed, or still running",
        segments=begun.get("segments", 0),
        shards=begun.get("shards", 0),
        stages=tuple(_stage(name, tasks) for name in dict.fromkeys(task["stage"] for task in tasks)),
        workers=len({_process(task) for task in tasks}),
        hosts=len({task["host"] for task in tasks}),
        batch_jobs=len({task["batch_job"] for task in tasks if task["batch_job"]}),
        busy=_busy(tasks),
        peak_memory=max((task["peak_memory"] for task in tasks), default=0),
        lost=sum(event["event"] == TaskLost.__name__ for event in events),
        spans=tuple(_span(task) for task in tasks),
    )


def _span(task: Mapping[str, Any]) -> TaskSpan:
    worker = f"{task['host'].partition('.')[0][:12]} {task['worker']}"
    return TaskSpan(task["stage"], worker, task["started"], task["ended"], bool(task["reason"]))


def _stage(name: str, tasks: _Events) -> StageFigures:
    own = [task for task in tasks if task["stage"] == name]
    return StageFigures(
        name=name,
        tasks=len(own),
        seconds=sum(task["ended"] - task["started"] for task in own),
        cpu=sum(task["cpu"] for task in own),
        bytes=sum(task["bytes"] for task in own),
        failed=sum(bool(task["reason"]) for task in own),
        repeated=sum(task["attempt"] > 1 for task in own),
    )


def _busy(tasks: _Events) -> float | None:
    """Tasks that overlap in a process count once."""
    if not tasks:
        return None
    spans: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for task in tasks:
        spans.setdefault(_process(task), []).append((task["started"], task["ended"]))
    whole = max(task["ended"] for task in tasks) - min(task["started"] for task in tasks)
    return sum(map(_covered, spans.values())) / (whole * len(spans)) if whole > 0 else None


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that are in one or more of the spans."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _process(task: Mapping[str, Any]) -> tuple[str, int]:
    return task["host"], task["worker"]


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
