"""What tests look at in a store: its bytes, when its files were written, and whether all it shows is right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import xarray as xr
import zarr

from mms_regions.core.errors import UsageProblem
from mms_regions.store.read import card_of, open_segment
from mms_regions.store.receipts import Receipt
from mms_regions.store.verify import verify

Command = Callable[..., "CompletedProcess[str]"]


def raw(store: Path) -> xr.Dataset:
    """The store as its bytes are: no times, no masks."""
    return xr.open_zarr(store, chunks=None, decode_times=False, mask_and_scale=False)


def assert_same_numbers(one: xr.Dataset, other: xr.Dataset) -> None:
    """Every array equal bit for bit, NaN included, and the whole index, but the reasons of failures."""
    assert set(one.variables) == set(other.variables)
    assert [name for name in one.variables if _content(one, name) != _content(other, name)] == []


def _content(data: xr.Dataset, name: object) -> object:
    """The bytes of numbers, and texts as they are; why a segment failed is worded with paths, which differ."""
    values = data[name].values
    if values.dtype.kind != "T":
        return values.dtype, values.shape, values.tobytes()
    if name == "reason":
        return np.where(data["status"].values == "failed", "it failed", values).tolist()
    return values.tolist()


def assert_same_store(one: Path, other: Path) -> None:
    """The same numbers, from the same events and settings, labelled by the same model."""
    here, there = raw(one), raw(other)
    assert_same_numbers(here, there)
    assert_same_attributes(here, there)


def assert_same_attributes(one: xr.Dataset, other: xr.Dataset) -> None:
    """All but which runs of which store made them."""
    names = (set(one.attrs) | set(other.attrs)) - {"provenance", "uuid"}
    differing = {
        name: (one.attrs.get(name), other.attrs.get(name))
        for name in names
        if repr(one.attrs.get(name)) != repr(other.attrs.get(name))
    }
    assert not differing, differing


def statuses(store: Path, command: Command) -> dict[str, str]:
    """What `status --json` calls each segment."""
    told = command("status", store, "--json")
    assert told.returncode == 0, told.stderr
    return {row["segment"]: row["status"] for row in json.loads(told.stdout)["segments"]}


def assert_absent_or_whole(store: Path, command: Command, undisturbed: Mapping[str, Path]) -> dict[str, str]:
    """What holds at any time: a segment is as in an undisturbed run with the same model, or is refused.

    undisturbed: stores by the name of their model. Gives what `status` calls each segment.
    """
    found = statuses(store, command)
    for key, status in found.items():
        event, _, probe = key.partition("/mms")
        if status == "complete":
            data = open_segment(store, event, int(probe))
            sound = _segment(undisturbed[card_of(data)["name"]], event, int(probe))
            assert_same_numbers(data, sound)
            assert_same_attributes(data, sound)
        else:
            with pytest.raises(UsageProblem):
                open_segment(store, event, int(probe))
    assert [str(flaw) for flaw in verify(store).flaws] == []
    assert_one_model(store)
    return found


@cache
def _segment(store: Path, event: str, probe: int) -> xr.Dataset:
    return open_segment(store, event, probe).load()


def assert_one_model(store: Path) -> None:
    """Wherever there is a label, it is what the probabilities beside it say; by whatever metadata one reads."""
    for consolidated in (True, False):
        if (store / "zarr.json").exists():
            group = zarr.open_group(store, mode="r", use_consolidated=consolidated)
            if "label" in group and "probability" in group:
                label, probability = np.asarray(group["label"]), np.asarray(group["probability"])
                n = min(len(label), len(probability))  # array by array, one may have grown before the other
                assert_from_one_model(label[:n], probability[:n])
                assert (label[n:] == -1).all()


def assert_from_one_model(label: np.ndarray, probability: np.ndarray) -> None:
    """Arrays (n,) and (n, region): each label is that of the largest probability."""
    labelled = label >= 0
    assert np.isfinite(probability[labelled]).all()
    np.testing.assert_array_equal(probability[labelled].argmax(axis=1), label[labelled])


def run_folder(store: Path) -> Path:
    return store.with_name(store.name + ".run")


def copied(store: Path, target: Path) -> Path:
    """A copy of a store and of what lies beside it."""
    shutil.copytree(run_folder(store), run_folder(target))
    return Path(shutil.copytree(store, target))


def left_over(store: Path) -> list[str]:
    """What only a run that is going on, or was killed, has in its folders."""
    names = ("*.partial", "repair-*", "relabel-*", "lock.json", ".lock*", "redo*.json")
    folders = (store, run_folder(store))
    return sorted(str(path) for folder in folders for name in names for path in folder.rglob(name))


def shard_files(store: Path) -> dict[str, int]:
    """When each file of each sample array was written last."""
    names = [str(name) for name, array in raw(store).variables.items() if "sample" in array.dims]
    files = [path for name in names for path in (store / name / "c").rglob("*") if path.is_file()]
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in files}


def receipt_files(store: Path) -> dict[str, int]:
    """When each receipt, and the plan, was written last."""
    folder = run_folder(store)
    return {path.name: path.stat().st_mtime_ns for path in [*folder.glob("receipts/*"), folder / "plan.json"]}


def shards_written(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """The numbers of the shards of which a file was written, by two looks with `shard_files`."""
    return {path.split("/")[2] for path in after if after[path] != before.get(path)}


def half_written(store: Path) -> list[str]:
    """Files that are not whole, receipts that do not stand, and what `verify` says, if there is a plan."""
    found = left_over(store)
    for path in run_folder(store).glob("receipts/*-*.json"):
        receipt = Receipt.read(path)
        if receipt is None or not receipt.stands(store):
            found.append(str(path))
    planned = any(run_folder(store).glob("plan*.json"))
    return [*found, *(str(flaw) for flaw in (verify(store).flaws if planned else ()))]
