"""The manifest of a cache: exact files, read strictly, merged, written whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.archive import DES, FGM
from mms_regions.catalogue import Event, Segment
from mms_regions.errors import EnvironmentProblem, InputProblem
from mms_regions.manifest import (
    Manifest,
    Pinned,
    known_files,
    manifest_path,
    read_manifest,
    record,
    write_manifest,
)
from mms_regions.servers import Wish

SEGMENT = Segment(Event(name="A", t_start="2017-07-11T22:34:00", t_end="2017-07-11T22:36:00", B0=12.0, n0=0.1), 4)
BEGIN, END = SEGMENT.event.trange


def pin(tag: str = "20170711223303", version: str = "3.4.0", sha: str = "0", probe: int = 4) -> Pinned:
    return Pinned(
        name=f"mms{probe}_fpi_brst_l2_des-moms_{tag}_v{version}.cdf",
        version=version,
        size=1000,
        sha256=sha * 64,
        source="sdc",
        url="https://archive/x",
        fetched="2026-11-22T20:01:19Z",
    )


pins = st.builds(
    pin,
    st.integers(0, 59).map("201707112233{:02}".format),
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map("3.{0[0]}.{0[1]}".format),
    st.sampled_from("0123456789abcdef"),
)


@given(st.lists(pins), st.lists(pins))
def test_newer_entries_take_the_place_of_older_ones(old: list[Pinned], new: list[Pinned]) -> None:
    merged = Manifest().merged(old).merged(new)
    expected = {pinned.name: pinned for pinned in [*old, *new]}
    assert {pinned.name: pinned for pinned in merged.files} == expected
    assert [pinned.name for pinned in merged.files] == sorted(expected)
    assert merged.merged(new) == merged


@given(st.lists(pins))
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, files: list[Pinned]) -> None:
    path = tmp_path_factory.mktemp("m") / "deep" / "manifest.json"
    write_manifest(path, Manifest().merged(files))
    first = path.read_bytes()
    write_manifest(path, read_manifest(path))
    assert read_manifest(path) == Manifest().merged(files)
    assert path.read_bytes() == first and first.endswith(b"\n")


def test_the_files_of_a_wish_are_the_highest_versions_that_reach_it() -> None:
    manifest = Manifest().merged([pin(), pin(version="3.10.0"), pin("20170711220000"), pin("20170711223700")])
    assert [p.version for p in manifest.chosen(Wish(DES, 4, BEGIN, END))] == ["3.10.0"]
    assert manifest.chosen(Wish(FGM, 4, BEGIN, END)) == ()


def test_a_task_gets_only_what_is_near() -> None:
    manifest = Manifest().merged([pin(), pin("20170708223303"), pin(probe=3)])
    assert manifest.near(SEGMENT).files == (pin(),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../../x"}, "name"),
        ({"name": "/mms4_fpi_brst_l2_des-moms_20170711223303_v3.4.0.cdf"}, "name"),
        ({"name": "mms4_fpi_brst_l2_des-dist_20170711223303_v3.4.0.cdf"}, "name"),
        ({"version": "3.4.1"}, "version 3.4.1 is not that of"),
        ({"size": "1000"}, "size"),
        ({"size": 0}, "size"),
        ({"sha256": "0" * 63}, "sha256"),
        ({"sha256": "0" * 64 + "\n"}, "sha256"),
        ({"source": "elsewhere"}, "source"),
        ({"fetched": "yesterday"}, "fetched"),
        ({"path": "/etc"}, "path"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"format": 1, "files": [pin().model_dump() | change]}))
    with pytest.raises(InputProblem, match=r"m\.json cannot be used: files\.0") as problem:
        read_manifest(path)
    assert words in str(problem.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', "\0", '{"files": "all"}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InputProblem, match="cannot be used"):
        read_manifest(tmp_path / "m.json")


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"files": [pin().model_dump(), pin(sha="1").model_dump()]}))
    with pytest.raises(InputProblem, match="names a file twice"):
        read_manifest(tmp_path / "m.json")


def test_an_absent_manifest_is_a_problem_where_one_is_named_and_none_for_a_cache(tmp_path: Path) -> None:
    with pytest.raises(InputProblem, match="There is no manifest"):
        read_manifest(tmp_path / "m.json")
    assert known_files(tmp_path) == Manifest()


def test_recording_merges_into_the_manifest_of_the_cache(tmp_path: Path) -> None:
    record(tmp_path, [pin()])
    assert record(tmp_path, [pin("20170711223400"), pin(sha="1")]).files == (pin(sha="1"), pin("20170711223400"))
    assert read_manifest(manifest_path(tmp_path)) == known_files(tmp_path)
    before = manifest_path(tmp_path).stat().st_mtime_ns
    record(tmp_path, [pin(sha="1")])
    assert manifest_path(tmp_path).stat().st_mtime_ns == before


def test_a_cache_that_cannot_be_written_is_a_matter_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / ".mms-regions").touch()
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        record(tmp_path, [pin()])
