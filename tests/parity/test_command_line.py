"""The whole line from the command: CDF files and the authors' weights in, the published CSV files out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mms_regions.physics.samples import FEATURES

CASES = [("A", 4), ("D", 2)]


@pytest.fixture(scope="module")
def exported(
    published_stores: Mapping[str, Path], command: Callable[..., int], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], Path]:
    """The folder of exported CSV files of a case, labelled with the imported model."""
    folder = tmp_path_factory.mktemp("csv")
    for store in published_stores.values():
        assert command("export", store, "--format", "csv", "--out", folder) == 0
    return lambda event, probe: folder / f"{event}_mms{probe}"


@pytest.fixture(params=CASES, ids=[f"{event}-mms{probe}" for event, probe in CASES])
def tables(
    request: pytest.FixtureRequest, reference: Path, exported: Callable[[str, int], Path]
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """By file: ours, and the published one."""
    event, probe = request.param
    ours, published = exported(event, probe), reference / "reference" / f"{event}-mms{probe}" / "published"

    def read(folder: Path, name: str) -> pd.DataFrame:
        index = dict(index_col=0, parse_dates=True) if name == "nndata" else {}
        return pd.read_csv(folder / f"mms{probe}_{name}.csv", **index)

    return {name: (read(ours, name), read(published, name)) for name in ("nndata", "labels", "probs")}


Tables = dict[str, tuple[pd.DataFrame, pd.DataFrame]]


def test_times_and_columns_are_the_published_ones(tables: Tables) -> None:
    ours, published = tables["nndata"]
    assert tuple(ours.columns) == tuple(published.columns) == FEATURES
    assert len(ours) == len(published) > 500
    assert np.abs(ours.index - published.index).max() <= pd.Timedelta(1, "us")


def test_features_are_the_published_ones(tables: Tables) -> None:
    ours, published = (table.to_numpy() for table in tables["nndata"])
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(published))
    np.testing.assert_allclose(ours, published, rtol=0, atol=1e-6)


def test_labels_and_confidences_are_the_published_ones_and_empty_where_something_is_missing(tables: Tables) -> None:
    ours, published = tables["probs"]
    there = np.isfinite(published["Confidence"].to_numpy())
    assert there.sum() > 100
    np.testing.assert_array_equal(ours["Predicted"][there], published["Predicted"][there])
    np.testing.assert_allclose(ours["Confidence"][there], published["Confidence"][there], rtol=0, atol=1e-5)
    assert (published["Predicted"][~there] == 0).all()  # what is missing is class 0 there
    assert ours[~there].isna().all(axis=None)
    pd.testing.assert_series_equal(tables["labels"][0]["Predicted"], ours["Predicted"])
