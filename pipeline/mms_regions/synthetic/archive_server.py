"""An archive server that serves a folder over HTTP, with faults where a test scripts them.

It speaks both APIs: that of the MMS Science Data Center below `sdc_url` (`/file_info/science`, `/download/science`) and
that of the SPDF mirror below `spdf_url` (an HTML index per folder).
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from types import MappingProxyType
from typing import Any, BinaryIO, Self
from urllib.parse import unquote

from mms_regions.core.errors import EnvironmentProblem, InputProblem
from mms_regions.synthetic.faults import KINDS, Fault, Kind, RandomFaults, Script
from mms_regions.synthetic.shelf import SDC, SPDF, Answer, Question, Shelf, Site, part

__all__ = ["KINDS", "Fault", "Kind", "LoopbackArchive", "RandomFaults", "Request"]

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Request:
    """One request and how it was answered, as the server saw it."""

    method: str
    path: str
    query: str
    name: str  # of the file asked for; empty for a listing
    range: str  # as the client wrote it, e.g. "bytes=100-"; empty for none
    status: int
    sent: int  # bytes of the body; of a stalled one, those before the stall
    when: float  # seconds since 1970, when it came in
    fault: Kind | None


class LoopbackArchive:
    """Serves `folder` (the archive's layout, as `synthesise` and pyspedas leave it) while its `with` block lasts.

    faults: the first that strikes is done; `random` is asked where none does. extra: files by the path of their URL,
    e.g. {"/weights/best_model": path}. delay: seconds before each answer. hostile_listing: names that stand in every
    listing as they are, with a made-up size. port: 0 takes a free one. The folder is read again for each request.
    Raises InputProblem where there is no such folder, EnvironmentProblem where the address cannot be had.
    """

    def __init__(
        self,
        folder: Path,
        faults: Sequence[Fault] = (),
        random: RandomFaults | None = None,
        extra: Mapping[str, Path] = MappingProxyType({}),
        delay: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        hostile_listing: Sequence[str] = (),
    ) -> None:
        if not folder.is_dir():
            raise InputProblem(f"{folder}: no such folder; give the one that holds mms1/ to mms4/.")
        self._log = _Log()
        site = Site(Shelf(folder.resolve(), tuple(hostile_listing)), Script(tuple(faults), random), dict(extra))
        self._stopping = threading.Event()
        try:
            self._server = _Server((host, port), partial(_Handler, site, self._log, self._stopping, delay))
        except (OSError, OverflowError) as problem:
            raise EnvironmentProblem(f"Cannot serve at {host}, port {port} ({problem}); give another --port.") from None
        self._is_serving = False
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self.sdc_url, self.spdf_url = self.url + SDC, self.url + SPDF

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests so far, in the order of their ends; each is there before its client has the last byte."""
        return self._log.requests()

    @property
    def most_at_once(self) -> int:
        """The largest number of downloads under way at once.

        One that stalls or is slow does not count meanwhile: its client may have given up and be asking again.
        """
        return self._log.most_at_once

    def __enter__(self) -> Self:
        self._is_serving = True
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def serve_forever(self) -> None:
        """Serve in this thread, without a `with` block, until an interrupt, or a `close` in another thread."""
        self._is_serving = True
        self._server.serve_forever(poll_interval=0.02)

    def close(self) -> None:
        """Stop at once, also in the middle of answers; can be called again."""
        self._stopping.set()
        if self._is_serving:
            self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()


class _Log:
    """What was asked, and how many downloads are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._downloads = 0
        self.most_at_once = 0

    def requests(self) -> tuple[Request, ...]:
        with self._lock:
            return tuple(self._requests)

    def enter(self, question: Question) -> None:
        with self._lock:
            self._downloads += question.where == "download"
            self.most_at_once = max(self.most_at_once, self._downloads)

    def leave(self, question: Question, request: Request) -> None:
        with self._lock:
            self._downloads -= question.where == "download"
            self._requests.append(request)


class _Server(ThreadingTCPServer):
    """Threads, and the connections they hold, so that none outlives the server."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self._open: set[Any] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away is none of our trouble."""

    def hang_up(self) -> None:
        for connection in self._open.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection: its requests, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, site: Site, log: _Log, stopping: threading.Event, delay: float, *args: Any) -> None:
        self._site, self._log, self._stopping, self._delay = site, log, stopping, delay
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        """Nothing: the log is for those who ask for it."""

    def do_GET(self) -> None:
        self._when, self._sent, self._status, self._is_noted = time.time(), 0, 0, False
        address, _, query = self.path.partition("?")
        self._question = self._site.question(unquote(address), query)
        self._fault = self._site.script.next(self.command, self._question.where, self._question.subject)
        if self._fault and self._fault.kind == "slow":
            self._stopping.wait(self._fault.seconds)
        self._log.enter(self._question)
        try:
            self._wait(self._delay)
            self._send(part(self._site.answer(self._question, self._fault), self.headers))
        except OSError:  # the client went away, or the server stops
            self.close_connection = True
        finally:
            self._note(self._sent)

    do_HEAD = do_GET

    def _send(self, answer: Answer) -> None:
        """Head and body; the last byte is sent after the request is in the log, so that no client overtakes it."""
        self._status, length = answer.status, answer.end - answer.begin
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        body = length if self.command == "GET" else 0
        if not body:
            self._note(0)
        self.end_headers()
        if not body:
            return
        with answer.open() as stream:
            self._copy(stream, body // 2)
            if not self._go_on():
                return
            self._copy(stream, body - body // 2 - 1, flip=int(self._has("flipped")))
            self._note(body)
            self._copy(stream, 1)

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError("the server stops")

    def _has(self, *kinds: Kind) -> bool:
        return self._fault is not None and self._fault.kind in kinds

    def _go_on(self) -> bool:
        """What happens in the middle of a body; whether the rest follows."""
        if self._has("stall", "cut", "reset"):
            self._note(self._sent)
        if self._fault and self._fault.kind == "stall":
            self._wait(self._fault.seconds)
        if self._has("reset"):
            # Closed here and not by the server, which would end the stream first, so that it looks like "cut".
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        self.close_connection |= self._has("cut", "reset")
        return not self._has("cut", "reset")

    def _copy(self, stream: BinaryIO, count: int, flip: int = 0) -> None:
        """Send the next `count` bytes; `flip` are the bits to invert in the first."""
        while count > 0:
            piece = bytearray(stream.read(min(count, _CHUNK)))
            if not piece:
                raise ConnectionAbortedError("the file has become shorter")
            piece[0] ^= flip
            self.wfile.write(piece)
            self._sent += len(piece)
            count, flip = count - len(piece), 0

    def _note(self, sent: int) -> None:
        """Into the log, once for each request."""
        if self._is_noted:
            return
        self._is_noted = True
        about, kind = self._question, self._fault.kind if self._fault else None
        span = self.headers.get("Range", "")
        self._log.leave(
            about,
            Request(self.command, about.path, about.query, about.name, span, self._status, sent, self._when, kind),
        )
