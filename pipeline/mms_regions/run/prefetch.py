"""Fetching alone, on a machine with internet access, so that a run elsewhere needs none."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mms_regions.archive.fetch import FetchPlan
from mms_regions.core.errors import SegmentProblem, UsageProblem
from mms_regions.core.events import Segment
from mms_regions.core.messages import FetchStarted, Observer, SegmentFetched
from mms_regions.core.outcomes import without_key
from mms_regions.core.settings import Settings
from mms_regions.run.inputs import Inputs, Ledger, obtain_files, open_inputs, plan_files, refuse_no_files
from mms_regions.workers.pool import Future, Pool, PoolFactory, PoolRequest, Where

_IN_FLIGHT = 4  # segments per worker; how many requests are made at once is another matter


@dataclass(frozen=True)
class Fetched:
    """What a cache holds after fetching: keys of complete segments, number of files, bytes.

    failed, no_data: the reasons of the others; no_data: the archive has no file of a product.
    """

    complete: tuple[str, ...]
    failed: Mapping[str, str]
    files: int
    size: int
    no_data: Mapping[str, str] = field(default_factory=dict)


def prestage(segments: Sequence[Segment], settings: Settings, pool: PoolFactory, observe: Observer) -> Fetched:
    """Bring the files of these segments into the data folder, verified; doing it again transfers what is missing.

    Raises UsageProblem where settings forbid it, EnvironmentProblem where the disk is in the way.
    """
    inputs = _open(segments, settings)
    with pool(_request(segments, settings)) as workers:
        ledger = Ledger(lambda: inputs, workers, settings.transfers, observe)
        try:
            problems = _fetch_all(segments, ledger, workers, observe)
        finally:
            ledger.write()
    complete = tuple(segment.key for segment in segments if segment.key not in problems)
    no_data = {key: without_key(str(problem), key) for key, problem in problems.items() if problem.no_data}
    failed = {key: without_key(str(problem), key) for key, problem in problems.items() if key not in no_data}
    return Fetched(complete, failed, len(ledger.files), sum(pin.size for pin in ledger.files.values()), no_data)


def plan_prestage(
    segments: Sequence[Segment], settings: Settings, pool: PoolFactory, observe: Observer
) -> dict[str, FetchPlan | str]:
    """What `prestage` would transfer, by segment, or why that is not known; only listings are asked for."""
    inputs = _open(segments, settings)
    with pool(_request(segments, settings)) as workers:
        observe(FetchStarted(len(segments)))
        found: dict[str, FetchPlan | str] = {}
        for segment, done in each_done(
            segments, plan_files, inputs.over(workers, settings.transfers, observe), workers
        ):
            problem = problem_of(done)
            found[segment.key] = without_key(str(problem), segment.key) if problem else done.result()
            observe(fetched_message(segment, problem))
    return {segment.key: found[segment.key] for segment in segments}


def _fetch_all(segments: Sequence[Segment], ledger: Ledger, pool: Pool, observe: Observer) -> dict[str, SegmentProblem]:
    """Fetch, and give by key why segments could not be."""
    problems = {}
    observe(FetchStarted(len(segments)))
    for segment, done in each_done(segments, obtain_files, ledger.inputs, pool):
        problem = problem_of(done)
        if problem:
            problems[segment.key] = problem
        else:
            ledger.note(done.result())
        observe(fetched_message(segment, problem))
    return problems


def fetched_message(segment: Segment, problem: SegmentProblem | None) -> SegmentFetched:
    if problem is None:
        return SegmentFetched(segment.key)
    return SegmentFetched(segment.key, without_key(str(problem), segment.key), problem.no_data)


def each_done(
    segments: Sequence[Segment], function: Callable[..., Any], inputs: Inputs, pool: Pool, *arguments: Any
) -> Iterator[tuple[Segment, Future]]:
    """Each segment with its task, as tasks end; a bounded number of them are under way."""
    left, under_way = deque(segments), dict[Future, Segment]()
    while left or under_way:
        while left and len(under_way) < pool.workers["cpu"] * _IN_FLIGHT:
            segment = left.popleft()
            under_way[pool.submit_waiting(function, segment, inputs.near(segment), *arguments)] = segment
        done = pool.next_done()
        yield under_way.pop(done), done


def problem_of(done: Future) -> SegmentProblem | None:
    """Why a task failed, if it did. Raises what is wrong with the machine rather than with the segment."""
    error = done.exception()
    if error is None or isinstance(error, SegmentProblem):
        return error
    raise error


def _request(segments: Sequence[Segment], settings: Settings) -> PoolRequest:
    """The workers that there is work for; nothing is labelled."""
    tasks: dict[Where, int] = {"cpu": len(segments), "gpu": 0}
    return PoolRequest(settings.processes(len(segments)), tasks, imports=(obtain_files.__module__,))


def _open(segments: Sequence[Segment], settings: Settings) -> Inputs:
    """Inputs that can be fetched from, or where all is there already."""
    if settings.offline:
        raise UsageProblem(
            f"Nothing can be fetched offline ({settings.origin.get('offline', 'as set')}); leave that out, or use "
            "`mms-regions run --offline` with the files that are there"
        )
    inputs = open_inputs(settings)
    refuse_no_files(segments, inputs)
    return inputs
