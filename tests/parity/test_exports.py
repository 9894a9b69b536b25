"""Each export of the reference cases, read back by the tool that it is for: pyspedas, xarray, pandas, a CF checker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mms_regions.core.types import NO_LABEL
from mms_regions.model.cautions import cautions
from mms_regions.physics.samples import QUALITY_BITS
from mms_regions.report.ion_spectrum import ion_spectrum
from mms_regions.store.read import open_segment
from mms_regions.store.stretches import read_header

ROOT = Path(__file__).parents[2]

# pyspedas takes seconds to import and keeps all data in one place: a process of its own tells what it has restored.
RESTORE = """
import sys
import numpy as np
import pyspedas

for file in sys.argv[2:]:
    pyspedas.tplot_restore(file)
found = {}
for name in pyspedas.tplot_names(quiet=True):
    data = pyspedas.get_data(name, dt=True)
    found[name], found[f"{name}__t"] = data.y, data.times.astype("datetime64[ns]").astype(np.int64)
    if len(data) > 2:
        found[f"{name}__v"] = data.v
np.savez(sys.argv[1], **found)
"""

# A check of every rule of CF 1.11 that this checker knows, and what it says in JSON.
CHECK = """
import sys
from compliance_checker.runner import CheckSuite, ComplianceChecker

CheckSuite.load_all_available_checkers()
words = dict(output_filename=sys.argv[2], output_format="json")
_, broken = ComplianceChecker.run_checker(sys.argv[1], ["cf:1.11"], 0, "strict", **words)
sys.exit("a check broke off, see above" if broken else 0)
"""


def run_python(code: str, *words: object, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "SPEDAS_DATA_DIR": str(cwd), "PYTHONPATH": str(ROOT / "pipeline")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Case:
    """A reference case: its store, the folder with its exports, and the published results."""

    name: str
    store: Path
    out: Path
    published: Path

    @property
    def event(self) -> str:
        return self.name.partition("-")[0]

    @property
    def spacecraft(self) -> str:
        return self.name.partition("-")[2]

    @property
    def segment(self) -> xr.Dataset:
        return open_segment(self.store, self.event, int(self.spacecraft[-1]))


@pytest.fixture(scope="module", params=["A-mms4", "D-mms2"])
def case(
    request: pytest.FixtureRequest,
    reference: Path,
    published_stores: Mapping[str, Path],
    command: Callable[..., int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    """All exports of a case. pyspedas is imported in the process that writes tplot files, not in this one."""
    name, out = request.param, tmp_path_factory.mktemp("exports")
    store, folder = published_stores[name], reference / "reference" / name
    for form in ("netcdf", "segments"):
        kept = ["--min-duration", "0"] if form == "segments" else []
        assert command("export", store, "--format", form, "--out", out, *kept) == 0
    words = ["export", store, "--format", "tplot", "--out", out, "--data-dir", folder / "inputs", "--json"]
    code = "import sys; sys.argv[0] = 'mms-regions'; from mms_regions.cli.main import main; main()"
    run_python(code, *words, cwd=out)
    return Case(name, store, out, folder / "published")


@pytest.fixture(scope="module")
def restored(case: Case) -> dict[str, np.ndarray]:
    """What pyspedas has after restoring both files: `name`, its times in ns as `name__t`, energies as `name__v`."""
    folder = case.out / f"{case.event}_{case.spacecraft}"
    files = [folder / f"{case.spacecraft}_vars{end}" for end in ("", "_norm")]
    run_python(RESTORE, case.out / "restored.npz", *files, cwd=case.out)
    with np.load(case.out / "restored.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("file", ["vars.npz", "vars_norm.npz"])
def test_pyspedas_restores_every_published_variable(case: Case, restored: dict[str, np.ndarray], file: str) -> None:
    with np.load(case.published / file) as saved:
        published = dict(saved)
    names = [name for name in published if not name.endswith("__t")]
    assert names and set(names) <= set(restored)
    undirected = ~(restored[f"{case.spacecraft}_B_des"] == 0).all(axis=1)  # decision 7: no direction where B is 0
    for name in names:
        mine, theirs = restored[name], published[name]
        assert mine.shape == theirs.shape, name
        times = np.round(published[f"{name}__t"] * 1e9).astype(np.int64)
        assert np.abs(restored[f"{name}__t"] - times).max() <= 1000, name
        if name.endswith(("_para", "_perp", "_perp_xyz")) and not name.startswith(f"{case.spacecraft}_T"):
            mine, theirs = mine[undirected], theirs[undirected]
            assert len(mine) == len(undirected) - 1
        scale = np.nanmax(np.abs(theirs))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6 * scale, err_msg=name)


def test_the_8192_hz_field_and_the_spectrograms_are_there(case: Case, restored: dict[str, np.ndarray]) -> None:
    field, scaled = restored[f"{case.spacecraft}_E"], restored[f"{case.spacecraft}_E_norm"]
    assert field.shape == scaled.shape
    steps = np.diff(restored[f"{case.spacecraft}_E__t"])
    assert np.median(steps) == pytest.approx(1e9 / 8192, abs=600)
    for short, views in {"des": ("omni", "par", "perp", "anti"), "dis": ("omni",)}.items():
        for view in views:
            name = f"{case.spacecraft}_{short}_energyspectr_{view}_brst"
            assert restored[name].shape == restored[f"{name}__v"].shape
            assert np.nanmin(restored[f"{name}__v"]) > 0
    mine = restored[f"{case.spacecraft}_des_energyspectr_omni_brst"].astype(np.float32)
    np.testing.assert_array_equal(mine, case.segment["electron_spectrum_omni"].values)


def test_the_ion_spectrogram_of_pictures_is_that_of_the_tplot_files(
    case: Case, restored: dict[str, np.ndarray], reference: Path
) -> None:
    mine = ion_spectrum(case.segment, reference / "reference" / case.name / "inputs")
    name = f"{case.spacecraft}_dis_energyspectr_omni_brst"
    apart = np.abs(restored[f"{name}__t"] - mine["time"].values.astype(np.int64)[:, None])
    row, same = apart.argmin(axis=1), apart.min(axis=1) <= 1000  # ns: the published code has float seconds
    assert len(same) > 100 and (~same).sum() <= 1, "the published code ends intervals by starts of accumulation"
    np.testing.assert_array_equal(mine.values[same], restored[name][row[same]].astype(np.float32))
    np.testing.assert_array_equal(mine["energy"].values[same], restored[f"{name}__v"][row[same]].astype(np.float32))


def test_xarray_decodes_the_netcdf_file_to_what_the_store_holds(case: Case) -> None:
    segment = case.segment
    with xr.open_dataset(case.out / f"{case.event}_{case.spacecraft}.nc") as data:
        held = {str(name) for name in segment.data_vars}
        assert {str(name) for name in data.data_vars} == held - {"electron_energy"} | {"caution"}
        for name in held:
            assert data[name].dtype == segment[name].dtype, name
            np.testing.assert_array_equal(data[name].values, segment[name].values, err_msg=name)
        np.testing.assert_array_equal(data["time"].values, segment["time"].values)
        label, quality = data["label"].attrs, data["quality"].attrs
        meanings = dict(zip(label["flag_values"].tolist(), label["flag_meanings"].split(), strict=True))
        regions = segment["label"].attrs["flag_meanings"].split()
        assert meanings == {NO_LABEL: "no_label", **dict(enumerate(regions))}
        assert set(label["ancillary_variables"].split()) == {"probability", "quality", "caution"}
        found, caution = cautions(segment), data["caution"]
        assert caution.attrs["flag_meanings"].split() == list(found.found)
        for mask, name in zip(caution.attrs["flag_masks"], found.found, strict=True):
            np.testing.assert_array_equal((caution.values & mask) != 0, found[name], err_msg=name)
        assert "inferred" in label["comment"], "the published names are"
        masks = dict(zip(quality["flag_meanings"].split(), quality["flag_masks"].tolist(), strict=True))
        assert masks == QUALITY_BITS
        assert data["region_name"].values.tolist() == regions
        assert json.loads(data.attrs["model"])["name"] == "waters2025"
        assert data.attrs["b0"] == segment.attrs["b0"] and data.attrs["convention"] == "published"


def test_the_netcdf_file_passes_the_cf_check(case: Case) -> None:
    """All but one recommendation of section 2.4: that components and energies stand before time, which nobody does."""
    run_python(CHECK, case.out / f"{case.event}_{case.spacecraft}.nc", case.out / "cf.json", cwd=case.out)
    (report,) = json.loads((case.out / "cf.json").read_text()).values()
    assert report["possible_points"] > 100
    assert report["high_priorities"] and all(one["value"][0] == one["value"][1] for one in report["high_priorities"])
    rest = [one for level in ("medium_priorities", "low_priorities") for one in report[level]]
    short = [one for one in rest if one["value"][0] < one["value"][1]]
    assert {one["name"] for one in short} <= {"\u00a72.4 Dimensions"}, short
    assert all("recommended order" in message for one in short for message in one["msgs"])


def test_pandas_reads_the_stretches_and_their_header(case: Case) -> None:
    path, segment = case.out / "segments.csv", case.segment
    table, header = pd.read_csv(path, comment="#", parse_dates=["start", "stop"]), read_header(path)
    key = f"{case.event}/{case.spacecraft}"
    label, probability = segment["label"].values, segment["probability"].values
    assert header["convention"] == "published" and header["model"] == "waters2025" and header["merging"] == "none"
    assert header["model_source_sha256"].startswith("99749fe78faf3b7f")
    assert header["segments"][key]["b0"] == segment.attrs["b0"]
    assert set(header["units"]) == set(table.columns)
    assert table["samples"].sum() == (label != NO_LABEL).sum() == header["segments"][key]["labelled"]
    assert (table["region"].to_numpy()[1:] != table["region"].to_numpy()[:-1]).any()
    names = segment["label"].attrs["flag_meanings"].split()
    found = cautions(segment)
    assert header["names_of_regions"].startswith("inferred")
    for row in table.itertuples():
        inside = (segment["time"].values >= np.datetime64(row.start)) & (
            segment["time"].values < np.datetime64(row.stop)
        )
        assert inside.sum() == row.samples
        assert {names[i] for i in label[inside]} == {row.region}
        confidence = probability[inside].max(axis=1)
        assert row.mean_confidence == pytest.approx(confidence.mean(), abs=1e-4)
        assert row.min_confidence == pytest.approx(confidence.min(), abs=1e-4)
        for name, where in found.found.items():
            assert getattr(row, name) == pytest.approx(where[inside].mean(), abs=1e-4)
        b = np.linalg.norm(segment["b_gsm"].values[inside], axis=1)
        assert row.b_mag == pytest.approx(np.nanmean(b), rel=1e-4)
