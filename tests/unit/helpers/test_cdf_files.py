"""The CDF files of the tests say what their scene says, and can be spoilt in every way that a test needs."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycdfpp
import pytest
from cdf_files import EPOCH_FILL, PRODUCTS, Scene, constant, relabel_spacecraft, take_rows, truncate, write_files

START = "2017-05-28T03:58:22"
START_NS = int(np.datetime64(START, "ns").astype(np.int64))


def ramp() -> Scene:
    """A scene whose every field grows linearly, with a slope of its own per component."""
    shapes = {name: np.shape(getattr(Scene(), name)(np.zeros(1)))[1:] for name in (f.name for f in fields(Scene))}
    slopes = {name: 1.0 + np.arange(np.prod(shape)).reshape(shape) for name, shape in shapes.items()}
    return Scene(**{name: lambda t, s=slope: 1.0 + np.multiply.outer(t, s) for name, slope in slopes.items()})


def read(path: Path, name: str) -> np.ndarray:
    values = pycdfpp.load(str(path))[name]
    is_time = values.type == pycdfpp.DataType.CDF_TIME_TT2000
    return pycdfpp.to_datetime64(values).astype(np.int64) if is_time else values.values


@pytest.mark.parametrize(
    ("product", "epoch", "name", "field", "period", "delay"),
    [
        ("dis", "Epoch", "mms3_dis_bulkv_gse_brst", "v_i", 150e6, 0.075),
        ("dis", "Epoch", "mms3_dis_numberdensity_brst", "n_i", 150e6, 0.075),
        ("dis", "Epoch", "mms3_dis_numberdensity_bg_brst", "n_bg", 150e6, 0.075),
        ("dis", "Epoch", "mms3_dis_pres_bg_brst", "p_bg", 150e6, 0.075),
        ("dis", "Epoch", "mms3_dis_prestensor_gse_brst", "p_i", 150e6, 0.075),
        ("des", "Epoch", "mms3_des_bulkv_gse_brst", "v_e", 30e6, 0.015),
        ("des", "Epoch", "mms3_des_numberdensity_brst", "n_e", 30e6, 0.015),
        ("des", "Epoch", "mms3_des_prestensor_gse_brst", "p_e", 30e6, 0.015),
        ("fgm", "Epoch", "mms3_fgm_b_gse_brst_l2", "b_gse", 1e9 / 128, 0.0),
        ("edp_brst", "mms3_edp_epoch_brst_l2", "mms3_edp_dce_gse_brst_l2", "e_gse", 1e9 / 8192, 0.0),
    ],
)
def test_values_are_the_scene_at_the_sample_times(
    tmp_path: Path, product: str, epoch: str, name: str, field: str, period: float, delay: float
) -> None:
    path = write_files(tmp_path, 3, START, 1.2, ramp(), products=[product])[product]
    time, values = read(path, epoch), read(path, name)
    assert time[0] == START_NS and len(time) == np.ceil(1.2e9 / period)
    assert np.abs(np.diff(time) - period).max() <= 1
    expected = getattr(ramp(), field)((time - START_NS) / 1e9 + delay)
    got = values[:, :3] if product == "fgm" else values
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_fast_field_covers_a_minute_on_both_sides(tmp_path: Path) -> None:
    path = write_files(tmp_path, 1, START, 2.0, ramp(), products=["edp_fast"])["edp_fast"]
    time = read(path, "mms1_edp_epoch_fast_l2")
    assert time[0] == START_NS - 60 * 10**9 and time[-1] == START_NS + 62 * 10**9 - 31_250_000
    assert path.relative_to(tmp_path) == Path("mms1/edp/fast/l2/dce/2017/05/mms1_edp_fast_l2_dce_20170528_v3.0.0.cdf")


def test_products_and_versions_are_those_asked_for(tmp_path: Path) -> None:
    paths = write_files(tmp_path, 4, START + ".7", 0.3, version={"des": "3.4.1"})
    assert tuple(paths) == PRODUCTS and all(path.is_file() for path in paths.values())
    assert paths["des"].name == "mms4_fpi_brst_l2_des-moms_20170528035822_v3.4.1.cdf"
    assert paths["dis"].name == "mms4_fpi_brst_l2_dis-moms_20170528035822_v3.4.0.cdf"


def test_missing_values_of_a_scene_are_fill_values(tmp_path: Path) -> None:
    scene = replace(ramp(), n_e=lambda t: np.where(t < 0.1, np.nan, 2.0))
    path = write_files(tmp_path, 4, START, 0.3, scene, products=["des"])["des"]
    variable = pycdfpp.load(str(path))["mms4_des_numberdensity_brst"]
    np.testing.assert_array_equal(variable.values, np.float32([-1e31] * 3 + [2.0] * 7))
    assert variable.attributes["FILLVAL"].value == [np.float32(-1e31)]
    assert read(path, "mms4_des_temppara_brst")[0] == np.float32(-1e31)


def test_the_scene_counts_from_its_origin(tmp_path: Path) -> None:
    scene = Scene(n_e=lambda t: t)
    args: dict[str, Any] = {"products": ["des"], "origin": "2017-05-28T03:58:12", "epoch_offset_ns": {"des": 7_000_000}}
    path = write_files(tmp_path, 4, START, 0.3, scene, **args)["des"]
    assert read(path, "Epoch")[0] == START_NS + 7_000_000
    assert read(path, "mms4_des_numberdensity_brst")[0] == np.float32(10.022)


def test_temperatures_follow_the_field(tmp_path: Path) -> None:
    scene = Scene(b_gse=constant([0, 0, 5]), n_e=constant(0.5), p_e=constant(np.diag([0.1, 0.1, 0.4])))
    path = write_files(tmp_path, 4, START, 0.1, scene, products=["des"])["des"]
    assert read(path, "mms4_des_temppara_brst")[0] == pytest.approx(0.4e-15 / 0.5 / 1.602177e-19, rel=1e-6)
    assert read(path, "mms4_des_tempperp_brst")[0] == pytest.approx(0.1e-15 / 0.5 / 1.602177e-19, rel=1e-6)


def test_gsm_field_is_that_of_the_instrument_team(tmp_path: Path) -> None:
    """One sample of mms1_fgm_brst_l2_20151016130524_v4.18.1, GSE and GSM as published."""
    scene = Scene(b_gse=constant([-8.070198, 13.696482, -21.878048]))
    path = write_files(tmp_path, 1, "2015-10-16T13:06:35.177666304", 0.1, scene, products=["fgm"])["fgm"]
    got = read(path, "mms1_fgm_b_gsm_brst_l2")[0]
    np.testing.assert_allclose(got, [-8.070198, 1.1829082, -25.784557, 27.043865], atol=0.05)


def test_edited_files_have_gaps_fills_and_missing_variables(tmp_path: Path) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = take_rows(arrays, [0, 1, 5, 4, 6])
        arrays["epoch"][0] = EPOCH_FILL
        arrays["errorflags"][1] = 2**25
        del arrays["heatq_gse"], arrays["epoch_plus_var"]
        return arrays

    path = write_files(tmp_path, 4, START, 0.3, products=["des"], edit={"des": spoil})["des"]
    cdf = pycdfpp.load(str(path))
    assert "mms4_des_heatq_gse_brst" not in cdf and "Epoch_plus_var" not in cdf
    assert cdf["Epoch"].values["nseconds"][0] == EPOCH_FILL
    np.testing.assert_array_equal((read(path, "Epoch")[1:] - START_NS) // 10**6, [30, 150, 120, 180])
    np.testing.assert_array_equal(read(path, "mms4_des_errorflags_brst"), [0, 2**25, 0, 0, 0])


def test_edits_are_written_as_they_are(tmp_path: Path) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays["b_gse"][0] = np.inf
        return {**arrays, "b_gse": arrays["b_gse"][:5, :3], "r_gse": arrays["r_gse"][:1]}

    path = write_files(tmp_path, 4, START, 0.3, products=["fgm"], edit={"fgm": spoil})["fgm"]
    b_gse = read(path, "mms4_fgm_b_gse_brst_l2")
    assert b_gse.shape == (5, 3) and np.isinf(b_gse[0]).all() and np.isfinite(b_gse[1:]).all()
    assert read(path, "mms4_fgm_r_gse_brst_l2").shape == (1, 4)


def test_all_rows_can_be_taken_away(tmp_path: Path) -> None:
    edit = {"fgm": lambda arrays: take_rows(arrays, [False] * 13)}
    path = write_files(tmp_path, 4, START, 0.1, products=["fgm"], edit=edit)["fgm"]
    assert read(path, "mms4_fgm_b_gse_brst_l2").shape == (0, 4)


def test_a_truncated_file_is_shorter(tmp_path: Path) -> None:
    path = write_files(tmp_path, 4, START, 0.3, products=["fgm"])["fgm"]
    whole = path.read_bytes()
    truncate(path, 0.5)
    assert path.read_bytes() == whole[: len(whole) // 2]


def test_a_relabelled_file_is_that_of_another_spacecraft(tmp_path: Path) -> None:
    path = write_files(tmp_path / "4", 4, START, 0.3, ramp(), products=["fgm"])["fgm"]
    other = write_files(tmp_path / "2", 2, START, 0.3, ramp(), products=["fgm"])["fgm"]
    relabel_spacecraft(path, 2)
    assert path.name.startswith("mms4") and path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("words", [{"products": ["fpi"]}, {"edit": {"dse": dict}}, {"version": {"des-moms": "3.4.0"}}])
def test_unknown_products_are_refused(tmp_path: Path, words: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="No such product"):
        write_files(tmp_path, 4, START, 0.3, **words)


def test_a_scene_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Scene.v_e gave shape \(10,\)"):
        write_files(tmp_path, 4, START, 0.3, Scene(v_e=lambda t: t), products=["des"])
