"""What is asked for is made again and nothing else: by name, because its files changed, or in another convention."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from cdf_files import QUIET, Scene, constant, write_files
from processes import Nursery, log_lines
from stores import (
    assert_same_numbers,
    assert_same_store,
    left_over,
    raw,
    receipt_files,
    shard_files,
    shards_written,
    statuses,
)

from mms_regions.archive.manifest import read_manifest, write_manifest
from mms_regions.core.errors import UsageProblem
from mms_regions.core.files import FAILPOINT
from mms_regions.store.read import open_segment

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

ALL = [("A", 1), ("A", 2), ("LONG", 1), ("B", 1), ("B", 2)]
LABELS = ("label/", "probability/")


def test_a_segment_is_made_anew_and_with_it_its_shard(
    mms_regions_here: Command, run_words: Words, store: Path, healthy: Path
) -> None:
    before = shard_files(store)
    done = mms_regions_here(*run_words(store, "--redo", "A/mms1"))
    assert done.returncode == 0
    assert log_lines(done.stderr)[0] == "1 segment to prepare, 1 shard to label"
    after = shard_files(store)
    features = {path for path in after if path.split("/")[2] == "0" and not path.startswith(LABELS)}
    assert {path for path in after if after[path] != before[path]} == features  # the same, so labels are good
    assert_same_store(store, healthy)
    assert left_over(store) == []


@pytest.mark.parametrize(
    ("words", "keys", "shards"),
    [
        ("LONG", ["LONG/mms1"], {"0", "1"}),
        ("A/mms2,B", ["A/mms2", "B/mms2", "B/mms1"], {"0", "1", "2"}),
        ("all", ["A/mms1", "A/mms2", "LONG/mms1", "B/mms2", "B/mms1"], {"0", "1", "2"}),
    ],
)
def test_several_are_named_as_events_and_segments(
    mms_regions_here: Command,
    run_words: Words,
    store: Path,
    healthy: Path,
    words: str,
    keys: list[str],
    shards: set[str],
) -> None:
    before = shard_files(store)
    done = mms_regions_here(*run_words(store, "--redo", words))
    assert done.returncode == 0
    assert re.findall(r"\] prepared ([^\s;]+)", done.stderr) == keys
    assert shards_written(before, shard_files(store)) == shards
    assert_same_store(store, healthy)


@pytest.mark.parametrize(
    ("words", "before"),
    [
        ("A/mms1", "rename *.zarr/features/c/*"),  # moved in, as the shard is repaired
        ("B/mms2", "rename *.zarr/features/c/*"),
        ("all", "rename *.run/receipts/features-*"),
    ],
)
def test_a_redo_that_was_killed_is_finished_by_the_next_run_without_being_asked_again(
    processes: Nursery,
    mms_regions_here: Command,
    run_words: Words,
    store: Path,
    healthy: Path,
    tmp_path: Path,
    words: str,
    before: str,
) -> None:
    crash = {FAILPOINT: f"1:{tmp_path / 'record'}:{before}"}
    killed = processes.run(*run_words(store, "--redo", words), env=crash)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_complete_are_whole(store, mms_regions_here, healthy)
    done = mms_regions_here(*run_words(store))
    assert done.returncode == 0
    assert_same_store(store, healthy)
    assert left_over(store) == []


def assert_complete_are_whole(store: Path, command: Command, sound: Path) -> None:
    found = statuses(store, command)
    assert "complete" in found.values() and set(found.values()) != {"complete"}
    for event, probe in ALL:
        if found[f"{event}/mms{probe}"] == "complete":
            assert_same_numbers(open_segment(store, event, probe), open_segment(sound, event, probe))
        else:
            with pytest.raises(UsageProblem):
                open_segment(store, event, probe)


def test_another_convention_makes_all_of_it_anew_if_asked_to(
    mms_regions_here: Command, run_words: Words, own_data: Path, tmp_path: Path
) -> None:
    for probe in (1, 2):  # the published convention needs the fast mode too
        write_files(own_data, probe, "2017-07-11T10:33:58", 10.0, QUIET, products=["edp_fast"])
    store, fresh = tmp_path / "x.zarr", tmp_path / "fresh.zarr"
    corrected = ["--data-dir", own_data, "--events", "A"]
    published = [*corrected, "--convention", "published"]
    assert mms_regions_here(*run_words(store, *corrected)).returncode == 0
    before = raw(store).load()

    done = mms_regions_here(*run_words(store, *published, "--redo", "all"))
    assert done.returncode == 0, done.stderr
    assert mms_regions_here(*run_words(fresh, *published)).returncode == 0
    assert_same_store(store, fresh)
    assert raw(store).attrs["uuid"] != before.attrs["uuid"]
    assert not raw(store)["features"].equals(before["features"])
    assert mms_regions_here("verify", store).returncode == 0
    assert mms_regions_here(*run_words(store, *corrected)).returncode == 5, "now it is of the other one"


# --- Other files


def newer_file(data: Path) -> None:
    """A newer version of the electron moments of B/mms2, with other numbers."""
    write_files(
        data,
        2,
        "2017-07-11T22:39:58",
        11.5,
        Scene(v_e=constant([-900.0, 700.0, 80.0])),
        products=["des"],
        version="9.0.0",
        epoch_offset_ns={"des": 7_654_321},  # as the older ones of the data set
    )
    assert len(list(data.rglob("mms2_fpi_brst_l2_des-moms_20170711223958_*"))) == 2


def test_what_newer_files_would_make_otherwise_is_made_anew_if_asked_for(
    mms_regions_here: Command, run_words: Words, store: Path, healthy: Path, own_data: Path, tmp_path: Path
) -> None:
    newer_file(own_data)
    words = run_words(store, "--data-dir", own_data)
    before = shard_files(store)
    done = mms_regions_here(*words)
    assert (done.returncode, done.stderr) == (0, ""), "nobody asked for it"

    done = mms_regions_here(*words, "--redo", "changed")
    assert done.returncode == 0
    assert re.findall(r"\] prepared ([^\s;]+)", done.stderr) == ["B/mms2"]
    assert shards_written(before, shard_files(store)) == {"2"}
    for event, probe in ALL[:-1]:
        assert_same_numbers(open_segment(store, event, probe), open_segment(healthy, event, probe))
    fresh = tmp_path / "fresh.zarr"
    assert mms_regions_here(*run_words(fresh, "--data-dir", own_data)).returncode == 0
    assert_same_store(store, fresh)
    assert not open_segment(store, "B", 2)["label"].equals(open_segment(healthy, "B", 2)["label"])
    done = mms_regions_here(*words, "--redo", "changed")
    assert (done.returncode, done.stderr) == (0, ""), "now it is made from them"


def test_a_manifest_of_other_files_is_refused_unless_what_they_change_may_be_made_anew(
    mms_regions_here: Command, run_words: Words, store: Path, own_data: Path, tmp_path: Path
) -> None:
    newer_file(own_data)
    fresh, manifest = tmp_path / "fresh.zarr", tmp_path / "manifest.json"
    assert mms_regions_here(*run_words(fresh, "--data-dir", own_data)).returncode == 0
    write_manifest(manifest, read_manifest(tmp_path / "fresh.zarr.run" / "manifest.json"))
    words = run_words(store, "--data-dir", own_data, "--manifest", manifest)
    before = shard_files(store), receipt_files(store)
    refused = mms_regions_here(*words)
    assert refused.returncode == 5
    assert refused.stderr == (
        f"mms-regions: {store}: B/mms2 were made from other files than those of {manifest}; choose another --store, "
        "or make them again with --redo changed\n"
    )
    assert (shard_files(store), receipt_files(store)) == before
    assert mms_regions_here(*words, "--redo", "changed").returncode == 0
    assert_same_store(store, fresh)
    assert mms_regions_here(*words).returncode == 0
    told = json.loads(mms_regions_here("status", store, "--json").stdout)
    assert told["counts"]["complete"] == 5
