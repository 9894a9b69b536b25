"""What a store is to hold: slots on one sample axis, packed into shards. Plain data, kept as JSON.

All segments lie end to end on one sample axis, each in a slot of whole windows; slots are packed into shards, and a
shard is written whole by one task. A plan only grows: what is added begins a new shard.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mms_regions.core.catalogue import Catalogue
from mms_regions.core.errors import EnvironmentProblem, UsageProblem
from mms_regions.core.events import ALL_PROBES, Event, Segment, safe_name
from mms_regions.core.files import Damaged, copy_of, read_sealed, read_twice, write_twice
from mms_regions.core.types import SECOND, WINDOW
from mms_regions.physics.numbers import NUMBERS
from mms_regions.store.paths import description_path, plan_path

CADENCE = 0.03  # s, electron samples in burst mode
CADENCE_NS = round(CADENCE * SECOND)
FORMAT = 4  # of the stores that are made now; raised when an array is added, goes, or changes its type
_WITH_ERRORS = 3  # the last format whose features are made again where errors of B0 or n0 of the event change
FIRST_FORMAT = 2  # before stores had versions: `quality` is uint16, and plan and receipts say `layout` alone

_ERRORS = ("B0_sigma", "n0_sigma")


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
class Versions:
    """Which arrays a store has (`format`), and how its convention computed their values (`numbers`)."""

    format: int
    numbers: int

    @classmethod
    def current(cls, result_settings: Mapping[str, Any]) -> Versions:
        """Those of a store that is made now."""
        return cls(FORMAT, NUMBERS[str(result_settings["convention"])])

    def to_json(self) -> dict[str, int]:
        """As plans and receipts keep them; those of the first format as they were written then."""
        return {"layout": FIRST_FORMAT} if self.format == FIRST_FORMAT else asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Versions:
        """Raises ValueError for a format that this version does not know, KeyError where there is none."""
        found = cls(data["layout"], 1) if "layout" in data else cls(data["format"], data["numbers"])
        if not FIRST_FORMAT <= found.format <= FORMAT:
            raise ValueError(
                f"its format is {found.format}, and this version of mms-regions reads {FIRST_FORMAT} to {FORMAT}"
            )
        return found


@dataclass(frozen=True)
class ShardPlan:
    """One shard of a plan: all that its writer must know. `begin` and `end` are samples."""

    uuid: str
    number: int
    begin: int
    end: int
    result_settings: Mapping[str, Any]
    versions: Versions
    slots: tuple[Slot, ...]

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """All that the values of this shard's features follow from, for its receipt."""
        without = () if self.versions.format <= _WITH_ERRORS else _ERRORS  # of which labels alone follow
        events = [_less(as_json(s.segment.event), without) for s in self.slots]
        segments = [
            [s.index, s.first, s.length, s.segment.probe, event] for s, event in zip(self.slots, events, strict=True)
        ]
        return {**self.versions.to_json(), "settings": dict(self.result_settings), "slots": digest(segments)}

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the segments that reach into it."""
        return tuple(slot.segment.key for slot in self.slots)


@dataclass(frozen=True)
class CatalogueRef:
    """A catalogue that segments of a store are from: its name, and the sha256 of what it says."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Plan:
    """The slots of a store and what its values follow from. Raises ValueError for slots that overlap or lack order."""

    uuid: str
    catalogues: tuple[CatalogueRef, ...]
    shard_samples: int
    result_settings: Mapping[str, Any]
    versions: Versions
    slots: tuple[Slot, ...]
    replaces: str = ""  # the uuid of the store that is given up for this one: all of it is made again

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
            ShardPlan(self.uuid, i, i * size, (i + 1) * size, self.result_settings, self.versions, tuple(slots))
            for i, slots in enumerate(inside)
        )

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """The events of its segments, each once, in order of their slots."""
        return tuple({slot.segment.event.name: slot.segment.event for slot in self.slots}.values())

    @cached_property
    def has_scale_errors(self) -> bool:
        """Whether errors of B0 or n0 are known of a segment, or will be."""
        return any(event.has_scale_errors for event in self.events)

    def grown(self, catalogue: Catalogue, segments: Sequence[Segment]) -> Plan:
        """The plan with those of `segments` that it lacks, from a new shard's edge on.

        Errors of B0 and n0 that an event has now take the place of earlier ones. Raises UsageProblem where it has an
        event of the same name that is not the same.
        """
        there = {event.name.casefold(): event for event in self.events}
        for event in (segment.event for segment in segments):
            other = there.get(event.name.casefold(), event)
            if _identity(event) != _identity(other):
                raise UsageProblem(
                    f"Event {event.name} is another one in this store ({_described(other)}) than in "
                    f"{catalogue.name} ({_described(event)}); give it another name, or choose another --store"
                )
        known = {slot.segment.key for slot in self.slots}
        missing = [segment for segment in segments if segment.key not in known]
        slots = _with_errors(self.slots, {segment.event.name: segment.event for segment in segments})
        if not missing and slots == self.slots:
            return self
        new = _placed(missing, len(self.slots), self.n_samples, self.shard_samples)
        listed = dict.fromkeys([*self.catalogues, CatalogueRef(catalogue.name, catalogue.sha256)])
        return replace(self, catalogues=tuple(listed), slots=(*slots, *new))

    @property
    def takes_segments(self) -> bool:
        """Whether segments made now have values that are computed like those that are there."""
        return self.versions.numbers == Versions.current(self.result_settings).numbers

    @property
    def uuids(self) -> tuple[str, ...]:
        """Of the store, and of the one that is given up for it."""
        return (self.uuid, self.replaces) if self.replaces else (self.uuid,)

    def renewed(self, result_settings: Mapping[str, Any]) -> Plan:
        """The same segments in the same slots of another store, which is made with other settings or versions."""
        return replace(
            self,
            uuid=str(uuid.uuid4()),
            result_settings=dict(result_settings),
            versions=Versions.current(result_settings),
            replaces=self.uuid,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            **self.versions.to_json(),
            "uuid": self.uuid,
            **({"replaces": self.replaces} if self.replaces else {}),
            "catalogues": [asdict(listed) for listed in self.catalogues],
            "shard_samples": self.shard_samples,
            "deciding": dict(self.result_settings),
            "events": [as_json(event) for event in self.events],
            "slots": [[s.segment.event.name, s.segment.probe, s.first, s.length] for s in self.slots],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Raises ValueError or KeyError where that is no plan that can be used."""
        versions = Versions.from_json(data)
        events = {event.name: event for event in map(_event, data["events"])}
        slots = tuple(
            Slot(Segment(events[name], _spacecraft(probe)), i, first, length)
            for i, (name, probe, first, length) in enumerate(data["slots"])
        )
        listed = tuple(CatalogueRef(**one) for one in data["catalogues"])
        replaces = data.get("replaces", "")
        return cls(data["uuid"], listed, data["shard_samples"], data["deciding"], versions, slots, replaces)


def make_plan(
    catalogue: Catalogue, segments: Sequence[Segment], shard_samples: int, result_settings: Mapping[str, Any]
) -> Plan:
    """Slots for `segments`, in order. A segment of up to a quarter shard never spans two shards; a longer one may."""
    return Plan(
        uuid=str(uuid.uuid4()),
        catalogues=(CatalogueRef(catalogue.name, catalogue.sha256),),
        shard_samples=shard_samples,
        result_settings=dict(result_settings),
        versions=Versions.current(result_settings),
        slots=tuple(_placed(segments, 0, 0, shard_samples)),
    )


def _placed(segments: Sequence[Segment], index: int, free: int, shard_samples: int) -> Iterator[Slot]:
    for number, segment in enumerate(segments, index):
        length = slot_length(segment.event.seconds)
        left = shard_samples - free % shard_samples
        if length > left and length <= shard_samples // 4:
            free += left
        yield Slot(segment, number, free, length)
        free += length


def _with_errors(slots: tuple[Slot, ...], events: Mapping[str, Event]) -> tuple[Slot, ...]:
    """The slots with errors of B0 and n0 as these events have them; what they do not have stays as it is."""
    found = []
    for slot in slots:
        event, now = slot.segment.event, events.get(slot.segment.event.name)
        given = {name: value for name in _ERRORS if (value := getattr(now, name, None)) is not None}
        if any(getattr(event, name) != value for name, value in given.items()):
            slot = replace(slot, segment=replace(slot.segment, event=event.model_copy(update=given)))
        found.append(slot)
    return tuple(found)


def _less(event: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in names}


@cache
def as_json(event: Event) -> dict[str, Any]:
    """An event as JSON takes it; not to be changed."""
    return event.model_dump(mode="json", exclude_none=True)


def _event(data: Mapping[str, Any]) -> Event:
    """An event of a plan. One that was slipped in past the checks stays as it is: its segments fail, not the plan."""
    try:
        return Event.model_validate(data)
    except ValidationError:
        safe_name(data["name"])  # it becomes the name of files
        times = {name: np.datetime64(data[name], "ns") for name in ("t_start", "t_end")}
        return Event.model_construct(**{**data, **times, "probes": tuple(data["probes"])})


def _spacecraft(probe: int) -> int:
    if probe not in ALL_PROBES:
        raise ValueError(f"there is no spacecraft {probe!r}")
    return probe


def _identity(event: Event) -> str:
    """What of an event results depend on, so that two can be compared, a NaN among it or not."""
    return json.dumps([event.name, *event.trange, event.B0, event.n0])


def _described(event: Event) -> str:
    b0, n0 = ("unknown" if value is None else f"{value:g}" for value in (event.B0, event.n0))
    return f"{event.name}: {event.interval}, B0 = {b0} nT, n0 = {n0} cm^-3"


def write_plan(store: Path, plan: Plan) -> None:
    """Keep the plan beside its store, twice, for all else can be made again from it."""
    write_twice(plan_path(store), plan.to_json())


def require_plan(store: Path) -> Plan:
    """The plan of a store. Raises UsageProblem where there is no store."""
    plan = read_plan(store)
    if plan is None:
        raise UsageProblem(f"{store}: no store there; `mms-regions run --store {store}` makes one")
    return plan


def read_plan(store: Path) -> Plan | None:
    """The plan of a store, or None where there is none. Raises EnvironmentProblem for one that cannot be used."""
    path = plan_path(store)
    try:
        data = _its_own(store, read_twice(path))
        return None if data is None else Plan.from_json(data)
    except Damaged as problem:
        raise EnvironmentProblem(f"{problem}, and so was its copy; make the store again, under another name") from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise EnvironmentProblem(f"{path}: not a plan that can be used ({problem}); use another store") from problem


def _its_own(store: Path, data: dict[str, Any] | None) -> dict[str, Any] | None:
    """The copy, where that is the plan of what the store holds and this one is another's, put in its place."""
    try:
        copy, there = read_sealed(copy_of(plan_path(store))), read_sealed(description_path(store))
    except (OSError, Damaged):
        return data
    if data is None or there.get("uuid") in (data["uuid"], data.get("replaces")):
        return data
    return copy if there.get("uuid") == copy.get("uuid") else data


def digest(data: Any) -> str:
    """sha256 of a JSON form in which order of keys does not matter."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
