"""What the status of a store in use says of its run: workers, batch jobs, rate and the time left, from the trace."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from plans import plan_of

from mms_regions.core.lock import hold
from mms_regions.core.messages import Event, RunStarted, SegmentDone, SegmentStarted, ShardLabelled, TaskEnded
from mms_regions.run.status import activity_of, store_status
from mms_regions.store.paths import lock_path, trace_path
from mms_regions.store.plan import write_plan

NOW = 1_800_000_000.0


def kept(at: float, event: Event) -> dict[str, Any]:
    """An event as a trace keeps it."""
    return {"event": type(event).__name__, "at": at, **asdict(event)}


def task(ended: float, worker: int, job: str = "") -> dict[str, Any]:
    where = {"host": "n1", "worker": worker, "batch_job": job}
    figures = {"started": ended - 9, "ended": ended, "cpu": 1.0, "cpu_ended": 1.0, "bytes": 1, "peak_memory": 1}
    return kept(ended, TaskEnded(stage="prepare", subject="A/mms1", attempt=1, **where, **figures))


def test_workers_and_jobs_are_those_of_late_and_the_rate_is_that_of_the_whole_run() -> None:
    events = [
        kept(NOW - 3600, RunStarted(92, 5)),
        task(NOW - 3000, 1, "70"),  # whose job has ended
        *(kept(NOW - 1000 + i, SegmentDone(f"A{i}/mms1")) for i in range(30)),
        kept(NOW - 50, SegmentDone("A0/mms1", "tried again, and failed")),
        task(NOW - 60, 1, "71"),
        task(NOW - 40, 2, "72"),
        task(NOW - 20, 2, "72"),
    ]
    found = activity_of(events, NOW)
    assert (found.workers, found.jobs) == (2, 2)
    assert str(found) == "2 workers in 2 jobs, 0.5 segments per minute, 2 h 04 min left"


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "its workers have not started yet"),
        ([kept(NOW - 60, RunStarted(3, 1))], "no task has ended in the last 10 min"),
        (
            [kept(NOW - 120, RunStarted(0, 6)), task(NOW - 9, 1), *(kept(NOW, ShardLabelled(n)) for n in range(2))],
            "1 worker, 1 shard per minute, 4 min 00 s left",
        ),
        (
            [kept(NOW - 60, RunStarted(1, 1)), task(NOW, 1), kept(NOW, SegmentDone("A/mms1"))],
            "1 worker, 1 segment per minute",
        ),
        (
            [kept(NOW - 1, RunStarted(4000, 1)), task(NOW, 1), *(kept(NOW, SegmentDone(str(n))) for n in range(40))],
            "1 worker, 2,400 segments per minute, 1 min 39 s left",
        ),
    ],
)
def test_what_is_not_known_yet_is_left_out(events: list[dict[str, Any]], said: str) -> None:
    assert str(activity_of(events, NOW)) == said


def test_what_a_killed_run_was_at_is_not_said_of_the_one_that_waits_for_its_workers(tmp_path: Path) -> None:
    """Its trace ends amid segments; the next run has the lock, and no worker yet."""
    store = tmp_path / "x.zarr"
    plan = plan_of([6.0, 6.0])
    write_plan(store, plan)
    key = plan.slots[0].segment.key
    before = [kept(time.time() - 1000 + i, event) for i, event in enumerate((RunStarted(2, 1), SegmentStarted(key)))]
    trace_path(store).write_text("".join(json.dumps(event) + "\n" for event in before))
    with hold(lock_path(store), "mms-regions run", lambda why: None):
        found = store_status(store)
        assert str(found.activity) == "its workers have not started yet" and found.counts["running"] == 0
        with trace_path(store).open("a") as trace:
            for event in (RunStarted(2, 1), SegmentStarted(key)):
                trace.write(json.dumps(kept(time.time(), event)) + "\n")
        found = store_status(store)
        assert found.activity and found.activity.pace and found.counts["running"] == 1
    assert store_status(store).activity is None
