"""What the loopback archive answers: the listings and files of a folder, as both APIs give them.

No path on disk is ever built from what a client says, unless that is the strict name of an MMS file.
"""

from __future__ import annotations

import html
import io
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import parse_qs

from mms_regions.archive.products import CdfFile, file_named
from mms_regions.synthetic.faults import Fault, Script

SDC, SPDF = "/mms/sdc/public/files/api/v1", "/pub/data/mms"  # paths of the two APIs, below one server

_LEVELS = ("sc_id", "instrument_id", "data_rate_mode", "data_level")  # in the order in which the folders are nested
_DATE = re.compile(r"(\d{4}-\d\d-\d\d(-\d\d-\d\d-\d\d)?)?", re.ASCII)
_RANGE = re.compile(r"bytes=(?!-$)(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True)
class Question:
    """What a request is about."""

    path: str  # decoded
    query: str
    where: Literal["listing", "download", ""] = ""
    name: str = ""
    subject: str = ""  # what faults match and count by


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


def _text(status: int, body: str, content_type: str = "text/plain", **headers: str) -> Answer:
    data = body.encode()
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, data, 0, len(data), {"Content-Type": f"{content_type}; charset=utf-8", **more})


def _whole(path: Path) -> Answer:
    about = path.stat()
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": f'"{about.st_mtime_ns:x}-{about.st_size:x}"',
        "Last-Modified": formatdate(about.st_mtime, usegmt=True),
    }
    return Answer(200, path, 0, about.st_size, headers)


def part(answer: Answer, headers: Message) -> Answer:
    """The range that the client wants, where the answer is a file, and still the one that If-Range tells of."""
    wanted = _RANGE.fullmatch(headers.get("Range", ""))
    condition = headers.get("If-Range")
    is_other = condition is not None and condition not in (
        answer.headers.get("ETag"),
        answer.headers.get("Last-Modified"),
    )
    if not wanted or not isinstance(answer.source, Path) or is_other:
        return answer
    size, (first, last) = answer.end, wanted.groups()
    begin = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if begin >= end:
        return _text(416, "no such range", Content_Range=f"bytes */{size}")
    span = {"Content-Range": f"bytes {begin}-{end - 1}/{size}"}
    return Answer(206, answer.source, begin, end, {**answer.headers, **span})


@dataclass(frozen=True)
class Site:
    """What each request is about, and its answer."""

    shelf: Shelf
    script: Script
    extra: Mapping[str, Path]

    def question(self, path: str, query: str) -> Question:
        """What the client asks for at this path, decoded, with this query, not decoded."""
        mirrored, name = path.startswith(f"{SPDF}/"), path.rpartition("/")[2]
        if path == f"{SDC}/file_info/science":
            return Question(path, query, "listing", subject=query)
        if mirrored and not name:
            return Question(path, query, "listing", subject=path)
        if path == f"{SDC}/download/science":
            name = parse_qs(query).get("file", [""])[0]
        elif not mirrored and path not in self.extra:
            return Question(path, query)
        return Question(path, query, "download", name, self.shelf.original(name))

    def answer(self, question: Question, fault: Fault | None) -> Answer:
        """The answer as a whole; what goes wrong on the way is left to the sender."""
        match fault:
            case Fault("busy"):
                return _text(503, "busy")
            case Fault("too_many", seconds=seconds):
                return _text(429, "too many requests", Retry_After=str(math.ceil(seconds)))
            case Fault("html"):
                return _text(200, "<html><body><h1>Service unavailable</h1></body></html>", "text/html")
            case Fault("json_error"):
                return _text(200, '{"error": "internal error"}', "application/json")
            case Fault("new_version"):
                self.shelf.rename(question.name)
                return _text(404, "not found")
        if question.where == "listing":
            return self._listing(question, too_large=1024 if fault and fault.kind == "wrong_size" else 0)
        path = self.extra.get(question.path) or self.shelf.find(question.name, question.path)
        return _whole(path) if path and path.is_file() else _text(404, "not found")

    def _listing(self, question: Question, too_large: int) -> Answer:
        if question.path.startswith(SPDF):
            return self.shelf.index(question.path, too_large)
        return self.shelf.file_info(parse_qs(question.query), too_large)


@dataclass(frozen=True)
class _Held:
    """A file of the folder, under the name that it is served by."""

    named: CdfFile
    path: Path

    @property
    def tag(self) -> str:
        """When it begins, YYYYMMDDhhmmss."""
        return self.named.name.split("_")[-2].ljust(14, "0")

    def info(self, too_large: int) -> dict[str, str | int]:
        """What the SDC's listing says of it."""
        about, begin = self.path.stat(), datetime.strptime(self.tag, "%Y%m%d%H%M%S")
        return {
            "file_name": self.named.name,
            "file_size": about.st_size + too_large,
            "timetag": begin.isoformat(),
            "modified_date": f"{datetime.fromtimestamp(about.st_mtime, UTC):%Y-%m-%dT%H:%M:%S}",
        }


class Shelf:
    """What the folder holds, and the lists of it."""

    def __init__(self, root: Path, hostile: Sequence[str]) -> None:
        self._root, self._hostile = root, hostile
        self._now: dict[str, str] = {}  # name in the folder -> name since its last new version
        self._was: dict[str, str] = {}  # and back, for all names it ever had

    def original(self, name: str) -> str:
        """The name in the folder of the file that has, or had, this name."""
        return self._was.get(name, name)

    def rename(self, name: str) -> None:
        """From now on this file is named one version higher."""
        if file := file_named(name, self._root):
            x, y, z = file.version
            original, name = self.original(name), f"{name.rpartition('_v')[0]}_v{x}.{y}.{z + 1}.cdf"
            self._was[name], self._now[original] = original, name

    def find(self, name: str, url_path: str) -> Path | None:
        """The file that is served by this name (SPDF: at this path); never one outside the folder."""
        original = self.original(name)
        file = file_named(original, self._root)
        if file is None or self._now.get(original, original) != name or not self._is_inside(file.path):
            return None
        if url_path.startswith(SPDF) and url_path != f"{SPDF}/{self._month(file)}/{name}":
            return None
        return file.path

    def file_info(self, query: Mapping[str, list[str]], too_large: int) -> Answer:
        """The SDC's listing: of each file its latest version. Both dates are of its start, and inclusive."""
        begin, end = (query.get(key, [""])[0] for key in ("start_date", "end_date"))
        if not (_DATE.fullmatch(begin) and _DATE.fullmatch(end)):
            return _text(400, "dates are YYYY-MM-DD or YYYY-MM-DD-hh-mm-ss")
        first, last = begin.replace("-", ""), end.replace("-", "").ljust(14, "0" if end else "9")
        descriptors = _values(query, "descriptor")
        latest: dict[tuple[int, str, int], _Held] = {}
        for held in self._held([_values(query, level) for level in _LEVELS]):
            file = held.named
            key, descriptor = (file.probe, file.product, file.start), file.product.partition("_l2")[2].lstrip("_")
            is_newest = key not in latest or file.version > latest[key].named.version
            if is_newest and first <= held.tag <= last and (not descriptors or descriptor in descriptors):
                latest[key] = held
        files = [held.info(too_large) for held in latest.values()]
        files += [{"file_name": name, "file_size": 1024} for name in self._hostile]
        return _text(200, json.dumps({"files": files}), "application/json")

    def index(self, url_path: str, too_large: int) -> Answer:
        """The mirror's page of a folder, as Apache writes it; a month's folder has all its burst files."""
        parts = tuple(url_path.removeprefix(f"{SPDF}/").split("/")[:-1])
        sizes: dict[str, str] = {}
        for held in self._held([[part] for part in parts[: len(_LEVELS)]]):
            below = (*self._month(held.named).parts, held.named.name)
            if below[: len(parts)] == parts:
                name, *deeper = below[len(parts) :]
                size = f"{(held.path.stat().st_size + too_large) / 1024:.1f}K"
                sizes |= {f"{name}/": "-"} if deeper else {name: size}
        if not sizes:
            return _text(404, "not found")
        head = f"<title>Index of {html.escape(url_path)}</title><pre>"
        rows = ['<a href="?C=N;O=D">Name</a> Last modified Size', '<a href="../">Parent Directory</a>  -']
        rows += [_row(name, size) for name, size in (sizes | dict.fromkeys(self._hostile, "1.0K")).items()]
        return _text(200, "\n".join([f"<html>{head}", *rows, "</pre></html>"]), "text/html")

    def _held(self, levels: Sequence[Collection[str]]) -> Iterator[_Held]:
        """The files below the folders of these names, level by level; no names means all."""
        folders = [self._root]
        for names in levels:
            below = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_dir()]
            folders = [path for path in below if not names or path.name in names]
        for path in (path for folder in folders for path in sorted(folder.rglob("*.cdf"))):
            file = file_named(self._now.get(path.name, path.name), self._root)
            if file and path.parent == file.path.parent and self._is_inside(path):
                yield _Held(file, path)

    def _month(self, file: CdfFile) -> Path:
        """Where it lies on the mirror, which has no folders for days."""
        folder = file.path.relative_to(self._root).parent
        return folder.parent if "_brst_" in file.product else folder

    def _is_inside(self, path: Path) -> bool:
        return path.is_file() and path.resolve().is_relative_to(self._root)


def _values(query: Mapping[str, list[str]], key: str) -> set[str]:
    """What a query allows, several with commas between; nothing where it does not say."""
    return {word for text in query.get(key, []) for word in text.split(",")}


def _row(name: str, size: str) -> str:
    escaped = html.escape(name)
    return f'<a href="{escaped}">{escaped}</a>  2024-01-01 00:00  {size}'
