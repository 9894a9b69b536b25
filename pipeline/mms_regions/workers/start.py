"""How the processes and threads of a pool are started: out of reach of signals and of files in the working folder.

Dask workers load this module when they start (`dask_setup`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import resource_tracker
from typing import Any

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.isolated import collect_rarely, safe_path
from mms_regions.core.stop import SIGNALS
from mms_regions.workers.ports import set_up_ports

IMPORTS = "mms-regions.imports"  # a key in the configuration of Dask: modules that tasks need


def require_dask() -> None:
    """Raise EnvironmentProblem where Dask's own settings, which it reads when it is imported, cannot be read."""
    try:
        import dask.config  # noqa: F401
    except (ValueError, OSError) as problem:
        where = os.environ.get("DASK_CONFIG") or "~/.config/dask"
        raise EnvironmentProblem(
            f"Dask's own settings cannot be read: {' '.join(str(problem).split())}. Correct or remove that file "
            f"(settings of Dask are in {where} and in variables DASK_...)"
        ) from None


def preloads() -> list[str]:
    """What Dask workers load when they start: what the settings of Dask name, then this module."""
    import dask

    asked: str | list[str] = dask.config.get("distributed.worker.preload", [])
    return [*([asked] if isinstance(asked, str) else asked), __name__]


def dask_setup(worker: Any) -> None:
    """Called by Dask in each worker, before the scheduler knows it."""
    import dask

    collect_rarely()
    set_up_ports(worker)
    for module in dask.config.get(IMPORTS, ()):
        import_module(module)


@contextmanager
def protected_start() -> Iterator[None]:
    """Processes and threads started inside get no signal that stops a run, and search no module in the working folder.

    A terminal or a batch system sends such signals to all processes at once, and what is being written is to be
    finished. The main thread gets them after the block.
    """
    with _safe_environment(), _blocked_signals():
        yield


@contextmanager
def _safe_environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(safe_path(os.environ))
    try:
        yield
    finally:
        for name in safe_path({}):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # of multiprocessing; it is to outlive them too, and unblocks some here
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupt_kept() -> Iterator[None]:
    """Importing dask-jobqueue takes Ctrl-C for itself; it is given back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
