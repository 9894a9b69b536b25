"""Synthetic data are never presented as measurements: `run` and `status` say which segments are made from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from mms_regions.core.catalogue import read_catalogue
from mms_regions.run.status import SegmentStatus, StoreStatus
from mms_regions.store.read import open_tree

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command) -> tuple[Path, Path]:
    """An event list of one event, and its synthetic files for two spacecraft."""
    folder = tmp_path_factory.mktemp("synthetic")
    events = folder / "events.csv"
    events.write_text("event,t_start,t_end,B0,n0,probes\nA,2017-07-11T22:34:00,2017-07-11T22:34:06,12,0.2,1-2\n")
    done = mms_regions_here("synthesise", events, "--data-dir", folder / "data")
    assert done.returncode == 0 and "SYNTHETIC" in done.stdout, done.stderr
    return events, folder / "data"


def test_run_and_status_mark_segments_made_from_synthetic_files(
    mms_regions_here: Command, synthetic: tuple[Path, Path], tmp_path: Path
) -> None:
    events, data_dir = synthetic
    store = tmp_path / "a.zarr"
    args = ("run", events, "--store", store, "--data-dir", data_dir, "--offline", "--model", "first", "--workers", 0)
    done = mms_regions_here(*args)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2 segments made wholly or partly from SYNTHETIC data"
    assert json.loads(mms_regions_here(*args, "--json").stdout)["synthetic"] == ["A/mms1", "A/mms2"]
    shown = mms_regions_here("status", store).stdout.splitlines()
    assert [line.split()[1:] for line in shown[1:3]] == [["complete", "100%", "labelled;", "SYNTHETIC", "data"]] * 2
    rows = json.loads(mms_regions_here("status", store, "--json").stdout)["segments"]
    assert [row["origin"] for row in rows] == ["synthetic"] * 2
    inputs = [file for data in open_tree(store).leaves for file in json.loads(data.attrs["inputs"])]
    assert {(file["origin"], file["checks"]) for file in inputs} == {("synthetic", "used")}


def test_each_origin_has_its_mark_and_measured_data_have_none(
    mms_regions_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = read_catalogue().segments("A", "1-4")
    origins = ("measured", "synthetic", "mixed", "unknown")
    rows = tuple(
        SegmentStatus(segment, "complete", "", origin) for segment, origin in zip(segments, origins, strict=True)
    )
    monkeypatch.setattr("mms_regions.run.status.store_status", lambda store: StoreStatus(rows))
    lines = mms_regions_here("status", "a.zarr").stdout.splitlines()
    marks = [line.partition("complete")[2].strip() for line in lines[1:5]]
    assert marks == ["", "SYNTHETIC data", "partly SYNTHETIC data", ""]
