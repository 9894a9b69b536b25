"""The synthetic CDF files say what their scene says, and are made like the files of the archive."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycdfpp
import pytest
from cdf_files import EPOCH_FILL, PRODUCTS, Scene, constant, relabel_spacecraft, take_rows, truncate, write_files
from hypothesis import given, settings
from hypothesis import strategies as st

START = "2017-05-28T03:58:22"
START_NS = int(np.datetime64(START, "ns").astype(np.int64))

# Types in the files of the archive, read from level-2 files (FPI v3.4.0, FGM v5.96.0, EDP v3.0.0).
MOMENTS = ("numberdensity", "bulkv_gse", "prestensor_gse", "heatq_gse", "temppara", "tempperp", "energy")
TYPES = {
    "dis": {
        **{"Epoch": "TIME_TT2000", "Epoch_plus_var": "REAL4", "Epoch_minus_var": "REAL4"},
        **{f"mms4_dis_{name}_brst": "REAL4" for name in MOMENTS},
        **{f"mms4_dis_{name}_brst": "REAL4" for name in ("numberdensity_bg", "pres_bg", "energyspectr_omni")},
        "mms4_dis_errorflags_brst": "UINT4",
    },
    "des": {
        **{"Epoch": "TIME_TT2000", "Epoch_plus_var": "REAL4", "Epoch_minus_var": "REAL4"},
        **{f"mms4_des_{name}_brst": "REAL4" for name in MOMENTS},
        **{f"mms4_des_energyspectr_{way}_brst": "REAL4" for way in ("omni", "par", "perp", "anti")},
        "mms4_des_errorflags_brst": "UINT4",
    },
    "fgm": {
        **{"Epoch": "TIME_TT2000", "Epoch_state": "TIME_TT2000", "mms4_fgm_flag_brst_l2": "UINT4"},
        **{f"mms4_fgm_{name}_brst_l2": "REAL4" for name in ("b_gse", "b_gsm", "r_gse")},
    },
    **{
        f"edp_{mode}": {
            f"mms4_edp_epoch_{mode}_l2": "TIME_TT2000",
            f"mms4_edp_dce_gse_{mode}_l2": "REAL4",
            f"mms4_edp_quality_{mode}_l2": "UINT1",
            f"mms4_edp_bitmask_{mode}_l2": "UINT2",
        }
        for mode in ("brst", "fast")
    },
}


def ramp() -> Scene:
    """A scene whose every field grows linearly, with a slope of its own per component."""
    shapes = {name: np.shape(getattr(Scene(), name)(np.zeros(1)))[1:] for name in (f.name for f in fields(Scene))}
    slopes = {name: 1.0 + np.arange(np.prod(shape)).reshape(shape) for name, shape in shapes.items()}
    return Scene(**{name: lambda t, s=slope: 1.0 + np.multiply.outer(t, s) for name, slope in slopes.items()})


def read(path: Path, name: str) -> np.ndarray:
    values = pycdfpp.load(str(path))[name]
    is_time = values.type == pycdfpp.DataType.CDF_TIME_TT2000
    return pycdfpp.to_datetime64(values).astype(np.int64) if is_time else values.values


def texts(path: Path, name: str) -> dict[str, object]:
    """The attributes of a variable that a reader goes by."""
    kept = ("FILLVAL", "VALIDMIN", "VALIDMAX", "UNITS", "VAR_TYPE", "DEPEND_0", "DEPEND_1", "COORDINATE_SYSTEM")
    return {key: a.value for key, a in pycdfpp.load(str(path))[name].attributes.items() if key in kept}


def types(path: Path) -> dict[str, tuple[str, tuple[int, ...], bool]]:
    """CDF type, shape of a record, and whether there is only one record, by variable."""
    return {
        name: (variable.type.name.removeprefix("CDF_"), tuple(variable.shape[1:]), variable.is_nrv)
        for name, variable in pycdfpp.load(str(path)).items()
    }


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


def test_folders_names_and_versions(tmp_path: Path) -> None:
    paths = write_files(tmp_path, 4, START + ".7", 0.3, version={"des": "3.4.1"})
    assert tuple(paths) == PRODUCTS
    day = tmp_path / "mms4/fpi/brst/l2/des-moms/2017/05/28"
    assert paths["des"] == day / "mms4_fpi_brst_l2_des-moms_20170528035822_v3.4.1.cdf"
    fgm = tmp_path / "mms4/fgm/brst/l2/2017/05/28/mms4_fgm_brst_l2_20170528035822_v5.96.0.cdf"
    assert paths["fgm"] == fgm and fgm.is_file()
    attributes = pycdfpp.load(str(paths["des"])).attributes
    assert attributes["Data_version"][0] == "3.4.1"
    assert attributes["Logical_source"][0] == "mms4_fpi_brst_l2_des-moms"
    assert attributes["Logical_file_id"][0] == paths["des"].stem
    assert attributes["Source_name"][0] == "MMS4>MMS Satellite Number 4"
    assert attributes["TEXT"][0] == "SYNTHETIC DATA, NOT A MEASUREMENT"


def test_types_are_those_of_the_archive(tmp_path: Path) -> None:
    for product, path in write_files(tmp_path, 4, START, 0.3).items():
        assert {name: kind for name, (kind, _, _) in types(path).items()} == TYPES[product]


def test_types_shapes_and_attributes_are_those_of_the_reference_files(tmp_path: Path, reference: Path) -> None:
    inputs = reference / "reference" / "A-mms4" / "inputs"
    for path in write_files(tmp_path, 4, START, 0.3).values():
        theirs, ours = types(inputs / path.relative_to(tmp_path)), types(path)
        assert ours == {name: theirs[name] for name in ours}
        for name in (name for name in ours if "epoch" not in name.lower()):
            assert texts(path, name) == texts(inputs / path.relative_to(tmp_path), name)


@pytest.mark.parametrize(
    ("utc", "tt2000"),
    [("2016-12-31T23:59:59", 536_500_867_184_000_000), ("2017-01-01T00:00:00", 536_500_869_184_000_000)],
)
def test_times_count_leap_seconds(tmp_path: Path, utc: str, tt2000: int) -> None:
    path = write_files(tmp_path, 2, utc, 0.3, products=["fgm"])["fgm"]
    assert pycdfpp.load(str(path))["Epoch"].values["nseconds"][0] == tt2000


def test_cdflib_reads_the_same(tmp_path: Path) -> None:
    cdflib = pytest.importorskip("cdflib")
    for path in write_files(tmp_path, 4, START, 0.3, ramp()).values():
        ours, theirs = pycdfpp.load(str(path)), cdflib.CDF(path)
        assert set(theirs.cdf_info().zVariables) == set(ours.keys())
        for name, variable in ours.items():
            is_time = variable.type == pycdfpp.DataType.CDF_TIME_TT2000
            values = variable.values["nseconds"] if is_time else variable.values
            np.testing.assert_array_equal(np.ravel(theirs.varget(name)), np.ravel(values))
            assert theirs.varinq(name).Data_Type_Description == variable.type.name


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


@settings(max_examples=20, deadline=None)
@given(milliseconds=st.integers(1, 3000), begin=st.integers(1_430_000_000_000, 1_780_000_000_000))
def test_samples_lie_in_the_interval_and_fill_it(
    tmp_path_factory: pytest.TempPathFactory, milliseconds: int, begin: int
) -> None:
    start = str(np.datetime64(begin, "ms"))
    path = write_files(tmp_path_factory.mktemp("cdf"), 1, start, milliseconds / 1000, products=["edp_brst"])
    time = read(path["edp_brst"], "mms1_edp_epoch_brst_l2") - begin * 10**6
    end = milliseconds * 10**6
    assert time[0] == 0 and end - 122_071 <= time[-1] < end
    np.testing.assert_array_equal(time, np.arange(len(time)) * 10**9 // 8192)
