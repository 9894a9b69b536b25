"""`run`, `status`, the index and the report say how much has a label, why the rest has none, and what is doubtful."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import xarray as xr
from cdf_files import Arrays, Scene, constant, write_files

from mms_regions.store.read import open_segment
from mms_regions.store.verify import verify

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]

# WHOLE has all, HALF no electric field in 4 of 6 s; shards of 1,024 samples part LONG, which lacks ions for 3 s.
EVENTS = """event,t_start,t_end,B0,n0,probes
WHOLE,2017-07-11T10:34:00,2017-07-11T10:34:06,12.0,0.2,1
LONG,2017-07-11T14:36:00,2017-07-11T14:36:36,12.0,0.2,1
HALF,2017-07-11T22:40:00,2017-07-11T22:40:06,12.0,0.2,1
"""


def without_field(arrays: Arrays) -> Arrays:
    quality = arrays["quality"].copy()
    quality[round(3.0 * 8192) : round(7.0 * 8192)] = 0
    return {**arrays, "quality": quality}


def without_ions(arrays: Arrays) -> Arrays:
    density = arrays["numberdensity"].copy()
    density[100:120] = np.float32(-1e31)
    return {**arrays, "numberdensity": density}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coverage")
    (folder / "events.csv").write_text(EVENTS)
    scene = Scene(b_gse=constant((2.0, 3.0, 4.0)))
    write_files(folder, 1, "2017-07-11T10:33:58", 10, scene)
    write_files(folder, 1, "2017-07-11T14:35:58", 40, scene, edit={"dis": without_ions})
    write_files(folder, 1, "2017-07-11T22:39:58", 10, scene, edit={"edp_brst": without_field})
    return folder


@pytest.fixture(scope="module")
def words(data: Path, profile: Path) -> list[object]:
    return ["run", data / "events.csv", "--data-dir", data, "--profile", profile, "--offline", "--store"]


@pytest.fixture(scope="module")
def made(
    words: list[object], mms_regions_here: Command, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, CompletedProcess[str]]:
    store = tmp_path_factory.mktemp("stores") / "x.zarr"
    return store, mms_regions_here(*words, store, "--json")


def share(store: Path, event: str) -> float:
    return float((open_segment(store, event, 1)["label"].values >= 0).mean())


def test_a_run_says_as_json_what_has_a_label_and_why_the_rest_has_none(
    made: tuple[Path, CompletedProcess[str]],
) -> None:
    store, done = made
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["coverage"]
    assert [one["samples"] for one in found.values()] == [200, 1200, 200]
    for key, one in found.items():
        assert one["labelled"] == pytest.approx(share(store, key.partition("/")[0]))
        assert one["labelled"] + sum(one["without_label"].values()) == pytest.approx(1)
    assert found["WHOLE/mms1"]["without_label"] == {}
    assert set(found["LONG/mms1"]["without_label"]) == {"ions_missing", "after_gap"}
    assert next(iter(found["HALF/mms1"]["without_label"])) == "electric_field_missing", "the most frequent is first"


def test_fewer_labels_than_half_are_a_warning_and_no_failure(made: tuple[Path, CompletedProcess[str]]) -> None:
    done = made[1]
    (few,) = json.loads(done.stdout)["warnings"]
    assert few.startswith("HALF/mms1: fewer than 50% of the samples have a label") and done.returncode == 0
    assert f"mms-regions: warning: {few}" in done.stderr.splitlines()


def test_last_lines_and_status_say_the_same(
    made: tuple[Path, CompletedProcess[str]], words: list[object], mms_regions_here: Command
) -> None:
    store, again = made[0], mms_regions_here(*words, made[0])
    line = f"LONG/mms1: {share(store, 'LONG'):.1%} labelled; ions missing "
    assert line in again.stdout and re.search(r"^WHOLE/mms1 +200 +100% ", again.stdout, re.M)
    assert mms_regions_here("show", store).stdout.splitlines()[:4] == again.stdout.splitlines()[:4]
    said = mms_regions_here("status", store).stdout
    assert re.search(rf"^LONG/mms1 +complete +{share(store, 'LONG'):.1%} labelled; ions missing ", said, re.M)
    rows = json.loads(mms_regions_here("status", store, "--json").stdout)["segments"]
    coverage = json.loads(made[1].stdout)["coverage"]
    assert {row["segment"]: row["coverage"] for row in rows} == coverage


def test_the_index_has_it_and_other_labels_bring_their_own(
    made: tuple[Path, CompletedProcess[str]], words: list[object], mms_regions_here: Command, tmp_path: Path
) -> None:
    index = xr.open_zarr(made[0], chunks=None)
    expected = [share(made[0], event) for event in ("WHOLE", "LONG", "HALF")]
    np.testing.assert_allclose(index["coverage"].values, expected)
    reasons = json.loads(made[1].stdout)["coverage"]["HALF/mms1"]["without_label"]
    assert json.loads(index["without_label"].values[2]) == reasons
    store = tmp_path / "x.zarr"
    assert mms_regions_here(*words, store).returncode == 0
    done = mms_regions_here("label", store, "--model", "second", "--workers", 0, "--device", "cpu", "--json")
    assert json.loads(done.stdout)["coverage"] == json.loads(made[1].stdout)["coverage"]
    np.testing.assert_allclose(xr.open_zarr(store, chunks=None)["coverage"].values, expected)
    assert verify(store).flaws == ()


def test_scales_that_do_not_fit_are_in_the_run_the_index_and_the_report(
    made: tuple[Path, CompletedProcess[str]], words: list[object], mms_regions_here: Command, tmp_path: Path
) -> None:
    """The pressure of the plasma in these files is that of 17 nT, so a lobe of 12 nT does not fit."""
    doubts = json.loads(made[1].stdout)["scale_cautions"]["WHOLE/mms1"]
    assert doubts[0].startswith("B0 is 12 nT, but pressure balance asks for a lobe field of ")
    segment = open_segment(made[0], "WHOLE", 1)
    assert segment.attrs["scale_caution"] == "; ".join(doubts) and 15 < segment.attrs["lobe_field"] < 20
    said = "WHOLE/mms1, LONG/mms1, HALF/mms1: B0 or n0 do not fit what was measured; `mms-regions report` says how"
    assert said in mms_regions_here(*words, made[0]).stdout.splitlines()
    assert mms_regions_here("report", made[0], "--out", tmp_path / "r", "--workers", 0).returncode == 0
    page, index = ((tmp_path / "r" / name).read_text() for name in ("events/WHOLE.html", "index.html"))
    assert doubts[0] in page and f"WHOLE/mms1: {doubts[0]}" in index


def test_the_report_says_what_is_lost_and_where_in_the_sheet(
    made: tuple[Path, CompletedProcess[str]], mms_regions_here: Command, tmp_path: Path
) -> None:
    assert mms_regions_here("report", made[0], "--out", tmp_path / "r", "--workers", 0).returncode == 0
    page, index = ((tmp_path / "r" / name).read_text() for name in ("events/HALF.html", "index.html"))
    for text in (page, index):
        assert "no E " in text and "0.0 to 0.2" in text and "without a label" in text
    assert "<strong>Fewer than half of the samples have a label</strong> in HALF/mms1." in index
