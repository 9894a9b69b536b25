"""Functions for a child process to run, in a module that it can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pycdfpp

from mms_regions.archive import cdf_check


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


def die_of_file(path: Path, *others: object) -> None:
    """What a library does that a damaged file leads astray."""
    die(signal.SIGSEGV)


def die_of_electrons(path: Path, *others: Any) -> object:
    """A library that dies of one file when values are read, whatever was checked before; others it reads."""
    if "des-moms" in path.name:
        die(signal.SIGSEGV)
    return cdf_check._read_variables(path, *others)


def forget_files() -> None:
    """As in a child that has just started."""
    cdf_check._open_files.cache_clear()


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
