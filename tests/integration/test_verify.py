"""Whatever happens to a file of a store, `verify` names it, and the next run repairs it and writes nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import xarray as xr
from stores import assert_same_numbers, raw, run_folder

from mms_regions.layout import FEATURE_ARRAYS, LABEL_ARRAYS
from mms_regions.verify import Flaw, set_aside, verify

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

SEGMENTS = {0: ("A/mms1", "A/mms2", "LONG/mms1"), 1: ("LONG/mms1", "B/mms1"), 2: ("B/mms2",)}  # by shard
PLACES = ("beside", "receipt", "description", "metadata", "index", "features", "labels")
SEEN_TOGETHER = (
    ("beside", "metadata", "index", "features", "labels"),
    ("beside", "receipt", "description", "features"),
)
DAMAGES = ("flip", "truncate", "delete")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def expected(healthy: Path) -> xr.Dataset:
    return raw(healthy).load()


@dataclass(frozen=True)
class Hurt:
    """A damaged file, what it belongs to, and which shard that is, if it is one."""

    path: Path
    place: str
    shard: int = -1

    @property
    def stage(self) -> str:
        if self.place == "receipt":
            return self.path.name.partition("-")[0]
        return self.place if self.place in ("features", "labels") else ""


def shard_file(store: Path, array: str, shard: int) -> Path:
    (path,) = (
        path for path in (store / array / "c" / str(shard),) for path in [path, *path.rglob("*")] if path.is_file()
    )
    return path


def files_at(store: Path, place: str, shard: int) -> list[Path]:
    """The files of a store among which one is to be damaged."""
    beside, samples = run_folder(store), (*FEATURE_ARRAYS, *LABEL_ARRAYS)
    match place:
        case "beside":
            return [p for name in ("plan", "labelled", "provenance") for p in beside.glob(f"{name}*.json")]
        case "receipt":
            return list(beside.glob(f"receipts/*-{shard:05d}.json"))
        case "description":
            return [beside / "receipts" / "description.json"]
        case "metadata":
            return list(store.rglob("zarr.json"))
        case "index":
            return [p for p in store.rglob("c/*") if p.is_file() and p.relative_to(store).parts[0] not in samples]
        case _:
            arrays = FEATURE_ARRAYS if place == "features" else LABEL_ARRAYS
            return [shard_file(store, array, shard) for array in arrays]


def hurt(store: Path, places: Iterable[str], draw: random.Random) -> list[Hurt]:
    """Damage a file at each place; no two of them have to do with one shard."""
    shards = iter(draw.sample(range(3), 3))
    made = []
    for place in places:
        shard = next(shards) if place in ("receipt", "features", "labels") else -1
        path = draw.choice(sorted(files_at(store, place, shard)))
        damage(path, draw.choice(DAMAGES), draw)
        made.append(Hurt(path, place, shard))
    return made


def damage(path: Path, how: str, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(content[: draw.randrange(len(content))])
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)


def to_be_written(store: Path, one: Hurt) -> set[Path]:
    """What a repair has to write: the file, or all of a stage of its shard."""
    if not one.stage:
        return {one.path}
    arrays = FEATURE_ARRAYS if one.stage == "features" else LABEL_ARRAYS
    receipts = run_folder(store).glob(f"receipts/{one.stage}-*{one.shard:05d}.json")
    return {*(shard_file(store, array, one.shard) for array in arrays), *receipts}


def tells_of_runs(store: Path) -> set[Path]:
    """What is written where a run has made something: the index, the provenance, and what was written of these."""
    beside = run_folder(store)
    seen = {*files_at(store, "index", -1), store / "zarr.json"}
    return {*seen, *beside.glob("provenance*.json"), beside / "receipts" / "description.json"}


def states(store: Path) -> dict[Path, tuple[int, int]]:
    """When each file of a store, and each sealed one beside it, was written last, and its inode."""
    sealed = [p for p in run_folder(store).rglob("*.json") if p.name not in ("manifest.json", "lock.json")]
    found = [*sealed, *(path for path in store.rglob("*") if path.is_file())]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def assert_repaired(
    store: Path, hurts: Sequence[Hurt], run: Callable[[], CompletedProcess[str]], expected: xr.Dataset
) -> None:
    """`verify` finds these and no others; a run makes the store what it was, and writes what it has to."""
    flaws = verify(store).flaws
    assert {flaw.file for flaw in flaws} == {one.path for one in hurts}
    assert_says_what_is_lost(store, flaws)
    set_aside(store, flaws)
    before = states(store)
    done = run()
    assert done.returncode == 0, done.stderr
    after = states(store)
    written = {path for path in after if after[path] != before.get(path)}
    needed = set().union(*(to_be_written(store, one) for one in hurts))
    beyond = tells_of_runs(store) if any(one.stage for one in hurts) else set()
    assert needed <= written <= needed | beyond
    assert_same_numbers(raw(store), expected)
    assert verify(store).flaws == ()


def assert_says_what_is_lost(store: Path, flaws: Iterable[Flaw]) -> None:
    for flaw in flaws:
        inside = flaw.file.relative_to(store).parts if flaw.file.is_relative_to(store) else ("",)
        if inside[0] in (*FEATURE_ARRAYS, *LABEL_ARRAYS) and "c" in inside:
            assert (flaw.array, flaw.segments) == (inside[0], SEGMENTS[int(inside[2])])
        assert flaw.what and str(flaw).startswith(f"{flaw.file}: {flaw.what}")


@pytest.mark.parametrize("seed", range(22))
def test_of_a_hundred_damages_each_is_named_and_repaired(
    mms_regions_here: Command, run_words: Words, store: Path, expected: xr.Dataset, seed: int
) -> None:
    """Four or five at once, at places that do not hide each other: 99 in all."""
    draw = random.Random(seed)
    hurts = hurt(store, SEEN_TOGETHER[seed % 2], draw)
    assert_repaired(store, hurts, lambda: mms_regions_here(*run_words(store)), expected)


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
def test_each_damage_alone_is_named_and_repaired(
    mms_regions_here: Command, run_words: Words, store: Path, expected: xr.Dataset, place: str
) -> None:
    draw = random.Random(place)
    for _ in range(15):
        hurts = hurt(store, [place], draw)
        assert_repaired(store, hurts, lambda: mms_regions_here(*run_words(store)), expected)
