"""An archive server whose answers fail as servers' do, by a script or at random, and which logs what it was asked."""

from __future__ import annotations

import hashlib
import json
import math
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, unquote

from mms_regions.archive.products import file_named
from mms_regions.core.errors import InputProblem
from mms_regions.synthetic.archive_server import (
    SDC,
    SPDF,
    Answer,
    ArchiveFolder,
    ArchiveHandler,
    ArchiveServer,
    file_answer,
    text_answer,
)

Kind = Literal[
    "busy",  # 503
    "too_many",  # 429, Retry-After: `seconds`
    "stall",  # half of the body, nothing for `seconds`, then the rest
    "cut",  # half of the body, then the connection ends
    "reset",  # half of the body, then a TCP reset
    "slow",  # nothing for `seconds`, then a good answer
    "html",  # 200, an error page
    "json_error",  # 200, {"error": ...}
    "wrong_size",  # listing: every size is too large
    "new_version",  # download: 404, and from now on the file is listed and served one version higher
    "flipped",  # download: one bit is wrong, in the middle of the body
]
Where = Literal["listing", "download", "both"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_ONLY_AT = {"wrong_size": "listing", "new_version": "download", "flipped": "download"}


@dataclass(frozen=True)
class Fault:
    """How some answers go wrong.

    where: at listings, at downloads (those of `extra` too) or both. match: regular expression, searched in the file's
    name in the folder, or in the listing's query (SPDF: its path). times: for each such file or listing, this many
    requests and no more; 0 is all. seconds: for stall, slow and too_many. Raises InputProblem where these do not fit.
    """

    kind: Kind
    where: Where = "both"
    match: str = ""
    times: int = 1
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputProblem(f"There is no fault {self.kind!r}; there are {', '.join(KINDS)}.")
        if not any(self.strikes(where, None) for where in ("listing", "download")):
            raise InputProblem(
                f"A fault {self.kind} is at listing, download or both where it can be, not {self.where}."
            )
        if self.times < 0 or not 0 <= self.seconds < math.inf:
            raise InputProblem(f"Fault {self.kind}: times and seconds are 0 or more, not {self.times}, {self.seconds}.")
        try:
            re.compile(self.match)
        except (re.error, OverflowError, RecursionError) as problem:
            raise InputProblem(f"Fault {self.kind}: {self.match!r} is no regular expression: {problem}.") from None

    def strikes(self, where: str, subject: str | None) -> bool:
        """Whether it can be at this place ("listing", "download") with this file name or query; None is any."""
        is_there = where != "" and self.where in ("both", where) and _ONLY_AT.get(self.kind, where) == where
        return is_there and (subject is None or re.search(self.match, subject) is not None)


@dataclass(frozen=True)
class RandomFaults:
    """A share (0 to 1) of the answers goes wrong, drawn from `kinds`; at most `most_per_file` per file or listing.

    What happens hangs on the seed, the file (or listing) and how often it was asked for before, on nothing else.
    """

    seed: int
    share: float = 0.2
    kinds: tuple[Kind, ...] = KINDS
    most_per_file: int = 3
    seconds: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and self.most_per_file >= 0 and self.kinds):
            raise InputProblem(f"Random faults need a share of 0 to 1, kinds and a most_per_file, not {self}.")
        for kind in self.kinds:
            Fault(kind, seconds=self.seconds)

    def fault(self, where: str, subject: str, asked: int) -> Fault | None:
        """What goes wrong with a request that was made `asked` times before."""
        *before, drawn = [self._draw(where, subject, n) for n in range(asked + 1)]
        return drawn if len(before) - before.count(None) < self.most_per_file else None

    def _draw(self, where: str, subject: str, n: int) -> Fault | None:
        possible = [f for f in (Fault(kind, seconds=self.seconds) for kind in self.kinds) if f.strikes(where, None)]
        digest = hashlib.sha256(repr((self.seed, where, subject, n)).encode()).digest()
        chance, choice = (int.from_bytes(part, "big") for part in (digest[:8], digest[8:16]))
        return possible[choice % len(possible)] if possible and chance < self.share * 2**64 else None


class Script:
    """Which fault comes when."""

    def __init__(self, faults: Sequence[Fault], random: RandomFaults | None) -> None:
        self._faults, self._random = faults, random
        self._lock = threading.Lock()
        self._asked: Counter[tuple[str, str, str]] = Counter()
        self._struck: Counter[tuple[str, str, str, int]] = Counter()

    def next(self, method: str, where: str, subject: str) -> Fault | None:
        """What is to go wrong with the answer to this request; HEAD and GET are counted apart."""
        key = (method, where, subject)
        with self._lock:
            asked = self._asked[key]
            self._asked[key] += 1
            for number, fault in enumerate(self._faults):
                if fault.strikes(where, subject) and (not fault.times or self._struck[*key, number] < fault.times):
                    self._struck[*key, number] += 1
                    return fault
        return self._random.fault(where, subject, asked) if self._random else None


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


@dataclass(frozen=True)
class _Subject:
    """What a request is about."""

    where: Literal["listing", "download", ""] = ""
    name: str = ""
    subject: str = ""  # what faults match and count by


@dataclass
class _Renamed:
    """Files that were given a newer version while the server ran."""

    now: dict[str, str] = field(default_factory=dict)  # name in the folder -> name since its last new version
    was: dict[str, str] = field(default_factory=dict)  # and back, for all names it ever had


@dataclass(frozen=True)
class _FaultyFolder(ArchiveFolder):
    """The folder with new versions of files, and lists with names or sizes that are not so."""

    renamed: _Renamed
    hostile: tuple[str, ...]
    too_large: int = 0

    def served_name(self, name: str) -> str:
        return self.renamed.now.get(name, name)

    def original_name(self, name: str) -> str:
        return self.renamed.was.get(name, name)

    def listed_size(self, path: Path) -> int:
        return super().listed_size(path) + self.too_large

    def sdc_files(self, query: Mapping[str, Sequence[str]]) -> list[dict[str, str | int]]:
        return [*super().sdc_files(query), *({"file_name": name, "file_size": 1024} for name in self.hostile)]

    def spdf_rows(self, path: str) -> dict[str, str]:
        rows = super().spdf_rows(path)
        return rows | dict.fromkeys(self.hostile, "1.0K") if rows else rows

    def rename(self, name: str) -> None:
        """From now on this file is named one version higher."""
        if file := file_named(name, self.root):
            x, y, z = file.version
            original, name = self.original_name(name), f"{name.rpartition('_v')[0]}_v{x}.{y}.{z + 1}.cdf"
            self.renamed.was[name], self.renamed.now[original] = original, name


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

    def enter(self, about: _Subject) -> None:
        with self._lock:
            self._downloads += about.where == "download"
            self.most_at_once = max(self.most_at_once, self._downloads)

    def leave(self, about: _Subject, request: Request) -> None:
        with self._lock:
            self._downloads -= about.where == "download"
            self._requests.append(request)


class _FaultyHandler(ArchiveHandler):
    """One connection, whose answers fail as the script says."""

    server: LoopbackArchive

    def do_GET(self) -> None:  # noqa: N802 (the name that http.server calls)
        self._when, self._sent, self._status, self._is_noted = time.time(), 0, 0, False
        path, _, self._query = self.path.partition("?")
        self._path = unquote(path)
        self._about = self.server.about(self._path, self._query)
        self._fault = self.server.script.next(self.command, self._about.where, self._about.subject)
        if self._has("slow"):
            self.server.stopping.wait(self._seconds)
        self.server.log.enter(self._about)
        try:
            super().do_GET()
        finally:
            self._note(self._sent)

    do_HEAD = do_GET

    def answer(self, path: str, query: str) -> Answer:
        """The answer as a whole; what goes wrong on the way is left to the sender."""
        match self._fault:
            case Fault("busy"):
                return text_answer(503, "busy")
            case Fault("too_many", seconds=seconds):
                return text_answer(429, "too many requests", Retry_After=str(math.ceil(seconds)))
            case Fault("html"):
                return text_answer(200, "<html><body><h1>Service unavailable</h1></body></html>", "text/html")
            case Fault("json_error"):
                return text_answer(200, json.dumps({"error": "internal error"}), "application/json")
            case Fault("new_version"):
                self.server.contents().rename(self._about.name)
                return text_answer(404, "not found")
        if path in self.server.extra:
            return file_answer(self.server.extra[path])
        return self.server.contents(too_large=1024 if self._has("wrong_size") else 0).answer(path, query)

    def send_answer(self, answer: Answer) -> None:
        """Head and body; the last byte is sent after the request is in the log, so that no client overtakes it."""
        self._status, length = answer.status, answer.end - answer.begin
        body = length if self.command == "GET" else 0
        if not body:
            self._note(0)
        self.send_head(answer)
        if not body:
            return
        with answer.open() as stream:
            self._copy(stream, body // 2)
            if not self._go_on():
                return
            if self._has("flipped"):
                self.wfile.write(bytes([stream.read(1)[0] ^ 1]))
                self._sent += 1
            self._copy(stream, body - self._sent - 1)
            self._note(body)
            self._copy(stream, 1)

    def _has(self, *kinds: Kind) -> bool:
        return self._fault is not None and self._fault.kind in kinds

    @property
    def _seconds(self) -> float:
        return self._fault.seconds if self._fault else 0.0

    def _go_on(self) -> bool:
        """What happens in the middle of a body; whether the rest follows."""
        if self._has("stall", "cut", "reset"):
            self._note(self._sent)
        if self._has("stall"):
            self.wait(self._seconds)
        if self._has("reset"):
            # Closed here and not by the server, which would end the stream first, so that it looks like "cut".
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
        self.close_connection |= self._has("cut", "reset")
        return not self._has("cut", "reset")

    def _copy(self, stream: Any, count: int) -> None:
        self.copy(stream, count)
        self._sent += count

    def _note(self, sent: int) -> None:
        """Into the log, once for each request."""
        if self._is_noted:
            return
        self._is_noted = True
        kind = self._fault.kind if self._fault else None
        span, name = self.headers.get("Range", ""), self._about.name
        self.server.log.leave(
            self._about,
            Request(self.command, self._path, self._query, name, span, self._status, sent, self._when, kind),
        )


class LoopbackArchive(ArchiveServer):
    """Serves `folder` while its `with` block lasts, with failures.

    faults: the first that strikes is done; `random` is asked where none does. extra: files by the path of their URL,
    e.g. {"/weights/best_model": path}. delay: seconds before each answer. hostile_listing: names that stand in every
    listing as they are, with a made-up size.
    """

    handler = _FaultyHandler

    def __init__(
        self,
        folder: Path,
        faults: Sequence[Fault] = (),
        random: RandomFaults | None = None,
        extra: Mapping[str, Path] = MappingProxyType({}),
        delay: float = 0.0,
        hostile_listing: Sequence[str] = (),
    ) -> None:
        super().__init__(folder, delay=delay)
        self.script, self.extra, self.log = Script(tuple(faults), random), dict(extra), _Log()
        self._renamed, self._hostile = _Renamed(), tuple(hostile_listing)
        self.connections = 0

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests so far, in the order of their ends; each is there before its client has the last byte."""
        return self.log.requests()

    @property
    def most_at_once(self) -> int:
        """The largest number of downloads under way at once.

        One that stalls or is slow does not count meanwhile: its client may have given up and be asking again.
        """
        return self.log.most_at_once

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def contents(self, too_large: int = 0) -> _FaultyFolder:
        """What the folder holds; `too_large` is added to each size in a list."""
        return _FaultyFolder(self.folder.root, self._renamed, self._hostile, too_large)

    def about(self, path: str, query: str) -> _Subject:
        """What the client asks for at this path, decoded, with this query, not decoded."""
        is_mirror, name = path.startswith(f"{SPDF}/"), path.rpartition("/")[2]
        if path == f"{SDC}/file_info/science":
            return _Subject("listing", subject=query)
        if is_mirror and not name:
            return _Subject("listing", subject=path)
        if path == f"{SDC}/download/science":
            name = parse_qs(query).get("file", [""])[0]
        elif not is_mirror and path not in self.extra:
            return _Subject()
        return _Subject("download", name, self.contents().original_name(name))
