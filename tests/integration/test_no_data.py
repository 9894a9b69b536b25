"""A segment that there is nothing to make from is `no_data`, with its reason, apart from failures; exit code 4."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import xarray as xr
from cdf_files import PRODUCTS, Scene, truncate, write_files

from mms_regions.core.errors import UsageProblem
from mms_regions.store.read import open_segment

Command = Callable[..., "CompletedProcess[str]"]

# Of mms4 before and after it lost heads of its electron spectrometer, and of a spacecraft that has no files at all.
EVENTS = """event,t_start,t_end,B0,n0,probes
EARLY,2018-05-27T03:58:22,2018-05-27T03:58:25,20,0.2,4
LATE,2018-08-27T03:58:22,2018-08-27T03:58:25,20,0.2,1-4
"""
STATES = {
    "EARLY/mms4": "no_data",
    "LATE/mms1": "complete",
    "LATE/mms2": "no_data",
    "LATE/mms3": "failed",
    "LATE/mms4": "no_data",
}
LOST = "mms4 has lost heads of its electron spectrometer in June and July 2018"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("no-data")
    (folder / "events.csv").write_text(EVENTS)
    without_electrons = [product for product in PRODUCTS if product != "des"]
    write_files(folder, 4, "2018-05-27T03:58:20", 8, Scene(), products=without_electrons)
    write_files(folder, 4, "2018-08-27T03:58:20", 8, Scene(), products=without_electrons)
    write_files(folder, 1, "2018-08-27T03:58:20", 8, Scene())
    truncate(write_files(folder, 3, "2018-08-27T03:58:20", 8, Scene())["des"], 0.5)
    return folder


@pytest.fixture(scope="module")
def words(data: Path, profile: Path) -> list[object]:
    return ["run", data / "events.csv", "--data-dir", data, "--profile", profile, "--offline", "--store"]


@pytest.fixture(scope="module")
def store(
    data: Path, words: list[object], mms_regions_here: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, CompletedProcess[str]]:
    """A store, only to be read, and what the run said."""
    store = tmp_path_factory.mktemp("stores") / "x.zarr"
    return store, mms_regions_here(*words, store, "--json")


def test_it_is_counted_apart_from_failures(store: tuple[Path, CompletedProcess[str]]) -> None:
    done = store[1]
    answer = json.loads(done.stdout)
    assert done.returncode == 4, done.stderr
    assert answer["complete"] == ["LATE/mms1"] and list(answer["failed"]) == ["LATE/mms3"]
    assert list(answer["no_data"]) == [key for key, state in STATES.items() if state == "no_data"]
    assert all(f"no data {key}: {reason}" in done.stderr for key, reason in answer["no_data"].items())
    assert f"failed LATE/mms3: {answer['failed']['LATE/mms3']}" in done.stderr


def test_its_reason_says_what_is_missing_and_of_mms4_why(store: tuple[Path, CompletedProcess[str]]) -> None:
    reasons = json.loads(store[1].stdout)["no_data"]
    assert "no file of fpi_brst_l2_dis-moms, fpi_brst_l2_des-moms, fgm_brst_l2, edp_brst" in reasons["LATE/mms2"]
    assert "no file of fpi_brst_l2_des-moms for" in reasons["LATE/mms4"] and reasons["LATE/mms4"].endswith(LOST)
    assert "no file of fpi_brst_l2_des-moms for" in reasons["EARLY/mms4"] and LOST not in reasons["EARLY/mms4"]


def test_status_index_and_last_line_say_so(
    store: tuple[Path, CompletedProcess[str]], words: list[object], mms_regions_here: Command
) -> None:
    path = store[0]
    found = json.loads(mms_regions_here("status", path, "--json").stdout)
    assert {row["segment"]: row["status"] for row in found["segments"]} == STATES
    assert found["counts"] | {"no_data": 3, "failed": 1, "complete": 1} == found["counts"]
    shown = mms_regions_here("status", path).stdout
    assert re.search(r"^LATE/mms2 +no data +no file of", shown, re.M)
    assert "no data, no file of a product (3): EARLY/mms4, LATE/mms2, LATE/mms4" in shown.splitlines()
    assert [row["cause"] for row in found["segments"]] == ["no_files", "", "no_files", "files", "no_files"]
    assert shown.splitlines()[-1] == "1 complete, 1 failed, 3 no data"
    with pytest.raises(UsageProblem, match=r"^LATE/mms2 is no data: no file of"):
        open_segment(path, "LATE", 2)
    index = xr.open_zarr(path, chunks=None)
    assert index["status"].values.tolist() == list(STATES.values())
    assert index["cause"].values.tolist() == ["no_files", "", "no_files", "files", "no_files"]
    assert index.attrs["provenance"][-1]["outcome"] == "1 segment failed, 3 segments without data"
    again = mms_regions_here(*words, path)
    assert "no data, no file of a product (3): EARLY/mms4, LATE/mms2, LATE/mms4" in again.stdout.splitlines()
    assert again.returncode == 4 and "1 segment complete, 1 failed, 3 without data; for the reasons" in again.stdout


def test_the_report_has_it_apart_from_failures(
    store: tuple[Path, CompletedProcess[str]], mms_regions_here: Command, tmp_path: Path
) -> None:
    done = mms_regions_here("report", store[0], "--out", tmp_path / "r", "--workers", 0, "--json")
    assert done.returncode == 0, done.stderr
    causes = {code: (one["status"], one["count"]) for code, one in json.loads(done.stdout)["causes"].items()}
    assert causes == {"no_files": ("no_data", 3), "files": ("failed", 1)}
    text = (tmp_path / "r" / "index.html").read_text()
    assert '3 <span class="state no_data">no data</span>' in text and '1 <span class="state failed">failed' in text
    assert text.count("<strong>no file of a product</strong> (3 segments)") == 1, "three sentences, one cause"
    page = (tmp_path / "r" / "events" / "LATE.html").read_text()
    assert "<strong>No data:</strong>" in page and LOST in page


def test_it_is_made_once_its_files_are_there(
    data: Path, words: list[object], mms_regions_here: Command, tmp_path: Path
) -> None:
    store, one = tmp_path / "x.zarr", ("--events", "LATE", "--probes", "2")
    write_files(tmp_path / "data", 2, "2018-08-27T03:58:20", 8, Scene(), products=PRODUCTS[1:])
    where = ("--data-dir", tmp_path / "data")
    assert mms_regions_here(*words, store, *one, *where).returncode == 4
    write_files(tmp_path / "data", 2, "2018-08-27T03:58:20", 8, Scene())
    done = mms_regions_here(*words, store, *one, *where)
    assert (done.returncode, "1 segment complete, 0 failed" in done.stdout) == (0, True), done.stderr
