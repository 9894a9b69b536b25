"""The ion spectrogram of a segment: what the CDF files have, on the segment's interval, or why it cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pycdfpp
import pytest
import xarray as xr
from cdf_files import Arrays, Scene, take_rows, write_files
from matplotlib.figure import Figure
from matplotlib.text import Text

import mms_regions
from mms_regions.core.errors import SegmentProblem
from mms_regions.report.ion_spectrum import ion_spectrum
from mms_regions.store.read import open_segment

Command = Callable[..., "CompletedProcess[str]"]
HALF = np.timedelta64(75, "ms")
START = "2017-07-11T22:34:00"


def in_files(paths: list[Path], probe: int, data: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres, fluxes (fill as NaN) and energies that pycdfpp finds in files, within the segment's interval."""
    time, flux, energy = [], [], []
    for path in paths:
        cdf = pycdfpp.load(str(path))
        time.append(pycdfpp.to_datetime64(cdf["Epoch"]) + HALF)
        values = np.asarray(cdf[f"mms{probe}_dis_energyspectr_omni_brst"].values)
        flux.append(np.where(values < -1e30, np.nan, values))
        energy.append(np.asarray(cdf[f"mms{probe}_dis_energy_brst"].values))
    all_times = np.concatenate(time)
    ends = [np.datetime64(data.attrs[name]) for name in ("t_start", "t_end")]
    inside = (all_times >= ends[0]) & (all_times <= ends[1])
    return all_times[inside], np.concatenate(flux)[inside], np.concatenate(energy)[inside]


@pytest.mark.parametrize(("event", "probe"), [("A", 2), ("LONG", 1)])
def test_it_is_what_the_files_hold_at_the_centres_of_accumulation(
    healthy: Path, data_dir: Path, event: str, probe: int
) -> None:
    data = open_segment(healthy, event, probe)
    found = ion_spectrum(data, data_dir)
    files = [path for path in data_dir.rglob(f"mms{probe}_*_dis-moms_*.cdf") if path.name in data.attrs["inputs"]]
    time, flux, energy = in_files(files, probe, data)
    assert len(files) == 1 and len(time) == round(data.sizes["time"] / 5) and np.ptp(flux) > 0
    np.testing.assert_array_equal(found["time"].values, time)
    np.testing.assert_array_equal(found.values, flux)
    np.testing.assert_array_equal(found["energy"].values, energy)
    assert found.dims == ("time", "energy") and found["time"].dtype == "datetime64[ns]"
    assert (found.attrs["units"], found["energy"].attrs["units"]) == ("keV cm^-2 s^-1 sr^-1 keV^-1", "eV")


@pytest.fixture(scope="module")
def gappy(
    mms_regions_here: Command, profile: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[xr.Dataset, Path]:
    """A segment of 6 s from two files, the first with a second lost and with fill values; and its data folder."""
    folder = tmp_path_factory.mktemp("gappy")

    def spoiled(arrays: Arrays) -> Arrays:
        row = np.arange(len(arrays["epoch"]))
        arrays["energyspectr_omni"] *= 1 + row[:, None].astype(np.float32) / 100
        arrays["energyspectr_omni"][20] = np.float32(-1e31)
        return take_rows(arrays, (row < 10) | (row >= 16))

    for part, start in enumerate([START, "2017-07-11T22:34:04"]):
        edit = {"dis": spoiled} if part == 0 else {}
        products = ["dis", "des", "fgm", "edp_brst"]
        write_files(folder / "data", 3, start, 4.05 if part == 0 else 4.0, Scene(), products=products, edit=edit)
    (folder / "g.csv").write_text(f"event,t_start,t_end,B0,n0,probes\nG,{START}.5,2017-07-11T22:34:07,12,0.2,3\n")
    words = ["--store", folder / "g.zarr", "--data-dir", folder / "data", "--profile", profile, "--offline"]
    done = mms_regions_here("run", folder / "g.csv", *words)
    assert done.returncode == 0, done.stderr
    return open_segment(folder / "g.zarr", "G", 3), folder / "data"


def test_missing_time_is_kept_as_rows_without_values_and_fill_is_missing_too(gappy: tuple[xr.Dataset, Path]) -> None:
    data, folder = gappy
    found = ion_spectrum(data, folder)
    time, flux, energy = in_files(sorted(folder.rglob("*_dis-moms_*.cdf")), 3, data)
    at = np.searchsorted(found["time"].values, time)
    np.testing.assert_array_equal(found["time"].values[at], time)
    np.testing.assert_array_equal(found.values[at], flux)
    assert np.isnan(flux).all(axis=1).sum() == 1, "the row of fill values"
    gap = np.setdiff1d(np.arange(found.sizes["time"]), at)
    assert len(gap) == 6 and np.isnan(found.values[gap]).all()
    np.testing.assert_array_equal(found["energy"].values[gap], energy[:6])
    steps = np.diff(found["time"].values)
    assert abs(steps - np.timedelta64(150, "ms")).max() <= np.timedelta64(50, "ms")


# Why it cannot be had


def test_a_file_that_is_gone_changed_or_in_another_folder_is_named(
    healthy: Path, own_data: Path, tmp_path: Path
) -> None:
    data = open_segment(healthy, "A", 1)
    (path,) = own_data.rglob("mms1_fpi_brst_l2_dis-moms_20170711103358*")
    with pytest.raises(
        SegmentProblem, match=f"A/mms1: the ion spectrogram .* under {tmp_path / 'none'} {path.name} is"
    ):
        ion_spectrum(data, tmp_path / "none")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(SegmentProblem, match=f"{path.name} is not the file that it was"):
        ion_spectrum(data, own_data)
    path.unlink()
    with pytest.raises(SegmentProblem, match=f"{path.name} is not there") as problem:
        ion_spectrum(data, own_data)
    assert "\n" not in str(problem.value) and "mms1_fgm" not in str(problem.value)


def test_other_files_of_the_segment_need_not_be_there(healthy: Path, own_data: Path) -> None:
    data = open_segment(healthy, "A", 1)
    for path in own_data.rglob("*.cdf"):
        if "dis-moms" not in path.name:
            path.unlink()
    assert np.isfinite(ion_spectrum(data, str(own_data))).all()


# In pictures


def labels_and_words(figure: Figure) -> tuple[set[str], str]:
    return {axes.get_ylabel() for axes in figure.axes}, " ".join(text.get_text() for text in figure.findobj(Text))


def test_a_picture_has_the_ions_where_their_files_are(
    healthy: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = mms_regions.open_segment(healthy, "A", 1)
    labels, words = labels_and_words(mms_regions.plot_segment(segment, data_dir=data_dir))
    assert {"ions (eV)", "electrons (eV)"} <= labels and "No ion spectrogram" not in words
    monkeypatch.delenv("MMS_REGIONS_DATA_DIR", raising=False)
    monkeypatch.setenv("MMS_DATA_DIR", str(data_dir))
    assert "ions (eV)" in labels_and_words(mms_regions.plot_segment(segment))[0]


def test_a_picture_without_ions_says_so_and_a_warning_says_why(
    healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = mms_regions.open_segment(healthy, "A", 1)
    with pytest.warns(UserWarning, match="without ions. A/mms1: .*dis-moms_20170711103358_v.* is not there") as told:
        labels, words = labels_and_words(mms_regions.plot_segment(segment, data_dir=tmp_path))
    assert told[0].filename == __file__
    assert "ions (eV)" not in labels and "No ion spectrogram" in words
    for name in ("MMS_DATA_DIR", "SPEDAS_DATA_DIR", "MMS_REGIONS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert (
        "No ion spectrogram" in labels_and_words(mms_regions.plot_segment(segment))[1]
    )  # and warns of nothing: no folder is named
