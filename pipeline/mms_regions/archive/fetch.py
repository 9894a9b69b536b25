"""The files of one segment, as a task: planned, fetched, or checked where nothing may be fetched.

A task is a function of plain data; the callables `throttle` and `notify` are the caller's.
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

from mms_regions.archive.cdf_check import CdfContent
from mms_regions.archive.download import FileSpec, Obtained, StaleListing, check_cached, obtain
from mms_regions.archive.http import Client, NetworkProblem
from mms_regions.archive.manifest import Manifest, Pinned, SourceName, record
from mms_regions.archive.products import (
    DIS,
    CdfFile,
    Product,
    Query,
    Reaching,
    file_named,
    files_in,
    known_loss,
    reaching,
    refuse_no_file,
)
from mms_regions.archive.servers import RemoteFile, Source
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Segment
from mms_regions.core.messages import Notify, Remark, Throttle, ignore_messages
from mms_regions.core.outcomes import Cause

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
    """What a segment needs, and remarks that can be made early, such as a product that the archive does not have."""

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
    """How files are obtained: the same for all segments.

    margin: s around each interval that are needed too. pinned: exactly these files are taken, and no listing is asked
    for. known: the manifest of the cache. throttle: entered around each request. notify: gets transfers and waits.
    """

    products: tuple[Product, ...]
    margin: float
    data_dir: Path
    pinned: Manifest | None = None
    known: Manifest = field(default_factory=Manifest)
    throttle: Throttle = nullcontext
    notify: Notify = ignore_messages

    def near(self, segment: Segment) -> FetchOptions:
        """These options with no more of the manifests than this segment needs: they travel to a worker."""
        pinned = None if self.pinned is None else self.pinned.near(segment)
        return replace(self, pinned=pinned, known=self.known.near(segment))

    def queries(self, segment: Segment) -> list[Query]:
        """What a segment needs, product by product."""
        return [Query.of(segment, product, self.margin) for product in self.products]


@dataclass(frozen=True)
class _Choice:
    """What was asked for, and the files that may answer it."""

    query: Query
    files: Reaching[FileSpec]


@dataclass(frozen=True)
class _Task:
    """What choosing and fetching the files of one segment share."""

    source: Source
    options: FetchOptions
    client: Client

    @classmethod
    def of(cls, source: Source, options: FetchOptions) -> _Task:
        return cls(source, options, Client(source.limits, options.throttle, options.notify))

    def choices(self, segment: Segment) -> list[_Choice]:
        return [self.choice(query) for query in self.options.queries(segment)]

    def choice(self, query: Query) -> _Choice:
        """One listing, or none where the files are pinned."""
        if self.options.pinned is not None:
            return _pinned_choice(query, self.options.pinned, self.options.data_dir, self.source.url)
        return _Choice(query, reaching(self.source.listing(self.client, query), query).each(self._listed))

    def _listed(self, remote: RemoteFile) -> FileSpec:
        file = file_named(remote.name, self.options.data_dir)
        if file is None:
            raise ValueError(f"{remote.name} is of no product that is used here")  # not chosen then
        return _known_spec(file, self.options.known, remote.url, remote.size)

    def obtain(self, spec: FileSpec) -> _Found:
        """A file, and what the manifest records of it; a new one is in the journal before it is in the cache."""
        new: list[Pinned] = []

        def keep(obtained: Obtained) -> None:
            new.append(_pin(spec.file, obtained, self.source.server, spec.url, time.time()))
            record(self.options.data_dir, new, self.options.notify)

        obtained = obtain(spec, self.options.data_dir, self.client, keep)
        pin = new[0] if new else _pin_found(spec.file, obtained, self.options.known)
        return _Found(pin, obtained.content)


@dataclass(frozen=True)
class _Found:
    """A sound file of the cache."""

    pin: Pinned
    content: CdfContent


def plan_segment(segment: Segment, source: Source, options: FetchOptions) -> FetchPlan:
    """Which files `fetch_segment` would bring, without bringing any: the server is asked for listings only.

    Raises NetworkProblem where it does not answer, SegmentProblem where it is not to be trusted.
    """
    choices = _Task.of(source, options).choices(segment)
    files = [_planned(spec) for choice in choices for spec in choice.files.needed]
    remarks = [remark for choice in choices for remark in _remarks(segment, choice)]
    return FetchPlan(segment.key, tuple(files), tuple(remarks))


def fetch_segment(segment: Segment, source: Source, options: FetchOptions) -> tuple[Pinned, ...]:
    """Bring what a segment needs into the cache; every file of it, verified, also those that were there.

    Doing it again transfers nothing. Raises SegmentProblem where a product is not there, NetworkProblem where something
    cannot be had now, and EnvironmentProblem where the disk is in the way.
    """
    task = _Task.of(source, options)
    choices = task.choices(segment)
    _refuse_missing(segment, choices, "the manifest has" if options.pinned is not None else f"{source.base} names")
    return tuple(pin for choice in choices for pin in _fetch(task, choice, {}, source.limits.attempts))


def check_offline(segment: Segment, options: FetchOptions) -> tuple[Pinned, ...]:
    """What the cache has of a segment, verified; no connection is made.

    Raises SegmentProblem that names everything that is missing or bad.
    """
    choices = [_offline_choice(query, options) for query in options.queries(segment)]
    if options.pinned is not None:
        _refuse_missing(segment, choices, "the manifest has")
    refuse_no_file([choice.query.product for choice in choices if not choice.files], segment, options.data_dir)

    def found(spec: FileSpec) -> _Found:
        checked = check_cached(spec)
        return _Found(_pin_found(spec.file, checked, options.known), checked.content)

    pins, flaws = [], []
    for choice in choices:
        taken, wrong = _take(choice, found, options.notify)
        pins += taken
        flaws += wrong
    if flaws:
        raise SegmentProblem(f"{segment.key}: {'; '.join(map(str, flaws))}")
    return tuple(pins)


def files_of(pins: Iterable[Pinned], products: Iterable[Product], data_dir: Path) -> dict[str, tuple[CdfFile, ...]]:
    """The files of a segment by product key, as a reader takes them; the order within a product is kept."""
    files = [pin.file(data_dir) for pin in pins]
    return {product.key: tuple(file for file in files if file.product == product.name) for product in products}


def _offline_choice(query: Query, options: FetchOptions) -> _Choice:
    if options.pinned is not None:
        return _pinned_choice(query, options.pinned, options.data_dir, lambda file: "")
    return _Choice(query, files_in(options.data_dir, query).each(lambda file: _known_spec(file, options.known)))


def _pinned_choice(query: Query, pinned: Manifest, data_dir: Path, url: Callable[[CdfFile], str]) -> _Choice:
    """The files that a manifest has for a query: all of them are needed, and must be as it says."""
    files = [(pin, pin.file(data_dir)) for pin in pinned.reaching(query).needed]
    specs = tuple(FileSpec(file, url(file), pin.size, sha256=pin.sha256) for pin, file in files)
    return _Choice(query, Reaching(inside=specs))


def _fetch(task: _Task, choice: _Choice, done: dict[str, _Found], relistings: int) -> list[Pinned]:
    """The files of one product; listed again where the server no longer has what it listed, until it says the same."""

    def obtained(spec: FileSpec) -> _Found:
        if spec.name not in done:
            done[spec.name] = task.obtain(spec)
        return done[spec.name]

    try:
        pins, flaws = _take(choice, obtained, task.options.notify)
    except StaleListing:
        listed = task.choice(choice.query)
        if listed == choice or not listed.files or not relistings:
            raise
        return _fetch(task, listed, done, relistings - 1)
    if flaws:
        raise flaws[0]
    return pins


def _take(
    choice: _Choice, take: Callable[[FileSpec], _Found], notify: Notify
) -> tuple[list[Pinned], list[SegmentProblem]]:
    """The files of one product, in order of start, and what is wrong with those that are missed.

    A file that begins before the interval and is bad or empty is left out, with a warning, and the one before it takes
    its place; it is missed only where no other file has samples when the interval begins. Raises NetworkProblem.
    """
    inside, flaws = _inside(choice, take)
    before, bad = _before(choice, take, notify)
    begin = choice.query.begin
    starts = [found.content.times[0] for found in inside if found.content.times]
    is_covered = min(starts, default=begin + 1) <= begin or (
        before is not None and before.content.times is not None and before.content.times[1] >= begin
    )
    taken = ([before] if before else []) + inside
    for found in taken:
        if found.content.remark:
            notify(Remark(f"{found.pin.name}: {found.content.remark}"))
    if bad and not flaws and not is_covered:
        flaws = bad
    elif bad:
        for problem in bad:
            notify(Remark(f"{problem}; left out: no sample of it is needed"))
    return [found.pin for found in taken], flaws


def _inside(choice: _Choice, take: Callable[[FileSpec], _Found]) -> tuple[list[_Found], list[SegmentProblem]]:
    found, flaws = [], []
    for spec in choice.files.inside:
        try:
            found.append(take(spec))
        except NetworkProblem:  # what comes after it would wait as long
            raise
        except SegmentProblem as problem:
            flaws.append(problem)
    return found, flaws


def _before(
    choice: _Choice, take: Callable[[FileSpec], _Found], notify: Notify
) -> tuple[_Found | None, list[SegmentProblem]]:
    """The last sound file with samples that begins before the interval, and what is wrong with those after it."""
    bad: list[SegmentProblem] = []
    for spec in choice.files.earlier:
        try:
            found = take(spec)
        except StaleListing:
            raise
        except SegmentProblem as problem:
            bad.append(problem)
            continue
        if found.content.times is not None:
            return found, bad
        notify(Remark(f"{spec.name}: has no samples; left out"))
    return None, bad


def _refuse_missing(segment: Segment, choices: Iterable[_Choice], nobody: str) -> None:
    missing = [choice.query.product for choice in choices if not choice.files]
    if missing:
        raise SegmentProblem(
            f"{segment.key}: {nobody} no file of {', '.join(product.name for product in missing)} for "
            f"{segment.event.interval}; leave this spacecraft out, or look whether another --source or --manifest has "
            f"them{known_loss(segment, missing)}",
            Cause.NO_FILES,
        )


def _planned(spec: FileSpec) -> PlannedFile:
    try:
        return PlannedFile(spec.name, check_cached(spec).size, "there")
    except SegmentProblem:
        return PlannedFile(spec.name, spec.size, "bad" if spec.file.path.exists() else "missing")


def _remarks(segment: Segment, choice: _Choice) -> Iterator[str]:
    """What is known to be missing before anything is fetched."""
    product = choice.query.product
    if not choice.files:
        yield f"no file of {product.name} for {segment.event.interval}{known_loss(segment, [product])}"
    if product.instrument == "edp" and segment.probe == 4 and choice.query.begin >= _MMS4_WITHOUT_FIELD:
        yield "mms4 has no electric field in GSE (dce_gse) after 2023-07-03"
    if product is DIS:
        old = [spec.name for spec in choice.files.needed if spec.file.version < _WITH_BACKGROUND]
        yield from (f"{name} has no ion background, which begins with version 3.3" for name in old)


def _known_spec(file: CdfFile, known: Manifest, url: str = "", size: int | None = None) -> FileSpec:
    before = known.get(file.name)
    return FileSpec(file, url, size, known_sha256=before.sha256 if before else "")


def _pin_found(file: CdfFile, obtained: Obtained, known: Manifest) -> Pinned:
    """What a manifest records of a file that was there: what it already knew, if that is still true."""
    found = _pin(file, obtained, "cache", "", file.path.stat().st_mtime)
    return found.or_known(known.get(file.name))


def _pin(file: CdfFile, obtained: Obtained, source: SourceName, url: str, fetched: float) -> Pinned:
    return Pinned(
        name=file.name,
        version=file.version_text,
        size=obtained.size,
        sha256=obtained.sha256,
        source=source,
        url=url,
        fetched=datetime.fromtimestamp(fetched, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        origin=obtained.content.origin,
        checks=obtained.content.checks,
    )
