"""The segments of a store as plain arrays, for what sums them up: xarray and pandas take longer to import than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.errors import DamagedStore, UsageProblem
from mms_regions.core.outcomes import without_key
from mms_regions.store.metadata import arrays_in, damaged_rows, read_root

if TYPE_CHECKING:
    import zarr

# Of the index and of the store: what is known of a segment besides its arrays, under the same names.
_NUMBERS = ("b0", "n0", "b0_sigma", "n0_sigma", "position_gse", "mean_stability", "share_changed")
_TEXTS = ("scale_source", "scale_caution")
_OF_THE_STORE = ("model", "draws")


@dataclass(frozen=True)
class SampleArray:
    """One array of a segment, read when its values are first asked for; has what is used of an xarray variable."""

    attrs: Mapping[str, Any]
    _group: zarr.Group
    _name: str
    _place: slice

    @cached_property
    def values(self) -> NDArray[Any]:
        return _read(self._group, self._name, self._place)


@dataclass(frozen=True)
class SegmentArrays:
    """A segment in which arrays, attributes and sizes are found as in what `open_segment` gives; it has no times."""

    attrs: Mapping[str, Any]
    sizes: Mapping[str, int]
    _arrays: Mapping[str, SampleArray]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> SampleArray:
        return self._arrays[name]


@dataclass(frozen=True)
class StoreArrays:
    """An open store: its index is read, its samples are not."""

    store: Path
    _root: Mapping[str, Any]
    _group: zarr.Group
    _index: Mapping[str, NDArray[Any]]

    def segment(self, event: str, probe: int) -> SegmentArrays:
        """Raises UsageProblem for a segment that is not there or not complete, DamagedStore where files are missing."""
        index, key = self._index, f"{event}/mms{probe}"
        rows = np.flatnonzero((index["event"] == event) & (index["probe"] == probe))
        if not rows.size:
            raise UsageProblem(f"{self.store}: holds no {key}; see `mms-regions status {self.store}`")
        row = int(rows[0])
        damaged = damaged_rows(self.store, self._root, index["first"], index["n_samples"])
        status, reason = str(index["status"][row]), without_key(str(index["reason"][row]), key)
        if status == "complete" and row in damaged:
            status, reason = "damaged", damaged[row]
        refuse_incomplete(key, status, reason)
        first, n = int(index["first"][row]), int(index["n_samples"][row])
        about: dict[str, Any] = {name: index[name][row].tolist() for name in _NUMBERS if name in index}
        about |= {name: str(index[name][row]) for name in _TEXTS if name in index}
        about |= {name: self._root["attributes"][name] for name in _OF_THE_STORE if name in self._root["attributes"]}
        drawn = any(np.isfinite(about.get(name, np.nan)) for name in ("b0_sigma", "n0_sigma"))
        arrays = {
            name: SampleArray(node["attributes"], self._group, name, slice(first, first + n))
            for name, node in arrays_in(self._root).items()
            if node["dimension_names"][0] == "sample" and (drawn or not name.endswith("_marginal"))
        }
        regions = arrays_in(self._root)["probability"]["shape"][1]
        return SegmentArrays(about, {"time": n, "region": regions}, arrays)


def open_arrays(store: Path) -> StoreArrays:
    """Raises EnvironmentProblem for a store whose index is damaged, or that names codecs that no store has."""
    import zarr

    root = read_root(store)
    group = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=True)
    columns = ("event", "probe", "status", "reason", "first", "n_samples", *_NUMBERS, *_TEXTS)
    index = {name: _read(group, name, slice(None)) for name in columns if name in arrays_in(root)}
    return StoreArrays(store, root, group, index)


def refuse_incomplete(key: str, status: str, reason: str) -> None:
    """Raise DamagedStore for a segment that is damaged, UsageProblem for any other one that is not complete."""
    if status == "damaged":
        raise DamagedStore(f"{key} is damaged: {reason}")
    if status != "complete":
        raise UsageProblem(f"{key} is {status.replace('_', ' ')}: {reason or 'it has not been made yet'}")


def _read(group: zarr.Group, name: str, place: slice) -> NDArray[Any]:
    import zarr

    array = group[name]
    if not isinstance(array, zarr.Array):
        raise DamagedStore(f"{group.store_path}: {name} is not an array")
    return np.asarray(array[place])
