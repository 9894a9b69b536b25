"""All of a store but its shards, brought up to date with the receipts, also while a run goes on.

What is about to change is withdrawn from the index first; what is complete is shown soon.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import zarr

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.files import Damaged, read_sealed, remove, remove_tree, sealed, write_changed
from mms_regions.core.messages import Event, ShardBegun, ShardLabelled, ShardWritten
from mms_regions.model.coverage import Coverage
from mms_regions.store.labels import read_labelled, read_provenance
from mms_regions.store.layout import Files, whole_store, write_files
from mms_regions.store.paths import (
    description_path,
    plan_path,
    receipts_folder,
    root_path,
    state_files,
    unfinished_folders,
)
from mms_regions.store.plan import Plan
from mms_regions.store.receipts import (
    Record,
    Written,
    coverage_by_segment,
    labelled_shards,
    shown_records,
    steadiness_of,
    written_shards,
)

_SHARE = 0.05  # of a run's time, at most, for bringing the index up to date


def describe_store(store: Path, plan: Plan, rewritten: Collection[int] = ()) -> dict[str, Record]:
    """Bring all of a store but its shards up to date with its receipts; what is known of each segment.

    rewritten: numbers of shards whose files are about to change; nothing of them is shown as complete.
    """
    labelled = read_labelled(store)
    if labelled is None or labelled.swapping:
        return describe_without_labels(store, plan)
    written = written_shards(store, plan)
    made = labelled_shards(store, store, plan, written, labelled)
    with_labels = {number: receipt for number, receipt in made.items() if number not in rewritten}
    records = shown_records(plan, written, with_labels)
    complete = {key for key, record in records.items() if _is_complete(record)}
    steady = {key: s for key, s in steadiness_of(with_labels).items() if key in complete}
    coverage = {key: c for key, c in coverage_by_segment(with_labels).items() if key in complete}
    files = whole_store(plan, records, labelled, read_provenance(store), steady, coverage)
    write_description(store, plan.uuid, files, _withdrawn(store, plan, records))
    return records


def known_records(store: Path, plan: Plan) -> dict[str, Record]:
    """What is known of each segment of a store, by its receipts, whether or not the store shows it yet."""
    labelled, written = read_labelled(store), written_shards(store, plan)
    if labelled is None or labelled.swapping:
        return shown_records(plan, written, ())
    return shown_records(plan, written, labelled_shards(store, store, plan, written, labelled))


def shown_coverage(store: Path, plan: Plan) -> dict[str, Coverage]:
    """The coverage of each segment whose labels a store shows, where it is known."""
    labelled = read_labelled(store)
    if labelled is None or labelled.swapping:
        return {}
    return coverage_by_segment(labelled_shards(store, store, plan, written_shards(store, plan), labelled))


def _is_complete(record: Record | None) -> bool:
    return record is not None and record.status == "complete"


def describe_without_labels(store: Path, plan: Plan) -> dict[str, Record]:
    """Let those who open a store find no labels, and no segment that is complete; what is known of each segment."""
    records = shown_records(plan, written_shards(store, plan), ())
    withdrawn = _withdrawn(store, plan, records)
    write_description(store, plan.uuid, whole_store(plan, records, None, read_provenance(store)), withdrawn)
    return records


def _withdrawn(store: Path, plan: Plan, records: Mapping[str, Record]) -> Files:
    """The column `status` without the segments that cease to be complete; nothing where none does."""
    keys = [slot.segment.key for slot in plan.slots]
    shown = {key for key, status in zip(keys, shown_statuses(store), strict=False) if status == "complete"}
    if not any(key in shown and not _is_complete(records.get(key)) for key in keys):
        return {}
    still = {
        key: replace(record, status="prepared") if _is_complete(record) and key not in shown else record
        for key, record in records.items()
    }
    files = whole_store(plan, still, None, ())
    return {name: data for name, data in files.items() if name.startswith("status/c/")}


def empty_foreign(store: Path, plan: Plan) -> None:
    """Take away what a store holds of a plan that was given up for this one: no reader shall see both.

    Raises EnvironmentProblem where it holds what belongs to another plan that was not.
    """
    described = read_description(store)
    if described is None or described[0] == plan.uuid:
        return
    if described[0] != plan.replaces:
        raise EnvironmentProblem(
            f"{plan_path(store)} is the plan of another store ({plan.uuid}), not of the one that is there "
            f"({described[0]}), which is left as it is; put its own plan.json back, or choose another --store"
        )
    remove(root_path(store))  # first, or else what is gone would be read as fill values
    remove_tree(store, best_effort=True)
    for path in state_files(store):
        remove(path)
    for folder in [*unfinished_folders(store, "relabel", "repair"), receipts_folder(store)]:
        remove_tree(folder)  # the receipts last: they show that this is to be done


def write_description(store: Path, uuid: str, files: Files, first: Files = MappingProxyType({})) -> None:
    """Bring all of a store but its shards up to date, and leave beside it what was written, for `verify`.

    first: files that are written before, so that what is no longer complete is shown so before anything else changes.

    What is about to be written is said first, beside what was there, so that a kill in between is no damage.
    """
    described = read_description(store)
    before = described[1] if described and described[0] == uuid else {}
    after = {name: (Written.of_bytes(files[name]),) for name in sorted(files)}
    if before != after:
        between = {name: (Written.of_bytes(data),) for name, data in first.items()}
        either = {
            name: dict.fromkeys((*before.get(name, (None,)), *between.get(name, ()), *new))
            for name, new in after.items()
        }
        _describe(store, uuid, either)
        write_files(store, first)
    write_files(store, files)
    _describe(store, uuid, after)


def _describe(store: Path, uuid: str, files: Mapping[str, Iterable[Written | None]]) -> None:
    sums = {name: [written and asdict(written) for written in versions] for name, versions in files.items()}
    write_changed(description_path(store), sealed({"uuid": uuid, "files": sums}))


def read_description(store: Path) -> tuple[str, Mapping[str, tuple[Written | None, ...]]] | None:
    """For which plan (its uuid) a store was described last, and which files that were; None where that is not known.

    A file is one of several, or not there (None), where a kill may have left it as it was before.
    """
    try:
        data = read_sealed(description_path(store))
        versions = {name: tuple(one and Written(**one) for one in found) for name, found in data["files"].items()}
        return str(data["uuid"]), versions
    except (FileNotFoundError, NotADirectoryError, Damaged, KeyError, TypeError, AttributeError):
        return None  # also where another file was put in its place: it is written again


def shown_statuses(store: Path) -> list[str]:
    """What the index says of each segment, by row; empty where there is no index that can be read."""
    try:
        array = zarr.open_array(store / "status", mode="r", zarr_format=3)
        return [str(status) for status in np.asarray(array[...]).tolist()]
    except Exception:  # whatever a missing or damaged array makes zarr raise
        return []


class IndexUpdater:
    """An observer that withdraws segments before their shard is written again, and shows those that are complete.

    It is called before the writing begins. unlabelled: how many shards are to be labelled; after the last of them the
    run itself brings the index up to date.
    """

    def __init__(self, store: Path, plan: Plan, unlabelled: int):
        self._store, self._plan, self._unlabelled = store, plan, unlabelled
        index = zip(plan.slots, shown_statuses(store), strict=True)
        self._complete = {slot.segment.key for slot, status in index if status == "complete"}
        self._rewritten: set[int] = set()
        self._not_before = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case ShardBegun(number) if not self._complete.isdisjoint(self._plan.shards[number].keys):
                self._rewritten.add(number)
                self._describe()
            case ShardWritten(number):
                self._rewritten.discard(number)
            case ShardLabelled():
                self._unlabelled -= 1
                if self._unlabelled > 0 and time.monotonic() >= self._not_before:
                    self._describe()

    def _describe(self) -> None:
        began = time.monotonic()
        records = describe_store(self._store, self._plan, self._rewritten)
        self._complete = {key for key, record in records.items() if record.status == "complete"}
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / _SHARE
