"""What workers do of a run: tasks as they are reported, and those that label."""

from __future__ import annotations

import os
import platform
import resource
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.messages import Notify, TaskEnded
from mms_regions.core.types import Flags, Floats
from mms_regions.model.card import read_model
from mms_regions.model.stability import sensitivity_of
from mms_regions.store.paths import receipt_path
from mms_regions.store.plan import ShardPlan
from mms_regions.store.receipts import Receipt, labels_decide
from mms_regions.store.relabel import Labelling
from mms_regions.store.shards import read_windows, write_labels

if TYPE_CHECKING:
    from mms_regions.model.label import Prediction  # imports torch, which all others do without

Stage = Literal["fetch", "prepare", "write", "label"]


@dataclass(frozen=True)
class Job:
    """What a task is for: its stage, the segment or shards, and which attempt it is."""

    stage: Stage
    subject: str
    attempt: int = 1


def told(job: Job, notify: Notify, size: Callable[[Any], int], function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task, and tell how it went. size: bytes of the files behind its result; raises what the task raises."""
    started = _Clocks()
    try:
        result = function(*arguments)
    except Exception as problem:
        notify(_ended(job, started, 0, str(problem) or type(problem).__name__, traceback.format_exc()))
        raise
    notify(_ended(job, started, size(result), "", ""))
    return result


@dataclass(frozen=True)
class _Clocks:
    """s since 1970, and s that this process has computed."""

    wall: float = field(default_factory=time.time)
    cpu: float = field(default_factory=time.process_time)


def _ended(job: Job, started: _Clocks, size: int, reason: str, trace: str) -> TaskEnded:
    ended = _Clocks()
    return TaskEnded(
        stage=job.stage,
        subject=job.subject,
        attempt=job.attempt,
        host=platform.node(),
        worker=os.getpid(),
        started=started.wall,
        ended=ended.wall,
        cpu=ended.cpu - started.cpu,
        cpu_ended=ended.cpu,
        bytes=size,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        reason=reason,
        trace=trace,
        batch_job=os.environ.get("SLURM_JOB_ID", ""),
    )


def check_labelling(labelling: Labelling) -> str:
    """Refuse a device or a model that cannot be used before hours of preparing: what a worker tries first.

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
    windows, withheld = (np.concatenate(parts) for parts in zip(*read, strict=True))
    whole = label(windows, withheld)
    first = 0
    for shard, (features, flags) in zip(batch, read, strict=True):
        some = slice(first, first + len(flags))
        prediction = replace(whole, label=whole.label[some], probability=whole.probability[some])
        sensitivity = None
        if labelling.perturb:
            begins = [max(slot.first, shard.begin) - shard.begin for slot in shard.slots]
            others = (begins, labelling.perturb, lambda *moved: label(*moved).label)
            sensitivity = sensitivity_of(prediction.label, features, flags, *others)
        yield write_labels(labelling.store, labelling.folder, shard, prediction, _decide(labelling, shard), sensitivity)
        first += len(flags)


def _decide(labelling: Labelling, shard: ShardPlan) -> dict[str, Any]:
    features = Receipt.read(receipt_path(labelling.store, "features", shard.number))
    if features is None:
        raise EnvironmentProblem(f"{labelling.store}: the receipt of shard {shard.number} is gone; run again")
    return labels_decide(labelling.sha256, features)


@lru_cache(maxsize=1)
def _network(folder: Path, sha256: str) -> Any:
    """The network in a model's folder, loaded once per worker; `sha256` tells a replaced one from the one before."""
    from mms_regions.model.weights import load_model

    return load_model(read_model(folder))
