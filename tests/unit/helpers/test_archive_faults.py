"""Faults: those that cannot be, those drawn at random, and files of them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.core.errors import InputProblem
from mms_regions.synthetic.faults import KINDS, Fault, RandomFaults, read_faults


@pytest.mark.parametrize(
    "wrong",
    [
        dict(kind="gone"),
        dict(kind="busy", where="here"),
        dict(kind="flipped", where="listing"),
        dict(kind="busy", times=-1),
        dict(kind="slow", seconds=float("nan")),
        dict(kind="busy", match="("),
    ],
)
def test_a_fault_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputProblem, match=r"\.$"):
        Fault(**wrong)


@given(seed=st.integers(), share=st.floats(0.0, 1.0), most=st.integers(0, 3))
def test_random_faults_hang_on_nothing_but_seed_file_and_turn(seed: int, share: float, most: int) -> None:
    drawn = [RandomFaults(seed, share, KINDS, most).fault("download", "a.cdf", turn) for turn in range(8)]
    again = [RandomFaults(seed, share, KINDS, most).fault("download", "a.cdf", turn) for turn in reversed(range(8))]
    assert drawn == again[::-1]
    struck = [fault for fault in drawn if fault]
    assert len(struck) <= most
    assert all(fault.kind != "wrong_size" for fault in struck)
    assert share < 1 or len(struck) == most


def test_random_faults_strike_the_share_that_is_asked_for() -> None:
    random = RandomFaults(seed=1, share=0.2)
    struck = sum(random.fault("download", f"file {n}", 0) is not None for n in range(2000))
    assert struck == pytest.approx(400, abs=60)


# What TOML allows in a string, escaped as JSON does.
PATTERNS = st.text(st.characters(codec="utf-8", exclude_characters="\x7f")).map(re.escape)
FAULTS = st.builds(
    Fault,
    kind=st.sampled_from(sorted(set(KINDS) - {"wrong_size", "new_version", "flipped"})),
    where=st.sampled_from(["listing", "download", "both"]),
    match=PATTERNS,
    times=st.integers(0, 9),
    seconds=st.floats(0.0, 1e6) | st.integers(0, 60),
)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def table(fault: Fault) -> str:
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in asdict(fault).items()]
    return "\n".join(["[[fault]]", *lines, ""])


@given(faults=st.lists(FAULTS, max_size=3))
def test_faults_are_read_back_from_a_file_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, faults: list[Fault]
) -> None:
    path = written(tmp_path_factory.getbasetemp() / "faults.toml", "".join(map(table, faults)))
    assert read_faults(path) == tuple(faults)


def test_a_fault_in_a_file_needs_its_kind_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "faults.toml", '[[fault]]\nkind = "busy"\n[[fault]]\nkind = "stall"\nseconds = 2\n')
    assert read_faults(path) == (Fault("busy"), Fault("stall", seconds=2.0))


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ('kind = "gone"', "no fault 'gone'"),
        ("", "kind is missing"),
        ("kind = 3", "kind must be a string, not 3"),
        ('kind = ["busy"]', "kind must be a string"),
        ('kind = "busy"\ntime = 2', "no 'time'; its fields are kind, where, match, times, seconds"),
        ('kind = "busy"\ntimes = true', "times must be an integer, not True"),
        ('kind = "busy"\ntimes = 1.0', "times must be an integer, not 1.0"),
        ('kind = "busy"\nseconds = "1"', "seconds must be a number, not '1'"),
        ('kind = "busy"\nseconds = nan', "0 or more"),
        ('kind = "busy"\nmatch = 7', "match must be a string"),
        ('kind = "busy"\nmatch = "("', "no regular expression"),
        ('kind = "flipped"\nwhere = "listing"', "not listing"),
    ],
)
def test_a_table_that_is_no_fault_is_named_by_its_number(tmp_path: Path, second: str, told: str) -> None:
    path = written(tmp_path / "faults.toml", f'[[fault]]\nkind = "busy"\n[[fault]]\n{second}\n')
    with pytest.raises(InputProblem, match=rf"faults\.toml, \[\[fault\]\] 2: .*{re.escape(told)}.*\.$"):
        read_faults(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[[fault", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"times = " + b"9" * 5000, "is not TOML"),
        (b'[fault]\nkind = "busy"', "begin each fault with"),
        (b'fault = ["busy"]', "begin each fault with"),
        (b'[[faults]]\nkind = "busy"', "there is no 'faults' here"),
    ],
)
def test_a_file_that_is_no_list_of_faults_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_bytes(content)
    with pytest.raises(InputProblem, match=rf"faults\.toml.*{told}.*\.$"):
        read_faults(path)


def test_a_file_that_is_absent_or_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputProblem, match=r"no file .*faults\.toml.*\.$"):
        read_faults(tmp_path / "faults.toml")
    with pytest.raises(InputProblem, match=rf"{re.escape(str(tmp_path))} cannot be read.*\.$"):
        read_faults(tmp_path)
