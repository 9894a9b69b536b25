"""What `doctor` finds, one thing at a time, and how it asks other programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")

State = Literal["ok", "remark", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    problem: the profile cannot work here; remark: it can, but somebody should know. found and advice are one line each.
    Raises ValueError for a problem without advice, or advice where all is well.
    """

    what: str
    state: State
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if (self.state == "problem" and not self.advice) or (self.state == "ok" and self.advice):
            raise ValueError(f"{self}: advice is for problems, and each has some")
        for name in ("found", "advice"):
            object.__setattr__(self, name, " ".join(getattr(self, name).split()))


class Unanswered(Exception):
    """A program gave no answer; the message is why, in its own words where it has some."""


def program(name: str, environ: Mapping[str, str]) -> str | None:
    """Where a command is on the PATH."""
    return shutil.which(name, path=environ.get("PATH", os.defpath))


def ask(environ: Mapping[str, str], *words: str, limit: float = 20.0) -> str:
    """What a command prints. limit: s. Raises Unanswered where it is missing, fails, or takes too long."""
    found = program(words[0], environ)
    if found is None:
        raise Unanswered(f"there is no {words[0]} on the PATH")
    try:
        done = subprocess.run(
            [found, *words[1:]],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{words[0]} does not answer within {limit:g} s") from None
    except OSError as problem:
        raise Unanswered(f"{found} cannot be started: {problem.strerror or problem}") from None
    if done.returncode:
        said = "; ".join((done.stderr.strip() or done.stdout.strip()).splitlines())
        raise Unanswered(said or f"{words[0]} ends with exit code {done.returncode}")
    return done.stdout


def begun(function: Callable[[], T]) -> Future[T]:
    """Its result, some time; what hangs, as on a file system whose server is gone, does not keep this process."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as problem:
            future.set_exception(problem)

    threading.Thread(target=work, daemon=True).start()
    return future
