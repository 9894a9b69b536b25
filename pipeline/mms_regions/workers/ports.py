"""What listens: ports with TLS, which note whom they refuse, and pages on the state of Dask, which can be closed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ON_LOCALHOST = "127.0.0.1:0"
LOG = "connections.log"  # beside a store, if connections were refused
_LOG = "mms-regions.refused-log"  # keys in the configuration of Dask, which local workers get from this process
_DASHBOARD = "mms-regions.dashboard"
_LISTENERS = logging.getLogger("distributed.comm.tcp")
_MOST = 1000  # lines that a process notes: a flood must not fill the disk
_PAGES = {
    "distributed.scheduler.http.routes": (
        "scheduler.prometheus",
        "scheduler.info",
        "scheduler.json",
        "health",
        "statics",
    ),
    "distributed.worker.http.routes": ("worker.prometheus", "health", "statics"),
}


def port_settings(log: Path | None, dashboard: bool) -> dict[str, Any]:
    """The configuration of Dask for pages that show and never change anything, for schedulers and local workers."""
    routes = {key: [f"distributed.http.{name}" for name in names] for key, names in _PAGES.items()}
    return {**routes, _LOG: str(log) if log else None, _DASHBOARD: dashboard}


def set_up_ports(worker: Any) -> None:
    """What `port_settings` ask for, in a worker."""
    import dask

    if path := dask.config.get(_LOG, None):
        _note_refused(Path(path))
    if not dask.config.get(_DASHBOARD, True):
        worker.http_server.stop()


def close_pages(cluster: Any) -> None:
    """Close the HTTP port of the scheduler of a cluster in this process."""

    async def close() -> None:
        cluster.scheduler.http_server.stop()

    cluster.sync(close)


@contextmanager
def refused_noted(log: Path | None) -> Iterator[None]:
    """While the block lasts, connections that this process refuses are lines of this file."""
    if log is None:
        yield
        return
    level, propagate = _LISTENERS.level, _LISTENERS.propagate
    handler = _note_refused(log)
    try:
        yield
    finally:
        _LISTENERS.removeHandler(handler)
        handler.close()
        _LISTENERS.setLevel(level)
        _LISTENERS.propagate = propagate


def _note_refused(log: Path) -> logging.Handler:
    handler = _RefusedLog(log)
    _LISTENERS.addHandler(handler)
    _LISTENERS.setLevel(logging.WARNING)  # whatever is silenced above it
    _LISTENERS.propagate = False
    return handler


class _RefusedLog(logging.FileHandler):
    """One line for each peer that tried to connect without the certificate of the run."""

    def __init__(self, path: Path):
        super().__init__(path, delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s process %(process)d: %(message)s"))
        self._lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "handshake failed" in str(record.msg) and self._lines < _MOST:
            self._lines += 1
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A log that cannot be written is no reason to stop, nor to write on the screen."""
