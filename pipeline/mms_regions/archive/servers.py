"""The only module that knows how the servers are asked: the Science Data Center's API, and the mirror at SPDF.

Sources: https://lasp.colorado.edu/mms/sdc/public/about/how-to/ and https://spdf.gsfc.nasa.gov/pub/data/mms/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from html.parser import HTMLParser
from typing import Literal
from urllib.parse import quote, unquote, urlencode, urlsplit

import numpy as np

from mms_regions.archive.http import Client, Limits, RequestFailed, shortly
from mms_regions.archive.products import CdfFile, Query, product_of
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.types import DAY

ServerName = Literal["sdc", "spdf"]

_LONGEST_NAME = 200


@dataclass(frozen=True)
class RemoteFile:
    """A file that a server has: its name, its address, its size in bytes where the server says it exactly."""

    name: str
    url: str
    size: int | None


@dataclass(frozen=True)
class Server:
    """A kind of archive server: where it is, how files are listed, and where one is that has this name."""

    base_url: str
    listing: Callable[[Client, str, Query], tuple[RemoteFile, ...]]
    url: Callable[[str, CdfFile], str]


@dataclass(frozen=True)
class Source:
    """Where files come from, and how patiently they are asked for.

    base_url: the address before /file_info/science (sdc) or before /mms4/... (spdf); empty for the public archive.
    Raises ValueError for a base that is not the address of a web server.
    """

    server: ServerName = "sdc"
    base_url: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{self.base_url!r} is no address of an archive, such as {_SERVERS[self.server].base_url}")

    @property
    def base(self) -> str:
        """The address, without a slash at its end."""
        return (self.base_url or _SERVERS[self.server].base_url).rstrip("/")

    def url(self, file: CdfFile) -> str:
        """Where a file is, by its name."""
        return _SERVERS[self.server].url(self.base, file)

    def listing(self, client: Client, query: Query) -> tuple[RemoteFile, ...]:
        """What the server names: at least all files that a query may need, of every version that it shows.

        Raises NetworkProblem, and SegmentProblem where the server gives a name that could be a path.
        """
        return _SERVERS[self.server].listing(client, self.base, query)

    def require_answer(self) -> None:
        """Ask once or twice for anything at all. Raises NetworkProblem where nobody answers within a few seconds."""
        limits = replace(self.limits, connect_timeout=min(3.0, self.limits.connect_timeout), attempts=2)
        client = Client(limits)

        def once() -> None:
            with client.get(self.base):
                """Whatever the answer is, there is one."""

        client.persist(urlsplit(self.base).netloc, self.base, once)


def _list_sdc(client: Client, base: str, query: Query) -> tuple[RemoteFile, ...]:
    """The newest versions of all files that start from the day before to the day after."""
    product = query.product
    fields = dict(
        start_date=_date(query.begin - DAY),
        end_date=_date(query.end + DAY),
        sc_id=f"mms{query.probe}",
        instrument_id=product.instrument,
        data_rate_mode=product.mode,
        data_level="l2",
        descriptor=product.descriptor,
    )
    url = f"{base}/file_info/science?{urlencode({key: value for key, value in fields.items() if value})}"
    entries = client.persist(f"listing of {query}", url, lambda: _sdc_entries(client.text(url)))
    return tuple(RemoteFile(_safe(name, url), _sdc_url(base, name), size) for name, size in entries)


def _sdc_entries(text: str) -> list[tuple[str, int]]:
    """Names and sizes; RequestFailed for anything else, since busy servers send other texts as successes."""
    try:
        return [(str(entry["file_name"]), int(entry["file_size"])) for entry in json.loads(text)["files"]]
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError):
        said = f"the server sends something else than a list of files: {shortly(text)}"
        raise RequestFailed(said, again=True) from None


def _sdc_url(base: str, name: str) -> str:
    return f"{base}/download/science?{urlencode({'file': name})}"


def _list_spdf(client: Client, base: str, query: Query) -> tuple[RemoteFile, ...]:
    """All files of the month or two in which files may start; the mirror has a folder for each."""
    days = range((query.begin - min(query.product.longest, DAY)) // DAY, query.end // DAY + 1)
    folders = dict.fromkeys(query.product.month_folder(query.probe, day * DAY).as_posix() for day in days)
    found: list[RemoteFile] = []
    for folder in folders:
        url = f"{base}/{folder}/"
        names = client.persist(f"listing of {query}", url, partial(_spdf_names, client, url))
        found += [RemoteFile(_safe(name, url), f"{url}{quote(name)}", None) for name in names]
    return tuple(found)


def _spdf_names(client: Client, url: str) -> list[str]:
    """The CDF files that an index links to; none where there is no such folder."""
    try:
        text = client.text(url)
    except RequestFailed as failure:
        if failure.status == 404:
            return []
        raise
    links = _Links()
    links.feed(text)
    names = [unquote(link) for link in links.found if link.endswith(".cdf")]
    if not names and "Index of" not in text:
        raise RequestFailed(f"the server sends something else than an index: {shortly(text)}", again=True)
    return names


class _Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _spdf_url(base: str, file: CdfFile) -> str:
    product = product_of(file)
    if product is None:
        raise ValueError(f"{file.name} is of no product that is used here")
    return f"{base}/{product.month_folder(file.probe, file.start).as_posix()}/{file.name}"


def _safe(name: str, url: str) -> str:
    """The name. Raises SegmentProblem where it could be a path: a server that says such things is not to be trusted."""
    if 0 < len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable() and not set(name) & set("/\\:"):
        return name
    raise SegmentProblem(
        f"{url}: the server names {shortly(name)}, which is no name of a file; nothing was taken from it: see whether "
        "the address is that of an archive you trust"
    )


def _date(time: int) -> str:
    return str(np.datetime64(time, "ns").astype("datetime64[D]"))


_SERVERS: Mapping[ServerName, Server] = {
    "sdc": Server(
        "https://lasp.colorado.edu/mms/sdc/public/files/api/v1", _list_sdc, lambda base, file: _sdc_url(base, file.name)
    ),
    "spdf": Server("https://spdf.gsfc.nasa.gov/pub/data/mms", _list_spdf, _spdf_url),
}
