"""Synthetic data are never presented as measurements, and what is opened can be saved as NetCDF as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import xarray as xr
from drawn import words_apart

import mms_regions
from mms_regions.core.catalogue import read_catalogue
from mms_regions.export.netcdf import as_cf
from mms_regions.report.segment_plot import segment_picture
from mms_regions.store.read import attributes_of, open_segment
from mms_regions.store.stretches import read_header, stretches_table
from mms_regions.synthetic.write import synthesise

Command = Callable[..., "CompletedProcess[str]"]


def of_origins(store: Path, *origins: str) -> xr.Dataset:
    """A segment whose input files are of these origins, the last one of all that are left."""
    data = open_segment(store, "A", 1)
    inputs: list[dict[str, Any]] = attributes_of(data)["inputs"]
    given = [*origins, *[origins[-1]] * (len(inputs) - len(origins))]
    return data.assign_attrs(inputs=json.dumps([{**one, "origin": o} for one, o in zip(inputs, given, strict=True)]))


@pytest.mark.parametrize(
    ("origins", "word", "institution", "source"),
    [
        (["measured"], "measured", "MMS Science Data Center, LASP (measurements)", "MMS burst data, level 2"),
        (["synthetic"], "synthetic", "none: synthetic data", "synthetic files that imitate MMS burst data"),
        (["synthetic", "measured"], "mixed", "(measured input files)", "partly synthetic"),
        ([""], "unknown", "not recorded", "not recorded"),
    ],
    ids=["measured", "synthetic", "mixed", "unknown"],
)
def test_files_pictures_and_tables_say_what_is_synthetic(
    healthy: Path, tmp_path: Path, origins: list[str], word: str, institution: str, source: str
) -> None:
    data = of_origins(healthy, *origins)
    mark = {"synthetic": "SYNTHETIC DATA: ", "mixed": "PARTLY SYNTHETIC DATA: "}.get(word, "")
    about = as_cf(data, "software", "history").attrs
    assert about["origin"] == word and institution in about["institution"] and source in about["source"]
    assert about["title"].startswith(f"{mark}Regions of magnetic reconnection")
    assert ("not measured" in about["comment"] or "nothing in them was measured" in about["comment"]) == bool(mark)
    assert f"{mark}Event A, MMS 1;" in " ".join(words_apart(segment_picture(data)))
    (tmp_path / "segments.csv").write_bytes(stretches_table([data], "software"))
    header = read_header(tmp_path / "segments.csv")
    assert header["title"] == f"{mark}stretches of equal labels" and header["segments"]["A/mms1"]["origin"] == word


def test_what_is_opened_is_saved_as_netcdf_as_it_is(healthy: Path, tmp_path: Path) -> None:
    segment = open_segment(healthy, "A", 1)
    segment.to_netcdf(tmp_path / "x.nc")
    with xr.open_dataset(tmp_path / "x.nc") as found:
        assert found.equals(segment.load())
        assert json.loads(found.attrs["model"])["name"] == "first"
    mms_regions.open_store(healthy).to_netcdf(tmp_path / "store.nc")
    mms_regions.open_tree(healthy).to_netcdf(tmp_path / "tree.nc")
    assert {path.name for path in tmp_path.iterdir()} == {"x.nc", "store.nc", "tree.nc"}


def test_a_store_of_synthetic_files_is_reported_and_exported_as_synthetic(
    mms_regions_here: Command, tmp_path: Path
) -> None:
    """From the mark in the CDF files to the last page, through the commands."""
    segments = read_catalogue("rogers2023").segments("A", "1")
    synthesise(segments, tmp_path / "data", seed=1)
    store, out = tmp_path / "x.zarr", tmp_path / "out"
    where = ("--events", "A", "--probes", 1, "--data-dir", tmp_path / "data", "--offline")
    run = mms_regions_here("run", *where, "--store", store, "--model", "first", "--workers", 0)
    assert run.returncode == 0, run.stderr
    assert mms_regions_here("report", store, "--out", out / "report", "--workers", 0).returncode == 0
    for page in ("index.html", "events/A.html"):
        text = (out / "report" / page).read_text()
        assert '<p class="synthetic" role="note"><strong>SYNTHETIC DATA.</strong> All input files are synthetic' in text
    assert "We used synthetic files that imitate burst-mode" in (out / "report" / "index.html").read_text()
    for form in ("netcdf", "segments"):
        assert mms_regions_here("export", store, "--format", form, "--out", out).returncode == 0
    with xr.open_dataset(out / "A_mms1.nc") as file:
        assert file.attrs["title"].startswith("SYNTHETIC DATA: ") and "MMS Science" not in file.attrs["institution"]
    assert read_header(out / "segments.csv")["title"].startswith("SYNTHETIC DATA: ")
