"""A store from somebody else, a store that was changed, a store whose files are gone: nothing is written or hidden."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import zarr
from stores import assert_same_store, run_folder, shard_files

import mms_regions.core.files
from mms_regions.core.errors import DamagedStore, EnvironmentProblem
from mms_regions.core.files import read_sealed, sealed
from mms_regions.store.read import open_segment, open_store, open_tree
from mms_regions.store.verify import verify

pytestmark = pytest.mark.system  # a minute or more

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


def content(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def reseal(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    data = read_sealed(path)
    change(data)
    path.write_bytes(sealed(data))


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "..", ""])  # noqa: S108
def test_a_plan_that_names_an_event_like_a_path_is_refused_and_nothing_is_exported(
    store: Path, mms_regions_here: Command, tmp_path: Path, name: str
) -> None:
    def rename(data: dict[str, object]) -> None:
        text = json.dumps(data).replace('"A"', json.dumps(name))
        data.update(json.loads(text))

    for path in run_folder(store).glob("plan*.json"):
        reseal(path, rename)
    before = content(tmp_path)
    for kind in ("csv", "netcdf"):
        done = mms_regions_here("export", store, "--format", kind, "--out", tmp_path / "deep" / "er" / "out")
        assert (done.returncode, len(done.stderr.splitlines())) == (5, 1), done.stderr
        assert "not a plan that can be used" in done.stderr
    assert content(tmp_path) == before


def test_an_index_that_names_an_event_like_a_path_is_refused(store: Path) -> None:
    names = zarr.open_array(store / "event", mode="r+")
    names[0] = "../../x"
    with pytest.raises(EnvironmentProblem, match=r"its index names '\.\./\.\./x', which is no event"):
        open_store(store)


def of_array(root: dict[str, object], name: str) -> dict[str, object]:
    return root["consolidated_metadata"]["metadata"][name]  # type: ignore[index]


@pytest.mark.parametrize("place", ["consolidated", "own"])
@pytest.mark.parametrize("kind", ["codec", "inner codec", "format"])
def test_codecs_and_formats_that_may_run_code_are_not_read(store: Path, place: str, kind: str) -> None:
    path = store / "zarr.json" if place == "consolidated" else store / "features" / "zarr.json"
    data = json.loads(path.read_bytes())
    array = of_array(data, "features") if place == "consolidated" else data
    if kind == "format":
        array["zarr_format"] = 2
    elif kind == "codec":
        array["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    else:
        array["codecs"][0]["configuration"]["codecs"].append({"name": "pickle"})
    path.write_text(json.dumps(data))
    if place == "consolidated":
        with pytest.raises(EnvironmentProblem, match=r"names the codec|not of zarr format 3"):
            open_store(store)
    else:
        assert path in {flaw.file for flaw in verify(store).flaws}


def test_no_run_writes_through_a_link_inside_a_store(
    store: Path, mms_regions_here: Command, run_words: Words, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    shutil.move(store / "label", outside)
    (store / "label").symlink_to(outside)
    before = content(outside)
    for words in (run_words(store, "--redo", "all"), ["label", store, "--model", "second", "--workers", 0]):
        done = mms_regions_here(*words)
        assert done.returncode == 5
        assert f"{store / 'label'} is a link" in done.stderr
    assert content(outside) == before


def another_file_system(tmp_path: Path) -> Path:
    memory = Path("/dev/shm")  # noqa: S108
    there = memory.is_dir() and memory.stat().st_dev != tmp_path.stat().st_dev and os.access(memory, os.W_OK)
    folder = (memory if there else tmp_path) / f"mms-regions-test-{os.getpid()}"
    folder.mkdir()
    return folder


def test_a_store_whose_name_is_a_link_to_another_file_system_is_relabelled_and_redone(
    healthy: Path, mms_regions_here: Command, run_words: Words, tmp_path: Path
) -> None:
    folder = another_file_system(tmp_path)
    try:
        target, link = folder / "x.zarr", tmp_path / "x.zarr"
        target.mkdir()
        link.symlink_to(target)
        assert mms_regions_here(*run_words(link)).returncode == 0
        assert mms_regions_here("label", link, "--model", "second", "--workers", 0).returncode == 0
        assert mms_regions_here(*run_words(link, "--redo", "A/mms1")).returncode == 0
        assert mms_regions_here("verify", link).returncode == 0
        assert_same_store(link, healthy)
        assert (folder / "x.zarr.run").is_dir() and not (tmp_path / "x.zarr.run").exists()
    finally:
        shutil.rmtree(folder)


def test_the_plan_of_another_store_is_noticed_and_nothing_is_deleted(
    store: Path, healthy: Path, mms_regions_here: Command, run_words: Words, tmp_path: Path
) -> None:
    other = tmp_path / "other.zarr"
    assert mms_regions_here(*run_words(other, "--events", "B")).returncode == 0
    for path in run_folder(other).glob("plan*.json"):
        shutil.copy(path, run_folder(store) / path.name)
    assert [flaw.what for flaw in verify(store).flaws if flaw.file.name == "plan.json"]
    before = content(store)
    for words in (run_words(store), run_words(store, "--redo", "all")):
        done = mms_regions_here(*words)
        assert done.returncode == 5
        assert "is the plan of another store" in done.stderr
    assert content(store) == before


def test_of_two_plans_the_one_of_the_store_is_used_and_the_other_replaced(
    store: Path, healthy: Path, mms_regions_here: Command, run_words: Words, tmp_path: Path
) -> None:
    other = tmp_path / "other.zarr"
    assert mms_regions_here(*run_words(other, "--events", "B")).returncode == 0
    shutil.copy(run_folder(other) / "plan.json", run_folder(store))
    assert [flaw.what for flaw in verify(store).flaws] == ["is not what its copy is"]
    before = shard_files(store)
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert (shard_files(store), verify(store).flaws) == (before, ())
    assert_same_store(store, healthy)


@pytest.mark.parametrize("stage", ["features", "labels"])
def test_a_receipt_of_another_shard_is_noticed_and_what_it_should_cover_is_made_again(
    store: Path, healthy: Path, mms_regions_here: Command, run_words: Words, stage: str
) -> None:
    receipts = run_folder(store) / "receipts"
    (first,), (second,) = receipts.glob(f"{stage}*-00000.json"), receipts.glob(f"{stage}*-00001.json")
    shutil.copy(second, first)
    assert [flaw.file for flaw in verify(store).flaws] == [first]
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert verify(store).flaws == ()
    assert_same_store(store, healthy)


def test_a_description_that_was_replaced_is_written_again(
    store: Path, healthy: Path, mms_regions_here: Command, run_words: Words
) -> None:
    receipts = run_folder(store) / "receipts"
    shutil.copy(receipts / "features-00000.json", receipts / "description.json")
    done = mms_regions_here(*run_words(store))
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert verify(store).flaws == ()
    assert_same_store(store, healthy)


def test_samples_whose_file_is_gone_are_not_shown_as_fill(store: Path) -> None:
    (store / "features" / "c" / "0" / "0").unlink()
    with pytest.raises(DamagedStore, match=r"A/mms1 is damaged: a file of features is missing.*verify"):
        open_segment(store, "A", 1)
    assert open_segment(store, "B", 2)["features"].notnull().any()
    assert [node.path for node in open_tree(store).leaves] == ["/B/mms1", "/B/mms2"]  # LONG begins in that shard


def test_an_index_whose_file_is_gone_is_not_read_as_zeros(store: Path) -> None:
    (store / "probe" / "c" / "0").unlink()
    with pytest.raises(DamagedStore, match="a file of probe is missing"):
        open_store(store)


def test_what_ceases_to_be_complete_says_so_before_anything_else_of_it_changes(
    store: Path, mms_regions_here: Command, run_words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed, seen = mms_regions.core.files.rename, []

    def look(old: Path, new: Path) -> None:
        renamed(old, new)
        if store in new.parents and (store / "status" / "c" / "0").exists():
            status, n = (np.asarray(zarr.open_array(store / name, mode="r")) for name in ("status", "n_samples"))
            seen.append(set(status.tolist()))
            assert (n[status == "complete"] > 0).all(), f"after {new}"

    monkeypatch.setattr(mms_regions.core.files, "rename", look)
    for path in run_folder(store).glob("receipts/features-00000.json"):
        path.unlink()
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert any("complete" not in one or "missing" in one for one in seen)


def test_a_chunk_that_cannot_be_read_stops_only_its_own_labels(store: Path, mms_regions_here: Command) -> None:
    path = store / "features" / "c" / "1" / "0"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    done = mms_regions_here("label", store, "--model", "second", "--workers", 0, "--device", "cpu")
    assert done.returncode == 5
    assert "shard 1 cannot be read" in done.stderr and f"mms-regions verify {store}" in done.stderr
    assert "Traceback" not in done.stderr
    made = [receipt.name[-10:] for receipt in run_folder(store).glob("receipts/labels-*.json")]
    assert sorted(made) == ["00000.json"] * 2 + ["00001.json"] + ["00002.json"] * 2  # old ones, and new but one


def test_a_store_obeys_umask_and_the_group_of_its_folder(
    mms_regions_here: Command, run_words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, synced = tmp_path / "shared", list[Path]()
    shared.mkdir()
    shared.chmod(0o2770)
    sync = mms_regions.core.files.sync_folder
    monkeypatch.setattr(mms_regions.core.files, "sync_folder", lambda folder: (synced.append(folder), sync(folder)))
    before = os.umask(0o007)
    try:
        assert mms_regions_here(*run_words(shared / "new" / "x.zarr", "--events", "A")).returncode == 0
    finally:
        os.umask(before)
    wrong = []
    for path in shared.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode != (0o2770 if path.is_dir() else 0o660):
            wrong.append((str(path.relative_to(shared)), oct(mode)))
    assert wrong == []
    assert {shared, shared / "new", shared / "new" / "x.zarr", shared / "new" / "x.zarr.run"} <= set(synced)


@pytest.mark.parametrize("places", [["{}.json"], ["{}.copy.json"], ["{}.json", "{}.copy.json"]])
@pytest.mark.parametrize("name", ["labelled", "provenance"])
@pytest.mark.parametrize("change", [{"store": "another"}, {"kind": "redo"}], ids=["store", "kind"])
def test_state_of_another_store_is_noticed_and_taken_away(
    store: Path,
    mms_regions_here: Command,
    run_words: Words,
    name: str,
    places: list[str],
    change: dict[str, str],
) -> None:
    before = shard_files(store)
    for place in places:
        reseal(run_folder(store) / place.format(name), lambda data: data.update(change))
    flaws = {(flaw.file.name, flaw.what) for flaw in verify(store).flaws}
    what = "is of another store (another)" if "store" in change else "is redo.json under another name"
    assert {(place.format(name), what) for place in places} <= flaws
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert verify(store).flaws == ()
    assert shard_files(store) == before, "what is sound is not made again"


def test_a_request_to_recompute_of_another_store_is_not_followed(
    store: Path, mms_regions_here: Command, run_words: Words
) -> None:
    before = shard_files(store)
    content = sealed({"kind": "redo", "store": "another", "asked": "all", "keys": ["A/mms1"]})
    for place in ("redo.json", "redo.copy.json"):
        (run_folder(store) / place).write_bytes(content)
    assert mms_regions_here(*run_words(store)).returncode == 0
    assert shard_files(store) == before
