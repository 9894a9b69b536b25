"""Whether every bit of a store is as it was written: what is not is named, and the next run makes it again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mms_regions.archive.products import file_named
from mms_regions.core.files import Damaged, copy_of, read_sealed, remove
from mms_regions.core.lock import hold
from mms_regions.store.cdf_inputs import flaw_of
from mms_regions.store.index import read_description, shown_statuses
from mms_regions.store.labels import Labelled, read_labelled
from mms_regions.store.paths import (
    ROOT,
    Stage,
    description_path,
    labelled_path,
    lock_path,
    plan_path,
    provenance_path,
    receipt_path,
    receipts_folder,
    redo_path,
    require_own_folders,
)
from mms_regions.store.plan import Plan, require_plan
from mms_regions.store.receipts import (
    InputFile,
    Receipt,
    Written,
    labels_made_from,
    records_of,
    written_shards,
)
from mms_regions.store.shards import is_as_written, read_shard
from mms_regions.store.state import foreign


@dataclass(frozen=True)
class Flaw:
    """A file that is not as it was written, in words what is wrong with it, and what is lost with it.

    array and segments (keys): empty for a file that holds no samples.
    """

    file: Path
    what: str
    array: str = ""
    segments: tuple[str, ...] = ()
    receipt: Path | None = None  # of the stage that is to be made again

    def __str__(self) -> str:
        lost = f"; array {self.array}, segments {', '.join(self.segments)}" if self.array else ""
        return f"{self.file}: {self.what}{lost}"


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what is wrong with it; shards that are not made yet are not looked at."""

    files: int
    shards: int
    flaws: tuple[Flaw, ...]


def verify(store: Path) -> Verified:
    """Read every file of a store, and compare with what its receipts say; nothing is changed.

    Raises UsageProblem where there is no store, EnvironmentProblem where its plan is lost.
    """
    plan, labelled = require_plan(store), read_labelled(store)
    flaws = [
        *_flaws_beside(store, plan),
        *_missing_receipts(store, plan, labelled),
        *_flaws_of_description(store, plan),
    ]
    looked_at = sum(1 for _ in _sealed(store)) + len(_described(store))
    stages = [*_features(store, plan), *_labels(store, plan, labelled)]
    known = {flaw.file.parent.name for flaw in flaws if flaw.file.name == ROOT}
    for path, receipt in stages:
        looked_at += len(receipt.files)
        flaws += _flaws_of_shard(store, plan, path, receipt, known)
    return Verified(looked_at, len({receipt.shard for _, receipt in stages}), tuple(flaws))


def set_aside(store: Path, flaws: Iterable[Flaw]) -> None:
    """Take away the receipts of damaged shards, so that the next run makes these again, and only these.

    Raises EnvironmentProblem where a run works on the store, or its folder cannot be written.
    """
    require_own_folders(store)
    lost: list[str] = []
    with hold(lock_path(store), "mms-regions verify", lost.append):
        for path in {flaw.receipt for flaw in flaws if flaw.receipt}:
            remove(path)


def verify_inputs(store: Path, data_dir: Path) -> tuple[int, list[Flaw]]:
    """How many CDF files the complete segments were made from, and which are not there any more as they were."""
    plan = require_plan(store)
    users: dict[InputFile, list[str]] = {}
    for record in records_of(plan, written_shards(store, plan)).values():
        for file in record.inputs:
            users.setdefault(file, []).append(record.key)
    flaws = [flaw for file, keys in users.items() for flaw in _flaws_of_input(file, keys, data_dir)]
    return len(users), flaws


def _flaws_of_input(file: InputFile, keys: list[str], data_dir: Path) -> Iterator[Flaw]:
    named = file_named(file.name, data_dir)
    if flaw := flaw_of(named, file.sha256):
        yield Flaw(named.path if named else data_dir / file.name, flaw, "inputs", tuple(keys))


def _state(store: Path) -> tuple[Path, ...]:
    return labelled_path(store), provenance_path(store), redo_path(store)


def _sealed(store: Path) -> Iterator[Path]:
    """The files beside a store that say what is in it, those that are there."""
    for path in (plan_path(store), *_state(store)):
        if path.exists() or copy_of(path).exists():
            yield from (path, copy_of(path))
    yield from sorted(receipts_folder(store).glob("*.json"))


def _flaws_beside(store: Path, plan: Plan) -> Iterator[Flaw]:
    state = {place: path for path in _state(store) for place in (path, copy_of(path))}
    for path in _sealed(store):
        try:
            data = read_sealed(path)
            if path in state and (what := foreign(data, state[path], plan.uuids)):
                yield Flaw(path, what)
        except FileNotFoundError:
            if not lock_path(store).exists():  # else a kill may have come between the two
                yield Flaw(path, "is missing, but its copy is there")
        except Damaged:
            yield Flaw(path, "was changed or cut short")
    if not lock_path(store).exists():
        yield from _flaws_of_copies(store)


def _flaws_of_copies(store: Path) -> Iterator[Flaw]:
    for path in (plan_path(store), *_state(store)):
        with suppress(FileNotFoundError, Damaged):  # which are flaws already
            read_sealed(path), read_sealed(copy_of(path))
            if path.read_bytes() != copy_of(path).read_bytes():  # a NaN in them equals no other one
                yield Flaw(path, "is not what its copy is")


def _missing_receipts(store: Path, plan: Plan, labelled: Labelled | None) -> Iterator[Flaw]:
    """Those without which the index cannot show segments as complete, as it does."""
    if labelled is None or labelled.swapping or lock_path(store).exists():
        return  # a kill explains it
    index = zip(plan.slots, shown_statuses(store), strict=False)  # shorter while a store grows
    yield from _misplaced_receipts(store, plan, labelled)
    complete = {slot.segment.key for slot, status in index if status == "complete"}
    shown = [shard.number for shard in plan.shards if not complete.isdisjoint(shard.keys)]
    for number in shown:
        for path in (receipt_path(store, "features", number), receipt_path(store, "labels", number, labelled.sha256)):
            if not path.exists():
                yield Flaw(path, "is missing")


def _misplaced_receipts(store: Path, plan: Plan, labelled: Labelled) -> Iterator[Flaw]:
    """Those that are not what their name says; what they should vouch for is made again."""
    for shard in plan.shards:
        stages: tuple[tuple[Stage, str], ...] = (("features", ""), ("labels", labelled.sha256))
        for stage, sha256 in stages:
            path = receipt_path(store, stage, shard.number, sha256)
            receipt = Receipt.read(path)
            if receipt is not None and not receipt.is_of(plan.uuid, stage, shard.number):
                what = f"is the receipt of {receipt.stage} of shard {receipt.shard} of store {receipt.uuid}"
                yield Flaw(path, what, stage, shard.keys, path)


def _described(store: Path) -> Mapping[str, object]:
    described = read_description(store)
    return described[1] if described else {}


def _flaws_of_description(store: Path, plan: Plan) -> Iterator[Flaw]:
    """Metadata and index; a store that a kill has left before its first shard, or its new plan, has no description."""
    described, path = read_description(store), description_path(store)
    if described is None and not path.exists() and any(_features(store, plan)):
        yield Flaw(path, "is missing")
    if described is not None and described[0] not in (plan.uuid, plan.replaces):
        yield Flaw(plan_path(store), f"is of another store ({plan.uuid}) than the one that is there ({described[0]})")
    if described is None or described[0] != plan.uuid:
        return
    for name, versions in described[1].items():
        if not any(_is_as_described(store / name, written) for written in versions):
            yield Flaw(store / name, _how(store / name))


def _is_as_described(path: Path, written: Written | None) -> bool:
    return is_as_written(path, written) if written else not path.exists()


def _features(store: Path, plan: Plan) -> Iterator[tuple[Path, Receipt]]:
    for shard in plan.shards:
        path = receipt_path(store, "features", shard.number)
        receipt = Receipt.read(path)
        if receipt is not None and receipt.matches(plan.uuid, shard.made_from):
            yield path, receipt


def _labels(store: Path, plan: Plan, labelled: Labelled | None) -> Iterator[tuple[Path, Receipt]]:
    if labelled is None or labelled.swapping:
        return
    for _, features in _features(store, plan):
        path = receipt_path(store, "labels", features.shard, labelled.sha256)
        receipt, made_from = Receipt.read(path), labels_made_from(labelled, plan.shards[features.shard], features)
        if receipt is not None and receipt.matches(plan.uuid, made_from):
            yield path, receipt


def _flaws_of_shard(store: Path, plan: Plan, path: Path, receipt: Receipt, known: Collection[str]) -> Iterator[Flaw]:
    """known: arrays whose metadata are known to be damaged already."""
    segments = plan.shards[receipt.shard].keys
    for name, written in receipt.files.items():
        array = name.partition("/")[0]
        if not is_as_written(store / name, written):
            yield Flaw(store / name, _how(store / name), array, segments, path)
        elif array not in known and (why := _unreadable(store, array, receipt.shard, plan.shard_samples)):
            yield Flaw(store / name, why, array, segments)


def _unreadable(store: Path, array: str, shard: int, shard_samples: int) -> str:
    """Why zarr cannot read a shard that is as it was written, if so: its metadata are damaged."""
    try:
        read_shard(store, array, shard, shard_samples)
    except Exception as problem:  # whatever damaged metadata make zarr raise
        return f"cannot be read ({type(problem).__name__}: {problem})"
    return ""


def _how(path: Path) -> str:
    return "was changed or cut short" if path.is_file() else "is missing"
