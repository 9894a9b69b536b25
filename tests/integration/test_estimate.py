"""`mms-regions estimate`: scales of intervals as a table, as JSON, and as a list that `run` takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import mms_regions

Command = Callable[..., "CompletedProcess[str]"]
INTERVAL = "2017-07-11T10:34:00/2017-07-11T10:34:06"


@pytest.fixture
def words(catalogue: Path, data_dir: Path) -> list[object]:
    return ["estimate", catalogue, "--data-dir", data_dir, "--offline", "--workers", 0]


def test_json_table_and_pictures_agree_and_the_list_can_be_run(
    mms_regions_here: Command, words: list[object], healthy: Path, profile: Path, data_dir: Path, tmp_path: Path
) -> None:
    done = mms_regions_here(*words, "--events", "A", "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    segments = json.loads(done.stdout)["segments"]
    for probe in (1, 2):
        row = segments[f"A/mms{probe}"]
        assert (row["catalogue_B0"], row["catalogue_n0"]) == (12.0, 0.2)
        scales = mms_regions.estimate_scales(mms_regions.open_segment(healthy, "A", probe))
        assert (row["B0"], row["n0"], row["method"]) == (scales.b0, scales.n0, scales.method), "as from the store"
    table = mms_regions_here(*words, "--events", "A").stdout.splitlines()
    assert [line.split()[0] for line in table if not line.startswith(" ")] == ["segment", "A/mms1", "A/mms2"]
    assert f"{segments['A/mms1']['B0']:.1f} +- {segments['A/mms1']['B0_sigma']:.1f}" in "".join(table)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A_mms1.png", "A_mms2.png", "scales.csv"]
    listed = mms_regions.core.catalogue.read_catalogue(tmp_path / "out" / "scales.csv")
    assert [(one.name, one.probes, one.B0) for one in listed.events] == [
        (f"A_mms{probe}", (probe,), segments[f"A/mms{probe}"]["B0"]) for probe in (1, 2)
    ]


def test_an_interval_needs_no_list(mms_regions_here: Command, data_dir: Path) -> None:
    where = ["--data-dir", data_dir, "--offline", "--workers", 0]
    done = mms_regions_here("estimate", "--interval", INTERVAL, "--probes", "mms1", *where, "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["segments"].values()
    assert row["catalogue_B0"] is None and row["B0"] > 0


def test_what_cannot_be_estimated_is_said_and_takes_nothing_else_down(
    mms_regions_here: Command, words: list[object], own_data: Path
) -> None:
    (gone,) = own_data.rglob("mms2_fgm_brst*20170711103*.cdf")
    gone.unlink()
    done = mms_regions_here(*words, "--events", "A", "--data-dir", own_data, "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, list(said["segments"]), list(said["failed"])) == (4, ["A/mms1"], ["A/mms2"])
    assert "A/mms2" in done.stderr
