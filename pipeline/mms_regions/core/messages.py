"""What tasks and the loop report while they work, and the limit that transfers share. The events can be pickled."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TransferStarted:
    """A file begins to arrive; `size` in bytes where known, `offset` of them from an earlier try."""

    name: str
    size: int | None
    offset: int = 0


@dataclass(frozen=True)
class BytesArrived:
    """Some more bytes of a file."""

    name: str
    count: int


@dataclass(frozen=True)
class TransferDone:
    """A file is whole, verified and under its name; `url` is where it came from."""

    name: str
    size: int
    sha256: str
    url: str


@dataclass(frozen=True)
class Waiting:
    """Nothing moves for `seconds` more, and why; reported again every second of a long wait."""

    name: str
    seconds: float
    why: str


@dataclass(frozen=True)
class Quarantined:
    """A bad file of the cache was put aside."""

    name: str
    why: str


@dataclass(frozen=True)
class FilesChecked:
    """The files of a segment are there and sound: what a manifest says of each."""

    pins: tuple[dict[str, Any], ...]


def peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass(frozen=True)
class TaskEnded:
    """A task has run: where, when (s since 1970, UTC), and what came of it.

    subject: a segment's key, or the shards. cpu: s that its process computed meanwhile, and cpu_ended: until then in
    all, so that what tasks side by side in a process took is not counted twice. bytes: of the files that it read or
    wrote. peak_memory: bytes, the most that its process ever had. batch_job: the number of the batch job that ran it,
    where there was one. reason and trace: of a failure, in a sentence and in full.
    """

    stage: str
    subject: str
    attempt: int
    host: str
    worker: int  # process
    started: float
    ended: float
    cpu: float
    cpu_ended: float
    bytes: int
    peak_memory: int
    reason: str = ""
    trace: str = ""
    batch_job: str = ""


FetchEvent = TransferStarted | BytesArrived | TransferDone | Waiting | Quarantined
TaskEvent = FetchEvent | TaskEnded  # for whoever watches a run
Message = TaskEvent | FilesChecked
Notify = Callable[[Any], None]  # takes a Message
Throttle = Callable[[], AbstractContextManager[Any]]


def ignore_messages(event: FetchEvent) -> None:
    """An observer that does not listen."""


@dataclass(frozen=True)
class RunStarted:
    """What there is to do: segments to prepare, and shards of all that are still without labels."""

    segments: int
    shards: int


@dataclass(frozen=True)
class RunEnded:
    """How a run ended: complete, some segments failed, or the sentence that it ended with."""

    outcome: str


@dataclass(frozen=True)
class SegmentStarted:
    """Work on a segment has begun."""

    key: str


@dataclass(frozen=True)
class SegmentDone:
    """A segment was prepared, or for a reason was not; no_data: because there is nothing to make it from."""

    key: str
    reason: str = ""
    no_data: bool = False


@dataclass(frozen=True)
class ShardBegun:
    """What is prepared is about to be written into a shard."""

    shard: int


@dataclass(frozen=True)
class ShardWritten:
    """The features of a shard are whole on disk."""

    shard: int


@dataclass(frozen=True)
class ShardLabelled:
    """The labels of a shard are whole on disk."""

    shard: int


@dataclass(frozen=True)
class FetchStarted:
    """How many segments are to be fetched, where that is all there is to do."""

    segments: int


@dataclass(frozen=True)
class SegmentFetched:
    """The files of a segment are in the cache, or cannot be had for a reason; no_data: the archive has none."""

    key: str
    reason: str = ""
    no_data: bool = False


@dataclass(frozen=True)
class TaskLost:
    """The workers that had this task died, as often as they may."""

    stage: str
    subject: str
    attempt: int


@dataclass(frozen=True)
class Stopping:
    """A run was asked to stop, and why: it begins nothing more, and what is being written may take `grace` seconds."""

    why: str
    grace: float


@dataclass(frozen=True)
class Remark:
    """Something that whoever started the run should know."""

    text: str


def plural(word: str, count: float) -> str:
    """`segment` or `segments`, `has` or `have`."""
    if count == 1:
        return word
    return _IRREGULAR.get(word, f"{word}s")


_IRREGULAR = {"has": "have", "is": "are", "was": "were", "process": "processes", "stretch": "stretches"}


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as `1 segment` or `10,000 segments`."""
    return f"{number:,} {plural(noun, number)}"


def duration(seconds: float) -> str:
    """Such as `2 h 05 min`, `3 min 20 s` or `1.5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


@dataclass(frozen=True)
class Pace:
    """How fast work goes: `done` of `total` things, such as segments, in so many seconds."""

    noun: str
    done: int
    total: int
    seconds: float

    @property
    def per_minute(self) -> float | None:
        """None while nothing is done."""
        return 60 * self.done / self.seconds if self.done and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """As long as the rest takes at this rate; None while nothing is done."""
        rate = self.per_minute
        return None if rate is None else 60 * max(self.total - self.done, 0) / rate

    def __str__(self) -> str:
        """Such as `4.1 segments per minute, 3 min 20 s left`; empty while nothing is done."""
        rate, left = self.per_minute, self.seconds_left
        if rate is None:
            return ""
        number = f"{rate:.3g}" if rate < 100 else f"{rate:,.0f}"  # 3g of 1,010 is 1.01e+03
        return f"{number} {plural(self.noun, rate)} per minute" + (f", {duration(left)} left" if left else "")


NOT_KNOWN = "-"


def percent(share: float | None) -> str:
    """A share for people: a non-zero share is never rounded to 0%, nor an incomplete one to 100%."""
    if share is None:
        return NOT_KNOWN
    if share in (0, 1):
        return f"{share:.0%}"
    return "<0.1%" if share < 0.0005 else ">99.9%" if share >= 0.9995 else f"{share:.1%}"


Event = (
    RunStarted
    | RunEnded
    | FetchStarted
    | SegmentStarted
    | SegmentFetched
    | SegmentDone
    | ShardBegun
    | ShardWritten
    | ShardLabelled
    | TaskLost
    | Stopping
    | Remark
    | TaskEvent
)
Observer = Callable[[Event], None]
