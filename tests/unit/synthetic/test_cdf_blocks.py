"""Long variables lie in blocks of 64 KiB under a nested index, and every reader finds them there."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pycdfpp
import pytest

from mms_regions.archive.cdf_check import inspect
from mms_regions.archive.products import DES, EDP_BURST, parse_name
from mms_regions.core.errors import SegmentProblem
from mms_regions.synthetic.cdf_blocks import BLOCK, with_values
from mms_regions.synthetic.cdf_writer import sample_times, write_level2

START = int(np.datetime64("2016-12-31T23:59:50", "ns").astype(np.int64))  # ten seconds before a leap second


def electric(folder: Path, seconds: int) -> tuple[Path, np.ndarray, np.ndarray]:
    """A file of the burst field; its path, times and values."""
    time = sample_times(EDP_BURST, START, START + seconds * 10**9)
    values = np.random.default_rng(1).normal(size=(len(time), 3)).astype(np.float32)
    path = write_level2(folder, EDP_BURST, 4, START, {"epoch": time, "dce_gse": values}, checksum=True)
    return path, time, values


def index_of(path: Path, name: str) -> list[tuple[int, int, int]]:
    """(depth, entries, entries in use) of every index record of a variable, as the file has them."""
    file = path.read_bytes()
    gdr = struct.unpack_from(">q", file, 20)[0]
    at = struct.unpack_from(">q", file, gdr + 20)[0]
    while file[at + 84 : at + 340].split(b"\0")[0].decode() != name:
        at = struct.unpack_from(">q", file, at + 12)[0]
    found, waiting = [], [(0, struct.unpack_from(">q", file, at + 28)[0])]
    while waiting:
        depth, record = waiting.pop()
        _, kind, _, entries, used = struct.unpack_from(">qiqii", file, record)
        places = struct.unpack_from(f">{entries}q", file, record + 28 + 8 * entries)[:used]
        assert kind == 6
        found.append((depth, entries, used))
        waiting += [(depth + 1, place) for place in places if struct.unpack_from(">i", file, place + 8)[0] == 6]
    return found


def test_the_index_is_nested_as_nasas_library_nests_it(tmp_path: Path) -> None:
    path, time, _ = electric(tmp_path, 60)
    found = index_of(path, "mms4_edp_dce_gse_brst_l2")
    blocks = -(-len(time) // (BLOCK // 12))
    leaves = [used for _, entries, used in found if entries == 7]
    assert sum(leaves) == blocks and max(depth for depth, _, _ in found) >= 2
    assert {entries for _, entries, _ in found} == {3, 7}


def test_two_libraries_read_the_values_and_the_leap_second(tmp_path: Path) -> None:
    cdflib = pytest.importorskip("cdflib")
    path, time, values = electric(tmp_path, 30)
    ours, theirs = pycdfpp.load(str(path)), cdflib.CDF(path, validate=True)  # with its MD5
    assert ours.checksum == pycdfpp.Checksum.md5_checksum
    name, epoch = "mms4_edp_dce_gse_brst_l2", "mms4_edp_epoch_brst_l2"
    np.testing.assert_array_equal(ours[name].values, values)
    np.testing.assert_array_equal(theirs.varget(name), values)
    tt2000 = ours[epoch].values.view(np.int64)
    np.testing.assert_array_equal(theirs.varget(epoch), tt2000)
    np.testing.assert_array_equal(pycdfpp.to_datetime64(ours[epoch]).astype(np.int64), time)


def test_tensors_are_column_major_in_the_file_and_themselves_when_read(tmp_path: Path) -> None:
    cdflib = pytest.importorskip("cdflib")
    time = sample_times(DES, START, START + 120 * 10**9)
    values = np.random.default_rng(1).normal(size=(len(time), 3, 3)).astype(np.float32)  # not symmetric
    path = write_level2(tmp_path, DES, 4, START, {"epoch": time, "prestensor_gse": values})
    ours, theirs = pycdfpp.load(str(path)), cdflib.CDF(path)
    assert ours.majority == pycdfpp.Majority.column
    for found in (ours["mms4_des_prestensor_gse_brst"].values, theirs.varget("mms4_des_prestensor_gse_brst")):
        np.testing.assert_array_equal(found, values)


def test_a_sound_file_is_accepted_and_a_flipped_bit_in_a_block_is_not(tmp_path: Path) -> None:
    path, _, _ = electric(tmp_path, 60)
    file = parse_name(path)
    assert file is not None
    inspect(file)
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(SegmentProblem):
        inspect(file)


def test_a_variable_that_is_not_there_is_refused() -> None:
    cdf = pycdfpp.CDF()
    cdf.majority = pycdfpp.Majority.column
    with pytest.raises(ValueError, match="has no variable x"):
        with_values(bytes(pycdfpp.save(cdf)), {"x": np.zeros(3)})
