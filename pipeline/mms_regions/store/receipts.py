"""What became of the parts of a plan: outcomes of segments, and a receipt for each stage of a shard that is whole.

A receipt is the last thing that is written of a stage. It says for which store, from what, and for every file its size
and sha256; where there is one, the stage is done; there is no other record of that.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from mms_regions.core.events import Event
from mms_regions.core.files import Damaged, read_sealed, sealed, sha256_of, write_whole
from mms_regions.core.origin import origin_of
from mms_regions.core.outcomes import Cause, Status, without_key
from mms_regions.model.coverage import Coverage, together
from mms_regions.physics.samples import Samples
from mms_regions.physics.scales import Scales, measured_scales
from mms_regions.store.labels import Labelled
from mms_regions.store.paths import Stage, receipt_path
from mms_regions.store.plan import Plan, ShardPlan, digest

Origin = Literal["measured", "synthetic", "unknown"]


@dataclass(frozen=True)
class InputFile:
    """A CDF file that a segment was made from."""

    name: str
    version: str
    size: int
    sha256: str
    origin: Origin = "unknown"  # what the file says of itself; unknown in stores of the first format
    checks: Literal["md5", "used", "blocks", ""] = ""  # what its values were checked by; the last two in older stores


@lru_cache(maxsize=65536)
def _input_file(**file: Any) -> InputFile:
    """Once for all segments that were made from it, of which there may be hundreds."""
    return InputFile(**file)


@dataclass(frozen=True)
class EstimatedScales:
    """B0 (nT) and n0 (cm^-3) that the features of a segment are scaled by, where its event does not have both.

    Sigmas are standard errors; of a value that the event has, what the event says, NaN where it says nothing.
    """

    b0: float
    b0_sigma: float
    n0: float
    n0_sigma: float
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScaleErrors:
    """B0 (nT) and n0 (cm^-3) of a segment with their standard errors; None: not known."""

    b0: float
    b0_sigma: float | None
    n0: float
    n0_sigma: float | None

    @property
    def known(self) -> bool:
        return bool(self.b0_sigma or self.n0_sigma)

    @property
    def relative(self) -> tuple[float, float]:
        """Errors of B0 and n0 as fractions of them, 0 where not known."""
        return (self.b0_sigma or 0.0) / self.b0, (self.n0_sigma or 0.0) / self.n0


@dataclass(frozen=True)
class Prepared:
    """A segment that is ready to be written."""

    key: str
    samples: Samples
    inputs: tuple[InputFile, ...]
    position_gse: tuple[float, float, float]  # km, mean
    estimate: EstimatedScales | None = None  # where the event has no B0 or no n0

    @property
    def n_samples(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Failed:
    """A segment that could not be made, and why, in one sentence; for lack of data, or for another cause."""

    key: str
    reason: str
    cause: Cause = Cause.UNKNOWN
    n_samples = 0

    @property
    def no_data(self) -> bool:
        """Whether there was nothing to make it from."""
        return self.cause.status is Status.NO_DATA


@dataclass(frozen=True)
class Record:
    """What the index says of a segment."""

    key: str
    status: Literal["prepared", "complete", "failed", "no_data"]  # prepared: without labels
    reason: str = ""
    n_samples: int = 0
    position_gse: tuple[float, float, float] | None = None
    inputs: tuple[InputFile, ...] = ()
    cause: str = Cause.NONE.value  # why there are no samples
    scales: Scales | None = None  # what was measured of B0 and n0
    estimate: EstimatedScales | None = None  # what its features are scaled by, where its event does not say

    def normalisation(self, event: Event) -> tuple[float, float]:
        """B0 (nT) and n0 (cm^-3) that its features are scaled by; NaN where neither the event nor an estimate says."""
        if self.estimate:
            return self.estimate.b0, self.estimate.n0
        return (math.nan if event.B0 is None else event.B0), (math.nan if event.n0 is None else event.n0)

    def scale_errors(self, event: Event) -> ScaleErrors:
        """B0 and n0 with their errors: those of the event, for they may be given later, or of what was estimated."""
        found, (b0, n0) = self.estimate, self.normalisation(event)
        estimated = (found.b0_sigma, found.n0_sigma) if found else (None, None)
        b0_sigma = event.B0_sigma if event.B0 is not None else estimated[0]
        n0_sigma = event.n0_sigma if event.n0 is not None else estimated[1]
        return ScaleErrors(b0, b0_sigma, n0, n0_sigma)

    def doubts(self, event: Event) -> tuple[str, ...]:
        """Sentences on what to be careful about in its B0 and n0."""
        weak = self.estimate.cautions if self.estimate else ()
        return (*weak, *(self.scales.doubts(*self.normalisation(event)) if self.scales else ()))

    @property
    def origin(self) -> str:
        """Of its data: measured, synthetic, mixed or unknown."""
        return origin_of(map(vars, self.inputs)).word

    @classmethod
    def of(cls, outcome: Prepared | Failed | Reused) -> Record:
        if isinstance(outcome, Reused):
            return outcome.record
        if isinstance(outcome, Failed):
            status: Literal["failed", "no_data"] = "no_data" if outcome.no_data else "failed"
            return cls(outcome.key, status, outcome.reason, cause=outcome.cause.value)
        return cls(
            outcome.key,
            "complete",
            n_samples=outcome.n_samples,
            position_gse=outcome.position_gse,
            inputs=outcome.inputs,
            scales=measured_scales(outcome.samples.physics),
            estimate=outcome.estimate,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        position = data["position_gse"]
        inputs = tuple(_input_file(**file) for file in data["inputs"])
        cause = data.get("cause", Cause.UNKNOWN.value if data["status"] == "failed" else Cause.NONE.value)
        scales = Scales(**data["scales"]) if data.get("scales") else None
        estimate = data.get("estimate")
        if estimate:
            estimate = EstimatedScales(**{**estimate, "cautions": tuple(estimate["cautions"])})
        reason = without_key(data["reason"], data["key"])  # older stores have it in front
        known = {"reason": reason, "position_gse": position and tuple(position), "inputs": inputs, "cause": cause}
        known |= {"scales": scales, "estimate": estimate or None}
        return cls(**{**data, **known})


@dataclass(frozen=True)
class Reused:
    """A segment that is sound in the store already: what its record says, its arrays to be read back."""

    record: Record

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def n_samples(self) -> int:
        return self.record.n_samples


@dataclass(frozen=True)
class Steadiness:
    """Of a segment, or of its part in a shard: samples with a label, the sum of their stability, how many change."""

    key: str
    labelled: int
    stability: float
    changes: int

    @property
    def mean(self) -> float:
        """The mean stability, NaN without labels."""
        return self.stability / self.labelled if self.labelled else math.nan

    @property
    def share_changed(self) -> float:
        """The share of labels that another B0 or n0 changes, NaN without labels."""
        return self.changes / self.labelled if self.labelled else math.nan


Outcome = Prepared | Failed | Reused


@dataclass(frozen=True)
class Written:
    """A file as it was written: size in bytes, and sha256."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Written:
        return cls(path.stat().st_size, sha256_of(path))

    @classmethod
    def of_bytes(cls, data: bytes) -> Written:
        return cls(len(data), hashlib.sha256(data).hexdigest())

    def is_at(self, path: Path) -> bool:
        """Whether a file of this size is there; what it holds is not read."""
        return path.is_file() and path.stat().st_size == self.size


@dataclass(frozen=True)
class Receipt:
    """Left when a stage of a shard is whole on disk: for which store, from what, and every file."""

    stage: Stage
    uuid: str
    shard: int
    made_from: Mapping[str, Any]
    files: Mapping[str, Written]  # by path below the group that they are in
    records: tuple[Record, ...] = ()
    steadiness: tuple[Steadiness, ...] = ()  # of labels, where it was asked for
    coverage: tuple[Coverage, ...] = ()  # of labels; not in stores made before it was kept

    def matches(self, uuid: str, made_from: Mapping[str, Any]) -> bool:
        """Whether it is of this store, and of a stage that is made from just this."""
        return self.uuid == uuid and dict(self.made_from) == dict(made_from)

    def is_of(self, uuid: str, stage: Stage, shard: int) -> bool:
        """Whether it is of this stage of this shard of this store, as its name says."""
        return (self.uuid, self.stage, self.shard) == (uuid, stage, shard)

    def stands(self, group: Path) -> bool:
        """Whether all its files are in a group, as large as they were; `verify` reads them too."""
        return all(written.is_at(group / name) for name, written in self.files.items())

    @property
    def has_failures(self) -> bool:
        """Whether a segment of it could not be made, so that the next run tries again."""
        return any(record.status != "complete" for record in self.records)

    @property
    def content(self) -> str:
        """One sha256 for all its files."""
        return digest({name: written.sha256 for name, written in self.files.items()})

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(written.size for written in self.files.values())

    def write(self, path: Path) -> None:
        """Publish the receipt: it must be the last thing that is written of a shard."""
        data = asdict(self)
        names = {"made_from": "decides"}  # as receipts have always had it
        write_whole(path, sealed({names.get(name, name): value for name, value in data.items()}))

    @classmethod
    def read(cls, path: Path) -> Receipt | None:
        """The receipt at a path, or None where there is none that can be read."""
        try:
            data = read_sealed(path)
            files = {_inside(name): Written(**written) for name, written in data["files"].items()}
            records = tuple(Record.from_json(record) for record in data["records"])
            steadiness = tuple(Steadiness(**part) for part in data.get("steadiness", ()))
            coverage = tuple(_coverage(part) for part in data.get("coverage", ()))
            made_from = data.pop("decides")
            parts = {"files": files, "records": records, "steadiness": steadiness, "coverage": coverage}
            return cls(**data | {"made_from": made_from, **parts})
        except (FileNotFoundError, NotADirectoryError, Damaged, ValueError, KeyError, TypeError, AttributeError):
            return None


def _coverage(part: Mapping[str, Any]) -> Coverage:
    return Coverage(**{**part, "without": tuple((str(name), int(n)) for name, n in part["without"])})


def _inside(name: str) -> str:
    """The path of a file below its group. Raises ValueError for one that leads out of it."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name} is not in a store")
    return name


def receipts(store: Path, plan: Plan, stage: Stage, labels_sha256: str = "") -> Iterator[Receipt]:
    """The receipts there are of a stage, by shard, those of other stores left out; their files are not looked at."""
    for shard in plan.shards:
        receipt = Receipt.read(receipt_path(store, stage, shard.number, labels_sha256))
        if receipt is not None and receipt.is_of(plan.uuid, stage, shard.number):
            yield receipt


def written_shards(store: Path, plan: Plan) -> dict[int, Receipt]:
    """The receipts of the shards whose features are on disk as the plan wants them, failed segments or not."""
    made_from = {shard.number: shard.made_from for shard in plan.shards}
    return {
        receipt.shard: receipt
        for receipt in receipts(store, plan, "features")
        if receipt.matches(plan.uuid, made_from[receipt.shard]) and receipt.stands(store)
    }


def labelled_shards(
    store: Path, group: Path, plan: Plan, written: Mapping[int, Receipt], labelled: Labelled
) -> dict[int, Receipt]:
    """The receipts of the shards whose labels are in a group, made from the features that are there now."""
    return {
        number: receipt
        for number, features in written.items()
        if (receipt := Receipt.read(receipt_path(store, "labels", number, labelled.sha256))) is not None
        and receipt.matches(features.uuid, labels_made_from(labelled, plan.shards[number], features))
        and receipt.stands(group)
    }


def labels_made_from(labelled: Labelled, shard: ShardPlan, features: Receipt) -> dict[str, Any]:
    """All that the labels of a shard follow from, for its receipt: their identity, and the files of its features.

    Where scales are drawn, these and their errors too, which may change without the features.
    """
    made_from = {"labels_sha256": labelled.sha256, "features_sha256": features.content}
    drawn = scales_with_errors(shard, features.records) if labelled.draws else {}
    return {**made_from, "scales": digest({key: asdict(one) for key, one in drawn.items()})} if drawn else made_from


def scales_with_errors(shard: ShardPlan, records: Iterable[Record]) -> dict[str, ScaleErrors]:
    """By key, the scales of the segments of a shard of which an error is known."""
    events = {slot.segment.key: slot.segment.event for slot in shard.slots}
    found = {record.key: record.scale_errors(events[record.key]) for record in records if record.status == "complete"}
    return {key: one for key, one in found.items() if one.known}


def steadiness_of(labelled: Mapping[int, Receipt]) -> dict[str, Steadiness]:
    """What the receipts of labels say of each segment, its parts put together."""
    found: dict[str, Steadiness] = {}
    for number in sorted(labelled):
        for part in labelled[number].steadiness:
            so_far = found.get(part.key, Steadiness(part.key, 0, 0.0, 0))
            found[part.key] = Steadiness(
                part.key,
                so_far.labelled + part.labelled,
                so_far.stability + part.stability,
                so_far.changes + part.changes,
            )
    return found


def coverage_by_segment(labelled: Mapping[int, Receipt]) -> dict[str, Coverage]:
    """What the receipts of labels say of each segment, its parts put together; nothing of older stores."""
    parts: dict[str, list[Coverage]] = {}
    for number in sorted(labelled):
        for part in labelled[number].coverage:
            parts.setdefault(part.key, []).append(part)
    return {key: together(found, key) for key, found in parts.items()}


def records_of(plan: Plan, written: Mapping[int, Receipt]) -> dict[str, Record]:
    """A record of each segment all of whose shards are written; what failed in one shard has failed."""
    missing = {key for shard in plan.shards if shard.number not in written for key in shard.keys} | torn(written)
    found = [record for receipt in written.values() for record in receipt.records if record.key not in missing]
    return {record.key: record for record in sorted(found, key=lambda record: record.status)}


def torn(written: Mapping[int, Receipt]) -> set[str]:
    """The segments whose parts, in several shards, were not made from the same: a kill came between them."""
    made: dict[str, set[Record]] = {}
    for receipt in written.values():
        for record in receipt.records:
            if record.status == "complete":
                made.setdefault(record.key, set()).add(record)
    return {key for key, records in made.items() if len(records) > 1}


def shown_records(plan: Plan, written: Mapping[int, Receipt], labelled: Collection[int]) -> dict[str, Record]:
    """The same as the index shows them: what lies in a shard without labels is `prepared`, and not complete."""
    waiting = {key for shard in plan.shards if shard.number not in labelled for key in shard.keys}
    return {
        key: replace(record, status="prepared") if key in waiting and record.status == "complete" else record
        for key, record in records_of(plan, written).items()
    }
