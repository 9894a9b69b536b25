"""The CDF files that level2 writes are made like those of the archive, and hold what they were given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pycdfpp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, Product, parse_name
from mms_regions.core.types import SECOND
from mms_regions.synthetic.cdf_writer import file_path, sample_times, unmeasured, variables, write_level2

PRODUCTS = (DIS, DES, FGM, EDP_BURST, EDP_FAST)
EACH_PRODUCT = pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.key)
RATE = {"dis": 1 / 0.15, "des": 1 / 0.03, "fgm": 128, "edp_brst": 8192, "edp_fast": 32}  # Hz
TIME, CHAR = pycdfpp.DataType.CDF_TIME_TT2000, pycdfpp.DataType.CDF_CHAR
START = int(np.datetime64("2017-05-28T03:58:22", "ns").astype(np.int64))
DAY = 86_400 * SECOND


def times(product: Product, start: int = START, count: int = 9) -> dict[str, np.ndarray]:
    """The times of a file of few rows."""
    epoch = sample_times(product, start, start + SECOND)[:count]
    return {"epoch": epoch} | ({"epoch_state": start + np.arange(2) * 30 * SECOND} if product == FGM else {})


def complete(product: Product, start: int = START) -> dict[str, np.ndarray]:
    """All variables of a file, only the times known."""
    known = times(product, start)
    return unmeasured(product, known) | known


def filled(product: Product) -> dict[str, np.ndarray]:
    """All variables of a file, every record variable with numbers of its own."""
    arrays = complete(product)
    for key, variable in variables(product).items():
        if not variable.fixed and not key.startswith("epoch"):
            arrays[key] = np.arange(arrays[key].size).reshape(arrays[key].shape) % 200 + 1
    return arrays


def write(folder: Path, product: Product, arrays: dict[str, np.ndarray], start: int = START) -> Any:
    """The CDF written from these arrays."""
    return pycdfpp.load(str(write_level2(folder, product, 4, start, arrays)))


def structure(cdf: Any) -> list[tuple[object, ...]]:
    """All of a file but its values: variables in order, how they are stored, attributes; and constants."""
    return [
        (
            name,
            v.type,
            tuple(v.shape[1:]),
            v.is_nrv,
            v.compression,
            attributes(v),
            v.values.tolist() if v.is_nrv else None,
        )
        for name, v in cdf.items()
    ]


def attributes(owner: Any) -> dict[str, tuple[object, ...]]:
    return {name: (attribute.type(), attribute.value) for name, attribute in owner.attributes.items()}


# Made like the files of the archive


REAL = {
    "dis": "mms1_fpi_brst_l2_dis-moms_20151016130524_v3.3.0.cdf",
    "des": "tail-I2/mms2/fpi/brst/l2/des-moms/2017/07/26/mms2_fpi_brst_l2_des-moms_20170726073113_v3.3.0.cdf",
    "fgm": "mms1_fgm_brst_l2_20151016130524_v4.18.1.cdf",
}
TEXTS = ("CATDESC", "FIELDNAM", "LABLAXIS", "VAR_NOTES", "FORMAT")  # in words of our own


@pytest.mark.parametrize("product", [DIS, DES, FGM], ids=lambda product: product.key)
def test_a_file_is_made_like_a_real_one(tmp_path: Path, reference: Path, product: Product) -> None:
    """Variables, types, shapes, attributes with limits and fill values, row or column major, checksum."""
    path = reference / "real" / REAL[product.key]
    file, theirs = parse_name(path), pycdfpp.load(str(path))
    assert file is not None
    version = ".".join(map(str, file.version))
    arrays = complete(product, file.start)
    ours = write_level2(tmp_path, product, file.probe, file.start, arrays, version, checksum=True)
    assert ours.name == path.name
    made = pycdfpp.load(str(ours))
    assert (made.majority, made.checksum) == (theirs.majority, theirs.checksum)
    assert {name: v.compression for name, v in made.items()} == {name: v.compression for name, v in theirs.items()}
    assert described(made) == described(theirs)
    for name in ("Data_type", "Descriptor", "Logical_source", "Logical_file_id", "Data_version", "Time_resolution"):
        assert made.attributes[name][0] == theirs.attributes[name][0], name


def described(cdf: Any) -> dict[str, tuple[object, ...]]:
    """By name of each variable: type, shape of a record, whether it is fixed, attributes but for texts for people."""
    return {
        name: (v.type, tuple(v.shape[1:]) if v.type != CHAR else (), v.is_nrv, comparable(v)) for name, v in cdf.items()
    }


def comparable(variable: Any) -> dict[str, str]:
    is_time = variable.type == TIME
    limits = ("VALIDMIN", "VALIDMAX", "FILLVAL") if is_time else ()  # times are written in another way there
    found = {name: value for name, (_, value) in attributes(variable).items() if name not in (*TEXTS, *limits)}
    return {name: str(value) for name, value in found.items()}


@pytest.mark.parametrize("product", [EDP_BURST, EDP_FAST], ids=lambda product: product.key)
def test_a_file_of_edp_is_made_like_those_of_the_archive(tmp_path: Path, reference: Path, product: Product) -> None:
    paths = sorted((reference / "reference").glob(f"*/inputs/**/mms?_{product.name}_*.cdf"))
    assert len({path.name[:4] for path in paths}) == 2  # two spacecraft
    for path in paths:
        file, theirs = parse_name(path), pycdfpp.load(str(path))
        assert file is not None
        ours = write_level2(tmp_path, product, file.probe, file.start, complete(product, file.start))
        assert path.match(f"inputs/{ours.relative_to(tmp_path)}")
        made = structure(pycdfpp.load(str(ours)))
        assert [row[:4] for row in made] == [row[:4] for row in structure(theirs)]


@EACH_PRODUCT
def test_what_attributes_refer_to_is_in_the_file(tmp_path: Path, product: Product) -> None:
    cdf = write(tmp_path, product, complete(product))
    pointers = ("DEPEND_", "LABL_PTR_", "DELTA_", "REPRESENTATION_")
    for name, variable in cdf.items():
        for attribute, (_, value) in attributes(variable).items():
            if attribute.startswith(pointers):
                assert value in cdf, f"{name}: {attribute} is {value}"
        if "DEPEND_0" in variable.attributes:
            assert len(variable) == len(cdf[variable.attributes["DEPEND_0"].value])


@EACH_PRODUCT
def test_a_file_says_what_it_is(tmp_path: Path, product: Product) -> None:
    path = write_level2(tmp_path, product, 3, START, times(product), "7.8.9")
    said = {name: attribute[0] for name, attribute in pycdfpp.load(str(path)).attributes.items()}
    assert said["TEXT"] == "SYNTHETIC DATA, NOT A MEASUREMENT"
    assert said["Logical_source"] == f"mms3_{product.name}" and said["Logical_file_id"] == path.stem
    assert said["Data_version"] == "7.8.9" and said["Source_name"] == "MMS3>MMS Satellite Number 3"


# What a file holds


@EACH_PRODUCT
def test_values_and_times_are_read_back(tmp_path: Path, product: Product) -> None:
    arrays = filled(product)
    cdf = write(tmp_path, product, arrays)
    assert len(cdf) == len(arrays)
    for key, variable in variables(product).items():
        read = cdf[variable.name.format(probe=4)]
        values = pycdfpp.to_datetime64(read).astype(np.int64) if read.type == TIME else read.values
        np.testing.assert_array_equal(values, arrays[key], err_msg=key)


@EACH_PRODUCT
def test_cdflib_reads_the_same(tmp_path: Path, product: Product) -> None:
    cdflib = pytest.importorskip("cdflib")
    path = write_level2(tmp_path, product, 4, START, filled(product))
    ours, theirs = pycdfpp.load(str(path)), cdflib.CDF(path)
    assert theirs.cdf_info().zVariables == list(ours)
    for name, variable in ours.items():
        values = variable.values["nseconds"] if variable.type == TIME else variable.values
        texts = values.astype(str) if values.dtype.kind == "S" else values
        np.testing.assert_array_equal(np.ravel(theirs.varget(name)), np.ravel(texts))
        assert theirs.varinq(name).Data_Type_Description == variable.type.name
        assert set(theirs.varattsget(name)) == set(variable.attributes)


@pytest.mark.parametrize(
    ("utc", "tt2000"),
    [("2016-12-31T23:59:59", 536_500_867_184_000_000), ("2017-01-01T00:00:00", 536_500_869_184_000_000)],
)
def test_times_count_leap_seconds(tmp_path: Path, utc: str, tt2000: int) -> None:
    start = int(np.datetime64(utc, "ns").astype(np.int64))
    assert write(tmp_path, FGM, times(FGM, start), start)["Epoch"].values["nseconds"][0] == tt2000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_not_finite_in_the_file_is_a_fill_value(tmp_path: Path, value: float) -> None:
    density = np.full(9, 0.5)
    density[3] = value
    cdf = write(tmp_path, DES, {**times(DES), "numberdensity": density})
    written = cdf["mms4_des_numberdensity_brst"]
    np.testing.assert_array_equal(written.values, np.float32([0.5] * 3 + [-1e31] + [0.5] * 5))
    assert written.attributes["FILLVAL"].value == [np.float32(-1e31)]
    np.testing.assert_equal(density[3], value)  # what the caller holds stays


def test_missing_counts_and_times_are_fill_values(tmp_path: Path) -> None:
    arrays = times(DES) | {"errorflags": np.array([0.0, np.nan] + [2.0**25] * 7)}
    arrays["epoch"][4] = -(2**63)
    cdf = write(tmp_path, DES, arrays)
    np.testing.assert_array_equal(cdf["mms4_des_errorflags_brst"].values, [0, 2**32 - 1] + [2**25] * 7)
    assert cdf["Epoch"].values["nseconds"][4] == -(2**63)


def test_only_the_given_variables_are_written_in_the_order_of_the_archive(tmp_path: Path) -> None:
    cdf = write(tmp_path, EDP_FAST, {"quality": np.full(9, 3), "dce_gse": np.zeros((9, 3)), **times(EDP_FAST)})
    assert list(cdf) == ["mms4_edp_epoch_fast_l2", "mms4_edp_dce_gse_fast_l2", "mms4_edp_quality_fast_l2"]


def test_a_file_may_have_no_rows(tmp_path: Path) -> None:
    none = {"epoch": np.empty(0, np.int64)}
    cdf = write(tmp_path, DIS, none | unmeasured(DIS, none))
    assert cdf["mms4_dis_bulkv_gse_brst"].shape == (0, 3) and cdf["Epoch_plus_var"].values == np.float32(0.15)


@EACH_PRODUCT
def test_what_was_not_measured_is_constant_or_fill(product: Product) -> None:
    arrays = unmeasured(product, times(product))
    assert arrays.keys() == variables(product).keys() - times(product).keys()
    for key, values in arrays.items():
        variable = variables(product)[key]
        assert variable.fixed or ((values == variable.fill) | (np.isnan(values) & np.isnan(variable.fill))).all()
        assert not variable.fixed or (values == variable.constant).all()


def test_the_unmeasured_needs_the_times() -> None:
    with pytest.raises(ValueError, match="follows epoch_state, which is not among the arrays"):
        unmeasured(FGM, {"epoch": np.array([START])})


def test_constants_cannot_be_spoilt_through_what_is_handed_out() -> None:
    unmeasured(DES, times(DES))["epoch_plus_var"][:] = 7
    assert unmeasured(DES, times(DES))["epoch_plus_var"] == np.float32(0.03)


# What is refused, and what a failure leaves behind


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("b_gse", np.zeros(9), "edp_brst_l2_dce has no variable b_gse; it has epoch, dce_gse"),
        ("dce_gse", np.zeros((8, 3)), r"dce_gse has shape \(8, 3\), not \(9, 3\), as many records as epoch"),
        ("dce_gse", np.zeros((9, 4)), r"dce_gse has shape \(9, 4\), not \(9, 3\)"),
        ("epoch", np.zeros((9, 1), np.int64), r"epoch has shape \(9, 1\), not \(9,\)"),
        ("deltap", np.array([1, 2]), r"deltap has shape \(2,\), not \(1,\)$"),
        ("epoch", np.zeros(9), r"epoch is float64, not int64 \(ns UTC\)"),
        ("quality", np.full(9, 256), "quality has values that UINT1 cannot hold, e.g. 256"),
        ("bitmask", np.full(9, -1), "bitmask has values that UINT2 cannot hold, e.g. -1"),
        ("quality", np.full(9, 0.5), "quality has values that UINT1 cannot hold, e.g. 0.5"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, key: str, values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_level2(tmp_path, EDP_BURST, 4, START, times(EDP_BURST) | {key: values})
    assert not list(tmp_path.iterdir())


def test_a_variable_without_its_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="r_gse follows epoch_state"):
        write_level2(tmp_path, FGM, 4, START, {"epoch": np.array([START]), "r_gse": np.zeros((2, 4))})


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = write_level2(tmp_path, FGM, 4, START, times(FGM))
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_level2(tmp_path, FGM, 4, START, complete(FGM))
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


# Names and times


@pytest.mark.parametrize(
    ("product", "version", "path"),
    [
        (DES, "", "mms4/fpi/brst/l2/des-moms/2017/05/28/mms4_fpi_brst_l2_des-moms_20170528035822_v3.4.0.cdf"),
        (DIS, "3.4.1", "mms4/fpi/brst/l2/dis-moms/2017/05/28/mms4_fpi_brst_l2_dis-moms_20170528035822_v3.4.1.cdf"),
        (FGM, "", "mms4/fgm/brst/l2/2017/05/28/mms4_fgm_brst_l2_20170528035822_v5.96.0.cdf"),
        (EDP_BURST, "", "mms4/edp/brst/l2/dce/2017/05/28/mms4_edp_brst_l2_dce_20170528035822_v3.0.0.cdf"),
        (EDP_FAST, "", "mms4/edp/fast/l2/dce/2017/05/mms4_edp_fast_l2_dce_20170528_v3.0.0.cdf"),
    ],
)
def test_files_stand_where_the_archive_keeps_them(tmp_path: Path, product: Product, version: str, path: str) -> None:
    assert file_path(product, 4, START + 700_000_000, version) == Path(path)
    assert write_level2(tmp_path, product, 4, START, times(product), version) == tmp_path / path


@given(product=st.sampled_from(PRODUCTS), probe=st.integers(1, 4), start=st.integers(1_430_000_000, 1_780_000_000))
def test_the_archive_understands_the_names(product: Product, probe: int, start: int) -> None:
    file = parse_name(file_path(product, probe, start * SECOND, "12.3.45"))
    assert file is not None and (file.probe, file.product, file.version) == (probe, product.name, (12, 3, 45))
    assert file.start == (start * SECOND if product.mode == "brst" else start * SECOND // DAY * DAY)


@given(
    product=st.sampled_from(PRODUCTS),
    begin=st.integers(1_430_000_000 * SECOND, 1_780_000_000 * SECOND),
    length=st.integers(-SECOND, 3 * SECOND),
)
def test_samples_fill_the_interval_and_lie_in_it(product: Product, begin: int, length: int) -> None:
    time, rate = sample_times(product, begin, begin + length) - begin, RATE[product.key]
    assert time.dtype == np.int64 and ((time >= 0) & (time < length)).all()
    assert abs(len(time) - max(length, 0) / SECOND * rate) <= 1 and (length <= 0 or time[0] == 0)
    assert np.abs(time - np.arange(len(time)) * SECOND / rate).max(initial=0) <= 1
    assert length <= 0 or time[-1] + SECOND / rate >= length - 1


def test_samples_do_not_drift() -> None:
    time = sample_times(EDP_BURST, START, START + 1800 * SECOND)
    np.testing.assert_array_equal(time[::8192], START + np.arange(1800) * SECOND)
    assert len(time) == 1800 * 8192 and time[-1] == START + 1800 * SECOND - 122_071
