"""A report of a store to share: `index.html` and a page for each event, which open without a network.

Each event is drawn by one task; of a large report only events that need a look are, and its table has several pages
(`index-2.html`). The folder appears under its name when it is complete, or not at all.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any

from mms_regions.archive.products import parse_name
from mms_regions.core.errors import EnvironmentProblem, UsageProblem
from mms_regions.core.events import Segment
from mms_regions.core.files import remove_tree, rename
from mms_regions.core.lock import hold
from mms_regions.core.messages import counted, percent
from mms_regions.core.origin import origin_of
from mms_regions.core.outcomes import Status
from mms_regions.core.regions import regions_named
from mms_regions.core.stop import Stop
from mms_regions.core.types import SECOND
from mms_regions.core.version import SOFTWARE, __version__
from mms_regions.model.card import names_are_inferred
from mms_regions.model.cautions import MEANING
from mms_regions.model.coverage import ENOUGH, Coverage, together
from mms_regions.report import survey
from mms_regions.report.efficiency import efficiency
from mms_regions.report.event_page import EventDone, EventJob, as_png, page_of, write_event_page
from mms_regions.report.facts import SegmentFacts, lost_together, troubles
from mms_regions.report.html import render, script
from mms_regions.report.timeline_plot import timeline_picture
from mms_regions.report.zoom_plot import SCRIPT, bokeh_script
from mms_regions.run.status import SegmentStatus, StoreStatus, store_status
from mms_regions.store.read import attributes_of, open_store
from mms_regions.workers.pool import Future, Pool, PoolFactory, PoolRequest, worker_died

_Task = tuple[Callable[[EventJob], Any], EventJob]
_INDEX = "index.html"
_LISTED = 20  # segments, or reasons, that the first page names in one place; the table has all
_LOOK = 0.2  # s, from one look whether to stop to the next
_GENERATOR = b'<meta name="generator" content="mms-regions '


@dataclass(frozen=True)
class Reported:
    """What came of a report.

    index: its first page. events, pages: how many events it is of, and how many of them have a page. causes: by key of
    segments that failed in the run or have no data, the codes of `core.outcomes.Cause`. failed: why something could not
    be read or drawn, by its key.
    """

    index: Path
    events: int
    pages: int
    causes: Mapping[str, str]
    failed: Mapping[str, str]

    @property
    def selection(self) -> str:
        """Which events have pages, in a sentence; empty where all do."""
        if self.pages == self.events:
            return ""
        return (
            f"pages of {self.pages} of {counted(self.events, 'event')}: first those with failures, then those with the "
            f"most cautions or without data, {survey.MOST} segments at most; name other events with --events"
        )


def write_report(
    store: Path,
    out: Path,
    segments: Sequence[Segment],
    *,
    pool: PoolFactory,
    workers: int,
    stop: Stop,
    data_dir: Path | None = None,
    draw_all: bool = False,
) -> Reported:
    """Write the report of these segments of a store into the folder `out`, in the place of an older report.

    pool: opens the workers that draw. workers: how many processes; 0: this one. data_dir: where CDF files are, for ion
    spectrograms; None: without. draw_all: a page for each event, however many there are; else `survey.events_to_draw`
    chooses where there are more than `survey.MOST` segments.
    Raises UsageProblem where there is no store, there are no segments, or `out` is a folder that holds something else;
    EnvironmentProblem where a process that draws was killed; what `stop` holds where it was asked to; OSError where it
    cannot be written.
    """
    _refuse_other_folder(out)
    status, attributes = store_status(store), attributes_of(open_store(store))
    wanted = {segment.key for segment in segments}
    rows = [row for some in _by_event(status.segments) for row in some if row.segment.key in wanted]
    if not rows:
        raise UsageProblem(f"{store}: holds none of the segments asked for; see `mms-regions status {store}`")
    whole = EventJob(store, tuple(rows), out, _shared(store, attributes), data_dir)
    with _locked(out, stop), _placed_atomically(out) as folder:
        seen, drawn = _work(replace(whole, folder=folder), pool, workers, stop, draw_all or len(rows) <= survey.MOST)
        known = {one.key: one for event in drawn for one in event.facts}  # they say too what could not be drawn
        facts = [known.get(one.key, one) for part in seen for one in part.facts]
        failed = [*(part.failed for part in seen), *(event.failed for event in drawn)]
        done = Reported(
            out / _INDEX,
            events=len({one.segment.event.name for one in facts}),
            pages=len(drawn),
            causes={one.key: one.cause for one in facts if one.state in (Status.FAILED, Status.NO_DATA)},
            failed={key: why for some in failed for key, why in some.items()},
        )
        on_all: dict[str, Any] = {
            **whole.shared,
            "origin": origin_of(file for one in facts for file in one.inputs),
            "script": script(),
            "segments": len(facts),
            "counts": Counter(one.state for one in facts),
            "headings": _HEADINGS,
            "pages": {one.segment.event.name: page_of(one.segment.event) for one in known.values()},
        }
        first, *more = _tables(seen, facts)
        own = {**_on_index(store, status, attributes, whole.shared, facts), "selection": done.selection}
        (folder / _INDEX).write_bytes(render("index.html.j2", **on_all, **own, **first))
        for one in more:
            (folder / one["table"].file).write_bytes(render("more.html.j2", **on_all, **one))
        (folder / SCRIPT).write_bytes(bokeh_script())
    return done


@dataclass(frozen=True)
class Table:
    """A page of the table of segments: its file, and the events of its first and last row."""

    number: int
    first: str
    last: str

    @property
    def file(self) -> str:
        return _INDEX if self.number == 1 else f"index-{self.number}.html"


def _tables(seen: Sequence[survey.Surveyed], facts: Sequence[SegmentFacts]) -> Iterator[dict[str, Any]]:
    """What each page of the table shows: some pictures of strips, and the rows of these."""
    parts = survey.table_parts(seen)
    left = iter(facts)
    rows = [list(islice(left, sum(len(one.facts) for one in part))) for part in parts]
    tables = [Table(n, some[0].segment.event.name, some[-1].segment.event.name) for n, some in enumerate(rows, 1)]
    for table, part, some in zip(tables, parts, rows, strict=True):
        yield {"table": table, "tables": tables, "overviews": [one.overview for one in part], "rows": some}


def _work(
    whole: EventJob, pool: PoolFactory, workers: int, stop: Stop, draw_all: bool
) -> tuple[list[survey.Surveyed], list[EventDone]]:
    """What workers do: look at all segments, and write the pages of all events or of those that need it."""
    look = [(survey.survey_segments, replace(whole, segments=part)) for part in survey.survey_parts(whole.segments)]
    events = len({row.segment.event.name for row in whole.segments})
    with pool(PoolRequest(min(workers, events), imports=(survey.__name__,))) as opened:
        if draw_all:  # no worker waits while the other one looks
            done = _results([*look, *_pages(whole)], opened, stop)
            return done[: len(look)], done[len(look) :]
        seen: list[survey.Surveyed] = _results(look, opened, stop)
        chosen = survey.events_to_draw([one for part in seen for one in part.facts])
        rows = tuple(row for row in whole.segments if row.segment.event.name in chosen)
        return seen, _results(_pages(replace(whole, segments=rows)), opened, stop)


def _pages(whole: EventJob) -> list[_Task]:
    """One for each event of the segments of a job that has them all."""
    jobs = [replace(whole, segments=tuple(some)) for some in _by_event(whole.segments)]
    events = [job.event for job in jobs]
    return [
        (write_event_page, replace(job, before=before, after=after))
        for job, before, after in zip(jobs, [None, *events], [*events[1:], None], strict=False)
    ]


def _by_event(rows: Iterable[SegmentStatus]) -> list[list[SegmentStatus]]:
    """The segments of each event together, in the order of their first ones: a store that grew may have them apart."""
    found: dict[str, list[SegmentStatus]] = {}
    for row in rows:
        found.setdefault(row.segment.event.name, []).append(row)
    return list(found.values())


def _results(tasks: Sequence[_Task], pool: Pool, stop: Stop) -> list[Any]:
    """In the order of the tasks, of which the longest begin first, so that none is left alone at the end.

    Where one fails, or the report is to stop, the others are given up.
    """
    begun = []
    for function, job in tasks:
        stop.check()  # where there are no workers, each is done here
        begun.append(pool.submit(function, job, priority=_seconds(job)))
    left = len(tasks)
    while left:
        stop.check()
        if (done := pool.next_within(_LOOK)) is None:
            pool.attend()
        else:
            _refuse_failed(done)
            left -= 1
    return [task.result() for task in begun]


def _seconds(job: EventJob) -> int:
    """The length of all its segments."""
    spans = (row.segment.event.trange for row in job.segments)
    return sum(end - begin for begin, end in spans) // SECOND


def _refuse_failed(task: Future) -> None:
    error = task.exception()
    if error is not None and worker_died(error):
        raise EnvironmentProblem(
            "A worker process that draws was killed, maybe for lack of memory; try again with fewer --workers"
        ) from error
    if error is not None:
        raise error


def _shared(store: Path, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What every page of a report says."""
    model, deciding = attributes.get("model"), attributes["deciding"]
    return {
        "by": f"model {model['name'] if model else 'none'}, convention {deciding['convention']}",
        "software": SOFTWARE,
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "store": str(store),
        "name": store.resolve().name,
        "model": model,
        "deciding": deciding,
        "inferred": bool(model and names_are_inferred(model)),
        "regions": regions_named(region["name"] for region in model["regions"]) if model else (),
        "perturbed": attributes.get("perturb"),
        "draws": attributes.get("draws"),
    }


def _on_index(
    store: Path,
    status: StoreStatus,
    attributes: Mapping[str, Any],
    shared: Mapping[str, Any],
    facts: Sequence[SegmentFacts],
) -> dict[str, Any]:
    complete = [one for one in facts if one.measured]
    runs = attributes["provenance"]
    return {
        "complete": complete,
        "most": _LISTED,
        "samples": sum(one.measured.samples for one in complete if one.measured),
        "events": {one.segment.event.name for one in facts},
        "troubled": troubles(facts),
        "coverage": _coverage(complete),
        "lost": lost_together(one.measured for one in complete if one.measured),
        "few": [one.key for one in complete if one.measured and one.measured.labelled < ENOUGH],
        "doubts": {one.key: one.measured.doubts for one in complete if one.measured and one.measured.doubts},
        "flagged": _flagged(complete),
        "run_by": str(status.run_by) if status.run_by else "",
        "short": _short_cautions(shared, complete),
        "uuid": attributes["uuid"],
        "catalogues": attributes["catalogues"],
        "rogers": all(one["name"] == "rogers2023" for one in attributes["catalogues"]),
        "files": _files(complete),
        "runs": runs,
        "versions": sorted({run["mms_regions"] for run in runs}) or [__version__],
        "efficiency": [(run, as_png(timeline_picture(run.spans)) if run.spans else None) for run in efficiency(store)],
    }


def _coverage(complete: Sequence[SegmentFacts]) -> Coverage:
    return together(one.measured.coverage for one in complete if one.measured and one.measured.coverage)


def _flagged(complete: Sequence[SegmentFacts]) -> dict[str, int]:
    """How many segments have at least one sample with each caution."""
    measured = [one.measured for one in complete if one.measured]
    return {
        "unlabelled": sum(one.labelled < 1 for one in measured),
        **{name: sum(one.cautions[name] > 0 for one in measured) for name in ("slow_outflow", "wrong_side")},
        "quality": sum(bool(one.quality) for one in measured),
    }


_HEADINGS = (  # of the table of segments, and what each means
    ("Segment", "event and spacecraft"),
    ("State", "state of the segment, and the reason"),
    ("Start (UTC)", "start of the interval"),
    ("Seconds", "length of the interval"),
    ("Labelled", "share of the samples that have a label"),
    ("Regions", "shares of regions among the samples with a label, sorted by the largest"),
    ("Confidence", "mean of the largest probability"),
    ("Cautions", "how many kinds of cautions labels have"),
    ("Stability", "mean share of the perturbed runs that give the same label"),
    ("Flags", "how many quality flags of the inputs there are"),
)


def _short_cautions(shared: Mapping[str, Any], complete: Sequence[SegmentFacts]) -> list[str]:
    """What to know first of the labels of this store: three sentences at most, the gravest first."""
    measured = [one.measured for one in complete if one.measured]
    if not measured:
        return []
    few = sum(one.labelled < ENOUGH for one in measured)
    doubts = sum(bool(one.doubts) for one in measured)
    changed = [one.share_changed for one in measured if one.share_changed is not None]
    unsure = sum(one.low_confidence for one in measured) / len(measured)
    names = {name: sum(one.cautions[name] for one in measured) / len(measured) for name in measured[0].cautions}
    worst = max(names, key=lambda name: names[name])
    of = f"of {counted(len(measured), 'complete segment')}"
    found = [
        "Names of regions are inferred, not printed by the authors." if shared["inferred"] else "",
        f"Fewer than half of the samples have a label in {few} {of}." if few else "",
        f"B0 or n0 do not fit what was measured in {doubts} {of}, and labels depend on them." if doubts else "",
        f"Up to {percent(max(changed))} of the labels of a segment change where B0 and n0 are moved."
        if changed
        else "",
        f"{percent(names[worst])} of the labels on average: {MEANING[worst]}." if names[worst] else "",
        f"{percent(unsure)} of the labels on average have a low confidence." if unsure else "",
    ]
    return [one for one in found if one][:3]


def _files(complete: Sequence[SegmentFacts]) -> dict[str, Any]:
    """How many files segments were made from, which may share some, and the versions of each product."""
    files = {str(file["name"]): file for one in complete for file in one.inputs}
    versions: dict[str, set[str]] = {}
    for name, file in files.items():
        parsed = parse_name(Path(name))
        versions.setdefault(parsed.product if parsed else name, set()).add(str(file["version"]))
    return {
        "count": len(files),
        "bytes": sum(int(str(file["size"])) for file in files.values()),
        "versions": {product: sorted(found) for product, found in sorted(versions.items())},
    }


def _refuse_other_folder(out: Path) -> None:
    """What is replaced is a report, or nothing."""
    if not out.exists() or (out.is_dir() and (not any(out.iterdir()) or _is_report(out))):
        return
    raise UsageProblem(f"{out} exists and is not a report; name a new folder, an empty one, or an older report")


def _is_report(folder: Path) -> bool:
    index = folder / _INDEX
    return index.is_file() and _GENERATOR in index.read_bytes()[:4096]


@contextmanager
def _locked(out: Path, stop: Stop) -> Iterator[None]:
    """While no other process writes this report; first, what a killed one has left beside it is removed or put back."""
    target = out.resolve()
    beside = target.with_name(f".{target.name}")
    with hold(beside.with_name(f"{beside.name}.lock"), "mms-regions report", stop.lose_place):
        for older in target.parent.glob(f"{escape(beside.name)}.*.older"):
            if target.exists():
                remove_tree(older)
            else:
                rename(older, target)
        for staging in target.parent.glob(f"{escape(beside.name)}.*.partial"):
            remove_tree(staging)
        yield


@contextmanager
def _placed_atomically(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, which takes its place when all went well. Raises OSError that names a path."""
    target, mark = out.resolve(), f"{os.getpid()}-{secrets.token_hex(4)}"
    staging, older = (target.with_name(f".{target.name}.{mark}.{what}") for what in ("partial", "older"))
    try:
        staging.mkdir(parents=True)
        yield staging
        if target.exists():
            rename(target, older)
        rename(staging, target)
    except BaseException as problem:
        remove_tree(staging, best_effort=True)
        if older.exists():
            rename(older, target)
        if isinstance(problem, OSError) and not problem.filename:
            raise OSError(problem.errno, problem.strerror, str(out)) from problem
        raise
    remove_tree(older, best_effort=True)
