"""An end to HTTP requests that are too slow: timeouts of sockets begin again with every byte that a server sends."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any, Self

import urllib3
from requests.adapters import HTTPAdapter

from mms_regions.core.messages import counted

_active = threading.local()  # .watch: that of the request of this thread
_POLL = 0.1  # s


class Watch:
    """Ends the connection of the request that is made within its `with` block, where it is too slow.

    grace: s for the head of the answer. least_rate: bytes of its body a second after that. longest: s in all.
    """

    def __init__(self, grace: float, least_rate: float, longest: float) -> None:
        self._grace, self._least_rate, self._longest = grace, least_rate, longest
        self._began = time.monotonic()
        self._socket: socket.socket | None = None
        self._body: Any = None
        self._ended, self._lock = threading.Event(), threading.Lock()
        self.is_late = False

    def __enter__(self) -> Self:
        _active.watch = self
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        _active.watch = None
        with self._lock:
            self._ended.set()

    def attach(self, connection: Any) -> None:
        """From now on this connection is the one to end."""
        self._socket = connection

    def count(self, body: Any) -> None:
        """From now on bytes of this urllib3 response give it more time."""
        self._body = body

    @property
    def about(self) -> str:
        return f"the server is too slow: {counted(self._received, 'byte')} in {time.monotonic() - self._began:.0f} s"

    @property
    def _received(self) -> int:
        return int(self._body.tell()) if self._body is not None else 0

    def _left(self) -> float:
        most = min(self._longest, self._grace + self._received / self._least_rate)
        return self._began + most - time.monotonic()

    def _run(self) -> None:
        while not self._ended.wait(max(self._left(), _POLL)):
            with self._lock:
                if self._left() <= 0 and self._socket is not None and not self._ended.is_set():
                    self.is_late = True
                    with suppress(OSError):
                        socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # below TLS, which would wait
                    return


class _Watched:
    """What both kinds of connections have in common; comes before theirs in the order of bases."""

    sock: Any
    close: Any

    def getresponse(self) -> Any:
        _attach(self.sock)
        try:
            return super().getresponse()  # type: ignore[misc]
        except BaseException:
            self.close()  # urllib3 leaves it open where a header is impossible
            raise


class _Connection(_Watched, urllib3.connection.HTTPConnection): ...


class _SecureConnection(_Watched, urllib3.connection.HTTPSConnection): ...


def _attach(connection: Any) -> None:
    watch = getattr(_active, "watch", None)
    if watch is not None:
        watch.attach(connection)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class WatchedAdapter(HTTPAdapter):
    """Connections that a `Watch` can end."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_watched(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        _use_watched(manager)
        return manager


def _use_watched(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
