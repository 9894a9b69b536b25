"""Runs of events without B0 and n0: scales are estimated from each segment, and the store says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from cdf_files import PRODUCTS, Scene, constant, write_files

import mms_regions
from mms_regions.model.stability import feature_factors

Command = Callable[..., "CompletedProcess[str]"]
EVENT = "A,2017-07-11T10:34:00,2017-07-11T10:34:06"


@pytest.fixture
def made(
    mms_regions_here: Command, data_dir: Path, profile: Path, tmp_path: Path
) -> Callable[[str], CompletedProcess[str]]:
    """Runs a list into est.zarr."""

    def run(rows: str, data: Path = data_dir) -> CompletedProcess[str]:
        (tmp_path / "events.csv").write_text(rows)
        where = ["--data-dir", data, "--profile", profile, "--offline", "--store", tmp_path / "est.zarr"]
        return mms_regions_here("run", tmp_path / "events.csv", *where, "--json")

    return run


def test_features_are_scaled_by_what_is_estimated_of_each_segment(
    made: Callable[[str], CompletedProcess[str]], healthy: Path, model_dir: Path, tmp_path: Path
) -> None:
    done = made(f"event,t_start,t_end,probes\n{EVENT},1-2\n")
    assert done.returncode == 0, done.stderr
    for probe in (1, 2):
        found = mms_regions.open_segment(tmp_path / "est.zarr", "A", probe).load()
        given = mms_regions.open_segment(healthy, "A", probe).load()
        scales = mms_regions.estimate_scales(given)
        about = found.attrs
        assert (about["b0"], about["n0"], about["scale_source"]) == (scales.b0, scales.n0, "estimated")
        assert (about["b0_sigma"], about["n0_sigma"]) == (scales.b0_sigma, scales.n0_sigma)
        assert all(caution in about["scale_caution"] for caution in scales.cautions)
        assert (given.attrs["b0"], given.attrs["scale_source"]) == (12.0, "catalogue")
        assert np.isnan(given.attrs["b0_sigma"])
        scaled = given["features"] * feature_factors(scales.b0 / 12.0, scales.n0 / 0.2)
        np.testing.assert_allclose(found["features"], scaled, rtol=1e-5, atol=1e-6)
        again = mms_regions.label(found, model=model_dir / "first", device="cpu")
        np.testing.assert_array_equal(found["label"], again["label"])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "est.zarr" / "features").rglob("*")}
    assert made(f"event,t_start,t_end,probes\n{EVENT},1-2\n").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "est.zarr" / "features").rglob("*")} == before


def test_a_value_that_is_given_is_used_with_its_error(
    made: Callable[[str], CompletedProcess[str]], tmp_path: Path
) -> None:
    done = made(f"event,t_start,t_end,n0,n0_sigma,probes\n{EVENT},0.2,0.05,1\n")
    assert done.returncode == 0, done.stderr
    about = mms_regions.open_segment(tmp_path / "est.zarr", "A", 1).attrs
    assert (about["n0"], about["n0_sigma"], about["scale_source"]) == (0.2, 0.05, "estimated")
    assert about["b0"] != 12.0 and about["b0_sigma"] > 0


def test_an_interval_that_never_sees_the_sheet_fails_alone_and_says_why(
    made: Callable[..., CompletedProcess[str]], own_data: Path, tmp_path: Path
) -> None:
    burst = [product for product in PRODUCTS if product != "edp_fast"]
    lobe = Scene(b_gse=constant((60.0, 1.0, 1.0)))
    write_files(own_data, 1, "2017-07-11T22:59:58", 34.0, lobe, products=burst)
    rows = f"event,t_start,t_end,probes\n{EVENT},1\nC,2017-07-11T23:00:00,2017-07-11T23:00:20,1\n"
    done = made(rows, own_data)
    said = json.loads(done.stdout)
    assert (done.returncode, said["complete"], list(said["failed"])) == (4, ["A/mms1"], ["C/mms1"])
    assert "the sheet was not seen (beta is at most" in said["failed"]["C/mms1"]
    assert said["failed"]["C/mms1"].endswith("so n0 is not estimated; give n0 in the catalogue")
