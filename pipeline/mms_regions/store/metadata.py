"""What the metadata of a store may say, checked before zarr acts on them: a store may come from somebody else.

Only arrays and groups of zarr format 3 and the codecs that a store is written with are read: older formats and other
codecs may unpickle, which runs code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.errors import DamagedStore, EnvironmentProblem
from mms_regions.store.paths import ROOT, root_path, shard_path

_CODECS = {"bytes", "crc32c", "sharding_indexed", "vlen-utf8", "zstd"}


class RefusedMetadata(EnvironmentProblem):
    """Metadata of a store that may not be acted upon."""


def read_root(store: Path) -> Mapping[str, Any]:
    """The metadata of a store with those of all its arrays, checked. Raises RefusedMetadata, or OSError."""
    root = _read(root_path(store))
    arrays = arrays_in(root)
    if not arrays:
        raise RefusedMetadata(f"{root_path(store)} names no arrays; run `mms-regions verify` on the store")
    for name, node in {"": root, **arrays}.items():
        _check(node, f"{root_path(store)}{f', array {name}' if name else ''}")
    return root


def arrays_in(root: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The metadata of each array, by its name, from those of the store."""
    consolidated = root.get("consolidated_metadata")
    found: Mapping[str, Mapping[str, Any]] = consolidated.get("metadata", {}) if isinstance(consolidated, dict) else {}
    return found


def missing_chunks(store: Path, root: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The arrays and numbers of all chunk files (shards, of sample arrays) that are not there and so read as fill."""
    for name, node in arrays_in(root).items():
        shape, chunk = node["shape"], node["chunk_grid"]["configuration"]["chunk_shape"]
        try:
            there = {path.name for path in (store / name / "c").iterdir()}
        except FileNotFoundError:
            there = set()
        for number in range(-(-shape[0] // chunk[0])):
            inside = len(shape) == 1 or shard_path(store, name, number, len(shape)).exists()
            if str(number) not in there or not inside:
                yield name, number


def damaged_rows(
    store: Path, root: Mapping[str, Any], first: NDArray[np.int64], n_samples: NDArray[np.int64]
) -> dict[int, str]:
    """By row of the index, what is missing of segments whose samples are not all there: it would be read as fill.

    first, n_samples: of all segments. Raises DamagedStore where something of the index is missing.
    """
    size, damaged = int(root["attributes"]["shard_samples"]), dict[int, str]()
    for name, number in missing_chunks(store, root):
        missing = f"a file of {name} is missing; `mms-regions verify {store}` names it"
        if arrays_in(root)[name]["dimension_names"][0] != "sample":
            raise DamagedStore(f"{store}: {missing}")
        rows = np.flatnonzero((first < (number + 1) * size) & (first + n_samples > number * size))
        damaged = dict.fromkeys(rows.tolist(), missing) | damaged
    return damaged


def check_array(store: Path, name: str) -> Mapping[str, Any]:
    """The same for the metadata of one array in its own folder."""
    path = store / name / ROOT
    node = _read(path)
    _check(node, str(path))
    return node


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RefusedMetadata(f"{path} was changed or cut short; run `mms-regions verify` on the store")
    return found


def _check(node: Any, where: str) -> None:
    if not isinstance(node, dict) or node.get("zarr_format") != 3:
        raise RefusedMetadata(f"{where}: not of zarr format 3, in which stores are written; it is not read")
    if strange := sorted(set(_codecs(node)) - _CODECS):
        raise RefusedMetadata(f"{where}: names the codec {', '.join(strange)}, which no store has; it is not read")


def _codecs(data: Any) -> Iterator[str]:
    """The names of all codecs, also of those inside shards."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("codecs", "index_codecs"):
                yield from (str(codec.get("name")) if isinstance(codec, dict) else str(codec) for codec in value)
            if key not in ("attributes", "consolidated_metadata"):
                yield from _codecs(value)
    elif isinstance(data, list):
        for value in data:
            yield from _codecs(value)
