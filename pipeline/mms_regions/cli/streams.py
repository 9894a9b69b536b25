"""Standard streams that may be closed, full, or a pipe without a reader: output is lost then, the work is not."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_READER_GONE = (errno.EPIPE, errno.EIO)  # `| head` has ended; the terminal was closed


class _LossyFile(io.FileIO):
    """A file that drops what cannot be written, and keeps the first reason."""

    problem: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        if self.problem is None:
            try:
                return super().write(data)
            except OSError as problem:
                self.problem = problem
        return memoryview(data).nbytes


def protect_streams() -> None:
    """Make stdout and stderr lossy, and open /dev/null where stdin, stdout or stderr is closed.

    A free descriptor below 3 would be given to the next file that is opened, and child processes would print into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is sys.__stdout__:  # else a test has put its own there
        sys.stdout = _lossy(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lossy(2, sys.stderr)


def _lossy(number: int, stream: TextIO | None) -> TextIO:
    """stream: what Python made of the descriptor, None where it was closed."""
    buffer = io.BufferedWriter(_LossyFile(number, "wb", closefd=False))
    line_buffering, write_through = getattr(stream, "line_buffering", True), getattr(stream, "write_through", False)
    return io.TextIOWrapper(
        buffer,
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace" if number == 2 else getattr(stream, "errors", None),
        line_buffering=line_buffering,
        write_through=write_through,
    )


def reader_gone() -> bool:
    """Whether nobody reads stdout any more, so that there is no use in going on printing."""
    problem = _problem_of_stdout()
    return problem is not None and problem.errno in _READER_GONE


def stdout_problem() -> OSError | None:
    """Why results could not be printed, if so, such as a full disk; None where the reader did not want more."""
    return None if reader_gone() else _problem_of_stdout()


def _problem_of_stdout() -> OSError | None:
    if not isinstance(sys.stdout, io.TextIOWrapper) or not isinstance(sys.stdout.buffer, io.BufferedWriter):
        return None
    sys.stdout.flush()
    raw = sys.stdout.buffer.raw
    return raw.problem if isinstance(raw, _LossyFile) else None
