"""The names of all files and folders in a store and beside it, in one place.

Beside a store `x.zarr` is its run folder, `x.zarr.run`: the plan, receipts, traces, and what a run is in the middle of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from mms_regions.core.errors import EnvironmentProblem

Stage = Literal["features", "labels"]

ROOT = "zarr.json"  # of a store, and of each array in it
_KEY_LENGTH = 12  # of a sha256, in a name


def run_folder(store: Path) -> Path:
    """The folder beside a store that holds its plan, receipts and logs: `x.zarr` -> `x.zarr.run`.

    It is beside the folder itself, not beside a link to it: files are moved between the two, so they must be on one
    file system. Raises EnvironmentProblem where the store is a link that leads nowhere, or to itself.
    """
    store = _real_folder(store)
    return store.with_name(store.name + ".run")


def _real_folder(store: Path) -> Path:
    if store.is_symlink() and not store.exists():
        raise EnvironmentProblem(
            f"{store} is a link to {store.readlink()}, where nothing is; make a folder there, or give another path"
        )
    return Path(os.path.realpath(store))  # Path.resolve() fails at a link that leads to itself


def require_own_folders(store: Path) -> None:
    """Before anything is written: raise EnvironmentProblem where a link leads out of a store or of its run folder.

    The same where the two are on different file systems, between which no file can be moved in one step.
    """
    folders = [folder for folder in (_real_folder(store), run_folder(store)) if os.path.lexists(folder)]
    for folder in folders:
        if (link := _link_in(folder)) is not None:
            raise EnvironmentProblem(
                f"{link} is a link, and a run writes only into the store itself; replace it by what it leads to"
            )
    if len({folder.stat().st_dev for folder in folders}) > 1:
        raise EnvironmentProblem(
            f"{folders[0]} and {folders[1]} are on different file systems, so files cannot be moved between them; put "
            "both on one"
        )


def _link_in(folder: Path) -> Path | None:
    if folder.is_symlink():
        return folder
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (path := Path(above, name)).is_symlink():
                return path
    return None


def root_path(store: Path) -> Path:
    """The metadata of a store, without which nobody can open it."""
    return store / ROOT


def shard_path(folder: Path, array: str, number: int, dimensions: int) -> Path:
    """The file of a shard of an array in a group; dimensions: of the array."""
    return folder.joinpath(array, "c", str(number), *["0"] * (dimensions - 1))


def plan_path(store: Path) -> Path:
    """Which segment lies where; has a copy."""
    return run_folder(store) / "plan.json"


def labelled_path(store: Path) -> Path:
    """Which labels the store holds; has a copy."""
    return run_folder(store) / "labelled.json"


def provenance_path(store: Path) -> Path:
    """Which runs changed the store; has a copy."""
    return run_folder(store) / "provenance.json"


def redo_path(store: Path) -> Path:
    """Which segments are still to be recomputed; has a copy."""
    return run_folder(store) / "redo.json"


def lock_path(store: Path) -> Path:
    """Which process works on the store."""
    return run_folder(store) / "lock.json"


def manifest_path(store: Path) -> Path:
    """The CDF files that the store was made from."""
    return run_folder(store) / "manifest.json"


def trace_path(store: Path) -> Path:
    """A line for each event of each run."""
    return run_folder(store) / "trace.jsonl"


def logs_folder(store: Path) -> Path:
    """A log for each segment that failed."""
    return run_folder(store) / "logs"


def receipts_folder(store: Path) -> Path:
    """A receipt for each stage of each shard that is complete."""
    return run_folder(store) / "receipts"


def description_path(store: Path) -> Path:
    """Which files, beside the shards, the store was described in."""
    return receipts_folder(store) / "description.json"


def receipt_path(store: Path, stage: Stage, shard: int, labels_sha256: str = "") -> Path:
    """A receipt; those of labels carry the start of the sha256 that identifies the labels."""
    middle = f"-{labels_sha256[:_KEY_LENGTH]}" if labels_sha256 else ""
    return receipts_folder(store) / f"{stage}{middle}-{shard:05d}.json"


def label_receipts(store: Path, labels_sha256: str = "") -> Iterator[Path]:
    """The receipts of these labels, or of all labels."""
    yield from receipts_folder(store).glob(f"labels-{labels_sha256[:_KEY_LENGTH] or '*'}-*.json")


def repair_folder(store: Path, shard: int) -> Path:
    """Where a shard is written of which something is kept, until it is complete and moved in."""
    return run_folder(store) / f"repair-{shard:05d}"


def repair_receipt_path(repair: Path) -> Path:
    """In the folder of a repair: all of it is there, and is to be moved in."""
    return repair / "receipt.json"


def relabel_folder(store: Path, labels_sha256: str) -> Path:
    """The group in which other labels are made, until they are complete and take the place of the store's."""
    return run_folder(store) / f"relabel-{labels_sha256[:_KEY_LENGTH]}"


def unfinished_folders(store: Path, *kinds: Literal["repair", "relabel"]) -> Iterator[Path]:
    """The folders of repairs, or of other labels, or of both."""
    for kind in kinds:
        yield from run_folder(store).glob(f"{kind}-*")


def state_files(store: Path) -> Iterator[Path]:
    """The records of labels and of segments to recompute, each with its copy: of one plan, and of no other."""
    for path in (labelled_path(store), redo_path(store)):
        yield from path.parent.glob(f"{path.stem}*{path.suffix}")


def left_by_killed(store: Path) -> Iterator[Path]:
    """What a killed process was writing, and the credentials of its run, which are folders."""
    for folder in (store, run_folder(store)):
        yield from folder.rglob("*.partial")
    yield from run_folder(store).glob("credentials-*")
