"""The page of an event in a report: its pictures, and the facts about each of its segments."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mms_regions.core.errors import Interrupted, SegmentProblem, UsageProblem
from mms_regions.core.events import Event, is_safe_name
from mms_regions.core.messages import percent
from mms_regions.core.origin import origin_of
from mms_regions.core.regions import Region
from mms_regions.core.types import SECOND
from mms_regions.model.cautions import LOW_CONFIDENCE, low_confidence_of
from mms_regions.report.facts import SegmentFacts, measure
from mms_regions.report.html import render, zoom_script
from mms_regions.report.ion_spectrum import ion_spectrum
from mms_regions.report.overview_plot import OverviewRow, agreement, event_overview
from mms_regions.report.segment_plot import segment_picture
from mms_regions.report.strips import ns
from mms_regions.report.zoom_plot import SCRIPT, zoomable
from mms_regions.run.status import SegmentStatus
from mms_regions.store.read import attributes_of, open_store, segment_of
from mms_regions.store.stretches import DEFAULT_SHORTEST, stretches

_DPI = 120  # 1200 pixels for 10 inches, which is as wide as a page gets
_COLOURS = 256
_AT_ONCE = 250_000  # samples in memory, some 70 MB
_T = TypeVar("_T")


@dataclass(frozen=True)
class EventJob:
    """All that the page of an event is made from; shared: what every page of the report says."""

    store: Path
    segments: tuple[SegmentStatus, ...]
    folder: Path
    shared: Mapping[str, Any]
    data_dir: Path | None = None  # of the CDF files, for what the store does not hold
    before: Event | None = None  # of the report, which has a page too
    after: Event | None = None

    @property
    def event(self) -> Event:
        return self.segments[0].segment.event


@dataclass(frozen=True)
class EventDone:
    """What came of it, in the order of the segments: facts, and why something could not be, by its key."""

    facts: tuple[SegmentFacts, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Seen:
    """A segment as it was found: its arrays and picture (PNG), None where there are none, and why they should be.

    panels: JSON of the same picture, to be zoomed.
    """

    facts: SegmentFacts
    data: xr.Dataset | None = None
    picture: bytes | None = None
    panels: str = ""
    problem: str = ""

    @property
    def strip(self) -> OverviewRow:
        labels = None if self.data is None else self.data["label"]
        return OverviewRow(self.facts.key, labels, self.facts.state.replace("_", " "))  # the page has the reason


def page_of(event: Event) -> str:
    """Where the page of an event is, in the folder of a report; a name that can be no file name is not used."""
    name = event.name if is_safe_name(event.name) else hashlib.sha256(event.name.encode()).hexdigest()[:16]
    return f"events/{name}.html"


def neighbour_of(event: Event | None) -> tuple[str, str] | None:
    """The name of an event and where its page is, seen from the page of another."""
    return None if event is None else (event.name, page_of(event).removeprefix("events/"))


def write_event_page(job: EventJob) -> EventDone:
    """Draw an event and write its page. The page says what could not be read or drawn. Raises OSError."""
    whole = read_at_once(job)
    seen = [_draw(read_segment(job.store, whole, row), job.data_dir) for row in job.segments]
    opened = {one.facts.segment.spacecraft: one.data for one in seen if one.data is not None}
    failed = {one.facts.key: one.problem for one in seen if one.problem}
    origin = origin_of(file for one in seen for file in one.facts.inputs)
    without = {one.facts.segment.spacecraft: one.strip.reason for one in seen if one.data is None}
    title = origin.titled(f"Event {job.event.name}; {job.shared['by']}")
    overview = None
    if len(opened) > 1:  # one spacecraft agrees with none, and its picture has the strip
        overview, problem = _tried(lambda: as_png(event_overview(opened, title, without)))
        failed |= {job.event.name: f"Event {job.event.name} cannot be drawn: {problem}"} if problem else {}
    facts = tuple(one.facts for one in seen)
    page: dict[str, Any] = {
        "event": job.event,
        "facts": facts,
        "origin": origin,
        "pictures": {one.facts.segment.probe: one.picture for one in seen if one.picture},
        "panels": {one.facts.segment.probe: one.panels for one in seen if one.panels},
        "stretches": {
            one.facts.segment.probe: _stretch_rows(one.data, job.shared["regions"]) for one in seen if one.data
        },
        "shortest": DEFAULT_SHORTEST,
        "before": neighbour_of(job.before),
        "after": neighbour_of(job.after),
        "alts": {one.segment.probe: _describe(one, job.shared["regions"]) for one in facts},
        "overview": overview,
        "agreement": _mean_agreement({name: data["label"] for name, data in opened.items()}),
        "low_confidence": max(map(low_confidence_of, opened.values()), default=LOW_CONFIDENCE),
    }
    path = job.folder / page_of(job.event)
    path.parent.mkdir(exist_ok=True)
    scripts = {"library": f"../{SCRIPT}", "script": zoom_script()} if page["panels"] else {"script": None}
    path.write_bytes(render("event.html.j2", **job.shared, **page, **scripts))
    return EventDone(facts, failed)


def as_png(figure: Figure) -> bytes:
    """A picture of 256 colours, which is enough for lines and strips: a third of the bytes of a full one."""
    figure.set_dpi(_DPI)
    canvas, data = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # type: ignore[no-untyped-call]
    dots = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    image = Image.fromarray(dots).convert("RGB")
    image.quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(data, "PNG", compress_level=4)
    return data.getvalue()


def read_at_once(job: EventJob) -> xr.Dataset:
    """The store of a job, with the samples of its segments in memory: to read each by itself takes ten times as long.

    Where they lie far apart, or something of them is damaged, only the index is: then each is read by itself.
    """
    whole = open_store(job.store)
    whole.drop_dims("sample").load()
    names = zip(whole["event"].values.tolist(), whole["probe"].values.tolist(), strict=True)
    keys = {row.segment.key for row in job.segments}
    rows = [row for row, (event, probe) in enumerate(names) if f"{event}/mms{probe}" in keys]
    first = whole["first"].values
    begin, end = (int(first[rows].min()), int((first + whole["n_samples"].values)[rows].max())) if rows else (0, 0)
    if end - begin > _AT_ONCE:
        return whole
    try:
        block = whole.isel(sample=slice(begin, end)).load()
    except Exception:  # whatever damaged files make zarr raise; the segment that they are of says it
        return whole
    return block.assign(first=block["first"] - begin)


def read_segment(store: Path, whole: xr.Dataset, row: SegmentStatus, load: bool = True) -> Seen:
    """Facts and arrays of a segment of the store, which is open as `whole`; why, where it cannot be read.

    load: read all of its arrays; else only those that facts are made of.
    """
    segment = row.segment
    if row.state != "complete":
        return Seen(SegmentFacts(segment, row.state, row.reason, row.cause))
    read, problem = _tried(lambda: _read(whole, row, load))
    if read is None:
        problem = problem.removeprefix(f"{segment.key} ")  # which stands beside it
        why = f"cannot be read: {problem}; `mms-regions verify {store}` names the damaged files"
        return Seen(SegmentFacts(segment, "unreadable", why), problem=f"{segment.key} {why}")
    facts, data = read
    return Seen(facts, data)


def _draw(seen: Seen, data_dir: Path | None) -> Seen:
    """The same with its picture, or why there is none."""
    data = seen.data
    if data is None:
        return seen
    drawn, problem = _tried(lambda: _pictures(data, data_dir))
    if drawn is not None:
        return replace(seen, picture=drawn[0], panels=drawn[1])
    why = f"cannot be drawn: {problem}"
    return replace(seen, facts=replace(seen.facts, reason=why), problem=f"{seen.facts.key} {why}")


def _pictures(data: xr.Dataset, data_dir: Path | None) -> tuple[bytes, str]:
    ions = _ions(data, data_dir)
    return as_png(segment_picture(data, ion_spectrum=ions)), zoomable(data, ions)


def _read(whole: xr.Dataset, row: SegmentStatus, load: bool) -> tuple[SegmentFacts, xr.Dataset]:
    found = segment_of(whole, row.segment.event.name, row.segment.probe)
    if found is None:
        raise UsageProblem("the index of the store does not hold it")
    data = found.load() if load else found
    inputs = attributes_of(data)["inputs"]
    return SegmentFacts(row.segment, row.state, measured=measure(data), inputs=inputs), data


def _ions(data: xr.Dataset, data_dir: Path | None) -> xr.DataArray | None:
    """None where the files are missing or have changed; the picture says so."""
    if data_dir is None:
        return None
    try:
        return ion_spectrum(data, data_dir)
    except SegmentProblem:
        return None


def _tried(make: Callable[[], _T]) -> tuple[_T | None, str]:
    """What is made, or why it could not be made: other segments are not affected, whatever libraries raise."""
    try:
        return make(), ""
    except Interrupted:
        raise
    except Exception as problem:
        return None, str(problem) or type(problem).__name__


def _mean_agreement(labels: Mapping[str, xr.DataArray]) -> float | None:
    if len(labels) < 2:
        return None
    found = agreement(labels).values
    return float(np.nanmean(found)) if np.isfinite(found).any() else None


@dataclass(frozen=True)
class StretchRow:
    """A stretch of equal labels as the page lists it; begin and end in UTC, seconds, mean confidence 0 to 1."""

    region: Region
    begin: np.datetime64
    end: np.datetime64
    seconds: float
    confidence: float


def _stretch_rows(data: xr.Dataset, regions: Sequence[Region]) -> list[StretchRow]:
    probability = data["probability"].values
    return [
        StretchRow(
            regions[one.region],
            np.datetime64(one.begin, "ns"),
            np.datetime64(one.end, "ns"),
            one.length / SECOND,
            float(probability[one.first : one.last + 1, one.region].mean(dtype=np.float64)),
        )
        for one in stretches(ns(data), data["label"].values, DEFAULT_SHORTEST)
    ]


def _describe(facts: SegmentFacts, regions: Sequence[Region]) -> str:
    """The picture of a segment, for those who do not see it."""
    what = "Fields, moments, spectra, probabilities and regions along time"
    if facts.measured is None:
        return what
    titles = (region.title for region in regions)
    shares = sorted(zip(facts.measured.regions, titles, strict=True), reverse=True)
    said = ", ".join(f"{title} {percent(share)}" for share, title in shares if share)
    return f"{what}, of {facts.key}: {said or 'no sample has a label'}."
