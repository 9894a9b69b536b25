"""B0 and n0 of segments, estimated from their CDF files: no store is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mms_regions.archive.fetch import files_of
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Segment
from mms_regions.core.messages import FetchStarted, Observer
from mms_regions.core.outcomes import without_key
from mms_regions.core.settings import Settings
from mms_regions.core.types import Times
from mms_regions.physics.conventions import convention
from mms_regions.physics.estimated_scales import Balance, ScaleEstimate, estimate_scales, pressure_balance
from mms_regions.run.inputs import Inputs, Ledger, obtain_files, open_inputs, refuse_no_files
from mms_regions.run.prefetch import each_done, fetched_message, problem_of
from mms_regions.workers.pool import PoolFactory, PoolRequest


@dataclass(frozen=True, eq=False)
class Estimated:
    """The scales of a segment, and what they were estimated from; time: (n,) ns UTC."""

    segment: Segment
    scales: ScaleEstimate
    time: Times
    balance: Balance


def estimate_segments(
    segments: Sequence[Segment], settings: Settings, pool: PoolFactory, observe: Observer
) -> dict[str, Estimated | str]:
    """The scales of each segment by its key, or the reason why there are none, in the order of the segments.

    Files that are missing are fetched, unless settings say offline. Raises UsageProblem where no data folder is named,
    SegmentProblem where nothing is fetched and not one file is there.
    """
    inputs = open_inputs(settings)
    refuse_no_files(segments, inputs)
    processes = settings.processes(len(segments))
    request = PoolRequest(processes, {"cpu": len(segments), "gpu": 0}, imports=(_estimate.__module__,))
    found: dict[str, Estimated | str] = {}
    with pool(request) as workers:
        ledger = Ledger(lambda: inputs, workers, settings.transfers, observe)
        observe(FetchStarted(len(segments)))
        try:
            for segment, done in each_done(segments, _estimate, ledger.inputs, workers, settings):
                problem = problem_of(done)
                found[segment.key] = without_key(str(problem), segment.key) if problem else done.result()
                observe(fetched_message(segment, problem))
        finally:
            ledger.write()
    return {segment.key: found[segment.key] for segment in segments}


def _estimate(segment: Segment, inputs: Inputs, settings: Settings) -> Estimated:
    """What a worker does: obtain the files, prepare the segment, estimate."""
    how, event = convention(settings), segment.event.model_copy(update={"B0": 1.0, "n0": 1.0})  # features are not used
    files = files_of(obtain_files(segment, inputs), how.products, inputs.data_dir)
    samples = how.samples(how.read(files, event), event)
    try:
        scales = estimate_scales(samples.physics)
    except SegmentProblem as problem:
        raise SegmentProblem(f"{segment.key}: {problem}", problem.cause) from None
    return Estimated(segment, scales, samples.time, pressure_balance(samples.physics))
