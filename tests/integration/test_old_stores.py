"""A store that an earlier version made opens, verifies, relabels, exports; it grows only with equal numbers."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from stores import raw, run_folder, shard_files, statuses

from mms_regions.core.catalogue import read_catalogue
from mms_regions.physics.numbers import NUMBERS
from mms_regions.store.read import open_segment
from mms_regions.synthetic.write import synthesise

Command = Callable[..., "CompletedProcess[str]"]

GOLDEN = Path(__file__).parents[1] / "golden" / "stores_8862ac2.tar.xz"
EVENTS = """event,t_start,t_end,B0,n0,probes
A,2017-07-11T22:34:00,2017-07-11T22:34:03,12.0,0.2,1-2
B,2017-07-11T22:36:00,2017-07-11T22:36:03,12.0,0.2,1
C,2017-07-11T22:38:00,2017-07-11T22:38:03,12.0,0.2,1
"""


@pytest.fixture(params=["published", "corrected"])
def old_store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of commit 8862ac2, see tests/golden/make_old_stores.py; each convention has one."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / f"{request.param}.zarr"


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The events of these stores and another one, and the files of all but A."""
    folder = tmp_path_factory.mktemp("more")
    (folder / "events.csv").write_text(EVENTS)
    synthesise(read_catalogue(folder / "events.csv").segments("B,C"), folder / "data", seed=7)
    return folder


def words(store: Path, more: Path, *further: object) -> list[object]:
    where = ["--store", store, "--data-dir", more / "data", "--offline", "--workers", 0, "--device", "cpu"]
    how = ["--convention", store.stem, "--model", "analytic-layer"]
    return ["run", more / "events.csv", *where, *how, *further]


def test_it_opens_and_verifies_and_says_what_became_of_its_segments(old_store: Path, mms_regions_here: Command) -> None:
    assert mms_regions_here("verify", old_store).returncode == 0
    found = statuses(old_store, mms_regions_here)
    assert found == {"A/mms1": "complete", "A/mms2": "complete", "B/mms1": "failed"}
    assert "cause" not in raw(old_store)  # it was not kept then
    data = open_segment(old_store, "A", 2)
    assert (data.sizes["time"], data["quality"].dtype) == (100, np.uint16)
    assert data.attrs["origin"] == "unknown"  # it was not kept then


def test_it_is_relabelled_and_exported(old_store: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    before = raw(old_store).load()
    done = mms_regions_here("label", old_store, "--model", "second", "--workers", 0, "--device", "cpu")
    assert done.returncode == 4, done.stderr  # B failed, then
    assert not raw(old_store)["label"].equals(before["label"])
    assert raw(old_store)["features"].equals(before["features"])
    assert raw(old_store)["cause"].values.tolist() == ["", "", "unknown"]
    assert mms_regions_here("verify", old_store).returncode == 0
    for kind in ("csv", "netcdf", "segments"):
        done = mms_regions_here("export", old_store, "--format", kind, "--out", tmp_path / kind)
        assert done.returncode == 0, done.stderr


def test_it_grows_while_numbers_are_equal_and_keeps_its_format(
    old_store: Path, more: Path, mms_regions_here: Command
) -> None:
    if NUMBERS[old_store.stem] != 1:
        pytest.skip(f"the numbers of {old_store.stem} have changed since: see the test of a refusal below")
    before = {path: time for path, time in shard_files(old_store).items() if path.startswith("ne/")}
    done = mms_regions_here(*words(old_store, more))
    assert done.returncode == 0, done.stderr
    assert set(statuses(old_store, mms_regions_here).values()) == {"complete"}
    assert raw(old_store)["quality"].dtype == np.uint16
    assert mms_regions_here("verify", old_store).returncode == 0
    assert set(before) < set(shard_files(old_store))
    assert '"layout": 2' in (run_folder(old_store) / "plan.json").read_text()  # as that version can read it


@pytest.mark.parametrize("further", [[], ["--events", "A", "--redo", "A/mms1"]], ids=["grow", "redo"])
def test_it_neither_grows_nor_is_redone_with_other_numbers(
    old_store: Path, more: Path, mms_regions_here: Command, monkeypatch: pytest.MonkeyPatch, further: list[object]
) -> None:
    monkeypatch.setitem(NUMBERS, old_store.stem, 7)
    before = {path: path.read_bytes() for path in old_store.rglob("*") if path.is_file()}
    done = mms_regions_here(*words(old_store, more, *further))
    assert done.returncode == 2
    assert f"has numbers of version 1 of the convention {old_store.stem}" in done.stderr
    assert "computes version 7" in done.stderr and len(done.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in old_store.rglob("*") if path.is_file()} == before
    assert mms_regions_here("label", old_store, "--model", "second", "--workers", 0).returncode == 4  # B failed, then


def test_all_of_it_can_be_recomputed_with_other_numbers(
    old_store: Path, more: Path, mms_regions_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NUMBERS, old_store.stem, 7)
    done = mms_regions_here(*words(old_store, more, "--events", "C", "--redo", "all"))
    assert done.returncode == 4  # A has no files here
    assert statuses(old_store, mms_regions_here)["C/mms1"] == "complete"
    assert '"format": 4, "numbers": 7' in " ".join((run_folder(old_store) / "plan.json").read_text().split())
    assert raw(old_store)["quality"].dtype == np.uint32


def test_a_store_of_a_format_to_come_is_refused(old_store: Path, mms_regions_here: Command) -> None:
    from mms_regions.core.files import read_sealed, sealed

    for path in run_folder(old_store).glob("plan*.json"):
        data = read_sealed(path)
        del data["layout"]
        path.write_bytes(sealed({"format": 99, "numbers": 1, **data}))
    done = mms_regions_here("status", old_store)
    assert done.returncode == 5
    assert "its format is 99, and this version of mms-regions reads 2 to 4" in done.stderr


def test_no_path_or_name_of_a_machine_is_kept_in_it(old_store: Path) -> None:
    text = "".join(path.read_text() for path in old_store.parent.rglob("*.json"))
    assert '"data_dir": "/data/mms"' in text and '"host": "host"' in text
    assert not [word for word in ("/root", "/home", "/usr", "/work") if word in text]
