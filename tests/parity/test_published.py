"""Convention `published` against what the published code, unmodified, made of the same files: features to labels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, find_files
from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.types import Floats, Times
from mms_regions.model.label import as_windows, label_windows
from mms_regions.model.weights import import_published, load_model
from mms_regions.physics.burst import fill_values, read_burst
from mms_regions.physics.published import published_samples, published_variables
from mms_regions.physics.samples import FEATURES, Samples

# Which of the variables need the direction of the averaged field, and so mean nothing where that is zero.
DIRECTED = ("_para", "_perp", "_perp_xyz")


@dataclass(frozen=True)
class Case:
    """A reference case: what the package makes of its inputs, and where the published results are."""

    prefix: str  # mms4
    folder: Path
    samples: Samples
    variables: dict[str, xr.DataArray]

    def csv(self, name: str) -> list[list[str]]:
        """The rows of a published CSV file after its header."""
        with (self.folder / f"{self.prefix}_{name}.csv").open(newline="") as file:
            return list(csv.reader(file))[1:]

    def saved(self, file: str) -> dict[str, Floats]:
        """The variables of vars.npz or vars_norm.npz, and under `..__t` their times."""
        with np.load(self.folder / file) as arrays:
            return dict(arrays)

    def has_no_direction(self, variable: str) -> np.ndarray:
        """(n,) bool: rows in which a variable along or across the averaged field is undefined, that field being 0."""
        if not variable.endswith(DIRECTED) or variable.startswith(f"{self.prefix}_T"):  # T is not from this average
            return np.zeros(len(self.variables[variable]), bool)
        return (self.variables[f"{self.prefix}_B_des"].values == 0).all(axis=1)


@pytest.fixture(scope="module", params=["A-mms4", "D-mms2"])
def case(request: pytest.FixtureRequest, reference: Path) -> Case:
    event, _, prefix = request.param.partition("-")
    folder = reference / "reference" / request.param
    (segment,) = read_catalogue("rogers2023").segments(event, prefix.removeprefix("mms"))
    files = find_files(segment, (DIS, DES, FGM, EDP_BURST, EDP_FAST), folder / "inputs")
    burst = read_burst(files, segment.event.trange, fill_values)
    samples, variables = published_samples(burst, segment.event), published_variables(burst, segment.event)
    return Case(prefix, folder / "published", samples, variables)


def nanoseconds(seconds: Floats) -> Times:
    return np.round(seconds * 1e9).astype(np.int64)


def test_features_and_their_times(case: Case) -> None:
    rows = case.csv("nndata")
    published = np.array([[float(value or "nan") for value in row[1:]] for row in rows])
    time = np.array([row[0] for row in rows], "datetime64[ns]").astype(np.int64)
    assert published.shape == (len(case.samples), len(FEATURES))
    assert np.isnan(published).any()  # the comparison of gaps is not idle
    np.testing.assert_allclose(case.samples.features, published, rtol=0, atol=1e-6, equal_nan=True)
    assert np.abs(case.samples.time - time).max() <= 1000


def test_the_columns_are_in_the_published_order(case: Case) -> None:
    with (case.folder / f"{case.prefix}_nndata.csv").open() as file:
        assert file.readline().strip() == "," + ",".join(FEATURES)


@pytest.mark.parametrize("file", ["vars.npz", "vars_norm.npz"])
def test_every_saved_variable(case: Case, file: str) -> None:
    saved = case.saved(file)
    names = [name for name in saved if not name.endswith("__t")]
    assert names and set(names) <= set(case.variables)
    wrong = {name: found for name in names if (found := differences(case, name, saved))}
    assert not wrong


def differences(case: Case, name: str, saved: dict[str, Floats]) -> str:
    """What is wrong with one variable, as a text; empty where it is reproduced."""
    mine, published = case.variables[name].values, saved[name]
    if mine.shape != published.shape:
        return f"shape {mine.shape}, published {published.shape}"
    late = np.abs(case.variables[name]["time"].values.astype(np.int64) - nanoseconds(saved[f"{name}__t"])).max()
    if late > 1000:
        return f"times differ by up to {late} ns"
    rows = ~case.has_no_direction(name)
    if (np.isnan(mine) != np.isnan(published))[rows].any():
        return "NaN in other places"
    scale = np.nanmax(np.abs(published))
    close = np.isclose(mine, published, rtol=1e-5, atol=1e-6 * scale, equal_nan=True)
    return "" if close[rows].all() else f"{(~close[rows]).sum()} values differ"


def test_the_averaged_field_is_zero_in_the_last_row_alone(case: Case) -> None:
    """All that `test_every_saved_variable` leaves out: one row, 0 by a slip, where a direction is undefined.

    The published files have NaN there in one case and a direction in the other; here it is NaN in both.
    """
    last = len(case.samples) - 1
    left_out = [name for name in case.variables if case.has_no_direction(name).any()]
    assert len(left_out) == 22
    for name in left_out:
        assert np.flatnonzero(case.has_no_direction(name)).tolist() == [last]
        assert np.isnan(case.variables[name].values[last]).all()
    assert not case.saved("vars.npz")[f"{case.prefix}_B_des"][last].any()


def test_labels_and_confidence(case: Case, reference: Path, tmp_path: Path) -> None:
    environ = {"MMS_REGIONS_MODEL_DIR": str(tmp_path)}
    model = load_model(import_published(reference / "models" / "best_model", environ))
    windows = as_windows(case.samples.features)
    found = label_windows(model, windows, withheld=np.zeros(windows.shape[:2], bool))
    label = found.label.reshape(-1)[: len(case.samples)]
    confidence = found.probability.max(axis=2).reshape(-1)[: len(case.samples)]

    rows = case.csv("probs")
    predicted = np.array([int(row[0]) for row in rows])
    published = np.array([float(row[1] or "nan") for row in rows])
    labelled = np.isfinite(published)
    assert labelled.any() and not labelled.all()
    assert np.array_equal(label, np.where(labelled, predicted, -1))
    np.testing.assert_allclose(confidence, published, rtol=0, atol=1e-5, equal_nan=True)
