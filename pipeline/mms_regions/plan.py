"""What a run is to make, and what became of each part: slots, shards, outcomes and receipts. Plain data, kept as JSON.

All segments lie end to end on one sample axis, each in a slot of whole windows; slots are packed into shards, and a
shard is written whole by one task, which leaves a receipt.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mms_regions.arrays import WINDOW
from mms_regions.catalogue import Catalogue, Event, Segment
from mms_regions.errors import EnvironmentProblem, UsageProblem
from mms_regions.files import write_whole
from mms_regions.samples import Samples

CADENCE = 0.03  # s, electron samples in burst mode
LAYOUT = 1  # raised when what the arrays of a store mean changes

Stage = Literal["features", "labels"]


def slot_length(seconds: float) -> int:
    """Samples reserved for an interval: whole windows that hold it, both ends included, with 0.1 % of drift."""
    return math.ceil((1.001 * seconds / CADENCE + 2) / WINDOW) * WINDOW


@dataclass(frozen=True)
class Slot:
    """Where a segment lies on the sample axis: `length` samples from `first` on, its number in the index."""

    segment: Segment
    index: int
    first: int
    length: int

    @property
    def end(self) -> int:
        return self.first + self.length


@dataclass(frozen=True)
class ShardPlan:
    """One shard of a plan: all that its writer must know. `begin` and `end` are samples."""

    uuid: str
    number: int
    begin: int
    end: int
    deciding: Mapping[str, Any]
    slots: tuple[Slot, ...]

    @cached_property
    def decides(self) -> dict[str, Any]:
        """What decides the numbers of this shard's features, for its receipt."""
        segments = [
            [s.index, s.first, s.length, s.segment.probe, s.segment.event.model_dump(mode="json")] for s in self.slots
        ]
        return {"layout": LAYOUT, "settings": dict(self.deciding), "slots": digest(segments)}


@dataclass(frozen=True)
class Plan:
    """The slots of a store and what decides its numbers. Raises ValueError where slots overlap or are out of order."""

    uuid: str
    catalogue: str
    catalogue_sha256: str
    shard_samples: int
    deciding: Mapping[str, Any]
    slots: tuple[Slot, ...]

    def __post_init__(self) -> None:
        ends = [0, *(slot.end for slot in self.slots)]
        for i, slot in enumerate(self.slots):
            if slot.index != i or slot.first < ends[i] or slot.first % WINDOW or slot.length % WINDOW:
                raise ValueError(f"Plan: slot {i} ({slot.segment.key}) overlaps another or is not of whole windows")

    @property
    def n_shards(self) -> int:
        return -(-self.slots[-1].end // self.shard_samples) if self.slots else 0

    @property
    def n_samples(self) -> int:
        """Samples of the whole axis, the last shard's padding included."""
        return self.n_shards * self.shard_samples

    @cached_property
    def shards(self) -> tuple[ShardPlan, ...]:
        inside: list[list[Slot]] = [[] for _ in range(self.n_shards)]
        for slot in self.slots:
            for number in range(slot.first // self.shard_samples, (slot.end - 1) // self.shard_samples + 1):
                inside[number].append(slot)
        size = self.shard_samples
        return tuple(
            ShardPlan(self.uuid, i, i * size, (i + 1) * size, self.deciding, tuple(slots))
            for i, slots in enumerate(inside)
        )

    def to_json(self) -> str:
        return json.dumps(
            {
                "uuid": self.uuid,
                "layout": LAYOUT,
                "catalogue": self.catalogue,
                "catalogue_sha256": self.catalogue_sha256,
                "shard_samples": self.shard_samples,
                "deciding": dict(self.deciding),
                "slots": [
                    {
                        "event": slot.segment.event.model_dump(mode="json"),
                        "probe": slot.segment.probe,
                        "first": slot.first,
                        "length": slot.length,
                    }
                    for slot in self.slots
                ],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Plan:
        data = json.loads(text)
        slots = tuple(
            Slot(Segment(Event.model_validate(s["event"]), s["probe"]), i, s["first"], s["length"])
            for i, s in enumerate(data["slots"])
        )
        names = ("uuid", "catalogue", "catalogue_sha256", "shard_samples", "deciding")
        return cls(**{name: data[name] for name in names}, slots=slots)


def make_plan(
    catalogue: Catalogue, segments: Sequence[Segment], shard_samples: int, deciding: Mapping[str, Any]
) -> Plan:
    """Slots for `segments`, in order. A segment of up to a quarter shard never spans two shards; a longer one may."""
    slots: list[Slot] = []
    free = 0
    for index, segment in enumerate(segments):
        length = slot_length(segment.event.seconds)
        left = shard_samples - free % shard_samples
        if length > left and length <= shard_samples // 4:
            free += left
        slots.append(Slot(segment, index, free, length))
        free += length
    return Plan(
        uuid=str(uuid.uuid4()),
        catalogue=catalogue.name,
        catalogue_sha256=catalogue.sha256,
        shard_samples=shard_samples,
        deciding=dict(deciding),
        slots=tuple(slots),
    )


@dataclass(frozen=True)
class InputFile:
    """A CDF file that a segment was made from."""

    name: str
    version: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Prepared:
    """A segment that is ready to be written."""

    key: str
    samples: Samples
    inputs: tuple[InputFile, ...]
    position_gse: tuple[float, float, float]  # km, mean

    @property
    def n_samples(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Failed:
    """A segment that could not be made, and why, in one sentence."""

    key: str
    reason: str
    n_samples = 0


@dataclass(frozen=True)
class Record:
    """What the index says of a segment."""

    key: str
    status: Literal["complete", "failed"]
    reason: str = ""
    n_samples: int = 0
    position_gse: tuple[float, float, float] | None = None
    inputs: tuple[InputFile, ...] = ()

    @classmethod
    def of(cls, outcome: Prepared | Failed | Kept) -> Record:
        if isinstance(outcome, Kept):
            return outcome.record
        if isinstance(outcome, Failed):
            return cls(outcome.key, "failed", outcome.reason)
        return cls(
            outcome.key,
            "complete",
            n_samples=outcome.n_samples,
            position_gse=outcome.position_gse,
            inputs=outcome.inputs,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        position = data["position_gse"]
        inputs = tuple(InputFile(**file) for file in data["inputs"])
        return cls(**{**data, "position_gse": position and tuple(position), "inputs": inputs})


@dataclass(frozen=True)
class Kept:
    """A segment that is sound in the store already: what its record says, its arrays to be read back."""

    record: Record

    @property
    def key(self) -> str:
        return self.record.key

    @property
    def n_samples(self) -> int:
        return self.record.n_samples


@dataclass(frozen=True)
class Receipt:
    """Left when a stage of a shard is whole on disk: for which store, from what, and a sha256 of every file."""

    stage: Stage
    uuid: str
    shard: int
    decides: Mapping[str, Any]
    files: Mapping[str, str]  # path below the store -> sha256
    records: tuple[Record, ...] = ()

    def matches(self, uuid: str, decides: Mapping[str, Any]) -> bool:
        return self.uuid == uuid and dict(self.decides) == dict(decides)

    @property
    def has_failures(self) -> bool:
        return any(record.status == "failed" for record in self.records)

    def write(self, path: Path) -> None:
        """Publish the receipt: it must be the last thing that is written of a shard."""
        write_whole(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Receipt | None:
        """The receipt at a path, or None where there is none that can be read."""
        try:
            data = json.loads(path.read_text())
            return cls(**data | {"records": tuple(Record.from_json(record) for record in data["records"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


def run_folder(store: Path) -> Path:
    """The folder beside a store that holds its plan, receipts and logs: `x.zarr` -> `x.zarr.run`."""
    return store.with_name(store.name + ".run")


def receipt_path(store: Path, stage: Stage, shard: int, model_sha256: str = "") -> Path:
    """Where a receipt lies; those of labels carry the start of the model's sha256."""
    middle = f"-{model_sha256[:12]}" if model_sha256 else ""
    return run_folder(store) / "receipts" / f"{stage}{middle}-{shard:05d}.json"


def receipts(store: Path, plan: Plan, stage: Stage, model_sha256: str = "") -> Iterator[Receipt]:
    """The receipts there are of a stage, by shard, those of other stores left out."""
    for shard in plan.shards:
        receipt = Receipt.read(receipt_path(store, stage, shard.number, model_sha256))
        if receipt is not None and receipt.uuid == plan.uuid:
            yield receipt


def written_shards(store: Path, plan: Plan) -> dict[int, Receipt]:
    """The receipts of the shards whose features are on disk as the plan wants them, failed segments or not."""
    decides = {shard.number: shard.decides for shard in plan.shards}
    return {r.shard: r for r in receipts(store, plan, "features") if r.matches(plan.uuid, decides[r.shard])}


def records_of(plan: Plan, written: Mapping[int, Receipt]) -> dict[str, Record]:
    """A record of each segment all of whose shards are written; what failed in one shard has failed."""
    partly = {s.segment.key for shard in plan.shards if shard.number not in written for s in shard.slots}
    found = [record for receipt in written.values() for record in receipt.records if record.key not in partly]
    return {record.key: record for record in sorted(found, key=lambda record: record.status)}


def require_plan(store: Path) -> Plan:
    """The plan of a store. Raises UsageProblem where there is no store."""
    plan = read_plan(store)
    if plan is None:
        raise UsageProblem(f"{store}: no store there; `mms-regions run --store {store}` makes one")
    return plan


def read_plan(store: Path) -> Plan | None:
    """The plan of a store, or None where there is none. Raises EnvironmentProblem for one that cannot be read."""
    path = run_folder(store) / "plan.json"
    try:
        return Plan.from_json(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError) as problem:
        raise EnvironmentProblem(f"{path}: not a readable plan ({problem}); use another store") from problem


def digest(data: Any) -> str:
    """sha256 of a JSON form in which order of keys does not matter."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
