"""Functions for a child process to run, in a module that it can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pycdfpp


def add(one: int, other: int) -> int:
    return one + other


def process() -> int:
    return os.getpid()


def refuse(text: str) -> None:
    raise ValueError(text)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def die_once(mark: Path) -> int:
    """It dies where there is no such file yet."""
    if not mark.exists():
        mark.touch()
        die(signal.SIGSEGV)
    return os.getpid()


def die_of_file(path: Path, expected: object) -> None:
    """What a library does that a damaged file leads astray."""
    die(signal.SIGSEGV)


def read_all(data: bytes) -> None:
    """Whatever pycdfpp raises is caught where files are read; that it returns is the point."""
    try:
        cdf = pycdfpp.load(data)
    except (ValueError, RuntimeError, IndexError, MemoryError):
        return
    for _, variable in cdf.items():
        try:
            np.asarray(variable.values)
        except (ValueError, RuntimeError, IndexError, MemoryError):
            continue
