"""What is kept of how a run went: `trace.jsonl`, a line per event, and a log for each segment that failed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import TypeAdapter

import mms_regions.core.messages
from mms_regions.core.files import make_folder, remove
from mms_regions.core.messages import (
    BytesArrived,
    Event,
    Remark,
    RunStarted,
    SegmentDone,
    TaskEnded,
    TransferStarted,
    Waiting,
    counted,
)
from mms_regions.store.paths import logs_folder, trace_path

_NOT_KEPT = BytesArrived | TransferStarted | Waiting | Remark
_LATEST = 1e11  # s since 1970
_NEWLINE = b"\n"
_BEGIN = f'{{"event": "{RunStarted.__name__}"'


class Trace:
    """An observer that appends each event to `trace.jsonl`, at once, so that a kill loses nothing but a last line.

    On a full disk lines are lost.
    """

    def __init__(self, store: Path):
        self._path = trace_path(store)

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != _NEWLINE:
            os.write(self._file, _NEWLINE)  # a kill has torn the last line
        return self

    def __call__(self, event: Event) -> None:
        if not isinstance(event, _NOT_KEPT):
            line = {"event": type(event).__name__, "at": time.time(), **asdict(event)}
            with suppress(OSError):  # the disk is full: the write that fails next is reported
                os.write(self._file, json.dumps(line).encode() + _NEWLINE)  # one call: events come from two threads

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


class FailureLogs:
    """An observer that keeps, for each segment that failed, `logs/A_mms1.log`: every try, with its stack trace."""

    def __init__(self, store: Path):
        self._folder = logs_folder(store)
        self._tried: dict[str, list[str]] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, TaskEnded) and event.reason:
            self._tried.setdefault(event.subject, []).append(_in_full(event))
        elif isinstance(event, SegmentDone):
            tried = self._tried.pop(event.key, [])
            path = self._folder / f"{event.key.replace('/', '_')}.log"
            if event.reason:
                self._folder.mkdir(parents=True, exist_ok=True)
                what = "has no data" if event.no_data else "failed"
                path.write_text("\n".join([*tried, f"{event.key} {what}: {event.reason}", ""]))
            else:
                remove(path)


def _in_full(event: TaskEnded) -> str:
    when = datetime.fromtimestamp(event.ended, UTC).isoformat(timespec="seconds")
    where = f"process {event.worker} on {event.host}, {event.ended - event.started:.1f} s"
    return f"{when} {event.stage}, attempt {event.attempt}, {where}\n{event.trace}"


def last_run(store: Path) -> list[Mapping[str, Any]]:
    """The events of the last run of a store, or of the one that is going on; torn lines are left out."""
    text = _text(trace_path(store))
    *_, last = _by_run(text[max(text.rfind(_BEGIN), 0) :])
    return last


def all_runs(store: Path) -> list[list[Mapping[str, Any]]]:
    """The events of each run of a store in order; torn lines are left out, and runs of which no line is whole."""
    return [run for run in _by_run(_text(trace_path(store))) if run]


def unreadable_lines(store: Path) -> str:
    """How many lines of a trace are left out, as a sentence; empty for none.

    A kill or a full disk has torn them, or they were damaged.
    """
    path = trace_path(store)
    lines = sum(1 for line in _text(path).splitlines() if line and _event(line) is None)
    return f"{path}: {counted(lines, 'damaged or torn line')} left out" if lines else ""


def _by_run(text: str) -> Iterator[list[Mapping[str, Any]]]:
    """At least one, which may be empty."""
    found: list[Mapping[str, Any]] = []
    for line in text.splitlines():
        if (event := _event(line)) is not None:
            if event["event"] == RunStarted.__name__ and found:
                yield found
                found = []
            found.append(event)
    yield found


def _event(line: str) -> Mapping[str, Any] | None:
    """What a line says, or None: a kill has torn it, two are in one, where the disk was full, or it was damaged."""
    with suppress(ValueError, RecursionError, TypeError, KeyError, AttributeError):
        event = json.loads(line, parse_float=_finite, parse_constant=_finite)
        _checked(event["event"]).validate_python({name: event[name] for name in event if name not in ("event", "at")})
        if 0 <= event["at"] < _LATEST:
            return dict(event)
    return None


@cache
def _checked(name: str) -> TypeAdapter[Any]:
    """What checks the fields of an event. Raises AttributeError where there is no such event."""
    return TypeAdapter(getattr(mms_regions.core.messages, name))


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError("no finite number")
    return number


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
