"""Displays of a run: bars on a terminal, lines in a log. The run emits events and knows none of its observers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from mms_regions.core.messages import (
    BytesArrived,
    Event,
    FetchEvent,
    FetchStarted,
    Pace,
    Quarantined,
    Remark,
    RunEnded,
    RunStarted,
    SegmentDone,
    SegmentFetched,
    SegmentStarted,
    ShardBegun,
    ShardLabelled,
    ShardWritten,
    Stopping,
    TaskEnded,
    TaskLost,
    TransferDone,
    TransferStarted,
    Waiting,
    counted,
)


class Display(Protocol):
    """An observer that shows a run between `with` and its end."""

    def __call__(self, event: Event) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _verdict(done: SegmentDone | SegmentFetched) -> str:
    return "no data" if done.no_data else "failed"


def describe(event: Stopping | Remark) -> str:
    """An event as a line for people."""
    if isinstance(event, Remark):
        return event.text
    return f"stopping ({event.why}): pending writes have {event.grace:g} s to finish; repeat to stop at once"


@dataclass(frozen=True)
class Transfers:
    """The state of the transfers: files, bytes, and the reason for a wait."""

    files: int = 0
    done: int = 0
    arrived: int = 0
    announced: int = 0
    waiting: str = ""

    def after(self, event: FetchEvent) -> Transfers:
        """The state after one more event."""
        match event:
            case TransferStarted(_, size, offset):
                return replace(self, files=self.files + 1, announced=self.announced + (size or 0) - offset, waiting="")
            case BytesArrived(_, count):
                return replace(self, arrived=self.arrived + count, waiting="")
            case TransferDone():
                return replace(self, done=self.done + 1)
            case Waiting(_, seconds, why):
                return replace(self, waiting=f"{why} ({seconds:.0f} s left)")
        return self

    def describe(self) -> str:
        """Such as `3 of 5 files`, and the reason for a wait."""
        return f"{self.done:,} of {counted(self.files, 'file')}" + (f", {self.waiting}" if self.waiting else "")


class ProgressBar:
    """Bars on a terminal for segments, shards and bytes; failures above them as they come."""

    def __init__(self, console: Console):
        self._steps = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._bytes = Progress(
            TextColumn("{task.description}", markup=False), DownloadColumn(), TransferSpeedColumn(), console=console
        )
        self._live = Live(Group(self._steps, self._bytes), console=console)
        self._tasks: dict[str, TaskID] = {}
        self._transfers = Transfers()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(segments, shards):
                self._tasks["prepared"] = self._steps.add_task("segments prepared", total=segments)
                self._tasks["labelled"] = self._steps.add_task("shards labelled", total=shards)
            case FetchStarted(segments):
                self._tasks["fetched"] = self._steps.add_task("segments fetched", total=segments)
            case SegmentFetched() as done:
                self._advance("fetched", done)
            case SegmentDone() as done:
                self._advance("prepared", done)
            case ShardLabelled():
                self._steps.advance(self._tasks["labelled"])
            case Stopping() | Remark():
                self._live.console.print(Text(describe(event), "yellow"))
            case ShardBegun() | ShardWritten() | SegmentStarted() | RunEnded() | TaskLost() | TaskEnded():
                pass
            case _:
                self._show_transfers(event)

    def _advance(self, step: str, done: SegmentDone | SegmentFetched) -> None:
        self._steps.advance(self._tasks[step])
        if done.reason:
            colour = "yellow" if done.no_data else "red"
            self._live.console.print(Text.assemble((_verdict(done), colour), f" {done.key}: {done.reason}"))

    def _show_transfers(self, event: FetchEvent) -> None:
        self._transfers = self._transfers.after(event)
        now = self._transfers
        if "bytes" not in self._tasks:
            self._tasks["bytes"] = self._bytes.add_task("files", total=None)
        self._bytes.update(
            self._tasks["bytes"], completed=now.arrived, total=now.announced or None, description=now.describe()
        )
        if isinstance(event, Quarantined):
            self._live.console.print(Text.assemble(("quarantined", "yellow"), f" {event.name}: {event.why}"))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class PlainLines:
    """A line per event, for logs such as those of a batch system: with its time, in UTC, the rate, and the time left.

    clock: s since 1970.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.time):
        self._print, self._clock = write, clock
        self._begun = 0.0
        self._totals = {"segment": 0, "shard": 0}
        self._done: Counter[str] = Counter()
        self._waits: set[tuple[str, str]] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(segments, shards):
                self._begin(segments, shards)
                self._write(f"{counted(segments, 'segment')} to prepare, {counted(shards, 'shard')} to label")
            case FetchStarted(segments):
                self._begin(segments)
                self._write(f"{counted(segments, 'segment')} to fetch")
            case SegmentFetched() as done:
                self._write_segment("fetched", done)
            case SegmentDone() as done:
                self._write_segment("prepared", done)
            case ShardWritten(shard):
                self._write(f"shard {shard} written")
            case ShardLabelled(shard):
                pace = self._pace("shard")
                self._write(f"shard {shard} labelled{'' if self._totals['segment'] else pace}")
            case Stopping() | Remark():
                self._write(describe(event))
            case TransferDone(name, size):
                self._write(f"{name}: {decimal(size)} arrived")
            case Quarantined(name, why):
                self._write(f"{name}: quarantined, {why}")
            case Waiting(name, seconds, why) if (name, why) not in self._waits:  # reported again every second
                self._waits.add((name, why))
                self._write(f"{name}: waiting {seconds:.0f} s, {why}")

    def _begin(self, segments: int, shards: int = 0) -> None:
        self._begun, self._totals = self._clock(), {"segment": segments, "shard": shards}

    def _pace(self, noun: str) -> str:
        """The rate of segments or shards, one of which is done now, and the time that is left for them."""
        self._done[noun] += 1
        pace = str(Pace(noun, self._done[noun], self._totals[noun], self._clock() - self._begun))
        return f"; {pace}" if pace else ""

    def _write_segment(self, outcome: str, done: SegmentDone | SegmentFetched) -> None:
        pace = self._pace("segment")
        said = f"{_verdict(done)} {done.key}: {done.reason}" if done.reason else f"{outcome} {done.key}"
        self._write(f"[{self._done['segment']}/{self._totals['segment']}] {said}{pace}")

    def _write(self, line: str) -> None:
        self._print(f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m-%dT%H:%M:%SZ} {line}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""
