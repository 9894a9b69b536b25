"""All segments of a report, without pages: facts, strips of a hundred at a time, and which events have a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from mms_regions.core.origin import origin_of
from mms_regions.report.event_page import EventJob, as_png, read_at_once, read_segment
from mms_regions.report.facts import SegmentFacts
from mms_regions.report.overview_plot import OverviewRow, catalogue_overview, overview_pages
from mms_regions.run.status import SegmentStatus

MOST = 500  # segments that have pages in a report of more, and rows on a page of its table


@dataclass(frozen=True)
class Surveyed:
    """Segments in their order: facts, a picture (PNG) of their strips, and why one could not be read, by its key."""

    facts: tuple[SegmentFacts, ...]
    overview: bytes
    failed: Mapping[str, str]


def survey_parts(rows: Sequence[SegmentStatus]) -> Iterator[tuple[SegmentStatus, ...]]:
    """Segments for one picture of strips each; the spacecraft of an event stay together."""
    left = iter(rows)
    for page in overview_pages([OverviewRow(row.segment.key, None) for row in rows]):
        yield tuple(islice(left, len(page)))


def table_parts(parts: Sequence[Surveyed]) -> list[list[Surveyed]]:
    """What each page of the table shows: as many pictures as have no more than MOST segments in all."""
    pages: list[list[Surveyed]] = [[]]
    for part in parts:
        if pages[-1] and sum(len(one.facts) for one in (*pages[-1], part)) > MOST:
            pages.append([])
        pages[-1].append(part)
    return pages


def survey_segments(job: EventJob) -> Surveyed:
    """Read the segments of a job, which may be of many events, and draw their strips."""
    whole = read_at_once(job)
    facts, strips = [], []
    failed: dict[str, str] = {}
    for row in job.segments:
        seen = read_segment(job.store, whole, row, load=False)
        facts.append(seen.facts)
        strips.append(seen.strip)
        if seen.problem:
            failed[seen.facts.key] = seen.problem
    title = origin_of(file for one in facts for file in one.inputs).titled(f"{job.shared['name']}; {job.shared['by']}")
    return Surveyed(tuple(facts), as_png(catalogue_overview(strips, title)), failed)


def events_to_draw(facts: Sequence[SegmentFacts]) -> set[str]:
    """Names of the events that most need a look, of MOST segments at most.

    First those with a segment that failed or cannot be read, then those with cautions or without data, the larger
    share of samples with cautions first. An event without any of these is not among them.
    """
    concerns: dict[str, tuple[int, float]] = {}
    sizes: Counter[str] = Counter()
    for one in facts:
        name, (gravity, share) = one.segment.event.name, _concern(one)
        before = concerns.get(name, _NO_CONCERN)
        concerns[name] = max(before[0], gravity), max(before[1], share)
        sizes[name] += 1
    found: set[str] = set()
    segments = 0
    for name in sorted(concerns, key=lambda name: concerns[name], reverse=True):
        segments += sizes[name]
        if concerns[name] == _NO_CONCERN or segments > MOST:
            break
        found.add(name)
    return found


_NO_CONCERN = (0, 0.0)
_GRAVITY = {"failed": 2, "unreadable": 2, "no_data": 1}


def _concern(one: SegmentFacts) -> tuple[int, float]:
    """How much a segment needs a look: by its state, and by the share of samples that cautions are about."""
    if one.measured is None:
        return _GRAVITY.get(one.state, 0), 0.0
    share = max(0.0, 1 - one.measured.labelled, *one.measured.cautions.values())
    return int(share > 0 or bool(one.measured.doubts)), share
