"""How shards are written into a store, whole or not at all, and read back by those who go on with them."""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr import AsyncArray
from zarr.storage import LocalStore, MemoryStore, StorePath

from mms_regions.core.errors import DamagedStore, EnvironmentProblem, MMSRegionsError
from mms_regions.core.files import (
    busy_disk_retried,
    made_whole,
    make_folder,
    remove,
    remove_tree,
    rename,
    sync_folder,
    sync_folders,
)
from mms_regions.core.types import NO_LABEL, WINDOW, Bits, Flags, Floats
from mms_regions.model.coverage import Coverage, coverage_of
from mms_regions.physics.samples import FEATURES, Samples
from mms_regions.store.layout import (
    BESIDE_LABELS,
    FEATURE_ARRAYS,
    STABILITY,
    UNFAMILIAR,
    Files,
    encoded_shard,
    write_files,
)
from mms_regions.store.metadata import check_array
from mms_regions.store.paths import ROOT, receipt_path, repair_folder, repair_receipt_path, shard_path
from mms_regions.store.plan import Plan, ShardPlan, Slot
from mms_regions.store.receipts import (
    Outcome,
    Prepared,
    Receipt,
    Record,
    Reused,
    Steadiness,
    Written,
)

if TYPE_CHECKING:
    from mms_regions.model.label import Prediction  # imports torch, which writing features does not need
    from mms_regions.model.stability import Sensitivity

_MANY = 64  # more chunks than a shard has


@busy_disk_retried
def write_features(store: Path, shard: ShardPlan, outcomes: Sequence[Outcome]) -> Receipt:
    """Write all sample arrays of a shard but the labels, whole, then its receipt.

    outcomes: one for each slot of the shard, in any order; a segment that spans shards gives each its part. What is
    kept is read back from the store, so its CDF files are not needed; such a shard is written beside the store and
    moved in, for what is kept must survive a kill. Where nothing new came, only the receipt is written. Raises
    DamagedStore where something is to be kept and is not as the receipt says.
    """
    _finish_repair(store, repair_folder(store, shard.number), shard.uuid, shard.made_from)
    path = receipt_path(store, "features", shard.number)
    before = Receipt.read(path)
    by_key = {outcome.key: outcome for outcome in outcomes}
    placed = [(slot, by_key[slot.segment.key]) for slot in shard.slots]
    records = tuple(Record.of(made) for _, made in placed)
    if before and before.matches(shard.uuid, shard.made_from) and not any(isinstance(m, Prepared) for _, m in placed):
        receipt = replace(before, records=records)
        receipt.write(path)
    elif any(isinstance(made, Reused) for _, made in placed):
        receipt = _write_beside(store, shard, placed, records, before)
    else:
        remove(path)  # what is about to be overwritten is no longer done
        receipt = _write_arrays(store, store, shard, placed, records)
        receipt.write(path)
    return receipt


def _write_beside(
    store: Path,
    shard: ShardPlan,
    placed: Sequence[tuple[Slot, Outcome]],
    records: tuple[Record, ...],
    before: Receipt | None,
) -> Receipt:
    _require_sound(store, before)
    beside = repair_folder(store, shard.number)
    write_files(beside, _one_shard_metadata(store))
    receipt = _write_arrays(store, beside, shard, placed, records)
    receipt.write(repair_receipt_path(beside))
    _move_in(store, beside, receipt)
    return receipt


def _one_shard_metadata(store: Path) -> Files:
    """The metadata of the arrays of features, as they are in the store."""
    names = (ROOT, *(f"{name}/{ROOT}" for name in FEATURE_ARRAYS))
    return {name: (store / name).read_bytes() for name in names}


def finish_repairs(store: Path, plan: Plan) -> None:
    """Move in what a killed run had ready beside the store, and take away what it had not."""
    for shard in plan.shards:
        _finish_repair(store, repair_folder(store, shard.number), plan.uuid, shard.made_from)


def _finish_repair(store: Path, beside: Path, uuid: str, made_from: Mapping[str, Any]) -> None:
    receipt = Receipt.read(repair_receipt_path(beside))
    if receipt is not None and receipt.matches(uuid, made_from):
        _move_in(store, beside, receipt)
    else:
        remove_tree(beside, best_effort=True)


def _move_in(store: Path, beside: Path, receipt: Receipt) -> None:
    """Put the finished files of a shard in the place of the store's; doing it again goes on where it stopped."""
    path = receipt_path(store, "features", receipt.shard)
    remove(path)
    for name in receipt.files:
        if (beside / name).exists():
            make_folder((store / name).parent)
            rename(beside / name, store / name)
            sync_folder((store / name).parent)
    receipt.write(path)
    remove_tree(beside)


def _require_sound(store: Path, receipt: Receipt | None) -> None:
    """Raise DamagedStore unless the files of a receipt are all there and have its checksums."""
    files = receipt.files if receipt else {}
    bad = [name for name, written in files.items() if not is_as_written(store / name, written)]
    if bad or not files:
        raise DamagedStore(f"{store}: {', '.join(bad) or 'a receipt'} is damaged or missing")


def is_as_written(path: Path, written: Written) -> bool:
    """Whether a file is there and every bit of it is as it was written."""
    return written.is_at(path) and Written.of(path) == written


def _write_arrays(
    source: Path, target: Path, shard: ShardPlan, placed: Sequence[tuple[Slot, Outcome]], records: tuple[Record, ...]
) -> Receipt:
    """Write a shard into the group `target`, with what is kept from the group `source`."""
    files, unsynced = dict[str, Written](), set[Path]()
    for name in FEATURE_ARRAYS:
        array = _array(source, name)
        files |= _write_shard(target, array, shard, _assembled(array, shard, placed), unsynced)
    sync_folders(unsynced | _above(target, files))
    return Receipt("features", shard.uuid, shard.number, shard.made_from, files, records)


def _assembled(array: zarr.Array[Any], shard: ShardPlan, placed: Iterable[tuple[Slot, Outcome]]) -> NDArray[Any]:
    """A whole shard of an array: each segment's part where it belongs, fill values between."""
    values = np.full((shard.end - shard.begin, *array.shape[1:]), array.fill_value, array.dtype)
    there = None
    for slot, made in placed:
        begin, end = max(slot.first, shard.begin), min(slot.first + made.n_samples, shard.end)
        if begin >= end:
            continue
        inside = slice(begin - shard.begin, end - shard.begin)
        if isinstance(made, Prepared):
            values[inside] = _values(array.basename, slot, made.samples)[begin - slot.first : end - slot.first]
        else:
            there = np.asarray(array[shard.begin : shard.end]) if there is None else there
            values[inside] = there[inside]
    return values


def _write_shard(
    folder: Path, array: zarr.Array[Any], shard: ShardPlan, values: NDArray[Any], unsynced: set[Path]
) -> dict[str, Written]:
    """Put a shard of an array in the place of the old one, in one step; what was written, by path below the folder.

    unsynced: gets the folders that are to be brought to disk before the receipt is written.
    There is no moment without it: a worker that was held to be lost may be writing the same still, and die over it.
    zarr itself would read the old one first, and stop if that is damaged.
    """
    path = shard_path(folder, array.basename, shard.number, array.ndim)
    data = encoded_shard(array, values) or _encoded_by_zarr(array, shard, values)
    with made_whole(path, unsynced) as staging:
        staging.write_bytes(data)
    return {str(path.relative_to(folder)): Written.of_bytes(data)}


def _encoded_by_zarr(array: zarr.Array[Any], shard: ShardPlan, values: NDArray[Any]) -> bytes:
    """A shard with whatever codecs an array has; chunks of mere fill values are in it.

    A chunk that is not there would read as fill, in silence; zarr keeps that setting out of the metadata.
    All chunks of a shard go to the compressor at once: one by one costs zarr as much again as compressing them.
    """
    files: dict[str, Any] = {}
    with zarr.config.set({"array.write_empty_chunks": True, "codec_pipeline.batch_size": _MANY}):
        in_memory: zarr.Array[Any] = zarr.Array(AsyncArray(array.metadata, StorePath(MemoryStore(files))))
        in_memory[shard.begin : shard.end] = values
    (data,) = files.values()
    return bytes(data.to_bytes())


def _values(name: str, slot: Slot, samples: Samples) -> NDArray[Any]:
    match name:
        case "time":
            return samples.time
        case "segment_id":
            return np.full(len(samples), slot.index, np.int32)
        case "quality":
            return samples.quality
        case "features":
            return samples.features
        case _:
            return samples.physics[name]


def _above(folder: Path, files: Iterable[str]) -> set[Path]:
    """The folders that lead from a group to files in it, also where another worker has made them."""
    return {folder / above for name in files for above in Path(name).parent.parents}


def read_windows(store: Path, shard: ShardPlan) -> tuple[Floats, Bits]:
    """Every window of a shard: features (W, 32, 14) float32, and quality (W, 32), bits `QUALITY_BITS`.

    Raises DamagedStore where they cannot be read.
    """
    try:
        features = _part(store, "features", shard).reshape(-1, WINDOW, len(FEATURES))
        return features, _part(store, "quality", shard).reshape(-1, WINDOW)
    except (MMSRegionsError, MemoryError, OSError):
        raise
    except Exception as problem:  # whatever damaged files make zarr and its codecs raise
        raise DamagedStore(
            f"{store}: shard {shard.number} cannot be read ({type(problem).__name__}: {problem}); `mms-regions verify "
            f"{store}` names the files that are damaged, and the next run makes them again"
        ) from problem


def read_shard(store: Path, name: str, number: int, shard_samples: int) -> None:
    """Read a shard of an array, every chunk of it. Raises whatever zarr raises where one cannot be read."""
    check_array(store, name)
    array = zarr.open_array(store / name, mode="r", zarr_format=3)  # not through the group, whose metadata are long
    np.asarray(array[number * shard_samples : (number + 1) * shard_samples])


@busy_disk_retried
def write_labels(
    store: Path,
    folder: Path,
    shard: ShardPlan,
    prediction: Prediction,
    made_from: Mapping[str, Any],
    sensitivity: Sensitivity | None = None,
    coverage: tuple[Coverage, ...] = (),
    marginal: Prediction | None = None,
    unfamiliar: Flags | None = None,
) -> Receipt:
    """Write `label` and `probability` of a shard into the group `folder`, whole, then the receipt.

    folder: the store, or the group beside it in which a store is relabelled. made_from: with `labels_sha256`.
    sensitivity, marginal, unfamiliar (W, 32): of the samples of the shard, where the group has arrays for them.
    coverage: of its segments.
    """
    path = receipt_path(store, "labels", shard.number, made_from["labels_sha256"])
    before = Receipt.read(path)
    if before and before.matches(shard.uuid, made_from) and before.stands(folder):
        return before  # of a worker that was held to be lost
    remove(path)
    values: dict[str, NDArray[Any]] = {}  # in the order in which they are written: labels last
    steady: tuple[Steadiness, ...] = ()
    label = prediction.label.reshape(-1)
    if unfamiliar is not None:
        values[UNFAMILIAR] = np.where(label == NO_LABEL, NO_LABEL, unfamiliar.reshape(-1)).astype(np.int8)
    if sensitivity is not None:
        values[STABILITY] = sensitivity.stability
        steady = tuple(_steadiness(slot, shard, label, sensitivity) for slot in shard.slots)
    if marginal is not None:
        values |= _by_sample(marginal, "_marginal")
    values |= _by_sample(prediction)
    arrays = {name: _array(folder, name) for name in values}
    for name in reversed(values):  # labels of other features go before their probabilities do
        remove(shard_path(folder, name, shard.number, arrays[name].ndim))
    files: dict[str, Written] = {}
    for name in values:
        unsynced = set[Path]()
        files |= _write_shard(folder, arrays[name], shard, values[name], unsynced)
        sync_folders(unsynced)  # each before the next: no label without its probabilities
    sync_folders(_above(folder, files))
    receipt = Receipt("labels", shard.uuid, shard.number, made_from, files, steadiness=steady, coverage=coverage)
    receipt.write(path)
    return receipt


def _by_sample(prediction: Prediction, ending: str = "") -> dict[str, NDArray[Any]]:
    """Probabilities and labels under the names of their arrays."""
    probability = prediction.probability.reshape(-1, prediction.probability.shape[-1])
    return {f"probability{ending}": probability, f"label{ending}": prediction.label.reshape(-1)}


def coverage_in(
    shard: ShardPlan,
    records: Iterable[Record],
    label: NDArray[np.int8],
    quality: Bits,
    features: Floats,
    unfamiliar: Flags | None = None,
) -> tuple[Coverage, ...]:
    """The coverage of each segment's part in a shard; arrays are of the whole shard: (W, 32), features (W, 32, 14)."""
    samples = {record.key: record.n_samples for record in records}
    labels, bits, inputs = label.reshape(-1), quality.reshape(-1), features.reshape(-1, features.shape[-1])
    found = []
    for slot in shard.slots:
        key = slot.segment.key
        begin, end = max(slot.first, shard.begin), min(slot.first + samples.get(key, 0), shard.end)
        if begin < end:
            part = slice(begin - shard.begin, end - shard.begin)
            strange = None if unfamiliar is None else unfamiliar.reshape(-1)[part]
            found.append(coverage_of(key, labels[part], bits[part], inputs[part], strange))
    return tuple(found)


def _steadiness(slot: Slot, shard: ShardPlan, label: NDArray[Any], sensitivity: Sensitivity) -> Steadiness:
    """How steady the labels of a segment's part in a shard are; the sum does not depend on the order."""
    part = slice(max(slot.first, shard.begin) - shard.begin, min(slot.end, shard.end) - shard.begin)
    labelled = label[part] != NO_LABEL
    stability = math.fsum(sensitivity.stability[part][labelled].tolist())
    return Steadiness(slot.segment.key, int(labelled.sum()), stability, int(sensitivity.changes[part].sum()))


def swap_labels(store: Path, beside: Path, names: Collection[str]) -> None:
    """Put the label arrays of a group beside the store in the place of the store's own; again goes on with it.

    names: of all arrays of the new labels.
    """
    for name in BESIDE_LABELS:
        if name not in names:
            _move_aside(store / name, beside)
    waiting = [name for name in names if (beside / name).exists()]
    for name in reversed(waiting):
        _move_aside(store / name, beside)
    for name in waiting:
        rename(beside / name, store / name)
    sync_folder(store)


def _move_aside(folder: Path, beside: Path) -> None:
    """Take a folder out of the store in one step; removing it file by file may be refused while somebody reads it."""
    if folder.exists():
        rename(folder, beside / f"replaced-{folder.name}-{secrets.token_hex(4)}")


def _part(folder: Path, name: str, shard: ShardPlan) -> NDArray[Any]:
    return np.asarray(_array(folder, name)[shard.begin : shard.end])


def _array(folder: Path, name: str) -> zarr.Array[Any]:
    """An array of a group by its own metadata: the copy in those of the group is for readers, and may be behind."""
    metadata: Any = dict(check_array(folder, name))
    if metadata.get("node_type") != "array":
        raise EnvironmentProblem(f"{folder}: {name} is not an array; use another store")
    return zarr.Array(AsyncArray(metadata, StorePath(LocalStore(folder), name)))
