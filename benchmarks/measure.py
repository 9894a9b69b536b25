"""How the benchmarks measure: variants in turn, several times, the least of each; so load hits all alike."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from mms_regions.core.isolated import child_cpu


def cpu_seconds(variants: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """CPU seconds of this process and its child that each variant takes; all of them once, then again."""
    return _least(variants, runs, lambda: time.process_time() + child_cpu())


def wall_seconds(variants: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    return _least(variants, runs, time.perf_counter)


def _least(variants: Mapping[str, Callable[[], object]], runs: int, clock: Callable[[], float]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(runs):
        for name, variant in variants.items():
            begin = clock()
            variant()
            taken[name].append(clock() - begin)
    return {name: min(times) for name, times in taken.items()}


@dataclass(frozen=True)
class Cost:
    """What a command took: s as they pass, CPU s of it and all that it started, and bytes of its largest process."""

    wall: float
    cpu: float
    memory: int


def cost_of(
    arguments: Sequence[object], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Cost:
    """Run this Python with some arguments, in a folder. Raises RuntimeError, with what it said, where it fails."""
    command = [sys.executable, *map(str, arguments)]
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            words = said.read().decode(errors="replace")
            raise RuntimeError(f"{command[:5]} ended with {process.returncode}: {words[-2000:]}")
    return Cost(took, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def machine() -> str:
    """Where and when this was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {names[0] if names else platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} CPUs, Python {platform.python_version()}, numpy {np.__version__}, torch "
        f"{torch.__version__.partition('+')[0]}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_sections(made: str) -> None:
    """Put sections into RESULTS.md, each in the place of the one of its title, or at the end."""
    path = Path(__file__).with_name("RESULTS.md")
    path.write_text(with_sections(path.read_text(), made))


def with_sections(before: str, made: str) -> str:
    """Results in which each section (`## Title`) of `made` has replaced that of its title; new ones come last."""
    found = _sections(before) | _sections(f"\n{made}")
    return "\n\n".join(part.strip() for part in found.values()) + "\n"


def _sections(text: str) -> dict[str, str]:
    head, *rest = text.split("\n## ")
    parts = {"": head} if head.strip() else {}
    return parts | {part.partition("\n")[0]: f"## {part}" for part in rest}
