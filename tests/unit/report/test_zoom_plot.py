"""Panels that zoom: what is in them is what was measured, text stays text, and the same data give the same panels."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from drawn import ALL, COLOURS, ion_spectrum, whole_segment

from mms_regions.report.zoom_plot import bokeh_script, zoomable


def models(item: Any) -> Iterator[dict[str, Any]]:
    """All models of bokeh in JSON, each once."""
    if isinstance(item, list):
        for one in item:
            yield from models(one)
    elif isinstance(item, dict):
        if item.get("type") == "object" and "attributes" in item:
            yield item
        for one in item.values():
            yield from models(one)


def named(text: str) -> dict[str, dict[str, Any]]:
    """The attributes of models that have a name."""
    return {
        one["attributes"]["name"]: one["attributes"]
        for one in models(json.loads(text))
        if one["attributes"].get("name")
    }


def column(source: dict[str, Any], name: str) -> Any:
    """Of a source, as an array where it is one."""
    value = dict(source["data"]["entries"])[name]
    if isinstance(value, dict) and value.get("type") == "ndarray":
        array = np.frombuffer(gzip.decompress(b64decode(value["array"]["data"])), value["dtype"])
        return array.reshape(value["shape"])
    return value


def test_lines_are_what_was_measured_and_end_at_gaps() -> None:
    data = whole_segment(700).isel(time=np.r_[0:300, 400:700])
    lines = named(zoomable(data))["lines"]
    time = column(lines, "time")
    assert len(time) == 601 and np.isnan(column(lines, "b_gsm_x")[300])
    np.testing.assert_array_equal(np.delete(column(lines, "b_gsm_x"), 300), data["b_gsm"].values[:, 0].astype("f4"))
    first = data["time"].values[0].astype("datetime64[us]").astype(np.int64) / 1000
    assert time[0] == first and time[-1] - time[0] == pytest.approx(699 * 30)


def test_all_panels_share_one_time_axis_which_ends_with_the_samples() -> None:
    item = json.loads(zoomable(whole_segment(700), ion_spectrum(whole_segment(700))))
    figures = [one for one in models(item) if one["name"] == "Figure"]
    assert len(figures) == 9, "B, v_i, v_e, E, n, ions, electrons, probabilities, regions"
    axis = named(json.dumps(item))["time"]
    assert axis["end"] - axis["start"] == pytest.approx(699 * 30) and axis["bounds"] == [axis["start"], axis["end"]]
    shared = {json.dumps(one["attributes"]["x_range"])[:30] for one in figures[1:]}
    assert len(shared) == 1


def test_regions_are_runs_in_their_colours_and_no_label_is_apart() -> None:
    parts = named(zoomable(whole_segment(len(ALL))))
    colours = column(parts["labelled"], "colour")
    assert colours == COLOURS
    lengths = np.asarray(column(parts["labelled"], "end")) - np.asarray(column(parts["labelled"], "begin"))
    np.testing.assert_allclose(lengths, 50 * 30, atol=0.01)
    assert len(column(parts["unlabelled"], "begin")) == 1 and len(column(parts["unsure"], "begin")) == 0


def test_a_spectrogram_has_nothing_where_it_is_missing() -> None:
    (image,) = column(named(zoomable(whole_segment(700)))["electrons flux"], "image")
    levels = np.frombuffer(gzip.decompress(b64decode(image["array"]["data"])), "u1").reshape(image["shape"])
    assert levels.shape == (40, 700)
    assert (levels[:, 110:190] == 0).all() and (levels[:, 300] > 0).all()
    assert levels[0, 300] > levels[-1, 300], "the flux falls with energy, upwards"


def test_the_same_data_give_the_same_text_whatever_was_drawn_before() -> None:
    first = zoomable(whole_segment(700))
    zoomable(whole_segment(300), ion_spectrum(whole_segment(300)))
    assert zoomable(whole_segment(700)) == first


def test_a_unit_of_a_store_is_plain_text_and_no_formula() -> None:
    data = whole_segment(300)
    data["ne"].attrs["units"] = "$$\\href{x}{y}$$<script>ran=1</script>"
    labels = [one for one in models(json.loads(zoomable(data))) if one["name"] == "PlainText"]
    assert any("<script>" in one["attributes"]["text"] for one in labels)
    assert not [one for one in models(json.loads(zoomable(data))) if one["name"] in ("TeX", "HTML", "CustomJS")]


def test_without_samples_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no samples"):
        zoomable(whole_segment(300).isel(time=slice(0)))


def test_the_script_is_that_of_the_installed_package() -> None:
    import bokeh

    assert bokeh.__version__.encode() in bokeh_script()
