"""A store is few files, opens with plain xarray, says what is in it, notices bit rot, and can be labelled anew."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import xarray as xr
import zarr
from cdf_files import truncate

from mms_regions.core import files
from mms_regions.core.errors import UsageProblem
from mms_regions.core.settings import resolve_settings
from mms_regions.physics.samples import FEATURES, QUALITY_BITS
from mms_regions.report.facts import measure
from mms_regions.run.tasks import batches
from mms_regions.store.arrays import open_arrays
from mms_regions.store.plan import require_plan
from mms_regions.store.read import attributes_of, card_of, open_segment, open_store, open_tree
from mms_regions.store.receipts import Receipt

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

ELECTRON_OFFSET = np.timedelta64(7_654_321, "ns")  # as the data set was written
SEGMENTS = [("A", 1), ("A", 2), ("LONG", 1), ("B", 1), ("B", 2)]
N_SHARDS = 3


def sample_arrays(store: Path) -> list[str]:
    data = xr.open_zarr(store, chunks=None)
    return [str(name) for name, array in data.variables.items() if "sample" in array.dims]


def shard_files(store: Path) -> list[Path]:
    return sorted(p for name in sample_arrays(store) for p in (store / name / "c").rglob("*") if p.is_file())


def electron_times(file_start: str, t_start: str, seconds: float) -> np.ndarray:
    """Centres of the 30 ms accumulations that lie in the interval."""
    step, count = np.timedelta64(30, "ms"), round((seconds + 4) / 0.03)
    centres = np.datetime64(file_start, "ns") + ELECTRON_OFFSET + np.timedelta64(15, "ms") + np.arange(count) * step
    begin = np.datetime64(t_start, "ns")
    end = begin + np.timedelta64(round(seconds * 1e3), "ms")
    return centres[(centres >= begin) & (centres <= end)]


def test_the_number_of_files_grows_with_shards_and_not_with_segments(healthy: Path) -> None:
    arrays = sample_arrays(healthy)
    assert len(shard_files(healthy)) == len(arrays) * N_SHARDS  # also where a shard is all fill
    assert sum(path.is_file() for path in healthy.rglob("*")) <= len(arrays) * (N_SHARDS + 1) + 60
    assert not list(healthy.parent.rglob("*.partial"))


def test_plain_xarray_opens_it_without_a_warning(healthy: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xr.open_zarr(healthy, chunks=None).load()
    assert data["label"].dtype == np.int8
    assert data["features"].dtype == np.float32
    assert data["feature"].values.tolist() == list(FEATURES)
    assert data["event"].values.tolist() == [event for event, _ in SEGMENTS]
    assert all(isinstance(name, str) for name in data["event"].values.tolist())
    assert data["time"].dtype == data["t_start"].dtype == np.dtype("datetime64[ns]")
    np.testing.assert_array_equal(
        data["t_end"].values[[0, 3]],
        np.array(["2017-07-11T10:34:06", "2017-07-11T22:40:07.5"], "datetime64[ns]"),
    )
    assert data["b0"].values.tolist() == [12, 12, 12, 20, 20]


@pytest.mark.parametrize(
    ("event", "probe", "file_start", "t_start", "seconds"),
    [
        ("A", 2, "2017-07-11T10:33:58", "2017-07-11T10:34:00", 6),
        ("LONG", 1, "2017-07-11T14:35:58", "2017-07-11T14:36:00", 36),
        ("B", 1, "2017-07-11T22:39:58", "2017-07-11T22:40:00", 7.5),
    ],
)
def test_a_segment_has_its_times_to_the_nanosecond(
    healthy: Path, event: str, probe: int, file_start: str, t_start: str, seconds: float
) -> None:
    data = open_segment(healthy, event, probe)
    np.testing.assert_array_equal(data["time"].values, electron_times(file_start, t_start, seconds))
    assert (data.attrs["event"], data.attrs["probe"]) == (event, probe)
    assert data.attrs["t_start"].startswith(t_start)
    assert card_of(data)["name"] == "first"
    assert data["features"].dims == ("time", "feature")
    assert len(set(data["label"].values)) > 1
    np.testing.assert_array_equal(data["label"].values, data["probability"].values.argmax(axis=1))


def test_the_tree_holds_the_segments_by_event_and_spacecraft(healthy: Path) -> None:
    tree = open_tree(healthy)
    assert [node.path for node in tree.leaves] == [f"/{event}/mms{probe}" for event, probe in SEGMENTS]
    xr.testing.assert_identical(tree["LONG/mms1"].to_dataset(), open_segment(healthy, "LONG", 1))
    assert tree["position_gse"].shape == (5, 3)


def test_plain_arrays_of_a_segment_are_what_xarray_opens(healthy: Path) -> None:
    whole = open_arrays(healthy)
    for event, probe in (("LONG", 1), ("B", 2)):
        plain, opened = whole.segment(event, probe), open_segment(healthy, event, probe)
        assert [name for name in opened.data_vars if name not in plain] == []
        for name in opened.data_vars:
            np.testing.assert_array_equal(plain[str(name)].values, opened[name].values)
        assert plain.sizes == {name: opened.sizes[name] for name in ("time", "region")}
        about = {"b0", "n0", "position_gse", "scale_source"}
        assert {name: plain.attrs[name] for name in about} == {name: opened.attrs[name] for name in about}
        assert (measure(plain), plain["label"].attrs) == (measure(opened), opened["label"].attrs)
    with pytest.raises(UsageProblem, match="holds no LONG/mms2"):
        whole.segment("LONG", 2)


def test_every_chunk_is_what_zarr_itself_makes_of_its_values(healthy: Path, tmp_path: Path) -> None:
    names = [path.parent.name for path in healthy.glob("*/zarr.json")]
    assert {"label", "time", "quality", "features", "status", "position_gse"} < set(names)
    for name in names:
        (tmp_path / name).mkdir()
        shutil.copy(healthy / name / "zarr.json", tmp_path / name)
        with zarr.config.set({"array.write_empty_chunks": True}):
            zarr.open_array(tmp_path / name, mode="r+")[...] = zarr.open_array(healthy / name, mode="r")[...]
        made = {
            path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()
        }
        assert len(made) > 1 and {path: (healthy / path).read_bytes() for path in made} == made


def test_all_that_a_receipt_or_the_root_speaks_of_is_on_the_disk_before_it_gets_its_name(
    run_words: Words, mms_regions_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, done, rename = tmp_path / "x.zarr", list[tuple[str, Path]](), files.rename

    def renamed(old: Path, new: Path) -> None:
        done.extend([("from", old), ("to", new)])
        rename(old, new)

    monkeypatch.setattr(files, "rename", renamed)
    monkeypatch.setattr(os, "fsync", lambda file: done.append(("synced", Path(f"/proc/self/fd/{file}").readlink())))
    assert mms_regions_here(*run_words(store, "--events", "A,LONG")).returncode == 0
    named = {path: at for at, (what, path) in enumerate(done) if what == "to"}  # where each got its name last

    def assert_on_disk(path: Path, before: int) -> None:
        at = named[path]
        assert ("synced", done[at - 1][1]) in done[:at] and at < before, path
        for folder in path.parents:
            assert ("synced", folder) in done[at:before], folder
            if folder == store:
                break

    receipts = [path for path in named if path.name.startswith(("features-", "labels-"))]
    assert len(receipts) == 4
    for path in receipts:
        written = Receipt.read(path)
        assert written is not None and written.files
        for name in written.files:
            assert_on_disk(store / name, named[path])
    for path in store.glob("*/zarr.json"):
        assert_on_disk(path, named[store / "zarr.json"])


def test_a_table_of_segments_needs_no_xarray_and_no_pages(healthy: Path) -> None:
    code = f"""if True:
        import sys
        from pathlib import Path
        from mms_regions.cli.tables import print_segments
        print_segments(Path({str(healthy)!r}), ["A/mms1"])
        print(*{{"xarray", "pandas", "dask", "jinja2"}} & {{*sys.modules}})
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "A/mms1" in done.stdout and done.stdout.splitlines()[-1] == ""


def test_what_is_not_there_is_said(healthy: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="holds no LONG/mms2"):
        open_segment(healthy, "LONG", 2)
    with pytest.raises(UsageProblem, match="no store there"):
        open_store(tmp_path / "none.zarr")


def test_every_variable_says_what_it_is(healthy: Path) -> None:
    data = xr.open_zarr(healthy, chunks=None, decode_times=False)
    assert [name for name, array in data.variables.items() if not array.attrs.get("long_name")] == []
    numbers = {name for name, array in data.variables.items() if array.dtype.kind == "f"} | {"time", "t_start", "t_end"}
    assert {name for name in numbers if not data[name].attrs.get("units")} == set()
    assert len(numbers) > 55
    label, quality = data["label"].attrs, data["quality"].attrs
    regions = data["region"].values.tolist()
    assert (label["flag_values"], label["flag_meanings"].split()) == (list(range(6)), regions)
    assert dict(zip(quality["flag_meanings"].split(), quality["flag_masks"], strict=True)) == dict(QUALITY_BITS)


def test_attributes_tell_what_decides_the_numbers_apart_from_provenance(healthy: Path) -> None:
    attributes = attributes_of(open_store(healthy))
    assert attributes["deciding"] == resolve_settings({}, {}).result_settings()
    assert attributes["deciding"]["convention"] == "corrected"
    (made,) = attributes["provenance"]
    assert made["settings"]["workers"] == 0
    assert made["origins"]["shard_samples"].startswith("profile ")
    assert "torch" in made["libraries"]
    assert made["model"] == {"name": "first", "weights_sha256": attributes["model"]["weights_sha256"]}


def test_inputs_are_the_files_that_were_read(healthy: Path, data_dir: Path) -> None:
    data = xr.open_zarr(healthy, chunks=None)
    for (event, probe), text in zip(SEGMENTS, data["inputs"].values.tolist(), strict=True):
        files = json.loads(text)
        assert len(files) == 4, (event, probe)
        assert {file["version"] for file in files} == {"3.4.0", "5.96.0", "3.0.0"}
        for file in files:
            (path,) = data_dir.rglob(file["name"])
            assert path.name.startswith(f"mms{probe}_")
            assert (file["size"], file["sha256"]) == (
                path.stat().st_size,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )


def test_positions_are_those_of_the_files(healthy: Path) -> None:
    position = xr.open_zarr(healthy, chunks=None)["position_gse"]
    np.testing.assert_allclose(position.values, [[-140_000.0, 20_000.0, 30_000.0]] * 5)
    assert position.attrs["units"] == "km"


def test_a_changed_byte_in_any_shard_is_noticed(store: Path) -> None:
    """Without checksums nearly all of these would read back as other numbers, in silence."""
    rng = random.Random(7)
    silent = []
    for path in rng.sample(shard_files(store), 20):
        sound = path.read_bytes()
        place = rng.randrange(len(sound))
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        name = path.relative_to(store).parts[0]
        try:
            xr.open_zarr(store, chunks=None)[name].values  # noqa: B018
            silent.append(f"{path.relative_to(store)}, byte {place} of {len(sound)}")
        except (ValueError, RuntimeError, OSError):
            pass
        path.write_bytes(sound)
    assert silent == []


def feature_files(store: Path) -> dict[str, int]:
    return {str(p.relative_to(store)): p.stat().st_mtime_ns for p in shard_files(store) if not is_label(p, store)}


def is_label(path: Path, store: Path) -> bool:
    return path.relative_to(store).parts[0] in {"label", "probability"}


def labels(store: Path) -> tuple[bytes, bytes]:
    data = xr.open_zarr(store, chunks=None)
    return data["label"].values.tobytes(), data["probability"].values.tobytes()


def relabel(command: Command, store: Path, model: str, profile: Path) -> CompletedProcess[str]:
    return command("label", store, "--model", model, "--profile", profile)


def test_another_model_changes_labels_and_nothing_else_and_back_again(
    mms_regions_here: Command, run_words: Words, store: Path, profile: Path, tmp_path: Path
) -> None:
    first, before = labels(store), feature_files(store)
    done = relabel(mms_regions_here, store, "second", profile)
    assert done.returncode == 0, done.stderr
    assert feature_files(store) == before
    assert card_of(open_store(store))["name"] == "second"
    second = labels(store)
    assert second[0] != first[0]
    made = mms_regions_here(*run_words(tmp_path / "second.zarr", "--model", "second"))
    assert made.returncode == 0, made.stderr
    assert labels(tmp_path / "second.zarr") == second
    assert json.loads(mms_regions_here("status", store, "--json").stdout)["counts"]["complete"] == 5
    assert relabel(mms_regions_here, store, "first", profile).returncode == 0
    assert labels(store) == first
    assert feature_files(store) == before
    assert [run["model"]["name"] for run in attributes_of(open_store(store))["provenance"]] == [
        "first",
        "second",
        "first",
    ]
    assert [p.name for p in store.with_name("all.zarr.run").iterdir() if p.name.startswith("relabel")] == []


def test_a_gpu_gets_all_shards_of_a_task_at_once_which_changes_no_label(
    mms_regions_here: Command, store: Path, profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = require_plan(store).shards
    assert (batches(shards, "cuda"), batches(shards, "cpu")) == ([shards], [[shard] for shard in shards])
    for name in (store.name, f"{store.name}.run"):
        shutil.copytree(store.with_name(name), tmp_path / "other" / name)
    other = tmp_path / "other" / store.name
    assert relabel(mms_regions_here, store, "second", profile).returncode == 0
    monkeypatch.setattr("mms_regions.run.tasks.batches", lambda shards, device: batches(shards, "cuda"))
    assert relabel(mms_regions_here, other, "second", profile).returncode == 0
    assert labels(other) == labels(store)


@pytest.mark.parametrize("then", ["second", "first"])
def test_a_swap_of_labels_that_was_cut_short_is_mended_by_the_next_one(
    mms_regions_here: Command, store: Path, profile: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Killed between the two renames of the swap: whichever model comes next, all labels are of that one."""
    first = labels(store)

    def killed(operation: str, path: Path) -> None:
        if (operation, path) == ("rename", store / "label"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mms_regions.core.files.failpoint", killed)
        assert relabel(mms_regions_here, store, "second", profile).returncode == 75
    done = relabel(mms_regions_here, store, then, profile)
    assert done.returncode == 0, done.stderr
    assert card_of(open_store(store))["name"] == then
    assert (labels(store) == first) == (then == "first")
    data = xr.open_zarr(store, chunks=None)
    found = data["label"].values
    np.testing.assert_array_equal(found >= 0, np.isfinite(data["features"].values).all(axis=1))
    np.testing.assert_array_equal(found[found >= 0], data["probability"].values[found >= 0].argmax(axis=1))


def test_a_store_with_a_failed_segment_can_be_labelled_anew(
    mms_regions_here: Command, run_words: Words, own_data: Path, profile: Path, tmp_path: Path
) -> None:
    store = tmp_path / "x.zarr"
    (path,) = own_data.rglob("mms2_*des-moms_20170711103358*")
    truncate(path, 0.5)
    assert mms_regions_here(*run_words(store, "--data-dir", own_data, "--events", "A")).returncode == 4
    shutil.rmtree(own_data)
    first = labels(store)
    done = relabel(mms_regions_here, store, "second", profile)
    assert done.returncode == 4, done.stderr
    assert labels(store) != first
    assert "1 segment complete, 1 failed" in done.stdout


def test_labelling_what_is_not_there_is_refused(mms_regions_here: Command, profile: Path, tmp_path: Path) -> None:
    done = relabel(mms_regions_here, tmp_path / "none.zarr", "first", profile)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no store there" in done.stderr
    assert list(tmp_path.iterdir()) == []
