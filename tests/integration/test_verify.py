"""Whatever happens to a file of a store, `verify` names it, and the next run repairs it and writes nothing else."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import xarray as xr
from cdf_files import truncate
from stores import assert_same_numbers, raw, run_folder, shard_files, shards_written

from mms_regions.store.layout import FEATURE_ARRAYS, LABEL_ARRAYS
from mms_regions.store.paths import lock_path
from mms_regions.store.verify import Flaw, set_aside, verify

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

SEGMENTS = {0: ("A/mms1", "A/mms2", "LONG/mms1"), 1: ("LONG/mms1", "B/mms1"), 2: ("B/mms2",)}  # by shard
PLACES = ("beside", "receipt", "description", "metadata", "index", "features", "labels")
SEEN_TOGETHER = (  # none of these hides another
    ("beside", "metadata", "index", "features", "features", "labels"),
    ("beside", "receipt", "receipt", "description", "features"),
    ("beside", "metadata", "index"),
)
DAMAGES = ("flip", "truncate", "delete")


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
    path = store / array / "c" / str(shard)
    return path if path.is_file() else next(inner for inner in path.rglob("*") if inner.is_file())


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
            return [p for p in store.glob("*/c/**/*") if p.is_file() and p.relative_to(store).parts[0] not in samples]
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
    """Three to six at once, 104 in all."""
    draw = random.Random(seed)
    hurts = hurt(store, SEEN_TOGETHER[seed % 3], draw)
    assert_repaired(store, hurts, lambda: mms_regions_here(*run_words(store)), expected)


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
def test_each_damage_alone_is_named_and_repaired(
    mms_regions_here: Command, run_words: Words, store: Path, expected: xr.Dataset, place: str
) -> None:
    draw = random.Random(place)
    for _ in range(8):
        hurts = hurt(store, [place], draw)
        assert_repaired(store, hurts, lambda: mms_regions_here(*run_words(store)), expected)


# --- On the command line


def test_a_sound_store_is_said_to_be_so_and_left_alone(mms_regions_here: Command, store: Path) -> None:
    before = states(store)
    done = mms_regions_here("verify", store, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["flaws"] == [] and told["files"] == len(before)
    assert mms_regions_here("verify", store).stdout == f"{len(before)} files checked, 0 damaged or missing\n"
    assert states(store) == before and not lock_path(store).exists()


def test_the_command_says_what_is_damaged_until_it_is_repaired(
    mms_regions_here: Command, run_words: Words, store: Path, expected: xr.Dataset
) -> None:
    draw, path = random.Random(1), shard_file(store, "b_gsm", 1)
    damage(path, "flip", draw)
    named = f"{path}: was changed or cut short; array b_gsm, segments LONG/mms1, B/mms1\n"
    done = mms_regions_here("verify", store)
    assert done.returncode == 5
    assert done.stdout.startswith(named) and done.stdout.endswith(" files checked, 1 damaged or missing\n")
    assert done.stderr == (
        f"mms-regions: {store} is damaged; run the same `mms-regions run` command again to repair it\n"
    )
    again = mms_regions_here("verify", store, "--json")
    assert again.returncode == 5, "it is no better for having been looked at"
    receipt = run_folder(store) / "receipts" / "features-00001.json"
    assert [flaw["file"] for flaw in json.loads(again.stdout)["flaws"]] == [str(receipt)]
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert mms_regions_here("verify", store).returncode == 0
    assert_same_numbers(raw(store), expected)


@pytest.mark.parametrize("how", ["truncate", "delete"])
@pytest.mark.parametrize("array", ["features", "probability"])
def test_a_run_sees_by_itself_that_a_file_of_a_shard_is_short_or_gone(
    mms_regions_here: Command, run_words: Words, store: Path, expected: xr.Dataset, array: str, how: str
) -> None:
    path, before = shard_file(store, array, 2), shard_files(store)
    damage(path, how, random.Random(2))
    status = json.loads(mms_regions_here("status", store, "--json").stdout)
    assert [row["segment"] for row in status["segments"] if row["status"] != "complete"] == ["B/mms2"]
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert shards_written(before, shard_files(store)) == {"2"}
    assert_same_numbers(raw(store), expected)


def test_who_may_only_read_a_store_is_told_of_damage_all_the_same(environment: dict[str, str], store: Path) -> None:
    path = shard_file(store, "label", 2)
    damage(path, "flip", random.Random(3))
    before = states(store)
    command = [sys.executable, "-m", "mms_regions", "verify", str(store)]
    with read_only(store.parent, command) as words:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stdout.startswith(f"{path}: was changed or cut short; array label, segments B/mms2\n")
    first, last = done.stderr.splitlines()
    assert first.startswith(f"mms-regions: the damage cannot be recorded for the next run: {lock_path(store)}: ")
    assert last.startswith(f"mms-regions: {store} is damaged")
    assert states(store) == before


@contextmanager
def read_only(folder: Path, command: Sequence[str]) -> Iterator[Sequence[str]]:
    """A command that cannot write into a folder: by a mount of its own for root, who may write anywhere else."""
    if os.geteuid() == 0:
        alone = ["unshare", "--mount", "sh", "-c"]
        mount = f"mount --bind '{folder}' '{folder}' && mount -o remount,bind,ro '{folder}'"
        if subprocess.run([*alone, mount], capture_output=True, check=False).returncode:
            pytest.skip("a read-only folder for root needs the right to mount one")
        yield [*alone, f"{mount} && exec {shlex.join(command)}"]
        return
    inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in inside:
        path.chmod(0o555)
    try:
        yield command
    finally:
        for path in inside:
            path.chmod(0o755)


def test_the_files_that_a_store_was_made_from_are_looked_at_if_asked_for(
    mms_regions_here: Command, store: Path, own_data: Path
) -> None:
    words = ["verify", store, "--inputs", "--data-dir", own_data, "--json"]
    sound = mms_regions_here(*words)
    assert sound.returncode == 0, sound.stderr
    without = json.loads(mms_regions_here("verify", store, "--json").stdout)["files"]
    assert json.loads(sound.stdout)["files"] == without + len(list(own_data.rglob("*.cdf")))

    (changed,) = own_data.rglob("mms2_*des-moms_20170711223958*")
    (gone,) = own_data.rglob("mms1_fgm*_20170711143558*")
    damage(changed, "flip", random.Random(4))
    gone.unlink()
    done = mms_regions_here(*words)
    assert done.returncode == 5
    assert sorted((flaw["file"], flaw["what"], flaw["segments"]) for flaw in json.loads(done.stdout)["flaws"]) == [
        (str(gone), "is not there", ["LONG/mms1"]),
        (str(changed), "is not the file that it was", ["B/mms2"]),
    ]
    assert done.stderr == f"mms-regions: {store}: some of its input files have changed\n"
    assert mms_regions_here("verify", store).returncode == 0, "the store itself is sound"


def test_without_a_plan_there_is_no_telling(mms_regions_here: Command, run_words: Words, store: Path) -> None:
    for name in ("plan.json", "plan.copy.json"):
        truncate(run_folder(store) / name, 0.5)
    for words in (["verify", store], run_words(store)):
        done = mms_regions_here(*words)
        assert done.returncode == 5
        assert "plan.json was changed or cut short since it was written, and so was its copy" in done.stderr
