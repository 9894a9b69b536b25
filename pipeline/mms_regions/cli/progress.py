"""What listens to a run. The loop emits events and knows none of its listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
)


class Display(Protocol):
    """An observer that shows a run while it is open."""

    def __call__(self, event: Event) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _told(key: str, reason: str) -> str:
    """A reason with the segment in front, once."""
    return f"{key}: {reason.removeprefix(f'{key}: ')}"


def in_words(event: Stopping | Remark) -> str:
    if isinstance(event, Remark):
        return event.text
    return f"asked to stop ({event.why}): what is being written has {event.grace:g} s; once more, and all ends now"


@dataclass(frozen=True)
class Transfers:
    """How far the transfers are: files and bytes, and what is waited for."""

    files: int = 0
    done: int = 0
    arrived: int = 0
    announced: int = 0
    waiting: str = ""

    def after(self, event: FetchEvent) -> Transfers:
        """The same after an event more."""
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

    def in_words(self) -> str:
        """Such as `3 of 5 files`, and what is waited for."""
        return f"{self.done} of {self.files} files" + (f", {self.waiting}" if self.waiting else "")


class ProgressBar:
    """Bars on a terminal: segments and shards that are done, bytes that arrive; failures above them as they come."""

    def __init__(self, console: Console):
        self._steps = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        )
        self._bytes = Progress(
            TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn(), console=console
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
            case SegmentFetched(key, reason):
                self._advance("fetched", key, reason)
            case SegmentDone(key, reason):
                self._advance("prepared", key, reason)
            case ShardLabelled():
                self._steps.advance(self._tasks["labelled"])
            case Stopping() | Remark():
                self._live.console.print(Text(in_words(event), "yellow"))
            case ShardBegun() | ShardWritten() | SegmentStarted() | RunEnded() | TaskLost() | TaskEnded():
                pass
            case _:
                self._show_transfers(event)

    def _advance(self, step: str, key: str, reason: str) -> None:
        self._steps.advance(self._tasks[step])
        if reason:
            self._live.console.print(Text.assemble(("failed", "red"), f" {_told(key, reason)}"))

    def _show_transfers(self, event: FetchEvent) -> None:
        self._transfers = self._transfers.after(event)
        now = self._transfers
        if "bytes" not in self._tasks:
            self._tasks["bytes"] = self._bytes.add_task("files", total=None)
        self._bytes.update(
            self._tasks["bytes"], completed=now.arrived, total=now.announced or None, description=now.in_words()
        )
        if isinstance(event, Quarantined):
            self._live.console.print(Text.assemble(("put aside", "yellow"), f" {event.name}: {event.why}"))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class PlainLines:
    """A line per event, for logs: what a batch system keeps is read later, without a terminal."""

    def __init__(self, write: Callable[[str], None]):
        self._write = write
        self._segments = self._done = 0
        self._waits: set[tuple[str, str]] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(segments, shards):
                self._segments = segments
                self._write(f"{segments} segments to prepare, {shards} shards to label")
            case FetchStarted(segments):
                self._segments = segments
                self._write(f"{segments} segments to fetch")
            case SegmentFetched(key, reason):
                self._write_segment("fetched", key, reason)
            case SegmentDone(key, reason):
                self._write_segment("prepared", key, reason)
            case ShardWritten(shard):
                self._write(f"shard {shard} written")
            case ShardLabelled(shard):
                self._write(f"shard {shard} labelled")
            case Stopping() | Remark():
                self._write(in_words(event))
            case TransferDone(name, size):
                self._write(f"{name}: {decimal(size)} arrived")
            case Quarantined(name, why):
                self._write(f"{name}: put aside, {why}")
            case Waiting(name, seconds, why) if (name, why) not in self._waits:  # told again every second
                self._waits.add((name, why))
                self._write(f"{name}: waiting {seconds:.0f} s, {why}")

    def _write_segment(self, outcome: str, key: str, reason: str) -> None:
        self._done += 1
        self._write(
            f"[{self._done}/{self._segments}] " + (f"failed {_told(key, reason)}" if reason else f"{outcome} {key}")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""
