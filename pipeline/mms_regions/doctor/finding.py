"""What a check returns, and how checks ask other programs."""

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

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    problem: the profile cannot work here; warning: it can, but the user should know. found and advice: one line each.
    Raises ValueError for a problem without advice, or advice where the state is ok.
    """

    what: str
    state: State
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if (self.state == "problem" and not self.advice) or (self.state == "ok" and self.advice):
            raise ValueError(f"{self}: each problem has advice, and what is ok has none")
        for name in ("found", "advice"):
            object.__setattr__(self, name, " ".join(getattr(self, name).split()))


class Unanswered(Exception):
    """A program or a server gave no answer; the message is the reason, in its own words where it has some."""


def program(name: str, environ: Mapping[str, str]) -> str | None:
    """The path of a command, None where it is not on the PATH."""
    return shutil.which(name, path=environ.get("PATH", os.defpath))


def ask(environ: Mapping[str, str], *args: str, limit: float = 20.0) -> str:
    """The output of a command. limit: s. Raises Unanswered where it is missing, fails, or takes too long."""
    found = program(args[0], environ)
    if found is None:
        raise Unanswered(f"there is no {args[0]} on the PATH")
    try:
        done = subprocess.run(
            [found, *args[1:]],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{args[0]} does not answer within {limit:g} s") from None
    except OSError as problem:
        raise Unanswered(f"{found} cannot be started: {problem.strerror or problem}") from None
    if done.returncode:
        said = "; ".join((done.stderr.strip() or done.stdout.strip()).splitlines())
        raise Unanswered(said or f"{args[0]} ends with exit code {done.returncode}")
    return done.stdout


def start(function: Callable[[], T]) -> Future[T]:
    """Run a function in a thread; one that hangs, as on a dead file system, does not keep this process from ending."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as problem:
            future.set_exception(problem)

    threading.Thread(target=work, daemon=True).start()
    return future
