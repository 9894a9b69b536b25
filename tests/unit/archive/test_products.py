"""The archive's layout: which files a segment needs, the highest version of each, wherever its name puts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, Product, file_named, find_files, parse_name
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Event, Segment

PRODUCTS = (DIS, DES, FGM, EDP_BURST, EDP_FAST)
BURST_DAY = "mms4/fpi/brst/l2/des-moms/2017/07/11"
DES_NAME = "mms4_fpi_brst_l2_des-moms_{}_v{}.cdf"


def segment(t_start: str = "2017-07-11T22:34:00", t_end: str = "2017-07-11T22:36:00", probe: int = 4) -> Segment:
    return Segment(Event(name="A", t_start=t_start, t_end=t_end, B0=12.0, n0=0.1), probe)


def put(data_dir: Path, *paths: str) -> None:
    for path in paths:
        (data_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / path).touch()


def put_des(data_dir: Path, *tags: str, version: str = "3.4.0") -> None:
    """Burst electron files of mms4 with these time tags, each in the folder of its day."""
    for tag in tags:
        put(data_dir, f"mms4/fpi/brst/l2/des-moms/{tag[:4]}/{tag[4:6]}/{tag[6:8]}/{DES_NAME.format(tag, version)}")


def found(data_dir: Path, of: Segment, product: Product = DES, margin: float = 0.0) -> list[str]:
    return [file.name for file in find_files(of, [product], data_dir, margin)[product.key]]


def tags(names: list[str]) -> list[str]:
    return [name.split("_")[5] for name in names]


@pytest.mark.parametrize(
    ("product", "folder", "name"),
    [
        (DIS, "fpi/brst/l2/dis-moms/2017/07/11", "fpi_brst_l2_dis-moms_20170711223303_v3.4.0"),
        (DES, "fpi/brst/l2/des-moms/2017/07/11", "fpi_brst_l2_des-moms_20170711223303_v3.4.0"),
        (FGM, "fgm/brst/l2/2017/07/11", "fgm_brst_l2_20170711223303_v5.92.0"),
        (EDP_BURST, "edp/brst/l2/dce/2017/07/11", "edp_brst_l2_dce_20170711223303_v3.0.0"),
        (EDP_FAST, "edp/fast/l2/dce/2017/07", "edp_fast_l2_dce_20170711_v3.0.0"),
    ],
)
def test_each_product_lies_where_the_archive_keeps_it(tmp_path: Path, product: Product, folder: str, name: str) -> None:
    put(tmp_path, f"mms2/{folder}/mms2_{name}.cdf")
    assert found(tmp_path, segment(probe=2), product) == [f"mms2_{name}.cdf"]


@pytest.mark.parametrize(
    ("product", "folder", "name"),
    [
        (DIS, "fpi/brst/l2/dis-moms/2017/07", "fpi_brst_l2_dis-moms_20170711223303_v3.4.0"),
        (FGM, "fgm/brst/l2/2017/07", "fgm_brst_l2_20170711223303_v5.92.0"),
        (EDP_BURST, "edp/brst/l2/dce/2017/07", "edp_brst_l2_dce_20170711223303_v3.0.0"),
    ],
)
def test_burst_files_in_the_folders_of_months_as_mirrors_of_spdf_have_them(
    tmp_path: Path, product: Product, folder: str, name: str
) -> None:
    path = tmp_path / "mms2" / folder / f"mms2_{name}.cdf"
    put(tmp_path, str(path.relative_to(tmp_path)))
    assert [file.path for file in find_files(segment(probe=2), [product], tmp_path)[product.key]] == [path]
    named = file_named(path.name, tmp_path)
    assert named is not None and named.path == path


def test_of_two_folders_the_higher_version_is_taken_and_else_that_of_the_day(tmp_path: Path) -> None:
    month = "mms4/fpi/brst/l2/des-moms/2017/07"
    for version in ("3.4.0", "3.5.0"):
        put(tmp_path, f"{month}/{DES_NAME.format('20170711223303', version)}")
    put_des(tmp_path, "20170711223303", version="3.4.0")
    (file,) = find_files(segment(), [DES], tmp_path)[DES.key]
    assert file.path.parent == tmp_path / month and file.version == (3, 5, 0)
    file.path.unlink()
    (file,) = find_files(segment(), [DES], tmp_path)[DES.key]
    assert file.path.parent == tmp_path / BURST_DAY and file.version == (3, 4, 0)


def test_a_name_says_spacecraft_product_start_and_version() -> None:
    file = parse_name(Path("x/mms3_fgm_brst_l2_20151016130524_v4.18.1.cdf"))
    assert file is not None
    assert (file.probe, file.product, file.version, file.version_text) == (3, FGM.name, (4, 18, 1), "4.18.1")
    assert file.start == 1_445_000_724 * 10**9


@given(st.tuples(*[st.integers(0, 9999)] * 3), st.tuples(*[st.integers(0, 9999)] * 3))
def test_versions_compare_as_numbers(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    files = [
        parse_name(Path(DES_NAME.format("20170711223303", "{}.{}.{}".format(*version)))) for version in (one, other)
    ]
    assert [file.version for file in files if file] == [one, other]


@pytest.mark.parametrize("versions", [["3.9.0", "3.10.0"], ["3.10.0", "3.4.1", "3.9.9"], ["2.99.99", "3.10.0"]])
def test_of_several_versions_the_highest_number_is_taken(tmp_path: Path, versions: list[str]) -> None:
    for version in versions:
        put_des(tmp_path, "20170711223303", version=version)
    assert found(tmp_path, segment()) == [DES_NAME.format("20170711223303", "3.10.0")]


def test_versions_are_chosen_file_by_file(tmp_path: Path) -> None:
    put_des(tmp_path, "20170711223303", version="3.4.1")
    put_des(tmp_path, "20170711223303", "20170711223503")
    assert [name[-9:-4] for name in found(tmp_path, segment())] == ["3.4.1", "3.4.0"]


def test_files_that_begin_before_and_inside_the_interval_come_in_order(tmp_path: Path) -> None:
    put_des(tmp_path, "20170711223543", "20170711223303", "20170711223423", "20170711223600")
    expected = ["20170711223303", "20170711223423", "20170711223543", "20170711223600"]
    assert tags(found(tmp_path, segment())) == expected


def test_files_too_early_or_too_late_are_left_out(tmp_path: Path) -> None:
    put_des(tmp_path, "20170711213359", "20170711223303", "20170711223601", "20170712223303")
    assert tags(found(tmp_path, segment())) == ["20170711223303"]
    assert tags(found(tmp_path, segment(), margin=2.0)) == ["20170711223303", "20170711223601"]


def test_a_file_may_begin_up_to_a_second_after_the_second_that_its_name_gives(tmp_path: Path) -> None:
    """So one of the second before the interval may leave its first samples to the file before it."""
    put_des(tmp_path, "20170711223100", "20170711223359", "20170711223500")
    near = segment(t_start="2017-07-11T22:33:59.5")
    assert tags(found(tmp_path, near)) == ["20170711223100", "20170711223359", "20170711223500"]
    assert tags(found(tmp_path, segment())) == ["20170711223359", "20170711223500"]


@pytest.mark.parametrize(
    ("t_start", "t_end", "tag", "fast"),
    [
        ("2017-07-26T00:00:45", "2017-07-26T00:02:00", "20170725235853", "20170725"),
        ("2018-01-01T00:00:00.5", "2018-01-01T00:01:00", "20171231235903", "20171231"),
        ("2016-03-01T00:00:00.5", "2016-03-01T00:01:00", "20160229235903", "20160229"),
    ],
)
def test_files_of_the_day_before_are_found(tmp_path: Path, t_start: str, t_end: str, tag: str, fast: str) -> None:
    put_des(tmp_path, tag)
    put(tmp_path, f"mms4/edp/fast/l2/dce/{fast[:4]}/{fast[4:6]}/mms4_edp_fast_l2_dce_{fast}_v3.0.0.cdf")
    files = find_files(segment(t_start, t_end), [DES, EDP_FAST], tmp_path, margin=1.0)
    assert [file.name.split("_")[5] for key in ("des", "edp_fast") for file in files[key]] == [tag, fast]


def test_a_margin_over_midnight_asks_for_both_days(tmp_path: Path) -> None:
    put_des(tmp_path, "20171231235803", "20180101000000")
    over = segment("2017-12-31T23:58:30", "2017-12-31T23:59:59.5")
    assert tags(found(tmp_path, over)) == ["20171231235803"]
    assert tags(found(tmp_path, over, margin=1.0)) == ["20171231235803", "20180101000000"]


@pytest.mark.parametrize(
    "name",
    [
        "mms3_fpi_brst_l2_des-moms_20170711223303_v3.4.0.cdf",
        "mms4_fpi_brst_l2_dis-moms_20170711223303_v3.4.0.cdf",
        "mms4_fpi_brst_l2_des-dist_20170711223303_v3.4.0.cdf",
        "mms4_fpi_brst_l2_des-moms_20170711223303_v3.4.cdf",
        "mms4_fpi_brst_l2_des-moms_20170711223303_v3.4.0.cdf.part",
        "mms4_fpi_brst_l2_des-moms_20170711223303_v3.4.0.cdf~",
        ".mms4_fpi_brst_l2_des-moms_20170711223303_v3.4.0.cdf",
        "mms4_fpi_brst_l2_des-moms_20170711993303_v3.4.0.cdf",
        "mms4_fpi_brst_l2_des-moms_20171311223303_v3.4.0.cdf",
        "mms5_fpi_brst_l2_des-moms_20170711223303_v3.4.0.cdf",
        "mms4_fpi_brst_l2_des-moms_\u0662\u0660170711223303_v3.4.0.cdf",
        "copy of mms4_fpi_brst_l2_des-moms_20170711223303_v3.4.0.cdf",
    ],
)
def test_names_that_are_not_of_the_product_are_ignored(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"{BURST_DAY}/{name}")
    with pytest.raises(SegmentProblem, match="no file of fpi_brst_l2_des-moms"):
        found(tmp_path, segment())
    put_des(tmp_path, "20170711223404")
    assert tags(found(tmp_path, segment())) == ["20170711223404"]


def test_a_folder_with_the_name_of_a_file_is_no_file(tmp_path: Path) -> None:
    (tmp_path / BURST_DAY / DES_NAME.format("20170711223303", "3.4.1")).mkdir(parents=True)
    put_des(tmp_path, "20170711223303")
    (tmp_path / BURST_DAY / DES_NAME.format("20170711223303", "3.4.2")).symlink_to("not there")
    assert found(tmp_path, segment()) == [DES_NAME.format("20170711223303", "3.4.0")]


def test_all_missing_products_are_named_in_one_sentence(tmp_path: Path) -> None:
    put_des(tmp_path, "20170711223303")
    with pytest.raises(SegmentProblem) as problem:
        find_files(segment(), PRODUCTS, tmp_path)
    text = str(problem.value)
    assert text.startswith(
        "A/mms4: no file of fpi_brst_l2_dis-moms, fgm_brst_l2, edp_brst_l2_dce, edp_fast_l2_dce for "
    )
    assert "des-moms" not in text and "\n" not in text
    assert str(tmp_path) in text and "2017-07-11T22:34:00" in text and "fetch it" in text


@pytest.mark.parametrize("folder", [".", "not/there", "file"])
def test_an_empty_or_absent_data_folder_is_a_segment_problem(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SegmentProblem, match="no file of"):
        find_files(segment(), PRODUCTS, tmp_path / folder)


def test_a_folder_that_cannot_be_listed_is_a_segment_problem(tmp_path: Path) -> None:
    (tmp_path / "mms4").symlink_to("mms4")
    with pytest.raises(SegmentProblem, match="mms4/fpi/brst/l2/des-moms/2017/07/11: cannot be listed"):
        found(tmp_path, segment())


def test_folders_and_files_may_be_links(tmp_path: Path) -> None:
    put_des(tmp_path / "archive", "20170711223303")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mms4").symlink_to(tmp_path / "archive" / "mms4")
    (path,) = [file.path for file in find_files(segment(), [DES], tmp_path / "data")["des"]]
    assert path.is_relative_to(tmp_path / "data")
    (path.parent / DES_NAME.format("20170711223503", "3.4.0")).symlink_to(path)
    assert tags(found(tmp_path / "data", segment())) == ["20170711223303", "20170711223503"]
