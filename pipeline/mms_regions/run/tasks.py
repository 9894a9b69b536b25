"""A task as it is told of: who ran it, how long, how large, and why it failed."""

from __future__ import annotations

import os
import platform
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from mms_regions.core.messages import Notify, TaskEnded

Stage = Literal["fetch", "prepare", "write", "label"]


@dataclass(frozen=True)
class Job:
    """What a task is for: its stage, the segment or shards, and which attempt it is."""

    stage: Stage
    subject: str
    attempt: int = 1


def told(job: Job, notify: Notify, size: Callable[[Any], int], function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task, and tell how it went. size: bytes of the files behind its result; raises what the task raises."""
    started = _Clocks()
    try:
        result = function(*arguments)
    except Exception as problem:
        notify(_ended(job, started, 0, str(problem) or type(problem).__name__, traceback.format_exc()))
        raise
    notify(_ended(job, started, size(result), "", ""))
    return result


@dataclass(frozen=True)
class _Clocks:
    """s since 1970, and s that this process has computed."""

    wall: float = field(default_factory=time.time)
    cpu: float = field(default_factory=time.process_time)


def _ended(job: Job, started: _Clocks, size: int, reason: str, trace: str) -> TaskEnded:
    ended = _Clocks()
    return TaskEnded(
        stage=job.stage,
        subject=job.subject,
        attempt=job.attempt,
        host=platform.node(),
        worker=os.getpid(),
        started=started.wall,
        ended=ended.wall,
        cpu=ended.cpu - started.cpu,
        cpu_ended=ended.cpu,
        bytes=size,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        reason=reason,
        trace=trace,
        batch_job=os.environ.get("SLURM_JOB_ID", ""),
    )
