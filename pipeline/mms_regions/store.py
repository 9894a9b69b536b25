"""The only room that knows zarr: how a store is laid out, written by shards, and read back.

One zarr v3 store; sample arrays on one axis `sample`, cut into shards that one task writes whole, and an index with
one row per segment. `xr.open_zarr(store)` opens it; `open_segment` and `open_tree` give it event by event.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from mms_regions.arrays import NO_LABEL, WINDOW, Flags, Floats
from mms_regions.card import Architecture, ModelCard
from mms_regions.catalogue import Catalogue, Segment
from mms_regions.errors import DamagedStore, EnvironmentProblem, UsageProblem
from mms_regions.files import sha256_of, sync_folder, write_whole
from mms_regions.plan import (
    Failed,
    Kept,
    Plan,
    Prepared,
    Receipt,
    Record,
    ShardPlan,
    Slot,
    receipt_path,
    receipts,
    records_of,
    require_plan,
    run_folder,
    written_shards,
)
from mms_regions.samples import DIMENSIONS, FEATURES, QUALITY_BITS, QUANTITIES, Samples, bridged_in

if TYPE_CHECKING:
    from mms_regions.label import Prediction  # imports torch, which reading a store does not need

TITLE = "Regions of magnetic reconnection in MMS burst data, by sample"
NO_TIME = np.iinfo(np.int64).min  # decoded as NaT
STATUSES = ("missing", "complete", "failed")
_CHUNK = 8192
_N_REGIONS = Architecture().classes
_ZSTD = ZstdCodec(level=1, checksum=True)  # zstd alone does not notice bit rot
_UTC = {"units": "nanoseconds since 1970-01-01", "calendar": "proleptic_gregorian"}
_FEATURE_ARRAYS = ("time", "segment_id", "quality", "features", *(q.name for q in QUANTITIES))
_LABEL_ARRAYS = ("label", "probability")


def create_store(store: Path, plan: Plan) -> None:
    """Make the run folder and the empty arrays of a plan, or what of them is missing."""
    write_whole(run_folder(store) / "plan.json", plan.to_json().encode())
    group = _group(store, "a")
    _create_sample_arrays(group, plan)
    create_label_arrays(store, plan)
    _create_coordinates(group)
    write_index(store, plan, {})
    group.attrs.update(
        {
            "title": TITLE,
            "Conventions": "CF-1.11",
            "uuid": plan.uuid,
            "catalogue": plan.catalogue,
            "catalogue_sha256": plan.catalogue_sha256,
            "deciding": dict(plan.deciding),
            "window": WINDOW,
            "shard_samples": plan.shard_samples,
        }
    )
    _consolidate(store)


def is_created(store: Path, plan: Plan) -> bool:
    """Whether the arrays of a plan are all there: the attributes, which come last, tell."""
    return (store / "zarr.json").is_file() and _group(store, "r").attrs.get("uuid") == plan.uuid


def create_label_arrays(folder: Path, plan: Plan) -> None:
    """Make empty `label` and `probability` arrays in a group, where they are missing."""
    group = _group(folder, "a")
    attributes = {"long_name": "region", "missing_label": NO_LABEL, "comment": "-1: no label, an input is missing"}
    _create(group, plan, "label", (), "int8", NO_LABEL, attributes)
    attributes = {"long_name": "probability of each region", "units": "1"}
    _create(group, plan, "probability", ("region",), "float32", np.nan, attributes)


def _create_sample_arrays(group: zarr.Group, plan: Plan) -> None:
    _create(group, plan, "time", (), "int64", NO_TIME, {"long_name": "time (UTC)", "standard_name": "time", **_UTC})
    _create(group, plan, "segment_id", (), "int32", -1, {"long_name": "row of the index; -1: padding"})
    quality = {
        "long_name": "what to know of a sample's inputs",
        "flag_masks": list(QUALITY_BITS.values()),
        "flag_meanings": " ".join(QUALITY_BITS),
    }
    _create(group, plan, "quality", (), "uint16", 0, quality)
    features = {"long_name": "input of the network, simulation axes (x, -z, y) of GSM", "units": "1"}
    _create(group, plan, "features", ("feature",), "float32", np.nan, features)
    for q in QUANTITIES:
        _create(group, plan, q.name, q.dims, "float32", np.nan, {"long_name": q.long_name, "units": q.units})


def _create(
    group: zarr.Group, plan: Plan, name: str, dims: tuple[str, ...], dtype: str, fill: Any, attributes: dict[str, Any]
) -> None:
    if name in group:
        return
    extent = tuple({**DIMENSIONS, "feature": len(FEATURES), "region": _N_REGIONS}[dim] for dim in dims)
    group.create_array(
        name,
        shape=(plan.n_samples, *extent),
        shards=(plan.shard_samples, *extent),
        chunks=(min(_CHUNK, plan.shard_samples), *extent),
        dtype=dtype,
        fill_value=fill,
        compressors=[_ZSTD],
        dimension_names=("sample", *dims),
        attributes=attributes,
    )


def _create_coordinates(group: zarr.Group) -> None:
    axes = {
        "feature": (FEATURES, "feature, in simulation axes"),
        "xyz": (("x", "y", "z"), "component, in the frame that the variable's name or long_name says"),
    }
    for name, (values, text) in axes.items():
        _replace(group, name, (name,), np.array(values, dtype=object), {"long_name": text})


def _replace(
    group: zarr.Group, name: str, dims: tuple[str, ...], values: NDArray[Any], attributes: dict[str, Any]
) -> None:
    """Write a small array whole, in one chunk, which a reader sees before or after and never in between."""
    text = values.dtype == object
    if name not in group:
        group.create_array(
            name,
            shape=values.shape,
            chunks=tuple(max(n, 1) for n in values.shape),
            dtype="str" if text else values.dtype,
            fill_value="" if text else values.dtype.type(0),
            compressors=[_ZSTD],
            dimension_names=dims,
            attributes=attributes,
        )
    _writable(group, name)[...] = values


def write_features(store: Path, shard: ShardPlan, outcomes: Iterable[Prepared | Failed | Kept]) -> Receipt:
    """Write all sample arrays of a shard but the labels, whole, then its receipt.

    outcomes: one for each slot of the shard, in any order; a segment that spans shards gives each its part. What is
    kept is read back from the store, so its CDF files are not needed; where nothing new came, only the receipt is
    written. Raises DamagedStore where something is to be kept and is not as the receipt says.
    """
    path = receipt_path(store, "features", shard.number)
    before = Receipt.read(path)
    by_key = {outcome.key: outcome for outcome in outcomes}
    placed = [(slot, by_key[slot.segment.key]) for slot in shard.slots]
    records = tuple(Record.of(made) for _, made in placed)
    if before and before.matches(shard.uuid, shard.decides) and not any(isinstance(m, Prepared) for _, m in placed):
        receipt = replace(before, records=records)
    else:
        if any(isinstance(made, Kept) for _, made in placed):
            _require_sound(store, before)
        _withdraw_receipts(store, shard.number)
        group = _group(store, "r+")
        for name in _FEATURE_ARRAYS:
            array = _writable(group, name)
            _write_shard(store, array, shard, _assembled(array, shard, placed))
        files = _settle(store, group, _FEATURE_ARRAYS, shard.number)
        receipt = Receipt("features", shard.uuid, shard.number, shard.decides, files, records)
    receipt.write(path)
    return receipt


def _require_sound(store: Path, receipt: Receipt | None) -> None:
    """Raise DamagedStore unless the files of a receipt are all there and have its checksums."""
    files = receipt.files if receipt else {}
    bad = [name for name, sha256 in files.items() if not (store / name).is_file() or sha256_of(store / name) != sha256]
    if bad or not files:
        raise DamagedStore(f"{store}: {', '.join(bad) or 'a receipt'} is damaged or missing")


def _withdraw_receipts(store: Path, number: int) -> None:
    """What is about to be overwritten is no longer done, nor are labels made from it."""
    for path in (run_folder(store) / "receipts").glob(f"*-{number:05d}.json"):
        path.unlink()


def _assembled(
    array: zarr.Array[Any], shard: ShardPlan, placed: Iterable[tuple[Slot, Prepared | Failed | Kept]]
) -> NDArray[Any]:
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


def _write_shard(folder: Path, array: zarr.Array[Any], shard: ShardPlan, values: NDArray[Any]) -> None:
    """Write a shard of an array whole; zarr would read the old one first, and stop if that is damaged."""
    _shard_file(folder, array, shard.number).unlink(missing_ok=True)
    array[shard.begin : shard.end] = values


def _shard_file(folder: Path, array: zarr.Array[Any], number: int) -> Path:
    return folder.joinpath(array.basename, "c", str(number), *["0"] * (array.ndim - 1))


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


def _settle(folder: Path, group: zarr.Group, names: Iterable[str], number: int) -> dict[str, str]:
    """Bring the files of a shard to the disk; their paths below the store and sha256."""
    files = {}
    for name in names:
        path = _shard_file(folder, _array(group, name), number)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        for parent in path.parents:
            sync_folder(parent)
            if parent == folder / name:
                break
        files[str(path.relative_to(folder))] = sha256_of(path)
    return files


def read_windows(store: Path, shard: ShardPlan) -> tuple[Floats, Flags]:
    """Every window of a shard: features (W, 32, 14) float32, and (W, 32) bool, the samples that get no label."""
    group = _group(store, "r")
    features = _part(group, "features", shard).reshape(-1, WINDOW, len(FEATURES))
    return features, bridged_in(_part(group, "quality", shard)).reshape(-1, WINDOW)


def write_labels(
    store: Path, folder: Path, shard: ShardPlan, prediction: Prediction, decides: Mapping[str, Any]
) -> Receipt:
    """Write `label` and `probability` of a shard into the group `folder`, whole, then the receipt.

    folder: the store, or the group beside it in which a store is relabelled. decides: with `model_sha256`.
    """
    group = _group(folder, "r+")
    values: dict[str, NDArray[Any]] = {
        "label": prediction.label.reshape(-1),
        "probability": prediction.probability.reshape(-1, _N_REGIONS),
    }
    for name, array in values.items():
        _write_shard(folder, _writable(group, name), shard, array)
    files = _settle(folder, group, _LABEL_ARRAYS, shard.number)
    receipt = Receipt("labels", shard.uuid, shard.number, decides, files)
    receipt.write(receipt_path(store, "labels", shard.number, decides["model_sha256"]))
    return receipt


def swap_labels(store: Path, beside: Path) -> None:
    """Put the finished label arrays of a group beside the store in the place of the store's own."""
    old = beside / "replaced"
    shutil.rmtree(old, ignore_errors=True)  # of a swap that was cut short
    old.mkdir()
    for name in _LABEL_ARRAYS:
        (store / name).rename(old / name)
        (beside / name).rename(store / name)
    sync_folder(store)


def withdraw_labels(store: Path) -> None:
    """No labels of the store are done any more, and none are said to be of a model."""
    for path in (run_folder(store) / "receipts").glob("labels-*.json"):
        path.unlink()
    sync_folder(run_folder(store) / "receipts")
    del _group(store, "r+").attrs["model"]
    _consolidate(store)


def describe_model(store: Path, card: ModelCard) -> None:
    """Record in the store which model its labels are from: the card, and the regions as CF flags."""
    group = _group(store, "r+")
    names = [region.name for region in sorted(card.regions, key=lambda region: region.index)]
    flags: dict[str, Any] = {"flag_values": list(range(len(names))), "flag_meanings": " ".join(names)}
    _array(group, "label").attrs.update(flags)
    _replace(group, "region", ("region",), np.array(names, dtype=object), {"long_name": "region, as the card names it"})
    group.attrs["model"] = card.model_dump(mode="json")


def model_of(store: Path) -> str | None:
    """sha256 of the weights whose labels a store holds, or None where it holds none yet."""
    model = _group(store, "r").attrs.get("model")
    return model.get("weights_sha256") if isinstance(model, dict) else None


def write_index(store: Path, plan: Plan, records: Mapping[str, Record]) -> None:
    """Write the index, one row per segment; those without a record are `missing`."""
    group = _group(store, "r+")
    known = [records.get(slot.segment.key) for slot in plan.slots]
    events = [slot.segment.event for slot in plan.slots]
    empty = Record("", "failed")

    def texts(values: Iterable[str]) -> NDArray[Any]:
        return np.array(list(values), dtype=object)

    def nanoseconds(values: Iterable[np.datetime64]) -> NDArray[np.int64]:
        return np.array(list(values), dtype="datetime64[ns]").astype(np.int64)

    columns: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
        "event": (texts(e.name for e in events), {"long_name": "event"}),
        "probe": (np.array([s.segment.probe for s in plan.slots], np.int8), {"long_name": "spacecraft, MMS 1 to 4"}),
        "t_start": (nanoseconds(e.t_start for e in events), {"long_name": "start of the interval (UTC)", **_UTC}),
        "t_end": (nanoseconds(e.t_end for e in events), {"long_name": "end of the interval (UTC), included", **_UTC}),
        "b0": (np.array([e.B0 for e in events]), {"long_name": "field that scales B, v and E", "units": "nT"}),
        "n0": (np.array([e.n0 for e in events]), {"long_name": "density that scales n, v and E", "units": "cm-3"}),
        "first": (np.array([s.first for s in plan.slots], np.int64), {"long_name": "first sample of the segment"}),
        "n_samples": (np.array([r.n_samples if r else 0 for r in known], np.int64), {"long_name": "samples"}),
        "status": (texts(r.status if r else "missing" for r in known), {"long_name": f"one of {', '.join(STATUSES)}"}),
        "reason": (texts(r.reason if r else "" for r in known), {"long_name": "why it failed"}),
        "inputs": (
            texts(json.dumps([asdict(f) for f in (r or empty).inputs]) for r in known),
            {"long_name": "the CDF files it was made from, as JSON"},
        ),
    }
    for name, (values, attributes) in columns.items():
        _replace(group, name, ("segment",), values, attributes)
    nowhere = (np.nan, np.nan, np.nan)
    position = np.array([(r or empty).position_gse or nowhere for r in known], np.float64).reshape(-1, 3)
    attributes = {"long_name": "mean position of the spacecraft, GSE", "units": "km"}
    _replace(group, "position_gse", ("segment", "xyz"), position, attributes)
    _consolidate(store)


def add_provenance(store: Path, run: Mapping[str, Any]) -> None:
    """Record a run that changed the store: who, when and with what. Nothing in it decides numbers."""
    attributes = _group(store, "r+").attrs
    before = attributes.get("provenance", [])
    attributes["provenance"] = [*(before if isinstance(before, list) else []), dict(run)]
    _consolidate(store)


def _consolidate(store: Path) -> None:
    """Gather all metadata in one file, so that a store opens with one read; zarr warns that other readers may not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")
        zarr.consolidate_metadata(store)


def open_store(store: Path | str) -> xr.Dataset:
    """The whole store, lazily: sample arrays on `sample`, the index on `segment`; times are datetime64[ns], UTC.

    Raises UsageProblem where there is no store.
    """
    if not (Path(store) / "zarr.json").is_file():
        raise UsageProblem(f"{store}: no store there; `mms-regions run --store {store}` makes one")
    data: xr.Dataset = xr.open_zarr(store, chunks=None)
    return data


def open_segment(store: Path | str, event: str, probe: int) -> xr.Dataset:
    """One event seen by one spacecraft, on the dimension `time`; its row of the index is in the attributes.

    Raises UsageProblem for a segment that the store does not hold, or that is not complete there.
    """
    whole = open_store(store)
    rows = np.flatnonzero((whole["event"].values == event) & (whole["probe"].values == probe))
    if not rows.size:
        raise UsageProblem(f"{store}: holds no {event}/mms{probe}; see `mms-regions status {store}`")
    return _segment(whole, int(rows[0]))


def open_tree(store: Path | str) -> xr.DataTree:
    """All complete segments, lazily, as a tree: tree["A/mms4"]; the index is in the root."""
    whole = open_store(store)
    index = whole.drop_dims("sample")
    complete = np.flatnonzero(whole["status"].values == "complete")
    segments = {f"{whole['event'].values[i]}/mms{whole['probe'].values[i]}": _segment(whole, int(i)) for i in complete}
    return xr.DataTree.from_dict({"/": index.reset_coords(drop=True), **segments})


def _segment(whole: xr.Dataset, row: int) -> xr.Dataset:
    index = whole.drop_dims("sample").isel(segment=row)
    key = f"{index['event'].item()}/mms{index['probe'].item()}"
    if index["status"].item() != "complete":
        reason = index["reason"].item() or "it has not been made yet"
        raise UsageProblem(f"{key} is {index['status'].item()}: {reason}")
    first, n = int(index["first"]), int(index["n_samples"])
    names = [name for name in whole.data_vars if "sample" in whole[name].dims and name != "segment_id"]
    samples = whole[names].isel(sample=slice(first, first + n))
    data = samples.set_coords("time").swap_dims(sample="time")
    data.attrs = {
        "event": index["event"].item(),
        "probe": int(index["probe"]),
        "t_start": str(index["t_start"].values),
        "t_end": str(index["t_end"].values),
        "b0": float(index["b0"]),
        "n0": float(index["n0"]),
        "position_gse": index["position_gse"].values.tolist(),
        "inputs": index["inputs"].item(),
        **{name: whole.attrs[name] for name in ("deciding", "model", "uuid") if name in whole.attrs},
    }
    return data


def segment_status(store: Path) -> list[dict[str, str]]:
    """For each segment of a store: its key, status (complete, prepared, failed or missing), why it failed.

    Raises UsageProblem where there is no store.
    """
    return _statuses(store, require_plan(store))


def _statuses(store: Path, plan: Plan) -> list[dict[str, str]]:
    records = records_of(plan, written_shards(store, plan))
    model = model_of(store) if (store / "zarr.json").is_file() else None
    labelled = {receipt.shard for receipt in receipts(store, plan, "labels", model)} if model else set()
    unlabelled = {s.segment.key for shard in plan.shards if shard.number not in labelled for s in shard.slots}
    rows = []
    for key in (slot.segment.key for slot in plan.slots):
        record = records.get(key)
        status: str = record.status if record else "missing"
        if status == "complete" and key in unlabelled:
            status = "prepared"
        rows.append({"segment": key, "status": status, "reason": record.reason if record else ""})
    return rows


def complete_segments(store: Path, events: str | None = None, probes: str | None = None) -> tuple[Segment, ...]:
    """The complete segments of a store that a selection such as `A,C-F` and `1-4` names.

    Raises UsageProblem for words that name nothing in the store, and where nothing of it is complete.
    """
    plan = require_plan(store)
    complete = {row["segment"] for row in _statuses(store, plan) if row["status"] == "complete"}
    unique = dict.fromkeys(slot.segment.event for slot in plan.slots)
    wanted = set(Catalogue(plan.catalogue, tuple(unique)).segments(events, probes))
    found = tuple(s.segment for s in plan.slots if s.segment in wanted and s.segment.key in complete)
    if not found:
        raise UsageProblem(f"{store}: none of the segments asked for is complete; see `mms-regions status {store}`")
    return found


def _group(folder: Path, mode: Literal["r", "r+", "a"]) -> zarr.Group:
    """A group by its own files: the consolidated copy of its metadata is for readers, and may be behind."""
    return zarr.open_group(folder, mode=mode, zarr_format=3, use_consolidated=False)


def _part(group: zarr.Group, name: str, shard: ShardPlan) -> NDArray[Any]:
    return np.asarray(_array(group, name)[shard.begin : shard.end])


def _writable(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array that writes chunks of mere fill values too: a chunk that is not there reads as fill, in silence.

    zarr keeps this wish with the opened array, not in the metadata.
    """
    with zarr.config.set({"array.write_empty_chunks": True}):
        return _array(group, name)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise EnvironmentProblem(f"{group.store_path}: {name} is not an array; use another store")
    return array
