"""A store as people open it: with xarray, whole, segment by segment, or as a tree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mms_regions.core.errors import DamagedStore, MMSRegionsError, UsageProblem
from mms_regions.core.events import ALL_PROBES, is_safe_name, one_probe
from mms_regions.core.outcomes import without_key
from mms_regions.core.regions import with_no_label
from mms_regions.store.arrays import refuse_incomplete
from mms_regions.store.labels import MARGINAL_ARRAYS
from mms_regions.store.metadata import RefusedMetadata, damaged_rows, read_root
from mms_regions.store.paths import root_path

if TYPE_CHECKING:  # it and pandas take longer to import than a segment to be made
    import xarray as xr

# Attributes that are JSON in what is opened: NetCDF takes none with parts, and `to_netcdf` is to work on all of it.
_WITH_PARTS = ("catalogues", "deciding", "inputs", "model", "provenance")
# Attributes of a store that its segments have too.
_OF_THE_STORE = ("deciding", "model", "perturb", "draws", "seed", "uuid")
# Columns of the index that older stores lack.
_LATER_COLUMNS = (
    *("coverage", "without_label", "lobe_field", "sheet_temperature", "median_ey", "scale_caution"),
    *("b0_sigma", "n0_sigma", "scale_source"),
)


def open_store(store: Path | str) -> xr.Dataset:
    """The whole store, lazily: sample arrays on `sample`, the index on `segment`; times are datetime64[ns], UTC.
    Attributes that have parts, such as the card of the model, are JSON.

    Segments of which a file is missing have the status `damaged`. Raises UsageProblem where there is no store,
    EnvironmentProblem for one whose index is damaged, or that names codecs or events that no store has.
    """
    if not root_path(Path(store)).is_file():
        raise UsageProblem(f"{store}: no store there; `mms-regions run --store {store}` makes one")
    root = read_root(Path(store))
    from xarray import open_zarr

    data: xr.Dataset = open_zarr(store, chunks=None, zarr_format=3, consolidated=True)
    data = _damage_shown(Path(store), root, data)
    _check_index(Path(store), data)
    return data.assign_attrs({name: json.dumps(data.attrs[name]) for name in _WITH_PARTS if name in data.attrs})


def attributes_of(data: xr.Dataset) -> dict[str, Any]:
    """The attributes of a store or a segment, those that are JSON with their parts."""
    return {str(name): json.loads(value) if name in _WITH_PARTS else value for name, value in data.attrs.items()}


def card_of(data: xr.Dataset) -> dict[str, Any]:
    """The card of the model that made the labels of a store or a segment; empty where there are none."""
    return dict(attributes_of(data).get("model", {}))


def settings_of(data: xr.Dataset) -> dict[str, Any]:
    """The settings that decide the numbers of a store or a segment."""
    return dict(attributes_of(data)["deciding"])


def _check_index(store: Path, data: xr.Dataset) -> None:
    """Names become those of files, whoever has written them."""
    wrong = [name for name in data["event"].values.tolist() if not is_safe_name(name)]
    wrong += [probe for probe in data["probe"].values.tolist() if probe not in ALL_PROBES]
    if wrong:
        raise RefusedMetadata(f"{store}: its index names {wrong[0]!r}, which is no event or spacecraft; it is not read")


def _damage_shown(store: Path, root: Mapping[str, Any], data: xr.Dataset) -> xr.Dataset:
    """The store with `damaged` for segments whose samples are not all there: what is missing reads as fill.

    Raises DamagedStore where something of the index is missing.
    """
    from xarray import Variable

    status, reason = data["status"].values.copy(), _reasons(data)
    for row, missing in damaged_rows(store, root, data["first"].values, data["n_samples"].values).items():
        if status[row] == "complete":
            status[row], reason[row] = "damaged", missing
    for name, values in (("status", status), ("reason", reason)):
        old = data[name].variable  # whose `copy(data=...)` would import dask.array, an eighth of a short run's CPU
        data[name] = Variable(old.dims, values, old.attrs, old.encoding, fastpath=True)
    return data


def _reasons(data: xr.Dataset) -> np.ndarray[Any, Any]:
    """The reasons of the index, without the keys that older stores have in front of them."""
    columns = (data[name].values.tolist() for name in ("reason", "event", "probe"))
    reasons = [without_key(reason, f"{event}/mms{probe}") for reason, event, probe in zip(*columns, strict=True)]
    found = data["reason"].values.copy()
    found[:] = reasons
    return found


def open_segment(store: Path | str, event: str, probe: int | str) -> xr.Dataset:
    """One event seen by one spacecraft, on the dimension `time`; its row of the index is in the attributes.

    Raises UsageProblem for a segment that the store does not hold, or that is not complete there.
    """
    return segment_in(open_store(store), store, event, one_probe(probe))


def load_segment(store: Path | str, event: str, probe: int | str) -> xr.Dataset:
    """As `open_segment`, with all values read. Raises also DamagedStore where files of the store are damaged."""
    with naming_damage(store, f"{event}/mms{probe}"):
        return open_segment(store, event, probe).load()


@contextmanager
def naming_damage(store: Path | str, what: str) -> Iterator[None]:
    """Around the reading of `what`: whatever damaged files make zarr and its codecs raise becomes DamagedStore."""
    try:
        yield
    except (MMSRegionsError, MemoryError):
        raise
    except Exception as problem:
        raise DamagedStore(
            f"{what} cannot be read from {store} ({str(problem) or type(problem).__name__}); "
            f"`mms-regions verify {store}` names the files that are damaged"
        ) from problem


def segment_in(whole: xr.Dataset, store: Path | str, event: str, probe: int) -> xr.Dataset:
    """As `open_segment`, from a store that is open, which takes the longer part of it."""
    found = segment_of(whole, event, probe)
    if found is None:
        raise UsageProblem(f"{store}: holds no {event}/mms{probe}; see `mms-regions status {store}`")
    return found


def segment_of(whole: xr.Dataset, event: str, probe: int) -> xr.Dataset | None:
    """As `segment_in`; None for what the store does not hold."""
    rows = np.flatnonzero((whole["event"].values == event) & (whole["probe"].values == probe))
    return _segment(whole, int(rows[0])) if rows.size else None


def described(segment: xr.Dataset) -> xr.Dataset:
    """A segment for people: electron energies are a coordinate, and flags name what is no label.

    Stores keep what they have had from the start, so this is made when a segment is opened.
    """
    labels = [name for name in ("label", "label_marginal") if name in segment]
    shown = {name: segment[name].assign_attrs(with_no_label(segment[name].attrs)) for name in labels}
    if "quality" in segment:
        shown["quality"] = segment["quality"].assign_attrs(standard_name="quality_flag")
    return segment.assign(shown).set_coords([name for name in ("electron_energy",) if name in segment])


def open_tree(store: Path | str) -> xr.DataTree:
    """All complete segments, lazily, as a tree: tree["A/mms4"]; the index is in the root."""
    from xarray import DataTree

    whole = open_store(store)
    index = whole.drop_dims("sample")
    complete = np.flatnonzero(whole["status"].values == "complete")
    segments = {f"{whole['event'].values[i]}/mms{whole['probe'].values[i]}": _segment(whole, int(i)) for i in complete}
    return DataTree.from_dict({"/": index.reset_coords(drop=True), **segments})


def _segment(whole: xr.Dataset, row: int) -> xr.Dataset:
    index = whole.drop_dims("sample").isel(segment=row)
    key = f"{index['event'].item()}/mms{index['probe'].item()}"
    refuse_incomplete(key, index["status"].item(), index["reason"].item())
    first, n = int(index["first"]), int(index["n_samples"])
    not_its_own = {"segment_id"} if _has_scale_errors(index) else {"segment_id", *MARGINAL_ARRAYS}
    names = [name for name in whole.data_vars if "sample" in whole.variables[name].dims and name not in not_its_own]
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
        "origin": index["origin"].item() if "origin" in index else "unknown",  # of the first format
        **{name: float(index[name]) for name in ("mean_stability", "share_changed") if "stability" in whole},
        **{name: index[name].item() for name in _LATER_COLUMNS if name in index},
        **{name: whole.attrs[name] for name in _OF_THE_STORE if name in whole.attrs},
    }
    return data


def _has_scale_errors(index: xr.Dataset) -> bool:
    """Whether an error of B0 or n0 is known, so that there are marginal probabilities of the segment."""
    return any(name in index and np.isfinite(float(index[name])) for name in ("b0_sigma", "n0_sigma"))
