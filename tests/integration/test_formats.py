"""Exports beside CSV, and the store from Python: what they hold, what they refuse, and what they leave alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import mms_regions
from mms_regions.core.errors import UsageProblem
from mms_regions.core.types import NO_LABEL
from mms_regions.export.netcdf import as_cf, write_netcdf
from mms_regions.export.tplot import require_pyspedas
from mms_regions.model.cautions import cautions
from mms_regions.physics.frames import gse_to_gsm
from mms_regions.physics.published_names import derived_names
from mms_regions.store.read import open_segment
from mms_regions.store.stretches import read_header, stretches_table

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def pyspedas() -> Iterator[Any]:
    """The library in this process, and its variables as they were before."""
    library = require_pyspedas()
    variables = library.tplot_tools.data_quants
    before = dict(variables)
    variables.clear()
    yield library
    variables.clear()
    variables.update(before)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# Corrected, the convention that is no comparison with published files


@pytest.fixture(scope="module")
def tplot_folder(
    healthy: Path, data_dir: Path, mms_regions_here: Command, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("tplot")
    words = ["--format", "tplot", "--events", "A,B", "--probes", "1", "--out", out, "--data-dir", data_dir]
    done = mms_regions_here("export", healthy, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(out / "A_mms1"), str(out / "B_mms1")]
    return out


def test_tplot_files_of_a_corrected_store_hold_its_numbers_by_the_published_names(
    healthy: Path, tplot_folder: Path, pyspedas: Any
) -> None:
    assert files_in(tplot_folder / "A_mms1") == {"mms1_vars", "mms1_vars_norm"}
    for name in ("mms1_vars", "mms1_vars_norm"):
        pyspedas.tplot_restore(str(tplot_folder / "A_mms1" / name))
    data, names = open_segment(healthy, "A", 1), pyspedas.tplot_names(quiet=True)
    assert {f"mms1_{name}" for name in (*derived_names(), "B", "Bmag", "E", "Ni", "vi", "Ti_para", "E_norm")} <= set(
        names
    )

    for name, quantity in {"B_des": "b_gsm", "E_ave_ve": "e_gsm", "vi_des": "vi_gsm", "current_fpi": "j_gsm"}.items():
        found = pyspedas.get_data(f"mms1_{name}", dt=True)
        time = found.times.astype("datetime64[ns]")
        np.testing.assert_array_equal(time, data["time"].values)
        np.testing.assert_allclose(
            gse_to_gsm(time.astype(np.int64), found.y), data[quantity].values, rtol=1e-5, atol=1e-4
        )
    np.testing.assert_array_equal(pyspedas.get_data("mms1_jdoteprime").y, data["j_dot_e_prime"].values)
    measured = pyspedas.get_data("mms1_Ne", dt=True)
    np.testing.assert_array_equal(measured.times.astype("datetime64[ns]"), data["time"].values)  # centres, clipped
    np.testing.assert_allclose(measured.y, data["ne"].values, rtol=1e-6)
    field = pyspedas.get_data("mms1_E", dt=True)
    assert len(field.y) == pytest.approx(6 * 8192, abs=2)
    assert pyspedas.get_data("mms1_E", metadata=True)["data_att"] == {"units": "mV/m", "coord_sys": "gse"}


def test_what_somebody_has_in_pyspedas_is_as_it_was(
    healthy: Path, data_dir: Path, mms_regions_here: Command, tmp_path: Path, pyspedas: Any
) -> None:
    pyspedas.store_data("mms1_B", data={"x": [0.0, 1.0], "y": [7.0, 8.0]})
    pyspedas.store_data("mine", data={"x": [0.0, 1.0], "y": [1.0, 2.0]})
    words = ["--format", "tplot", "--events", "A", "--probes", "1", "--out", tmp_path, "--data-dir", data_dir]
    assert mms_regions_here("export", healthy, *words).returncode == 0
    assert sorted(pyspedas.tplot_names(quiet=True)) == ["mine", "mms1_B"]
    assert pyspedas.get_data("mms1_B").y.tolist() == [7.0, 8.0]


# What is refused


def test_segments_whose_cdf_files_are_gone_fail_alone(
    healthy: Path, own_data: Path, mms_regions_here: Command, tmp_path: Path
) -> None:
    (gone,) = own_data.rglob("mms2_edp_brst_l2_dce_20170711103358*")
    gone.unlink()
    (changed,) = own_data.rglob("mms1_fgm_brst_l2_20170711223958*")
    changed.write_bytes(changed.read_bytes() + b"\0")
    words = ["--format", "tplot", "--events", "A,B", "--out", tmp_path / "t", "--data-dir", own_data]
    done = mms_regions_here("export", healthy, *words, "--json")
    assert done.returncode == 4
    told = json.loads(done.stdout)
    assert told["written"] == [str(tmp_path / "t" / name) for name in ("A_mms1", "B_mms2")]
    assert set(told["failed"]) == {"A/mms2", "B/mms1"}
    assert f"{gone.name} is not there" in told["failed"]["A/mms2"] and "--data-dir" in told["failed"]["A/mms2"]
    assert f"{changed.name} is not the file that it was" in told["failed"]["B/mms1"]
    assert all(reason in done.stderr for reason in told["failed"].values())
    assert {path.name for path in (tmp_path / "t").iterdir()} == {"A_mms1", "B_mms2"}


def test_many_files_that_are_gone_are_still_one_sentence(
    healthy: Path, mms_regions_here: Command, tmp_path: Path
) -> None:
    words = ["--format", "tplot", "--events", "LONG", "--out", tmp_path / "t", "--data-dir", tmp_path]
    done = mms_regions_here("export", healthy, *words)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("is not there") == 3 and "and 1 more. Name their folder in --data-dir" in done.stderr
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "tplot"], "Where are the CDF files?"),
        (["--format", "csv", "--min-duration", "1"], "--min-duration is for --format segments"),
        (["--format", "segments", "--min-duration", "-1"], "not a number of seconds"),
        (["--format", "segments", "--min-duration", "nan"], "not a number of seconds"),
        (["--format", "idl"], "no export format 'idl': choose csv, tplot, netcdf, segments"),
    ],
)
def test_words_that_are_off_are_refused(
    healthy: Path, mms_regions_here: Command, tmp_path: Path, words: list[str], message: str
) -> None:
    done = mms_regions_here("export", healthy, "--out", tmp_path / "x", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("form", ["csv", "netcdf", "segments"])
def test_a_folder_that_cannot_be_written_is_named(
    healthy: Path, mms_regions_here: Command, tmp_path: Path, form: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    done = mms_regions_here("export", healthy, "--format", form, "--out", tmp_path / "file" / "x", "--events", "A")
    assert done.returncode == 5
    assert "file" in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "problem", [RuntimeError("NetCDF: HDF error"), OSError(28, "No space left on device")], ids=repr
)
def test_a_netcdf_file_that_cannot_be_finished_leaves_nothing(
    healthy: Path, mms_regions_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def half(self: xr.Dataset, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise problem

    monkeypatch.setattr(xr.Dataset, "to_netcdf", half)
    words = ["--format", "netcdf", "--events", "A", "--probes", "1", "--out", tmp_path / "n"]
    done = mms_regions_here("export", healthy, *words)
    assert done.returncode == 5
    assert "A_mms1.nc" in done.stderr
    assert not (tmp_path / "n").exists()


def test_tplot_without_pyspedas_says_how_to_get_it(
    healthy: Path, data_dir: Path, mms_regions_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyspedas", None)
    words = ["--format", "tplot", "--out", tmp_path / "t", "--data-dir", data_dir]
    done = mms_regions_here("export", healthy, *words)
    assert done.returncode == 5
    assert "pip install 'mms-regions[tplot]'" in done.stderr
    assert not (tmp_path / "t").exists()


# Stretches and NetCDF


def test_flicker_is_joined_and_the_header_says_so(healthy: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    for out, more in (("plain", ["--min-duration", "0"]), ("merged", ["--min-duration", "0.7"])):
        done = mms_regions_here("export", healthy, "--format", "segments", "--out", tmp_path / out, *more)
        assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / out / "segments.csv")
    plain, merged = (pd.read_csv(tmp_path / out / "segments.csv", comment="#") for out in ("plain", "merged"))
    headers = [read_header(tmp_path / out / "segments.csv") for out in ("plain", "merged")]
    assert [header["min_duration"] for header in headers] == [0, 0.7]
    assert headers[0]["merging"] == "none" and "shorter than 0.7 s" in headers[1]["merging"]
    assert set(headers[1]["segments"]) == {"A/mms1", "A/mms2", "LONG/mms1", "B/mms1", "B/mms2"}
    assert plain["duration"].min() < 0.7 <= merged["duration"].min()
    assert len(merged) < len(plain)
    assert plain["samples"].sum() == merged["samples"].sum()
    assert plain["joined"].sum() == 0 < merged["joined"].sum()


def test_the_table_is_ecsv_with_units_and_positions(healthy: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    from astropy import units
    from astropy.table import Table

    assert mms_regions_here("export", healthy, "--format", "segments", "--out", tmp_path).returncode == 0
    table, data = Table.read(tmp_path / "segments.csv", format="ascii.ecsv"), open_segment(healthy, "A", 1)
    assert (table["b_x"].unit, table["x_gsm"].unit) == (units.nT, units.R_earth) and table["ni"].unit is not None
    assert table["samples"].dtype.kind == "i" and table["start"][0].startswith("2017-")
    assert table.meta["min_duration"] == 0.3 == read_header(tmp_path / "segments.csv")["min_duration"]
    first = table[(table["event"] == "A") & (table["spacecraft"] == "mms1")][0]
    gse = np.array(data.attrs["position_gse"]) / 6371.2
    assert first["x_gsm"] == pytest.approx(gse[0], abs=0.006)  # GSE and GSM share their x axis
    assert np.hypot(first["y_gsm"], first["z_gsm"]) == pytest.approx(np.hypot(gse[1], gse[2]), abs=0.01)


def test_stability_is_in_the_table_where_the_store_has_it(healthy: Path) -> None:
    from mms_regions.store.stretches import stretches_table

    data = open_segment(healthy, "A", 1).load()
    stability = data["label"].astype(np.float32).copy(data=np.linspace(0, 1, data.sizes["time"], dtype=np.float32))
    rows = stretches_table([data.assign(stability=stability)], "test").decode().splitlines()
    table = [row.split(",") for row in rows if not row.startswith("#")]
    column = table[0].index("mean_stability")
    found = [float(row[column]) for row in table[1:]]
    assert found == sorted(found) and 0 < found[0] < found[-1] < 1


def test_times_that_do_not_increase_are_no_coordinate_of_cf(healthy: Path, tmp_path: Path) -> None:
    data = open_segment(healthy, "A", 1).load()
    untouched, repeated = data.copy(deep=True), data.isel(time=[0, 1, 1, 2])
    found = as_cf(repeated, "test", "made")
    assert dict(found["b_gsm"].sizes) == {"sample": 4, "xyz": 3}
    assert found["time"].dims == ("sample",) and "axis" not in found["time"].attrs
    write_netcdf(repeated, tmp_path / "x.nc", "test", "made")
    with xr.open_dataset(tmp_path / "x.nc") as read:
        np.testing.assert_array_equal(read["time"].values, data["time"].values[[0, 1, 1, 2]])
    assert as_cf(data, "test", "made")["time"].dims == ("time",)
    xr.testing.assert_identical(data, untouched)


# In Python


def test_a_store_opens_in_python(healthy: Path, tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="mms_regions.open will be removed"):
        store = mms_regions.open(healthy)
    assert store.segments == ("A/mms1", "A/mms2", "LONG/mms1", "B/mms1", "B/mms2")
    assert store.index["event"].values.tolist() == ["A", "A", "LONG", "B", "B"]
    assert set(store.tree().children) == {"A", "LONG", "B"}
    xr.testing.assert_identical(store.segment("B", 2), mms_regions.open_segment(healthy, "B", 2))
    assert store == mms_regions.open(str(healthy))
    with pytest.raises(UsageProblem, match="no store there"):
        mms_regions.open(tmp_path)


def test_importing_the_package_brings_no_library() -> None:
    code = "import sys, mms_regions; print(sorted({'numpy', 'xarray', 'zarr', 'torch', 'pyspedas'} & set(sys.modules)))"
    environment = {"PYTHONPATH": str(Path(mms_regions.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"


def test_to_tplot_puts_variables_and_a_strip_of_regions_into_pyspedas(
    healthy: Path, tmp_path: Path, pyspedas: Any
) -> None:
    data = open_segment(healthy, "LONG", 1)
    names = mms_regions.put_into_pyspedas(data, ["b_gsm", "ne", "electron_spectrum_omni"])
    assert names == [f"mms1_{name}" for name in ("b_gsm", "ne", "electron_spectrum_omni", "probability", "region")]
    assert set(pyspedas.tplot_names(quiet=True)) == set(names)
    field = pyspedas.get_data("mms1_b_gsm", dt=True)
    np.testing.assert_array_equal(field.times.astype("datetime64[ns]"), data["time"].values)
    np.testing.assert_array_equal(field.y, data["b_gsm"].values)
    strip = pyspedas.get_data("mms1_region").y
    label = data["label"].values
    np.testing.assert_array_equal(np.isnan(strip[:, 0]), label == NO_LABEL)
    np.testing.assert_array_equal(strip[label != NO_LABEL, 1], label[label != NO_LABEL])
    pyspedas.tplot(names, display=False, save_png=str(tmp_path / "picture"))
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_to_tplot_takes_all_that_can_be_drawn_and_refuses_what_is_not_there(healthy: Path, pyspedas: Any) -> None:
    data = open_segment(healthy, "A", 2)
    names = mms_regions.put_into_pyspedas(data)
    assert {"mms2_j_dot_e_prime", "mms2_vi_gsm", "mms2_electron_spectrum_par", "mms2_region"} <= set(names)
    assert set(pyspedas.tplot_names(quiet=True)) == set(names)
    with pytest.raises(UsageProblem, match="no nonsense to put into pyspedas; there are b_gsm"):
        mms_regions.put_into_pyspedas(data, ["nonsense"])


def test_a_segment_of_an_open_store_is_drawn(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MMS_DATA_DIR", "SPEDAS_DATA_DIR", "MMS_REGIONS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    figure = mms_regions.plot_segment(open_segment(healthy, "A", 1), title="A title")
    assert "A title" in {text.get_text() for text in figure.texts}
    assert {"B (nT)", "electrons (eV)", "probability (1)"} <= {axes.get_ylabel() for axes in figure.axes}


def test_a_dataset_without_all_that_is_drawn_is_refused_by_name(healthy: Path, tmp_path: Path) -> None:
    data = open_segment(healthy, "A", 1)
    for some, missing in (
        (data.drop_vars("electron_energy"), "electron_energy"),
        (data[["label", "ve_gsm"]], "probability"),
    ):
        with pytest.raises(ValueError, match=f"there is no {missing}.* in these data; give a segment as"):
            mms_regions.plot_segment(some, data_dir=tmp_path)
        with pytest.raises(ValueError, match=missing):
            mms_regions.plot_segment(some)
    fewer = data.isel(region=slice(5))
    with pytest.raises(ValueError, match="label names 6 regions, and probability has 5; give a segment as"):
        mms_regions.plot_segment(fewer)


def test_what_to_be_careful_about_is_in_netcdf_files_and_in_the_table(healthy: Path) -> None:
    data = open_segment(healthy, "LONG", 1).load()
    data["vi_gsm"].values[:600] = 0.0
    found, caution = cautions(data), as_cf(data, "a test", "today")["caution"].values
    table = pd.read_csv(io.BytesIO(stretches_table([data], "a test")), comment="#")
    for mask, name, flags in ((1, "slow_outflow", found["slow_outflow"]), (2, "wrong_side", found["wrong_side"])):
        assert 0 < flags.sum() < found.labelled.sum()
        np.testing.assert_array_equal((caution & mask) != 0, flags)
        assert (table[name] * table["samples"]).sum() == pytest.approx(flags.sum(), abs=0.1)
