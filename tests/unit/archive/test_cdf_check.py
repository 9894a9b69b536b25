"""Which CDF files are taken for sound: the numbers in their records fit, and values are as they were written."""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import in_a_child
import numpy as np
import pycdfpp
import pytest
from cdf_bytes import COMPRESSED, INDEX, VARIABLE, add_md5, of_kind, put
from cdf_files import EPOCH_FILL, Scene, take_rows, write_files

from mms_regions.archive import cdf_check
from mms_regions.archive.cdf_check import Inspected, Variable, inspect, read_variables
from mms_regions.archive.cdf_records import Block, check_records, check_values
from mms_regions.archive.products import CdfFile, parse_name
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.files import sha256_of

START = "2017-07-11T22:34:00"
START_NS = int(np.datetime64(START, "ns").astype(np.int64))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A magnetic field of noise; only to be read."""
    noise = Scene(b_gse=lambda t: np.random.default_rng(0).normal(size=(len(t), 3)))
    return write_files(tmp_path_factory.mktemp("written"), 4, START, 8.0, noise, products=["fgm"])["fgm"]


@pytest.fixture
def path(written: Path, tmp_path: Path) -> Path:
    """A copy of it, to spoil."""
    return Path(shutil.copy2(written, tmp_path))


def named(path: Path) -> CdfFile:
    file = parse_name(path)
    assert file is not None
    return file


def vouched_for(file: CdfFile) -> Inspected:
    """What is found in a file that is the same as it was."""
    return inspect(file, sha256=sha256_of(file.path))


def read_times(file: CdfFile) -> dict[str, Variable]:
    return read_variables(file, [file.epoch])


def problem_of(path: Path, look: Callable[[CdfFile], object] = inspect) -> str:
    with pytest.raises(SegmentProblem) as problem:
        look(named(path))
    text = str(problem.value)
    assert text.startswith(f"{path.name}: ") and text.endswith("fetch it again") and "\n" not in text
    return text


def test_a_sound_file_is_described(path: Path) -> None:
    found = inspect(named(path))
    assert (found.size, found.sha256) == (path.stat().st_size, sha256_of(path))
    assert found == vouched_for(named(path))
    assert found.content.times == (START_NS, START_NS + 1023 * 10**9 // 128)
    assert (found.content.origin, found.content.checks, found.content.remark) == ("synthetic", "used", "")


def test_a_file_without_samples_is_sound(tmp_path: Path) -> None:
    edit = {"fgm": lambda arrays: take_rows(arrays, np.zeros(len(arrays["epoch"]), bool))}
    assert (
        inspect(named(write_files(tmp_path, 4, START, 1.0, products=["fgm"], edit=edit)["fgm"])).content.times is None
    )


def test_times_that_are_fill_values_are_not_those_of_the_name(tmp_path: Path) -> None:
    def edit(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays["epoch"][-1] = EPOCH_FILL
        return arrays

    path = write_files(tmp_path, 4, START, 1.0, products=["fgm"], edit={"fgm": edit})["fgm"]
    assert "are not what its name says" in problem_of(path)


# Real files


def real_file(reference: Path, tmp_path: Path, name: str) -> CdfFile:
    """A link to a real file under a name of the archive."""
    source = reference / "real" / name
    link = tmp_path / source.with_suffix(".cdf").name
    link.symlink_to(source)
    return named(link)


@pytest.mark.parametrize(
    "name", ["mms1_fpi_brst_l2_dis-moms_20151016130524_v3.3.0.cdf", "mms1_fgm_brst_l2_20151016130524_v4.18.1.cdf"]
)
def test_real_files_are_sound_and_measured(reference: Path, tmp_path: Path, name: str) -> None:
    cdflib = pytest.importorskip("cdflib")
    file = real_file(reference, tmp_path, name)
    found = inspect(file)
    assert found.content.origin == "measured" and found.content.times is not None
    theirs = cdflib.CDF(file.path)
    names = theirs.cdf_info().zVariables
    ours = read_variables(file, names)
    assert set(ours) == set(names)
    for variable in names:
        values = ours[variable].values
        if values.dtype.kind == "f":
            np.testing.assert_array_equal(values, np.asarray(theirs.varget(variable)).reshape(values.shape))


def test_a_real_truncated_download_is_refused(reference: Path, tmp_path: Path) -> None:
    name = "mms2_fpi_brst_l2_dis-moms_20170726073113_v3.3.0.truncated"
    assert "truncated from 508,744 bytes" in problem_of(real_file(reference, tmp_path, name).path)


def test_a_deep_index_is_sound(reference: Path, tmp_path: Path) -> None:
    """NASA's library nests the indices of long variables."""
    data = (reference / "real" / "deep_index_made_by_libcdf.cdf").read_bytes()
    check_values(data, check_records(data))


# Records that do not fit. Each of these changes was taken for sound, or never ended, before.


def first(kind: int, path: Path) -> int:
    return of_kind(path.read_bytes(), kind)[0]


def to_itself(path: Path) -> None:
    start = first(INDEX, path)
    put(path, "q", start + 12, start)


def variables_in_a_circle(path: Path) -> None:
    one, two, *_ = of_kind(path.read_bytes(), VARIABLE)
    put(path, "q", two + 12, one)


def same_block_twice(path: Path) -> None:
    data = path.read_bytes()
    one, two = [i for i in of_kind(data, INDEX) if struct.unpack_from(">q", data, i + 12)[0] == 0][:2]
    size = struct.unpack_from(">i", data, one + 20)[0]
    place = struct.unpack_from(">q", data, one + 28 + 8 * size)[0]
    put(path, "q", two + 28 + 8 * struct.unpack_from(">i", data, two + 20)[0], place)


def more_records(path: Path) -> None:
    put(path, "i", of_kind(path.read_bytes(), VARIABLE)[-1] + 24, 2**30)


def huge_shape(path: Path) -> None:
    data = path.read_bytes()
    start = next(s for s in of_kind(data, VARIABLE) if struct.unpack_from(">i", data, s + 340)[0] == 1)
    put(path, "i", start + 344, 2**30)


def block_beyond_the_end(path: Path) -> None:
    put(path, "q", first(COMPRESSED, path) + 16, 2**40)


def negative_offset(path: Path) -> None:
    put(path, "q", first(VARIABLE, path) + 28, -8)


def huge_record(path: Path) -> None:
    put(path, "q", first(VARIABLE, path), 2**60)


def unknown_type(path: Path) -> None:
    put(path, "i", first(VARIABLE, path) + 20, 3)


def negative_count(path: Path) -> None:
    put(path, "i", first(2, path) + 48, -1)


def many_parameters(path: Path) -> None:
    put(path, "i", first(11, path) + 20, 2**24)


def entry_of_no_variable(path: Path) -> None:
    put(path, "i", first(9, path) + 28, 10**6)


@pytest.mark.parametrize("look", [inspect, vouched_for, read_times])
@pytest.mark.parametrize(
    "spoil",
    [
        to_itself,
        variables_in_a_circle,
        same_block_twice,
        more_records,
        huge_shape,
        block_beyond_the_end,
        negative_offset,
        huge_record,
        unknown_type,
        entry_of_no_variable,
        negative_count,
        many_parameters,
    ],
)
def test_records_that_do_not_fit_are_refused_whoever_vouches(
    path: Path, spoil: Callable[[Path], None], look: Callable[[CdfFile], object]
) -> None:
    spoil(path)
    assert "damaged" in problem_of(path, look) or "claim" in problem_of(path, look)


@pytest.mark.parametrize(("kind", "name"), [(VARIABLE, 84), (4, 68)], ids=["variable", "attribute"])
def test_names_in_latin_1_are_named_as_the_cause(path: Path, kind: int, name: int) -> None:
    put(path, "B", first(kind, path) + name, 0xE9)
    assert re.search(r"the name 'é\w+' in it is not written in UTF-8 but in Latin-1", problem_of(path))


def test_values_inflate_to_what_the_records_say_and_no_further(path: Path) -> None:
    """A block of the same compressed size that inflates to much more."""
    import gzip

    data = bytearray(path.read_bytes())
    block = block_of(path, "mms4_fgm_b_gse_brst_l2")
    bomb = gzip.compress(bytes(block.size * 800))
    assert len(bomb) <= block.size
    data[block.start : block.start + len(bomb)] = bomb
    struct.pack_into(">q", data, block.start - 8, len(bomb))
    path.write_bytes(data)
    assert "not those that were compressed" in problem_of(path)


# Checksums


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def block_of(path: Path, variable: str) -> Block:
    """The first compressed values of a variable."""
    return next(block for block in check_records(path.read_bytes()).blocks if block.variable == variable)


def values_of_times(path: Path) -> int:
    """The place of the first time, which is not compressed."""
    return of_kind(path.read_bytes(), 7)[0] + 12


def test_a_relative_path_is_of_the_folder_of_the_caller(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspect(named(path))  # the child is there, in the folder in which it began
    monkeypatch.chdir(path.parent)
    assert inspect(named(Path(path.name))).content.times is not None
    assert read_times(named(Path(path.name)))


def test_the_md5_sees_flipped_bits_where_nothing_is_compressed(path: Path) -> None:
    add_md5(path)
    assert inspect(named(path)).content.times is not None
    flip(path, values_of_times(path) + 7)
    assert "its MD5 is not the one that it carries" in problem_of(path)


@pytest.mark.parametrize("variable", ["b_gse", "flag", "r_gse"])
def test_a_flipped_bit_in_values_that_are_read_is_seen(path: Path, variable: str) -> None:
    name = f"mms4_fgm_{variable}_brst_l2"
    block = block_of(path, name)
    flip(path, block.start + block.size // 2)
    assert f"the values of {name} at byte {block.start} are not those that were compressed" in problem_of(path)


def test_values_that_nobody_reads_are_checked_where_a_file_arrives_and_not_where_it_is_used(path: Path) -> None:
    block = block_of(path, "mms4_fgm_b_gsm_brst_l2")
    sound = read_variables(named(path), named(path).reads)
    flip(path, block.start + block.size // 2)
    assert inspect(named(path)).content.checks == "used"
    damaged = read_variables(named(path), named(path).reads)
    assert set(damaged) == set(sound) == set(named(path).reads)
    for name, variable in sound.items():
        np.testing.assert_array_equal(damaged[name].values, variable.values)
    assert "the values of mms4_fgm_b_gsm_brst_l2" in problem_of(path, lambda file: inspect(file, everything=True))
    add_md5(path)
    flip(path, block.start)
    assert "its MD5 is not the one that it carries" in problem_of(path)


def test_the_md5_stands_for_the_checksums_of_blocks(path: Path) -> None:
    block = block_of(path, "mms4_fgm_b_gse_brst_l2")
    flip(path, block.start + block.size - 8)  # of the checksum itself
    assert "not those that were compressed" in problem_of(path)
    add_md5(path)
    assert inspect(named(path)).content.checks == "md5"


def test_a_md5_that_was_cut_off_is_missed(path: Path) -> None:
    add_md5(path)
    path.write_bytes(path.read_bytes()[:-4])
    assert f"truncated from {path.stat().st_size + 4:,} bytes" in problem_of(path)


# What a file says that it is


def say(path: Path, name: str, text: str | None) -> None:
    """Give a global attribute another text, or take it away."""
    cdf = pycdfpp.load(str(path))
    kept = pycdfpp.CDF()
    for attribute in cdf.attributes:
        if attribute != name:
            kept.add_attribute(attribute, [cdf.attributes[attribute][0]])
    if text is not None:
        kept.add_attribute(name, [text])
    for variable, values in cdf.items():
        kept.add_variable(variable, values=np.asarray(values.values), data_type=values.type, is_nrv=values.is_nrv)
    assert pycdfpp.save(kept, str(path))


def test_a_file_of_another_mode_is_used_with_a_remark(path: Path) -> None:
    say(path, "Logical_source", "mms4_fgm_srvy_l2")
    assert inspect(named(path)).content.remark == "says that it holds mms4_fgm_srvy_l2, another mode than its name"
    assert read_times(named(path))


@pytest.mark.parametrize("source", ["mms3_fgm_brst_l2", "mms4_edp_brst_l2", "mms4_fgm_brst_l1a", "mms4_fgm_brst_l2_x"])
def test_a_file_of_another_source_is_refused(path: Path, source: str) -> None:
    say(path, "Logical_source", source)
    assert f"holds {source}, not mms4_fgm_brst_l2" in problem_of(path)
    assert f"holds {source}" in problem_of(path, read_times)


def test_a_file_that_does_not_say_that_it_is_synthetic_was_measured(path: Path) -> None:
    say(path, "TEXT", None)
    assert inspect(named(path)).content.origin == "measured"


def test_a_file_that_is_far_too_large_is_not_read(path: Path) -> None:
    os.truncate(path, 5 << 30)  # of holes
    assert "has 5,368,709,120 bytes, more than a file of MMS" in problem_of(path)


# What is kept open


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of files as they are opened; all of it in this process, and no file counts as changed just now."""
    names: list[str] = []

    def load(path: Path, *others: Any) -> tuple[Any, str]:
        names.append(path.name)
        return loaded(path, *others)

    loaded = cdf_check._load
    monkeypatch.setattr(cdf_check, "_load", load)
    monkeypatch.setattr(cdf_check, "SECOND", 0)
    monkeypatch.setattr(cdf_check, "run_isolated", lambda function, *arguments: function(*arguments))
    cdf_check._open_files.cache_clear()
    yield names
    cdf_check._open_files.cache_clear()


@pytest.fixture(scope="module")
def two_of_each(tmp_path_factory: pytest.TempPathFactory) -> list[CdfFile]:
    """The files of a segment that goes over the end of a file of each product."""
    folder = tmp_path_factory.mktemp("two")
    starts = START, str(np.datetime64(START) + np.timedelta64(8, "s"))
    products = ("dis", "des", "fgm", "edp_brst")
    written = [write_files(folder, 4, start, 8.0, products=products) for start in starts]
    return [named(found[product]) for product in products for found in written]


def test_each_file_of_a_segment_is_opened_once(two_of_each: list[CdfFile], opened: list[str]) -> None:
    """They were opened again to be read, where they were more than five: a fifth of the time of a segment."""
    for file in two_of_each:
        vouched_for(file)
    found = [read_times(file)[file.epoch].values for file in two_of_each]
    assert sorted(opened) == sorted(file.name for file in two_of_each)
    assert all(len(times) for times in found)
    vouched_for(two_of_each[-1])  # of the next segment
    assert len(opened) == len(two_of_each)


def test_files_that_are_too_large_together_are_opened_again(
    two_of_each: list[CdfFile], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdf_check, "_KEPT", sum(file.path.stat().st_size for file in two_of_each[4:]))
    for file in two_of_each:
        vouched_for(file)
    for file in two_of_each:
        assert len(read_times(file)[file.epoch].values)
    assert len(two_of_each) < len(opened) < 2 * len(two_of_each)


def test_a_file_that_was_replaced_is_opened_again(path: Path, opened: list[str]) -> None:
    inspect(named(path))
    other = Scene(b_gse=lambda t: np.ones((len(t), 3)))
    write_files(path.parent / "other", 4, START, 2.0, other, products=["fgm"])["fgm"].replace(path)
    assert len(read_times(named(path))["Epoch"].values) == 256
    assert opened == [path.name] * 2


# What a library may do


def test_a_file_that_ends_its_reader_is_a_problem_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mms_regions.archive.cdf_check._inspect", in_a_child.die_of_file)
        assert "the process that read it was ended by SIGSEGV" in problem_of(path)
    assert isinstance(inspect(named(path)), Inspected)
