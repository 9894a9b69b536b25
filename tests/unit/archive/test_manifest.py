"""The manifest of a cache: exact files, read strictly, merged, written whole."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.archive.manifest import (
    Manifest,
    Pinned,
    damage_of,
    known_files,
    manifest_path,
    read_manifest,
    record,
    record_found,
    settle,
    write_manifest,
)
from mms_regions.archive.products import DES, FGM, Query
from mms_regions.core.errors import EnvironmentProblem, InputProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.messages import Waiting
from mms_regions.core.types import DAY, SECOND

SEGMENT = Segment(Event(name="A", t_start="2017-07-11T22:34:00", t_end="2017-07-11T22:36:00", B0=12.0, n0=0.1), 4)
BEGIN, END = SEGMENT.event.trange


def pin(
    tag: str = "20170711223303", version: str = "3.4.0", sha: str = "0", probe: int = 4, source: str = "sdc"
) -> Pinned:
    return Pinned(
        name=f"mms{probe}_fpi_brst_l2_des-moms_{tag}_v{version}.cdf",
        version=version,
        size=1000,
        sha256=sha * 64,
        source=source,
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


def test_that_a_file_was_there_does_not_replace_where_it_came_from() -> None:
    manifest = Manifest().merged([pin(), pin(source="cache")])
    assert manifest.files == (pin(),)
    assert manifest.merged([pin(sha="1", source="cache")]).files == (pin(sha="1", source="cache"),)
    assert Manifest().merged([pin(source="cache"), pin()]).files == (pin(),)


@given(st.lists(pins))
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, files: list[Pinned]) -> None:
    path = tmp_path_factory.mktemp("m") / "deep" / "manifest.json"
    write_manifest(path, Manifest().merged(files))
    first = path.read_bytes()
    write_manifest(path, read_manifest(path))
    assert read_manifest(path) == Manifest().merged(files)
    assert path.read_bytes() == first and first.endswith(b"\n")


def test_the_files_of_a_query_are_the_highest_versions_that_reach_it() -> None:
    manifest = Manifest().merged([pin(), pin(version="3.10.0"), pin("20170711220000"), pin("20170711223700")])
    assert [p.version for p in manifest.reaching(Query(DES, 4, BEGIN, END)).needed] == ["3.10.0"]
    assert not manifest.reaching(Query(FGM, 4, BEGIN, END))


def test_a_task_gets_only_what_is_near() -> None:
    manifest = Manifest().merged([pin(), pin("20170708223303"), pin(probe=3)])
    assert manifest.near(SEGMENT).files == (pin(),)


def tag_of(start: int) -> str:
    """The time tag of a file that starts at `start` (ns UTC), a whole second."""
    return "".join(digit for digit in str(np.datetime64(start // SECOND, "s")) if digit.isdigit())


edges = st.sampled_from([BEGIN - 2 * DAY, BEGIN, END + 2 * DAY])
starts = st.builds(lambda edge, seconds: edge + seconds * SECOND, edges, st.integers(-2, 2))


@given(st.lists(st.tuples(starts, st.integers(3, 4)), unique=True))
def test_near_is_what_a_look_at_every_file_finds(found: list[tuple[int, int]]) -> None:
    manifest = Manifest(files=tuple(pin(tag_of(start), probe=probe) for start, probe in found))
    expected = [
        pinned
        for pinned in manifest.files
        if pinned.file(Path()).probe == 4 and BEGIN - 2 * DAY < pinned.file(Path()).start < END + 2 * DAY
    ]
    assert list(manifest.near(SEGMENT).files) == expected


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
    with pytest.raises(InputProblem, match=r"m\.json cannot be used: (there is no )?files\.0") as problem:
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


def journal(data_dir: Path) -> Path:
    return manifest_path(data_dir).with_suffix(".journal")


@given(st.lists(st.lists(pins, max_size=4), max_size=6), st.integers(0, 6))
def test_what_is_recorded_is_known_at_once_and_is_the_manifest_after_a_run(
    tmp_path_factory: pytest.TempPathFactory, noted: list[list[Pinned]], settled_after: int
) -> None:
    cache, expected = tmp_path_factory.mktemp("c"), Manifest()
    for place, some in enumerate(noted):
        if place == settled_after:
            settle(cache)
        record(cache, some)
        expected = expected.merged(some)
        assert known_files(cache) == expected
    settle(cache)
    assert known_files(cache) == expected and not journal(cache).exists()
    assert expected == (read_manifest(manifest_path(cache)) if noted else Manifest())


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path) -> None:
    settle(tmp_path)
    assert list(tmp_path.iterdir()) == []
    record(tmp_path, [pin()])
    settle(tmp_path)
    before = manifest_path(tmp_path).stat().st_mtime_ns
    settle(tmp_path)
    assert manifest_path(tmp_path).stat().st_mtime_ns == before


@given(st.integers(0))
def test_a_line_that_was_cut_off_costs_no_other(tmp_path_factory: pytest.TempPathFactory, at: int) -> None:
    cache = tmp_path_factory.mktemp("c")
    first, second, third = (pin(f"201707112233{n:02}") for n in range(3))
    record(cache, [first, second])
    content = journal(cache).read_bytes()
    keep = at % (len(content) + 1)
    journal(cache).write_bytes(content[:keep])
    whole = [entry for entry, line in ((first, 1), (second, 2)) if content[:keep].count(b"}") >= line]
    assert list(known_files(cache).files) == whole
    record(cache, [third])
    assert list(known_files(cache).files) == [*whole, third]
    settle(cache)
    assert list(known_files(cache).files) == [*whole, third]


def test_a_merge_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    record(tmp_path, [pin(), pin(sha="1")])
    noted = journal(tmp_path).read_bytes()
    settle(tmp_path)
    journal(tmp_path).write_bytes(noted)
    record(tmp_path, [pin("20170711223400")])
    settle(tmp_path)
    assert known_files(tmp_path).files == (pin(sha="1"), pin("20170711223400"))


def test_a_merge_while_one_reads_does_not_bring_back_what_is_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, [pin("20170711223400")])
    settle(tmp_path)
    record(tmp_path, [pin(sha="1")])
    meanwhile = [lambda: record(tmp_path, [pin(sha="2")]), lambda: settle(tmp_path)]

    whole = Path.read_bytes

    def read(path: Path) -> bytes:
        while meanwhile and path == manifest_path(tmp_path):
            meanwhile.pop(0)()
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert known_files(tmp_path).get(pin().name) == pin(sha="2")


def record_many(data_dir: Path, probe: int, count: int) -> None:
    for n in range(count):
        record(data_dir, [pin(f"2017071122{n // 60:02}{n % 60:02}", probe=probe)])


def settle_many(data_dir: Path, stop: multiprocessing.synchronize.Event) -> None:
    while not stop.is_set():
        settle(data_dir)


@contextmanager
def settling(data_dir: Path, context: multiprocessing.context.ForkContext) -> Iterator[None]:
    """While two other processes merge the journal all the time."""
    stop = context.Event()
    settlers = [context.Process(target=settle_many, args=(data_dir, stop)) for _ in range(2)]
    for settler in settlers:
        settler.start()
    yield
    stop.set()
    for settler in settlers:
        settler.join()
        assert settler.exitcode == 0


def test_processes_that_record_merge_and_read_at_once_lose_nothing(tmp_path: Path) -> None:
    context, count = multiprocessing.get_context("fork"), 150
    writers = [context.Process(target=record_many, args=(tmp_path, probe, count)) for probe in (1, 2, 3)]
    seen: set[str] = set()
    with settling(tmp_path, context):
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            now = {pinned.name for pinned in known_files(tmp_path).files}
            assert seen <= now, "a reader missed what was merged meanwhile"
            seen = now
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(known_files(tmp_path).files) == 3 * count


def test_a_cache_that_cannot_be_written_is_a_matter_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / ".mms-regions").touch()
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        record(tmp_path, [pin()])
    assert known_files(tmp_path) == Manifest()


def test_a_full_disk_is_a_matter_of_the_machine(tmp_path: Path) -> None:
    journal(tmp_path).parent.mkdir()
    journal(tmp_path).symlink_to("/dev/full")
    with pytest.raises(EnvironmentProblem, match="cannot be written: No space left"):
        record(tmp_path, [pin()])


def test_a_file_system_without_locks_is_a_matter_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(EnvironmentProblem, match="cannot be written: No locks available"):
        record(tmp_path, [pin()])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": "all"}', "\0"])
def test_a_damaged_manifest_of_a_cache_is_said_and_rebuilt(tmp_path: Path, text: str) -> None:
    record(tmp_path, [pin()])
    settle(tmp_path)
    assert damage_of(tmp_path) == ""
    manifest_path(tmp_path).write_text(text)
    assert known_files(tmp_path) == Manifest()
    assert f"{manifest_path(tmp_path)} is damaged; 0 of its entries" in damage_of(tmp_path)
    record(tmp_path, [pin("20170711223400")])
    settle(tmp_path)
    assert damage_of(tmp_path) == ""
    assert read_manifest(manifest_path(tmp_path)).files == (pin("20170711223400"),)
    (aside,) = (tmp_path / ".mms-regions" / "quarantine").iterdir()
    assert aside.read_text() == text


def test_what_is_sound_in_a_damaged_manifest_is_kept(tmp_path: Path) -> None:
    manifest_path(tmp_path).parent.mkdir()
    entries = [pin().model_dump(), pin("20170711223400").model_dump() | {"size": -1}, 7]
    manifest_path(tmp_path).write_text(json.dumps({"format": 1, "files": entries}))
    assert known_files(tmp_path).files == (pin(),) and "; 1 of its entries" in damage_of(tmp_path)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOLCK])
def test_a_cache_that_is_closed_to_us_is_left_as_it_is(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, [pin()])

    def refuse(*args: object) -> None:
        raise OSError(code, "closed")

    monkeypatch.setattr(fcntl, "flock", refuse)
    record_found(tmp_path, [pin("20170711223400")])
    settle(tmp_path)
    assert known_files(tmp_path).files == (pin(),)
    with pytest.raises(EnvironmentProblem, match="closed"):
        record(tmp_path, [pin("20170711223400")])


def test_notes_that_cannot_be_read_count_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, [pin()])
    settle(tmp_path)

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert known_files(tmp_path) == Manifest() and damage_of(tmp_path) == ""


def test_a_lock_that_another_process_holds_is_announced_and_waited_for(tmp_path: Path) -> None:
    record(tmp_path, [pin()])
    heard: list[object] = []
    with manifest_path(tmp_path).with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def release(event: object) -> None:
            heard.append(event)
            fcntl.flock(lock, fcntl.LOCK_UN)

        settle(tmp_path, release)
    (waiting,) = heard
    assert isinstance(waiting, Waiting) and waiting.name == "manifest.lock" and "another process" in waiting.why
    assert known_files(tmp_path).files == (pin(),)


def test_a_lock_that_stays_held_is_an_error_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mms_regions.archive.manifest._LONGEST_WAIT", 0.0)
    record(tmp_path, [pin()])
    with manifest_path(tmp_path).with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentProblem, match=r"manifest\.lock: another process has held this lock"):
            record(tmp_path, [pin()])
