"""The public Python interface: what its docstrings show works, and it gives what the store and the commands give."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import mms_regions
from mms_regions.core.errors import InputProblem, UsageProblem
from mms_regions.core.regions import regions_of
from mms_regions.export.netcdf import as_cf
from mms_regions.physics.samples import QUALITY_BITS
from mms_regions.store.read import open_segment

FUNCTIONS = [name for name in mms_regions.__all__ if inspect.isfunction(getattr(mms_regions, name))]
NUMPYDOC = ("Parameters\n", "Returns\n", "Raises\n", "Examples\n", ">>> ")


@pytest.fixture
def folder(
    healthy: Path, catalogue: Path, data_dir: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working folder of the examples: the store a.zarr, events.csv, and the CDF files in mms."""
    for path, name in ((healthy, "a.zarr"), (healthy.with_name("all.zarr.run"), "a.zarr.run"), (data_dir, "mms")):
        shutil.copytree(path, tmp_path / name)
    shutil.copy(catalogue, tmp_path / "events.csv")
    for name in [name for name in os.environ if name.startswith(("MMS_", "SPEDAS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MMS_REGIONS_MODEL_DIR", str(model_dir))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_example_of_each_function_works(name: str) -> None:
    function = getattr(mms_regions, name)
    text = inspect.getdoc(function) or ""
    assert all(part in text for part in NUMPYDOC), f"{name} lacks {[part for part in NUMPYDOC if part not in text]}"
    globs = {public: getattr(mms_regions, public) for public in mms_regions.__all__}
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=globs)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner().run(example, out=said.append)
    assert tried and not failed, "".join(said)


def test_no_public_name_is_that_of_a_folder_or_of_a_builtin() -> None:
    folders = {path.name for path in Path(mms_regions.__file__).parent.iterdir() if path.is_dir()}
    assert not set(mms_regions.__all__) & (folders | set(dir(__builtins__)))
    assert (Path(mms_regions.__file__).parent / "py.typed").is_file()
    assert dir(mms_regions) == sorted(mms_regions.__all__)


@pytest.mark.parametrize(("event", "probe"), [("A", 2), ("LONG", 1)])
def test_labels_are_those_of_the_store_bit_for_bit(folder: Path, event: str, probe: int) -> None:
    data = mms_regions.open_segment("a.zarr", event, probe).load()
    found = mms_regions.label(data, model=mms_regions.load_model("first"), device="cpu")
    np.testing.assert_array_equal(found["label"], data["label"])
    np.testing.assert_array_equal(found["probability"], data["probability"])
    np.testing.assert_array_equal(found["time"], data["time"])
    for flags in (found["label"].attrs, data["label"].attrs):
        assert flags["flag_values"].tolist() == list(range(-1, 6)) and flags["flag_meanings"].startswith("no_label ")
    assert found["label"].attrs["flag_meanings"] == data["label"].attrs["flag_meanings"]


def test_what_people_open_has_energies_as_a_coordinate_and_flags_as_cf_wants_them(folder: Path) -> None:
    """The store itself has not: nothing of it changes."""
    kept = open_segment("a.zarr", "A", 1)
    assert "electron_energy" in kept.data_vars and "no_label" not in kept["label"].attrs["flag_meanings"]
    for data in (mms_regions.open_segment("a.zarr", "A", 1), mms_regions.open_tree("a.zarr")["A/mms1"].to_dataset()):
        assert "electron_energy" in data.coords and data["quality"].attrs["standard_name"] == "quality_flag"
        assert data["label"].attrs["flag_values"].dtype == np.int8
        assert regions_of(data["label"].attrs) == regions_of(kept["label"].attrs)
        as_netcdf = as_cf(data, "", "")["label"].attrs
        assert as_netcdf["flag_meanings"] == data["label"].attrs["flag_meanings"], "each flag once"


def test_features_alone_are_labelled_and_missing_or_bridged_samples_are_not(folder: Path) -> None:
    data = mms_regions.open_segment("a.zarr", "A", 1).load()
    features = data["features"].values.copy()
    features[40, 3] = np.nan
    found = mms_regions.label(features, model="first", device="cpu")
    assert found["label"].dims == ("sample",)
    assert (np.flatnonzero(found["label"] == -1) == np.arange(40, 64)).all(), "to the end of its window"
    assert np.isnan(found["probability"].values[40:64]).all()
    data["quality"].values[10] |= QUALITY_BITS["bridged"]
    assert np.flatnonzero(mms_regions.label(data, model="first")["label"] == -1).tolist() == [10]


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_used_is_a_sentence() -> None:
    with pytest.raises(UsageProblem, match=r"features are \(n, 14\): Bx By .*; these are \(3, 13\)"):
        mms_regions.label(np.zeros((3, 13)), model="first")
    with pytest.raises(InputProblem, match="no model 'nobody'"):
        mms_regions.load_model("nobody")
    with pytest.raises(UsageProblem, match="no store there"):
        mms_regions.open_segment("none.zarr", "A", 1)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mms_regions.nonsense


def test_a_tilde_is_the_home_folder(folder: Path) -> None:
    assert mms_regions.open_segment("~/a.zarr", "A", 1).sizes["time"] == 200
    assert mms_regions.read_catalogue("~/events.csv").events[0].name == "A"
    where = {"events": "A", "probes": 1, "data_dir": "~/mms", "offline": True, "workers": 0, "model": "first"}
    assert mms_regions.run_segments("~/events.csv", "~/new.zarr", **where).complete == ("A/mms1",)  # type: ignore[arg-type]
    assert {path.name for path in folder.iterdir()} >= {"new.zarr", "new.zarr.run"} and not (folder / "~").exists()


def test_a_segment_without_files_is_in_the_summary(folder: Path) -> None:
    for path in folder.glob("mms/mms2/**/*.cdf"):
        path.unlink()
    done = mms_regions.run_segments(
        mms_regions.read_catalogue("events.csv"),
        "new.zarr",
        events="A",
        data_dir="mms",
        offline=True,
        workers=0,
        model="first",
    )
    assert (done.complete, done.failed, list(done.no_data)) == (("A/mms1",), {}, ["A/mms2"])


def test_the_older_names_work_and_warn(folder: Path) -> None:
    with pytest.warns(DeprecationWarning, match="mms_regions.open will be removed in the next version"):
        older = mms_regions.open("a.zarr")
    xr.testing.assert_identical(older.segment("A", 1), mms_regions.open_segment("a.zarr", "A", 1))
    with pytest.warns(DeprecationWarning, match=r"mms_regions\.reading\.open_segment .* use mms_regions\.open_segment"):
        opened = importlib.import_module("mms_regions.reading").open_segment
    assert opened("a.zarr", "A", 1).sizes["time"] == 200


def test_a_public_name_imports_only_what_it_needs() -> None:
    code = (
        "import sys, mms_regions; mms_regions.read_catalogue; print(*{'torch', 'zarr', 'matplotlib'} & {*sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mms_regions.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == ""


def test_a_segment_is_read_without_importing_dask_array(folder: Path) -> None:
    """xarray would, to copy a variable, and `run` reads what it has labelled."""
    code = (
        "import sys, mms_regions; print(mms_regions.open_segment(sys.argv[1], 'A', 1).load().sizes['time']); "
        "print(*{'dask.array', 'scipy.sparse'} & {*sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mms_regions.__file__).parents[1])}
    command = [sys.executable, "-c", code, str(folder / "a.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["200"]
