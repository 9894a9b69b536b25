"""An archive server on this machine: it serves a folder of CDF files over HTTP as the MMS archives do.

It answers both APIs: that of the MMS Science Data Center below `sdc_url` (`/file_info/science`,
`/download/science`) and that of the SPDF mirror below `spdf_url` (an HTML index per folder). No path on disk is ever
built from what a client says, unless that is the strict name of an MMS file.
"""

from __future__ import annotations

import html
import io
import json
import re
import socket
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qs, unquote

from mms_regions.archive.products import PRODUCTS, CdfFile, file_named
from mms_regions.core.errors import EnvironmentProblem, InputProblem

SDC, SPDF = "/mms/sdc/public/files/api/v1", "/pub/data/mms"  # paths of the two APIs, below one server

_LEVELS = ("sc_id", "instrument_id", "data_rate_mode", "data_level")  # in the order in which the folders are nested
_DATE = re.compile(r"(\d{4}-\d\d-\d\d(-\d\d-\d\d-\d\d)?)?", re.ASCII)
_RANGE = re.compile(r"bytes=(?!-$)(\d{0,18})-(\d{0,18})", re.ASCII)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Answer:
    """An answer whose body is the bytes `begin` to `end` of `source`."""

    status: int
    source: bytes | Path
    begin: int
    end: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> BinaryIO:
        """The source, at `begin`; the caller closes it. Raises OSError where the file is gone."""
        stream = io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")
        stream.seek(self.begin)
        return stream


def text_answer(status: int, body: str, content_type: str = "text/plain", **headers: str) -> Answer:
    """An answer that is this text; in the names of headers, `_` stands for `-`."""
    data = body.encode()
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, data, 0, len(data), {"Content-Type": f"{content_type}; charset=utf-8", **more})


def file_answer(path: Path | None) -> Answer:
    """The file as a whole, or 404 where there is none."""
    if path is None or not path.is_file():
        return text_answer(404, "not found")
    about = path.stat()
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": f'"{about.st_mtime_ns:x}-{about.st_size:x}"',
        "Last-Modified": formatdate(about.st_mtime, usegmt=True),
    }
    return Answer(200, path, 0, about.st_size, headers)


def requested_part(answer: Answer, headers: Message) -> Answer:
    """The range that the client asks for, where the answer is a file, and still the one that If-Range names."""
    asked = _RANGE.fullmatch(headers.get("Range", ""))
    condition = headers.get("If-Range")
    is_same = condition in (None, answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
    if not asked or not isinstance(answer.source, Path) or not is_same:
        return answer
    size, (first, last) = answer.end, asked.groups()
    begin = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if begin >= end:
        return text_answer(416, "no such range", Content_Range=f"bytes */{size}")
    span = {"Content-Range": f"bytes {begin}-{end - 1}/{size}"}
    return Answer(206, answer.source, begin, end, {**answer.headers, **span})


@dataclass(frozen=True)
class _Held:
    """A file of the folder, under the name that it is served by."""

    named: CdfFile
    path: Path

    @property
    def tag(self) -> str:
        """When it begins, YYYYMMDDhhmmss."""
        return self.named.name.split("_")[-2].ljust(14, "0")


@dataclass(frozen=True)
class ArchiveFolder:
    """What the folder `root` (mms1/ to mms4/ lie in it) holds, and the lists of it; read again for each request."""

    root: Path

    def served_name(self, name: str) -> str:
        """The name by which the file `name` of the folder is served."""
        return name

    def original_name(self, name: str) -> str:
        """The name in the folder of the file that is served as `name`."""
        return name

    def listed_size(self, path: Path) -> int:
        """What lists say of its size, in bytes."""
        return path.stat().st_size

    def answer(self, path: str, query: str) -> Answer:
        """The answer to a request for this path, decoded, with this query, not decoded."""
        name = path.rpartition("/")[2]
        if path == f"{SDC}/file_info/science":
            return self._file_info(parse_qs(query))
        if path == f"{SDC}/download/science":
            return file_answer(self._find(parse_qs(query).get("file", [""])[0]))
        if not path.startswith(f"{SPDF}/"):
            return text_answer(404, "not found")
        if not name:
            return self._index(path)
        file = file_named(self.original_name(name), self.root)
        is_there = file is not None and path == f"{SPDF}/{_month_folder(file)}/{name}"
        return file_answer(self._find(name) if is_there else None)

    def sdc_files(self, query: Mapping[str, Sequence[str]]) -> list[dict[str, str | int]]:
        """What the SDC's list says of the files that are asked for: of each its latest version."""
        begin, end = (query.get(key, [""])[0].replace("-", "") for key in ("start_date", "end_date"))
        last = end.ljust(14, "0" if end else "9")
        descriptors = _values(query, "descriptor")
        latest: dict[tuple[int, str, int], _Held] = {}
        for held in self._held([_values(query, level) for level in _LEVELS]):
            file = held.named
            key, descriptor = (file.probe, file.product, file.start), file.product.partition("_l2")[2].lstrip("_")
            is_newest = key not in latest or file.version > latest[key].named.version
            if is_newest and begin <= held.tag <= last and (not descriptors or descriptor in descriptors):
                latest[key] = held
        return [self._info(held) for held in latest.values()]

    def spdf_rows(self, path: str) -> dict[str, str]:
        """Names and sizes in the mirror's page of a folder; a month's folder has all its burst files."""
        parts = tuple(path.removeprefix(f"{SPDF}/").split("/")[:-1])
        sizes: dict[str, str] = {}
        for held in self._held([[part] for part in parts[: len(_LEVELS)]]):
            below = (*_month_folder(held.named).parts, held.named.name)
            if below[: len(parts)] == parts:
                name, *deeper = below[len(parts) :]
                sizes |= {f"{name}/": "-"} if deeper else {name: f"{self.listed_size(held.path) / 1024:.1f}K"}
        return sizes

    def _file_info(self, query: Mapping[str, Sequence[str]]) -> Answer:
        """The SDC's list. Both dates are of a file's start, and inclusive."""
        if not all(_DATE.fullmatch(query.get(key, [""])[0]) for key in ("start_date", "end_date")):
            return text_answer(400, "dates are YYYY-MM-DD or YYYY-MM-DD-hh-mm-ss")
        return text_answer(200, json.dumps({"files": self.sdc_files(query)}), "application/json")

    def _index(self, path: str) -> Answer:
        """The mirror's page, as Apache writes it."""
        sizes = self.spdf_rows(path)
        if not sizes:
            return text_answer(404, "not found")
        head = f"<title>Index of {html.escape(path)}</title><pre>"
        rows = ['<a href="?C=N;O=D">Name</a> Last modified Size', '<a href="../">Parent Directory</a>  -']
        rows += [_row(name, size) for name, size in sizes.items()]
        return text_answer(200, "\n".join([f"<html>{head}", *rows, "</pre></html>"]), "text/html")

    def _info(self, held: _Held) -> dict[str, str | int]:
        return {
            "file_name": held.named.name,
            "file_size": self.listed_size(held.path),
            "timetag": datetime.strptime(held.tag, "%Y%m%d%H%M%S").isoformat(),
            "modified_date": f"{datetime.fromtimestamp(held.path.stat().st_mtime, UTC):%Y-%m-%dT%H:%M:%S}",
        }

    def _find(self, name: str) -> Path | None:
        """The file that is served by this name; never one outside the folder."""
        original = self.original_name(name)
        file = file_named(original, self.root)
        if file is None or self.served_name(original) != name or not self._is_inside(file.path):
            return None
        return file.path

    def _held(self, levels: Sequence[Collection[str]]) -> Iterator[_Held]:
        """The files below the folders of these names, level by level; no names means all."""
        folders = [self.root]
        for names in levels:
            below = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_dir()]
            folders = [path for path in below if not names or path.name in names]
        for path in (path for folder in folders for path in sorted(folder.rglob("*.cdf"))):
            file = file_named(self.served_name(path.name), self.root)
            if file and path.parent == file.path.parent and self._is_inside(path):
                yield _Held(file, path)

    def _is_inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self.root)


def _values(query: Mapping[str, Sequence[str]], key: str) -> set[str]:
    """What a query allows, several with commas between; nothing where it does not say."""
    return {word for text in query.get(key, []) for word in text.split(",")}


def _month_folder(file: CdfFile) -> Path:
    """Where it lies on the mirror, which has no folders for days."""
    product = next(product for product in PRODUCTS if product.name == file.product)
    return product.month_folder(file.probe, file.start)


def _row(name: str, size: str) -> str:
    escaped = html.escape(name)
    return f'<a href="{escaped}">{escaped}</a>  2024-01-01 00:00  {size}'


class ArchiveHandler(BaseHTTPRequestHandler):
    """One connection: its requests, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ArchiveServer

    def log_message(self, *args: object) -> None:
        """Nothing: the screen belongs to the command."""

    def do_GET(self) -> None:
        """Answer; a client that goes away, or a server that stops, ends the connection."""
        path, _, query = self.path.partition("?")
        try:
            self.wait(self.server.delay)
            self.send_answer(requested_part(self.answer(unquote(path), query), self.headers))
        except OSError:
            self.close_connection = True

    do_HEAD = do_GET

    def answer(self, path: str, query: str) -> Answer:
        """The answer to a request for this path, decoded, with this query, not decoded."""
        return self.server.folder.answer(path, query)

    def send_answer(self, answer: Answer) -> None:
        """Head and, where it is asked for, body."""
        self.send_head(answer)
        if self.command == "GET":
            with answer.open() as stream:
                self.copy(stream, answer.end - answer.begin)

    def send_head(self, answer: Answer) -> None:
        """Status and headers."""
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(answer.end - answer.begin)}.items():
            self.send_header(name, value)
        self.end_headers()

    def copy(self, stream: BinaryIO, count: int) -> None:
        """Send the next `count` bytes. Raises ConnectionAbortedError where the file has become shorter."""
        while count > 0:
            piece = stream.read(min(count, _CHUNK))
            if not piece:
                raise ConnectionAbortedError("the file has become shorter")
            self.wfile.write(piece)
            count -= len(piece)

    def wait(self, seconds: float) -> None:
        """Wait. Raises ConnectionAbortedError where the server stops meanwhile."""
        if self.server.stopping.wait(seconds):
            raise ConnectionAbortedError("the server stops")


class ArchiveServer(ThreadingTCPServer):
    """Serves `folder` (the archive's layout, as `synthesise` and pyspedas leave it) while its `with` block lasts.

    Parameters
    ----------
    folder: The one that holds mms1/ to mms4/.
    delay: Seconds before each answer.
    host, port: Where it listens; port 0 takes a free one.

    Raises
    ------
    InputProblem: There is no such folder.
    EnvironmentProblem: The address cannot be had.

    Examples
    --------
    >>> with ArchiveServer(Path("served")) as archive:  # doctest: +SKIP
    ...     requests.get(f"{archive.spdf_url}/mms1/").text
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    handler: type[ArchiveHandler] = ArchiveHandler

    def __init__(self, folder: Path, *, delay: float = 0.0, host: str = "127.0.0.1", port: int = 0) -> None:
        if not folder.is_dir():
            raise InputProblem(f"{folder}: no such folder; give the one that holds mms1/ to mms4/.")
        self.folder, self.delay, self.stopping = ArchiveFolder(folder.resolve()), delay, threading.Event()
        self._open: set[Any] = set()
        self._is_serving = False
        try:
            super().__init__((host, port), self.handler)
        except (OSError, OverflowError) as problem:
            raise EnvironmentProblem(f"Cannot serve at {host}, port {port} ({problem}); give another --port.") from None
        self.url = f"http://{host}:{self.server_address[1]}"
        self.sdc_url, self.spdf_url = self.url + SDC, self.url + SPDF

    def __enter__(self) -> Self:
        self._is_serving = True
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def serve_forever(self, poll_interval: float = 0.02) -> None:
        """Serve in this thread, without a `with` block, until an interrupt, or a `close` in another thread."""
        self._is_serving = True
        super().serve_forever(poll_interval)

    def close(self) -> None:
        """Stop at once, also in the middle of answers; can be called again."""
        self.stopping.set()
        if self._is_serving:
            self.shutdown()
        self.server_close()
        for connection in self._open.copy():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, so that none outlives the server."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away is no error of the server."""
