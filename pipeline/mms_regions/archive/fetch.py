"""The files of one segment, as a task: planned, fetched, or checked where nothing may be fetched.

A task is a function of plain data; the callables `throttle` and `tell` are the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from mms_regions.archive.download import FileSpec, Obtained, StaleListing, check_cached, obtain
from mms_regions.archive.http import Client
from mms_regions.archive.manifest import Manifest, Pinned, SourceName, record
from mms_regions.archive.products import DIS, CdfFile, Product, file_named, find_files
from mms_regions.archive.servers import Query, Source, choose
from mms_regions.core.catalogue import Segment
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.messages import Notify, Throttle, ignore_messages
from mms_regions.core.types import SECOND

_WITH_BACKGROUND = (3, 3, 0)  # of ion moments, the first version with the penetrating radiation
_MMS4_WITHOUT_FIELD = int(np.datetime64("2023-07-04", "ns").astype(np.int64))

State = Literal["there", "missing", "bad"]


@dataclass(frozen=True)
class PlannedFile:
    """A file of a plan: its size in bytes where known, and whether it is in the cache."""

    name: str
    size: int | None
    state: State


@dataclass(frozen=True)
class FetchPlan:
    """What a segment needs, and in words what can be told early, such as a product that the archive does not have."""

    key: str
    files: tuple[PlannedFile, ...]
    remarks: tuple[str, ...] = ()

    @property
    def to_transfer(self) -> tuple[PlannedFile, ...]:
        return tuple(file for file in self.files if file.state != "there")

    @property
    def bytes_to_transfer(self) -> int:
        """As far as sizes are known."""
        return sum(file.size or 0 for file in self.to_transfer)


@dataclass(frozen=True)
class FetchOptions:
    """On what terms files are obtained: the same for all segments.

    margin: s around each interval that are wanted too. pinned: exactly these files are taken, and no listing is asked
    for. known: the manifest of the cache. throttle: entered around each request. tell: hears of transfers and waits.
    """

    products: tuple[Product, ...]
    margin: float
    data_dir: Path
    pinned: Manifest | None = None
    known: Manifest = field(default_factory=Manifest)
    throttle: Throttle = nullcontext
    notify: Notify = ignore_messages

    def near(self, segment: Segment) -> FetchOptions:
        """The same with no more of the manifests than this segment needs: it travels to a worker."""
        pinned = None if self.pinned is None else self.pinned.near(segment)
        return replace(self, pinned=pinned, known=self.known.near(segment))

    def wishes(self, segment: Segment) -> list[Query]:
        """What to ask a server for."""
        begin, end = segment.event.trange
        around = round(self.margin * SECOND)
        return [Query(product, segment.probe, begin - around, end + around) for product in self.products]


@dataclass(frozen=True)
class _Choice:
    """What was wished for, and the files that are wanted for it."""

    wish: Query
    wanted: tuple[FileSpec, ...]


@dataclass(frozen=True)
class _Task:
    """What choosing and fetching the files of one segment share."""

    source: Source
    terms: FetchOptions
    client: Client

    def choice(self, wish: Query) -> _Choice:
        """One listing, or none where the files are pinned."""
        if self.terms.pinned is not None:
            return _exactly(wish, self.terms.pinned, self.terms.data_dir, self.source.url)
        chosen = choose(self.source.listing(self.client, wish), wish)
        places = [(remote, file_named(remote.name, self.terms.data_dir)) for remote in chosen]
        return _Choice(wish, tuple(_as_known(file, self.terms.known, r.url, r.size) for r, file in places if file))

    def obtain(self, wanted: FileSpec) -> Pinned:
        """A file, and what the manifest records of it; a new one is in the journal before it is in the cache."""
        new: list[Pinned] = []

        def keep(obtained: Obtained) -> None:
            new.append(_pinned(wanted.file, obtained, self.source.server, wanted.url, time.time()))
            record(self.terms.data_dir, new)

        obtained = obtain(wanted, self.terms.data_dir, self.client, keep)
        return new[0] if new else _pin_found(wanted.file, obtained, self.terms.known)


def plan_segment(segment: Segment, source: Source, terms: FetchOptions) -> FetchPlan:
    """Which files `fetch_segment` would bring, without bringing any: the server is asked for listings only.

    Raises NetworkProblem where it does not answer, SegmentProblem where it is not to be trusted.
    """
    task = _Task(source, terms, Client(source.limits, terms.throttle, terms.notify))
    choices = [task.choice(wish) for wish in terms.wishes(segment)]
    files = [_planned(wanted) for choice in choices for wanted in choice.wanted]
    remarks = [remark for choice in choices for remark in _remarks(segment, choice)]
    return FetchPlan(segment.key, tuple(files), tuple(remarks))


def fetch_segment(segment: Segment, source: Source, terms: FetchOptions) -> tuple[Pinned, ...]:
    """Bring what a segment needs into the cache; every file of it, verified, also those that were there.

    Doing it again transfers nothing. Raises SegmentProblem where a product is not there, NetworkProblem where something
    cannot be had now, and EnvironmentProblem where the disk is in the way.
    """
    task = _Task(source, terms, Client(source.limits, terms.throttle, terms.notify))
    choices = [task.choice(wish) for wish in terms.wishes(segment)]
    _refuse_missing(segment, choices, "the manifest has" if terms.pinned is not None else f"{source.base} names")
    return tuple(pin for choice in choices for pin in _fetch(task, choice, {}, source.limits.attempts))


def check_offline(segment: Segment, terms: FetchOptions) -> tuple[Pinned, ...]:
    """What the cache has of a segment, verified; no connection is made.

    Raises SegmentProblem that names everything that is missing or bad.
    """
    if terms.pinned is not None:
        choices = [_exactly(wish, terms.pinned, terms.data_dir, lambda file: "") for wish in terms.wishes(segment)]
        _refuse_missing(segment, choices, "the manifest has")
        wanted = [one for choice in choices for one in choice.wanted]
    else:
        found = find_files(segment, terms.products, terms.data_dir, terms.margin)
        wanted = [_as_known(file, terms.known) for files in found.values() for file in files]
    return _pins_or_all_flaws(segment, wanted, terms.known)


def files_of(pins: Iterable[Pinned], products: Iterable[Product], data_dir: Path) -> dict[str, tuple[CdfFile, ...]]:
    """The files of a segment by product key, as a reader takes them; the order within a product is kept."""
    files = [pin.file(data_dir) for pin in pins]
    return {product.key: tuple(file for file in files if file.words == product.words) for product in products}


def _fetch(task: _Task, choice: _Choice, done: dict[str, Pinned], relistings: int) -> list[Pinned]:
    """The files of one product; listed anew where the server no longer has what it listed, until it says the same."""
    try:
        for wanted in choice.wanted:
            if wanted.file.name not in done:
                done[wanted.file.name] = task.obtain(wanted)
    except StaleListing:
        anew = task.choice(choice.wish)
        if anew == choice or not anew.wanted or not relistings:
            raise
        return _fetch(task, anew, done, relistings - 1)
    return [done[wanted.file.name] for wanted in choice.wanted]


def _exactly(wish: Query, pinned: Manifest, data_dir: Path, url: Callable[[CdfFile], str]) -> _Choice:
    """The files that a manifest has for a wish, which must be as it says."""
    files = [(pin, pin.file(data_dir)) for pin in pinned.chosen(wish)]
    return _Choice(wish, tuple(FileSpec(file, url(file), pin.size, sha256=pin.sha256) for pin, file in files))


def _refuse_missing(segment: Segment, choices: Iterable[_Choice], nobody: str) -> None:
    missing = [choice.wish.product.words for choice in choices if not choice.wanted]
    if missing:
        raise SegmentProblem(
            f"{segment.key}: {nobody} no file of {', '.join(missing)} for {segment.event.interval}; leave this "
            "spacecraft out, or look whether another --source or --manifest has them"
        )


def _planned(wanted: FileSpec) -> PlannedFile:
    name = wanted.file.name
    try:
        return PlannedFile(name, check_cached(wanted).size, "there")
    except SegmentProblem:
        return PlannedFile(name, wanted.size, "bad" if wanted.file.path.exists() else "missing")


def _remarks(segment: Segment, choice: _Choice) -> Iterator[str]:
    """What is known to be missing before anything is fetched."""
    product = choice.wish.product
    if not choice.wanted:
        yield f"no file of {product.words} for {segment.event.interval}"
    if product.instrument == "edp" and segment.probe == 4 and choice.wish.begin >= _MMS4_WITHOUT_FIELD:
        yield "mms4 has no electric field in GSE (dce_gse) after 2023-07-03"
    if product is DIS:
        old = [wanted.file.name for wanted in choice.wanted if wanted.file.version < _WITH_BACKGROUND]
        yield from (f"{name} has no ion background, which begins with version 3.3" for name in old)


def _as_known(file: CdfFile, known: Manifest, url: str = "", size: int | None = None) -> FileSpec:
    before = known.get(file.name)
    return FileSpec(file, url, size, known_sha256=before.sha256 if before else "")


def _pins_or_all_flaws(segment: Segment, wanted: Iterable[FileSpec], known: Manifest) -> tuple[Pinned, ...]:
    pins, flaws = [], []
    for one in wanted:
        try:
            pins.append(_pin_found(one.file, check_cached(one), known))
        except SegmentProblem as problem:
            flaws.append(str(problem))
    if flaws:
        raise SegmentProblem(f"{segment.key}: {'; '.join(flaws)}")
    return tuple(pins)


def _pin_found(file: CdfFile, obtained: Obtained, known: Manifest) -> Pinned:
    """What a manifest records of a file that was there: what it already knew, if that is still true."""
    before = known.get(file.name)
    if before and before.sha256 == obtained.sha256:
        return before
    return _pinned(file, obtained, "cache", "", file.path.stat().st_mtime)


def _pinned(file: CdfFile, obtained: Obtained, source: SourceName, url: str, fetched: float) -> Pinned:
    return Pinned(
        name=file.name,
        version=file.version_text,
        size=obtained.size,
        sha256=obtained.sha256,
        source=source,
        url=url,
        fetched=datetime.fromtimestamp(fetched, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
