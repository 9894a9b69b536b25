"""What workers do in a run: obtain the files of a segment, prepare it, write a shard, label shards.

Each task of the loop is one function here. It runs by way of `run_task`, which reports how it went.
"""

from __future__ import annotations

import math
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ValidationError

from mms_regions.archive.fetch import files_of
from mms_regions.archive.manifest import Pinned
from mms_regions.archive.products import DES, known_loss
from mms_regions.core.errors import EnvironmentProblem, SegmentProblem, explain
from mms_regions.core.events import Event, Segment
from mms_regions.core.isolated import child_cpu
from mms_regions.core.messages import FilesChecked, Notify, TaskEnded, counted, peak_memory
from mms_regions.core.outcomes import Cause
from mms_regions.core.settings import Settings
from mms_regions.core.types import WINDOW, Flags, Floats
from mms_regions.model.card import read_model
from mms_regions.model.marginals import DrawnScales, drawn_factors, marginal_of
from mms_regions.model.stability import feature_factors, sensitivity_of
from mms_regions.physics.conventions import convention
from mms_regions.physics.estimated_scales import estimate_scales
from mms_regions.physics.samples import FEATURES, Samples, bridged_in
from mms_regions.run.inputs import Inputs, obtain_files
from mms_regions.store.paths import receipt_path
from mms_regions.store.plan import ShardPlan, Slot
from mms_regions.store.receipts import (
    EstimatedScales,
    InputFile,
    Outcome,
    Prepared,
    Receipt,
    labels_made_from,
    scales_with_errors,
)
from mms_regions.store.relabel import Labelling
from mms_regions.store.shards import coverage_in, read_windows, write_features, write_labels

if TYPE_CHECKING:
    from mms_regions.model.label import Prediction  # imports torch, which all others do without

Stage = Literal["load", "fetch", "prepare", "write", "label"]


@dataclass(frozen=True)
class Task:
    """What a task is for: its stage, the segment or shards, and which attempt it is."""

    stage: Stage
    subject: str
    attempt: int = 1


def run_task(
    task: Task, notify: Notify, size: Callable[[Any], int], function: Callable[..., Any], *arguments: Any
) -> Any:
    """Run a function as a task, and report how it went.

    size: gives the bytes of the files behind the result. Raises what the function raises.
    """
    started = _Clocks()
    try:
        result = function(*arguments)
    except Exception as problem:
        notify(_ended(task, started, 0, str(problem) or type(problem).__name__, traceback.format_exc()))
        raise
    notify(_ended(task, started, size(result), "", ""))
    return result


@dataclass(frozen=True)
class _Clocks:
    """s since 1970, and s that this process and the child that reads files for it have computed."""

    wall: float = field(default_factory=time.time)
    cpu: float = field(default_factory=lambda: time.process_time() + child_cpu())


def _ended(task: Task, started: _Clocks, size: int, reason: str, trace: str) -> TaskEnded:
    ended = _Clocks()
    return TaskEnded(
        stage=task.stage,
        subject=task.subject,
        attempt=task.attempt,
        host=platform.node(),
        worker=os.getpid(),
        started=started.wall,
        ended=ended.wall,
        cpu=ended.cpu - started.cpu,
        cpu_ended=ended.cpu,
        bytes=size,
        peak_memory=peak_memory(),
        reason=reason,
        trace=trace,
        batch_job=os.environ.get("SLURM_JOB_ID", ""),
    )


# --- The tasks of the loop


def load(task: Task, notify: Notify, labelling: Labelling) -> str:
    """The device that this worker labels on, with the network in its memory."""
    device: str = run_task(task, notify, lambda _: 0, check_labelling, labelling)
    return device


def obtain(task: Task, notify: Notify, segment: Segment, inputs: Inputs) -> tuple[Pinned, ...]:
    """The files of a segment, verified, fetched where that is allowed and needed."""
    pins: tuple[Pinned, ...] = run_task(task, notify, _size_of_files, obtain_files, segment, inputs)
    return pins


def prepare(
    task: Task, notify: Notify, slot: Slot, pins: Sequence[Pinned], data_dir: Path, settings: Settings
) -> Prepared:
    """A segment that can be written, made from its files."""
    made: Prepared = run_task(task, notify, _size_of_inputs, prepare_segment, slot, pins, data_dir, settings)
    return made


def check_and_prepare(
    check: Task, preparing: Task, notify: Notify, slot: Slot, inputs: Inputs, settings: Settings
) -> Prepared:
    """Both tasks of a segment whose files are there, each reported as if it were alone."""
    pins = obtain(check, notify, slot.segment, inputs)
    notify(FilesChecked(tuple(pin.model_dump() for pin in pins)))
    return prepare(preparing, notify, slot, pins, inputs.data_dir, settings)


def write(task: Task, notify: Notify, store: Path, shard: ShardPlan, outcomes: Sequence[Outcome]) -> Receipt:
    """A shard of features, complete on disk."""
    receipt: Receipt = run_task(task, notify, _size_of_receipt, write_features, store, shard, outcomes)
    return receipt


def label(task: Task, notify: Notify, labelling: Labelling, shards: Sequence[ShardPlan]) -> list[Receipt]:
    """The labels of some shards, complete on disk."""
    receipts: list[Receipt] = run_task(task, notify, _size_of_receipts, label_shards, labelling, shards)
    return receipts


def _size_of_files(pins: Sequence[Pinned]) -> int:
    return sum(pin.size for pin in pins)


def _size_of_inputs(made: Prepared) -> int:
    return sum(file.size for file in made.inputs)


def _size_of_receipt(receipt: Receipt) -> int:
    return receipt.size


def _size_of_receipts(made: Sequence[Receipt]) -> int:
    return sum(receipt.size for receipt in made)


# --- Preparing


def prepare_segment(slot: Slot, pins: Sequence[Pinned], data_dir: Path, settings: Settings) -> Prepared:
    """Make a segment from these files, which lie under `data_dir` and were verified.

    Raises SegmentProblem where it cannot be made; the loop keeps the reason and goes on with other segments.
    """
    segment, how = slot.segment, convention(settings)
    _refuse_bad_event(segment)
    files = files_of(pins, how.products, data_dir)
    burst = how.read(files, segment.event)
    samples, estimate = _scaled_samples(segment, partial(how.samples, burst))
    if len(samples) > slot.length:
        raise SegmentProblem(
            f"{segment.key}: {counted(len(samples), 'electron sample')}, more than the {slot.length:,} that "
            f"{segment.event.seconds:g} s can hold at 30 ms; times repeat or overlap in its files"
        )
    _refuse_nothing_complete(segment, samples)
    known = {pin.name: pin for pin in pins}
    used = (known[file.name] for file in burst.files)
    inputs = tuple(
        InputFile(pin.name, pin.version, pin.size, pin.sha256, pin.origin or "unknown", pin.checks) for pin in used
    )
    x, y, z = (float(value) for value in burst.position_gse)
    return Prepared(segment.key, samples, inputs, (x, y, z), estimate)


def _scaled_samples(
    segment: Segment, samples_for: Callable[[Event], Samples]
) -> tuple[Samples, EstimatedScales | None]:
    """The samples, with features scaled by the event's B0 and n0, or by estimates of those that it lacks.

    Raises SegmentProblem where one is neither given nor can be estimated.
    """
    event = segment.event
    if event.B0 is not None and event.n0 is not None:
        return samples_for(event), None
    samples = samples_for(event.model_copy(update={"B0": 1.0, "n0": 1.0}))  # then features are scaled, not recomputed
    try:
        found = estimate_scales(samples.physics)
    except SegmentProblem as problem:
        raise SegmentProblem(f"{segment.key}: {problem}", problem.cause) from None
    b0, b0_sigma = (found.b0, found.b0_sigma) if event.B0 is None else (event.B0, event.B0_sigma)
    n0, n0_sigma = (found.n0, found.n0_sigma) if event.n0 is None else (event.n0, event.n0_sigma)
    if n0 is None:
        raise SegmentProblem(f"{segment.key}: {'; '.join(found.cautions)}; give n0 in the catalogue", Cause.EVENT)
    features = samples.features * feature_factors(b0, n0)
    estimate = EstimatedScales(b0, b0_sigma or math.nan, n0, n0_sigma or math.nan, found.cautions)
    return replace(samples, features=features), estimate


def _refuse_bad_event(segment: Segment) -> None:
    """An event that was made past the checks of a catalogue fails here, and alone."""
    try:
        Event.model_validate(segment.event.model_dump())
    except ValidationError as problem:
        wrong = "; ".join(explain(problem).values())
        raise SegmentProblem(
            f"{segment.key}: its event cannot be used ({wrong}); correct it in the catalogue", Cause.EVENT
        ) from None


def _refuse_nothing_complete(segment: Segment, samples: Samples) -> None:
    """Where no sample can have a label, a reason says more than a slot full of -1."""
    present = np.isfinite(samples.features)
    if present.all(axis=1).any():
        return
    never = [name for name, column in zip(FEATURES, present.T, strict=True) if not column.any()]
    missing = f"{', '.join(never)} never" if never else "each of them at some time, but not together"
    raise SegmentProblem(
        f"{segment.key}: no sample from {segment.event.interval} has all features ({missing}): the files hold only "
        "fill values, flagged or infinite samples, or zero ion density; leave it out, or look for newer versions"
        f"{known_loss(segment, [DES] if 'ne' in never else [])}",
        Cause.NOTHING_MEASURED,
    )


# --- Labelling


def check_labelling(labelling: Labelling) -> str:
    """Refuse a device or a model that cannot be used: what the first worker that labels does before anything else.

    Gives the device that it is going to use.
    """
    from mms_regions.model.label import choose_device

    device = choose_device(labelling.device)
    _network(labelling.model.folder, str(labelling.model.card.weights_sha256))
    return device


def label_shards(labelling: Labelling, shards: Sequence[ShardPlan]) -> list[Receipt]:
    """Label every window of some shards, and write their labels: what a labelling worker does."""
    from mms_regions.model.label import choose_device, label_windows

    device = choose_device(labelling.device)
    network = _network(labelling.model.folder, str(labelling.model.card.weights_sha256))
    label = partial(label_windows, network, device=device)
    return [made for batch in batches(shards, device) for made in _label_batch(labelling, batch, label)]


def batches(shards: Sequence[ShardPlan], device: str) -> list[Sequence[ShardPlan]]:
    """The shards whose windows are labelled at once: all on a GPU, which few keep idle; else one, to save memory."""
    return [shards] if device == "cuda" else [[shard] for shard in shards]


def _label_batch(
    labelling: Labelling, batch: Sequence[ShardPlan], label: Callable[[Floats, Flags], Prediction]
) -> Iterator[Receipt]:
    read = [read_windows(labelling.store, shard) for shard in batch]
    windows, qualities = (np.concatenate(parts) for parts in zip(*read, strict=True))
    whole = label(windows, bridged_in(qualities))
    first = 0
    for shard, (features, quality) in zip(batch, read, strict=True):
        flags = bridged_in(quality)
        some = slice(first, first + len(flags))
        prediction = replace(whole, label=whole.label[some], probability=whole.probability[some])
        sensitivity = None
        if labelling.labelled.perturb:
            begins = [max(slot.first, shard.begin) - shard.begin for slot in shard.slots]
            others = (begins, labelling.labelled.perturb, lambda *moved: label(*moved).label)
            sensitivity = sensitivity_of(prediction.label, features, flags, *others)
        receipt, marginal = _receipt_of_features(labelling, shard), None
        if labelling.labelled.draws:
            marginal = marginal_of(prediction, features, flags, _drawn(labelling, shard, receipt), label)
        known = labelling.model.card.familiarity
        unfamiliar = known.unfamiliar(features) if known else None
        yield write_labels(
            labelling.store,
            labelling.folder,
            shard,
            prediction,
            labels_made_from(labelling.labelled, shard, receipt),
            sensitivity,
            coverage_in(shard, receipt.records, prediction.label, quality, features, unfamiliar),
            marginal,
            unfamiliar,
        )
        first += len(flags)


def _drawn(labelling: Labelling, shard: ShardPlan, features: Receipt) -> list[DrawnScales]:
    """The scales of the segments of a shard of which an error is known."""
    errors, found = scales_with_errors(shard, features.records), []
    for slot in shard.slots:
        if scales := errors.get(slot.segment.key):
            first, end = max(slot.first, shard.begin) - shard.begin, min(slot.end, shard.end) - shard.begin
            drawn = labelling.labelled
            factors = drawn_factors(slot.segment.key, *scales.relative, drawn.draws or 0, drawn.seed)
            found.append(DrawnScales(slice(first // WINDOW, end // WINDOW), factors))
    return found


def _receipt_of_features(labelling: Labelling, shard: ShardPlan) -> Receipt:
    receipt = Receipt.read(receipt_path(labelling.store, "features", shard.number))
    if receipt is None:
        raise EnvironmentProblem(f"{labelling.store}: the receipt of shard {shard.number} is gone; run again")
    return receipt


@lru_cache(maxsize=1)
def _network(folder: Path, sha256: str) -> Any:
    """The network in a model's folder, loaded once per worker; `sha256` distinguishes a replaced one."""
    from mms_regions.model.weights import load_model

    return load_model(read_model(folder))
