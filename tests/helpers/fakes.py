"""Stand-ins for what a machine may have: programs for the PATH, libraries for the PYTHONPATH, a kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def programs(folder: Path, **said: str) -> dict[str, str]:
    """A PATH of scripts alone: `sinfo="echo up"`, with - for _ in names; they have the shell's own commands only."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in said.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return {"PATH": str(folder)}


def libraries(folder: Path, sources: Mapping[str, str]) -> dict[str, str]:
    """A PYTHONPATH of modules with these sources, `{"torch": "..."}`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    return {"PYTHONPATH": str(folder)}


def torch(build: str | None = None, gpus: tuple[str, ...] = (), why: str = "there is no driver") -> str:
    """The source of a torch that has these GPUs, or none because of `why`."""
    return f"""
from types import SimpleNamespace as Of
version = Of(cuda={build!r})
def ones(count, device):
    if not {gpus!r}: raise RuntimeError({why!r})
    return Of(sum=lambda: Of(item=lambda: 1.0))
cuda = Of(device_count=lambda: {len(gpus)}, get_device_name=lambda number: {gpus!r}[number])
"""


def dies(job: Any) -> None:
    """An event's page that takes more memory than there is: its process is killed, beside its store lies `died`."""
    (job.store.parent / "died").touch()
    os.kill(os.getpid(), signal.SIGKILL)
