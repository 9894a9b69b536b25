"""A store as an object in a notebook: segments, tables, samples, and what it is shown as."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

import mms_regions
from mms_regions.core.errors import UsageProblem
from mms_regions.store.stretches import stretch_rows

ALL = ["A/mms1", "A/mms2", "LONG/mms1", "B/mms1", "B/mms2"]


@pytest.fixture(scope="module")
def store(healthy: Path) -> mms_regions.Store:
    return mms_regions.Store(healthy)


def test_segments_are_had_by_key_and_iterated(store: mms_regions.Store, healthy: Path) -> None:
    assert list(store) == ALL and len(store) == 5 and "A/mms1" in store and "A/mms3" not in store
    xr.testing.assert_identical(store["A/mms1"].load(), mms_regions.open_segment(healthy, "A", 1).load())
    for key, said in (("A", "is no segment"), ("Q/mms1", "holds no Q/mms1"), ("A/mms9", "is no spacecraft")):
        with pytest.raises(UsageProblem, match=said):
            store[key]
    with pytest.raises(UsageProblem, match="no store there"):
        mms_regions.Store(healthy.parent / "none.zarr")


def test_tables_are_frames(store: mms_regions.Store, healthy: Path) -> None:
    table = store.segments
    assert table.index.tolist() == ALL and set(table["status"]) == {"complete"}
    assert table.loc["A/mms1", "b0"] == mms_regions.open_segment(healthy, "A", 1).attrs["b0"]
    stretches = store.stretches(min_duration=0)
    rows = list(stretch_rows(mms_regions.open_segment(healthy, "A", 1).load(), 0))
    first = stretches[(stretches["event"] == "A") & (stretches["spacecraft"] == "mms1")]
    assert first["region"].tolist() == [row["region"] for row in rows]
    assert first["duration"].tolist() == [float(row["duration"]) for row in rows]
    assert stretches["start"].dtype.kind == "M" and stretches.attrs["units"]["b_mag"] == "nT"
    assert len(store.stretches()) <= len(stretches)


def test_samples_have_no_padding(store: mms_regions.Store, healthy: Path) -> None:
    whole, samples = xr.open_zarr(healthy, chunks=None), store.samples()
    assert samples.sizes["sample"] == int(whole["n_samples"].sum()) < whole.sizes["sample"]
    assert (samples["segment_id"].values >= 0).all()


def test_it_is_shown_with_events_spacecraft_model_and_coverage(
    store: mms_regions.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shown in (repr(store), store._repr_html_()):
        assert all(text in shown for text in ("3 events: A, LONG, B", "mms1, mms2", "first", "100%", "5 complete"))
    monkeypatch.setattr(mms_regions.Store, "cautions", ("<script>alert(1)</script>",))
    monkeypatch.setattr(store, "path", store.path)
    assert "<script>" not in store._repr_html_() and "&lt;script&gt;" in store._repr_html_()
