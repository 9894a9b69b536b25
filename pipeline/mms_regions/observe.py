"""What listens to a run. The loop emits events and knows none of its listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text


@dataclass(frozen=True)
class RunStarted:
    """What there is to do: segments to prepare, and shards of all that are still without labels."""

    segments: int
    shards: int


@dataclass(frozen=True)
class SegmentDone:
    """A segment was prepared, or failed for a reason."""

    key: str
    reason: str = ""


@dataclass(frozen=True)
class ShardWritten:
    """The features of a shard are whole on disk."""

    shard: int


@dataclass(frozen=True)
class ShardLabelled:
    """The labels of a shard are whole on disk."""

    shard: int


Event = RunStarted | SegmentDone | ShardWritten | ShardLabelled
Observer = Callable[[Event], None]


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


class ProgressBar:
    """Two bars on a terminal: segments prepared, shards labelled; failures above them as they come."""

    def __init__(self, console: Console):
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        )
        self._prepare: TaskID = self._progress.add_task("prepared", total=None)
        self._label: TaskID = self._progress.add_task("labelled", total=None)

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(segments, shards):
                self._progress.update(self._prepare, total=segments, description="segments prepared")
                self._progress.update(self._label, total=shards, description="shards labelled")
            case SegmentDone(key, reason):
                self._progress.advance(self._prepare)
                if reason:
                    self._progress.console.print(Text.assemble(("failed", "red"), f" {_told(key, reason)}"))
            case ShardLabelled():
                self._progress.advance(self._label)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class PlainLines:
    """A line per event, for logs: what a batch system keeps is read later, without a terminal."""

    def __init__(self, write: Callable[[str], None]):
        self._write = write
        self._segments = self._done = 0

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(segments, shards):
                self._segments = segments
                self._write(f"{segments} segments to prepare, {shards} shards to label")
            case SegmentDone(key, reason):
                self._done += 1
                outcome = f"failed {_told(key, reason)}" if reason else f"prepared {key}"
                self._write(f"[{self._done}/{self._segments}] {outcome}")
            case ShardWritten(shard):
                self._write(f"shard {shard} written")
            case ShardLabelled(shard):
                self._write(f"shard {shard} labelled")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""
