"""How a store is laid out: its arrays, its index and their attributes, as the bytes of the files that say so.

All of it follows from the plan, the records of its segments, the model's card and the list of runs. So a store is
created, grown, repaired and brought up to date in one way: the files that are not as they should be are written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import VLenUTF8, Zstd
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.storage import MemoryStore

from mms_regions.core.files import sync_folders, write_changed
from mms_regions.core.outcomes import Cause, Status
from mms_regions.core.types import CHUNK, NO_LABEL, WINDOW
from mms_regions.model.coverage import Coverage
from mms_regions.physics.samples import DIMENSIONS, FEATURES, QUALITY_BITS, QUANTITIES
from mms_regions.physics.scales import Scales
from mms_regions.store.labels import MARGINAL_ARRAYS, Labelled
from mms_regions.store.paths import ROOT
from mms_regions.store.plan import FIRST_FORMAT, Plan
from mms_regions.store.receipts import InputFile, Record, Steadiness

TITLE = "Regions of magnetic reconnection in MMS burst data, by sample"
NO_TIME = np.iinfo(np.int64).min  # decoded as NaT
STATUSES = (Status.MISSING, Status.PREPARED, Status.COMPLETE, Status.FAILED, Status.NO_DATA)
FEATURE_ARRAYS = ("time", "segment_id", "quality", "features", *(q.name for q in QUANTITIES))
LABEL_ARRAYS = ("probability", "label")  # in the order in which they are written: no label without its probabilities
STABILITY = "stability"  # is there where it was asked for, and written before the labels that it is about
UNFAMILIAR = "unfamiliar"  # where the model knows what is like the data that it was trained on
BESIDE_LABELS = (STABILITY, UNFAMILIAR, *MARGINAL_ARRAYS)  # what labels may do without
_LABEL_BYTES = 32  # of one sample, about: label, and probabilities of some seven regions
_ROWS = 16384  # of the index in a chunk; whole chunks, so that one that has grown is right for the old shape too
_ZSTD = ZstdCodec(level=1, checksum=True)  # zstd alone does not notice bit rot
_UTC = {"units": "nanoseconds since 1970-01-01", "calendar": "proleptic_gregorian"}

Files = Mapping[str, bytes]  # by path below a group


def whole_store(
    plan: Plan,
    records: Mapping[str, Record],
    labelled: Labelled | None,
    runs: Sequence[Mapping[str, Any]],
    steadiness: Mapping[str, Steadiness] = MappingProxyType({}),
    coverage: Mapping[str, Coverage] = MappingProxyType({}),
) -> Files:
    """All files of a store but the shards; segments without a record are `missing`, `labelled` is None without labels.

    What comes last makes the others visible: the root, which holds all metadata once more, so that a store opens with
    one read.
    """

    files = dict(_feature_arrays(plan.n_samples, plan.shard_samples, plan.versions.format))
    if labelled is not None:
        _add_labels(files, plan, labelled)
    _add_index(files, plan, records, steadiness)
    _add_coverage(files, plan, coverage)
    _add_scales(files, plan, records)
    arrays = {name.removesuffix(f"/{ROOT}"): json.loads(files[name]) for name in sorted(files) if name.endswith(ROOT)}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": arrays}
    return files | {ROOT: _group(_attributes(plan, labelled, runs), consolidated_metadata=consolidated)}


def labels_alone(plan: Plan, labelled: Labelled) -> Files:
    """A group with the arrays of labels alone, for labels that are made beside other ones."""
    files: dict[str, bytes] = {}
    _add_labels(files, plan, labelled)
    return files | {ROOT: _group({})}


def label_arrays(labelled: Labelled) -> tuple[str, ...]:
    """The names of the arrays of labels, in the order in which they are written."""
    beside = ((STABILITY, labelled.perturb), (UNFAMILIAR, labelled.card.familiarity))
    return (*(name for name, there in beside if there), *(MARGINAL_ARRAYS if labelled.draws else ()), *LABEL_ARRAYS)


def write_files(folder: Path, files: Files) -> None:
    """Bring the files of a group up to date, the root last; what is as it should be is left alone.

    What makes a segment complete is written after everything else about it.
    """
    last = sorted((name for name in files if name == ROOT or name.startswith("status/")), key=lambda name: name == ROOT)
    unsynced = set[Path]()
    for name in sorted(files.keys() - set(last)):
        write_changed(folder / name, files[name], unsynced)
    sync_folders(unsynced)
    for name in last:
        write_changed(folder / name, files[name])


def sample_bytes(marginal: bool = False) -> int:
    """Bytes of one sample in all arrays, about, before they are compressed; with marginal probabilities or without."""
    floats = sum(math.prod(DIMENSIONS[dim] for dim in q.dims) for q in QUANTITIES) + len(FEATURES)
    return 4 * floats + 8 + 4 + 4 + _LABEL_BYTES * (1 + marginal)  # and time, segment_id, quality


def _group(attributes: Mapping[str, Any], **more: Any) -> bytes:
    """The metadata of a group, as zarr writes them."""
    said = {"attributes": attributes, "zarr_format": 3, **more, "node_type": "group"}
    return json.dumps(said, indent=2).encode()


def _attributes(plan: Plan, labelled: Labelled | None, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "title": TITLE,
        "Conventions": "CF-1.11",
        "uuid": plan.uuid,
        "catalogues": [asdict(listed) for listed in plan.catalogues],
        "deciding": dict(plan.result_settings),
        "window": WINDOW,
        "shard_samples": plan.shard_samples,
        **({"model": labelled.card.model_dump(mode="json")} if labelled else {}),
        **({"perturb": labelled.perturb} if labelled and labelled.perturb else {}),
        **({"draws": labelled.draws, "seed": labelled.seed} if labelled and labelled.draws else {}),
        "provenance": [dict(run) for run in runs],
    }


@lru_cache(maxsize=16)
def _feature_arrays(n_samples: int, shard_samples: int, store_format: int) -> Files:
    """The metadata of the arrays of features; they are half of what a store is described with, and seldom change."""
    files: dict[str, bytes] = {}
    _add_features(partial(_add, files, n_samples, shard_samples), store_format)
    return files


def _add_features(add: Callable[..., None], store_format: int) -> None:
    add("time", (), "int64", NO_TIME, {"long_name": "time (UTC)", "standard_name": "time", **_UTC})
    add("segment_id", (), "int32", -1, {"long_name": "row of the index; -1: padding"})
    kind = "uint16" if store_format == FIRST_FORMAT else "uint32"
    bits = {name: bit for name, bit in QUALITY_BITS.items() if bit <= np.iinfo(kind).max}
    quality = {
        "long_name": "what to know of a sample's inputs",
        "flag_masks": list(bits.values()),
        "flag_meanings": " ".join(bits),
    }
    add("quality", (), kind, 0, quality)
    features = {"long_name": "input of the network, simulation axes (x, -z, y) of GSM", "units": "1"}
    add("features", ("feature",), "float32", np.nan, features)
    for q in QUANTITIES:
        add(q.name, q.dims, "float32", np.nan, {"long_name": q.long_name, "units": q.units})


def _add_labels(files: dict[str, bytes], plan: Plan, labelled: Labelled) -> None:
    add = partial(_add, files, plan.n_samples, plan.shard_samples)
    if labelled.perturb:
        attributes: dict[str, Any] = {
            "long_name": "share of runs with B0 and n0 moved, and with windows begun later, that agree with the label",
            "units": "1",
            "perturb": labelled.perturb,
        }
        add(STABILITY, (), "float32", np.nan, attributes)
    if labelled.card.familiarity:
        attributes = {
            "long_name": "whether a sample is unlike all that the model was trained on",
            "missing_label": NO_LABEL,
            "comment": "-1: no label, an input is missing",
            "flag_values": [0, 1],
            "flag_meanings": "familiar unfamiliar",
        }
        add(UNFAMILIAR, (), "int8", NO_LABEL, attributes)
    names = [region.name for region in sorted(labelled.card.regions, key=lambda region: region.index)]
    flags = {
        "missing_label": NO_LABEL,
        "comment": "-1: no label, an input is missing",
        "flag_values": list(range(len(names))),
        "flag_meanings": " ".join(names),
    }
    add("label", (), "int8", NO_LABEL, {"long_name": "region", **flags})
    attributes = {"long_name": "probability of each region", "units": "1"}
    add("probability", ("region",), "float32", np.nan, attributes, len(names))
    if labelled.draws:
        drawn = {"draws": labelled.draws, "seed": labelled.seed}
        text = "region of the largest marginal probability"
        add("label_marginal", (), "int8", NO_LABEL, {"long_name": text, **flags, **drawn})
        attributes = {"long_name": "mean probability of each region, B0 and n0 drawn", "units": "1", **drawn}
        add("probability_marginal", ("region",), "float32", np.nan, attributes, len(names))
    _put(files, "region", ("region",), names, {"long_name": "region, as the card names it"})


def _add(
    files: dict[str, bytes],
    n_samples: int,
    shard_samples: int,
    name: str,
    dims: tuple[str, ...],
    dtype: str,
    fill: Any,
    attributes: dict[str, Any],
    regions: int = 0,
) -> None:
    """An array on the axis of samples; its shards are files of their own. regions: of the dimension `region`."""
    extent = tuple({**DIMENSIONS, "feature": len(FEATURES), "region": regions}[dim] for dim in dims)
    files[f"{name}/{ROOT}"] = _array(
        shape=(n_samples, *extent),
        shards=(shard_samples, *extent),
        chunks=(min(CHUNK, shard_samples), *extent),
        dtype=dtype,
        fill_value=fill,
        dimension_names=("sample", *dims),
        attributes=json.dumps(attributes),
    )


@lru_cache(maxsize=1024)
def _array(*, attributes: str, **what: Any) -> bytes:
    """The metadata of an array, as zarr writes them; attributes: as JSON."""
    files: dict[str, Any] = {}
    given = {**what, "compressors": [_ZSTD], "attributes": json.loads(attributes)}
    zarr.create_array(MemoryStore(files), **given, zarr_format=3)
    return bytes(files[ROOT].to_bytes())


def _put(
    files: dict[str, bytes],
    name: str,
    dims: tuple[str, ...],
    values: NDArray[Any] | Iterable[str],
    attributes: dict[str, Any],
) -> None:
    """A small array in one chunk, so that a reader sees it before or after a change and never in between."""
    text = not isinstance(values, np.ndarray)
    array = np.array(list(values), dtype=object) if text else np.asarray(values)
    fill = "" if text else array.dtype.type(0)
    chunks = tuple(_ROWS if dim == "segment" else n for dim, n in zip(dims, array.shape, strict=True))
    files[f"{name}/{ROOT}"] = _array(
        shape=array.shape,
        chunks=chunks,
        dtype="str" if text else array.dtype,
        fill_value=fill,
        dimension_names=dims,
        attributes=json.dumps(attributes),
    )
    for number, first in enumerate(range(0, len(array), chunks[0])):
        chunk = np.full(chunks, fill, array.dtype)
        some = array[first : first + chunks[0]]
        chunk[: len(some)] = some
        place = "/".join(["c", str(number), *"0" * (array.ndim - 1)])
        files[f"{name}/{place}"] = compressed(VLenUTF8().encode(chunk) if text else chunk)


def compressed(chunk: Any) -> bytes:
    """A chunk as the codecs of all arrays make it, bit for bit; through zarr it takes ten times as long."""
    return bytes(Zstd(level=_ZSTD.level, checksum=_ZSTD.checksum).encode(chunk))


def encoded_shard(array: zarr.Array[Any], values: NDArray[Any]) -> bytes | None:
    """A shard of a sample array, bit for bit what zarr makes of it in ten times the time.

    None for an array with other codecs than a store is made with.
    """
    size = min(CHUNK, len(values))
    endian = "little" if array.dtype.itemsize > 1 else None
    inside, of_index = (BytesCodec(endian=endian), _ZSTD), (BytesCodec(), Crc32cCodec())
    usual = ShardingCodec(chunk_shape=(size, *array.shape[1:]), codecs=inside, index_codecs=of_index)
    if getattr(array.metadata, "codecs", None) != (usual,):
        return None
    chunks = [
        compressed(np.ascontiguousarray(values[at : at + size], array.dtype)) for at in range(0, len(values), size)
    ]
    sizes = np.array([len(chunk) for chunk in chunks], "<u8")
    index = np.stack([np.cumsum(sizes) - sizes, sizes], axis=1).tobytes()
    return b"".join([*chunks, index, google_crc32c.value(index).to_bytes(4, "little")])


@lru_cache(maxsize=65536)
def _as_json(inputs: tuple[InputFile, ...]) -> str:
    """Once for each segment, however often the index is brought up to date."""
    return json.dumps([asdict(file) for file in inputs])


def _add_index(
    files: dict[str, bytes], plan: Plan, records: Mapping[str, Record], steadiness: Mapping[str, Steadiness]
) -> None:
    """The index, one row per segment, and what the axes mean."""
    slots = plan.slots
    events = [slot.segment.event for slot in slots]
    known = [records.get(slot.segment.key) for slot in slots]
    made = [record or Record("", "failed") for record in known]

    row = partial(_put_row, files)

    def nanoseconds(values: Iterable[np.datetime64]) -> NDArray[np.int64]:
        return np.array(list(values), dtype="datetime64[ns]").astype(np.int64)

    row("event", (event.name for event in events), "event")
    row("probe", np.array([slot.segment.probe for slot in slots], np.int8), "spacecraft, MMS 1 to 4")
    row("t_start", nanoseconds(e.t_start for e in events), "start of the interval (UTC)", **_UTC)
    row("t_end", nanoseconds(e.t_end for e in events), "end of the interval (UTC), included", **_UTC)
    b0, n0 = np.array([r.normalisation(e) for r, e in zip(made, events, strict=True)]).reshape(-1, 2).T
    row("b0", b0, "field that scales B, v and E", units="nT")
    row("n0", n0, "density that scales n, v and E", units="cm^-3")
    row("first", np.array([slot.first for slot in slots], np.int64), "first sample of the segment")
    row("n_samples", np.array([record.n_samples for record in made], np.int64), "samples")
    row("status", (r.status if r else "missing" for r in known), f"one of {', '.join(STATUSES)}")
    row("reason", (record.reason for record in made), "why it failed or has no data")
    row("cause", (record.cause for record in made), f"the reason as a code: {', '.join(filter(None, Cause))}")
    row("inputs", (_as_json(record.inputs) for record in made), "the CDF files it was made from, as JSON")
    row("origin", (record.origin for record in made), "of its data: measured, synthetic, mixed or unknown")
    steady = [steadiness.get(slot.segment.key, Steadiness("", 0, 0.0, 0)) for slot in slots]
    row(
        "mean_stability",
        np.array([s.mean for s in steady]),
        "mean stability of its labels; NaN: not asked for",
        units="1",
    )
    changed = "share of its labels that change where B0 and n0 are moved; NaN: not asked for"
    row("share_changed", np.array([s.share_changed for s in steady]), changed, units="1")
    position = np.array([record.position_gse or (np.nan,) * 3 for record in made], np.float64).reshape(-1, 3)
    attributes = {"long_name": "mean position of the spacecraft, GSE", "units": "km"}
    _put(files, "position_gse", ("segment", "xyz"), position, attributes)
    _put(files, "feature", ("feature",), FEATURES, {"long_name": "feature, in simulation axes"})
    axes = "component, in the frame that the variable's name or long_name says"
    _put(files, "xyz", ("xyz",), ("x", "y", "z"), {"long_name": axes})


def _put_row(
    files: dict[str, bytes], name: str, values: NDArray[Any] | Iterable[str], long_name: str, **more: str
) -> None:
    """A column of the index."""
    _put(files, name, ("segment",), values, {"long_name": long_name, **more})


def _add_coverage(files: dict[str, bytes], plan: Plan, coverage: Mapping[str, Coverage]) -> None:
    """Of each segment the share of samples with a label, and why the others have none."""
    known = [coverage.get(slot.segment.key) for slot in plan.slots]
    shares = np.array([np.nan if one is None else one.share for one in known])
    _put_row(files, "coverage", shares, "share of its samples that have a label; NaN: not known", units="1")
    reasons = (json.dumps(one.shares_without) if one else "" for one in known)
    _put_row(files, "without_label", reasons, "shares of its samples without a label, by reason, as JSON")


def _add_scales(files: dict[str, bytes], plan: Plan, records: Mapping[str, Record]) -> None:
    """What was measured of the scales B0 and n0 of each segment, and what does not fit."""
    known = [(record.scales if record else None) or Scales() for record in map(records.get, _keys(plan))]
    columns = {
        "lobe_field": ("nT", "field that balances the pressure of plasma and field, median"),
        "sheet_temperature": ("eV", "T_i + T_e where the pressure of plasma exceeds that of the field"),
        "median_ey": ("mV m^-1", "median of E_y, GSM"),
    }
    names = ("lobe_field", "sheet_temperature", "electric_field")
    for (column, (units, text)), name in zip(columns.items(), names, strict=True):
        values = [getattr(scales, name) for scales in known]
        _put_row(files, column, np.array([np.nan if x is None else x for x in values]), text, units=units)
    events = [slot.segment.event for slot in plan.slots]
    made = [records.get(key) or Record("", "failed") for key in _keys(plan)]
    for number, (column, units) in enumerate((("b0_sigma", "nT"), ("n0_sigma", "cm^-3"))):
        errors = (r.scale_errors(e) for r, e in zip(made, events, strict=True))
        sigmas = np.array([(one.b0_sigma, one.n0_sigma)[number] for one in errors], float)
        _put_row(files, column, sigmas, f"standard error of {column[:2]}; NaN: not known", units=units)
    sources = ("estimated" if r.estimate else "catalogue" for r in made)
    _put_row(files, "scale_source", sources, "where b0 and n0 are from; estimated: at least one of them")
    doubts = ("; ".join(r.doubts(e)) for r, e in zip(made, events, strict=True))
    _put_row(files, "scale_caution", doubts, "what does not fit B0 and n0; empty where all that is known fits")


def _keys(plan: Plan) -> list[str]:
    return [slot.segment.key for slot in plan.slots]
