"""One file into the cache against a real HTTP server: whole under its name, or not there, whatever goes wrong."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from archive_faults import Fault, Kind, LoopbackArchive, Request
from cdf_files import Scene, relabel_spacecraft, truncate, write_files

from mms_regions.archive.cdf_check import Inspected, inspect
from mms_regions.archive.download import FileSpec, Obtained, StaleListing, check_cached, obtain
from mms_regions.archive.http import Client, Limits, NetworkProblem
from mms_regions.archive.products import CdfFile, file_named
from mms_regions.core.errors import EnvironmentProblem, SegmentProblem
from mms_regions.core.files import sha256_of
from mms_regions.core.messages import BytesArrived, FetchEvent, Quarantined, TransferDone, TransferStarted, Waiting

QUICK = Limits(connect_timeout=2, read_timeout=0.3, attempts=3, wait_initial=0.01, wait_max=0.02)


NOISE = Scene(e_gse=lambda t: np.random.default_rng(0).normal(size=(len(t), 3)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A burst of a noisy electric field, 300 kB, most of it compressed, in a folder to serve; only to be read."""
    folder = tmp_path_factory.mktemp("served")
    write_files(folder, 4, "2017-07-11T22:34:00", 2.0, NOISE, products=["edp_brst"])
    return folder


@pytest.fixture
def own_served(served: Path, tmp_path: Path) -> Path:
    """A copy of it, to spoil."""
    return Path(shutil.copytree(served, tmp_path / "served"))


def the_file(folder: Path) -> Path:
    return next(folder.rglob("*.cdf"))


def wanted(archive: LoopbackArchive, served: Path, cache: Path) -> FileSpec:
    """The one file, as a listing of the server describes it."""
    path = the_file(served)
    file = file_named(path.name, cache)
    assert file
    return FileSpec(file, f"{archive.sdc_url}/download/science?file={path.name}", path.stat().st_size)


def downloads(archive: LoopbackArchive) -> list[Request]:
    return [request for request in archive.requests if request.name]


def left_over(cache: Path) -> list[str]:
    """What lies in the cache that is neither a file of the archive nor put aside."""
    files = [path.relative_to(cache) for path in cache.rglob("*") if path.is_file() and path.suffix != ".cdf"]
    return [str(path) for path in files if "quarantine" not in path.parts]


def assert_whole(cache: Path, served: Path) -> None:
    assert sha256_of(the_file(cache / "mms4")) == sha256_of(the_file(served))
    assert left_over(cache) == []


def test_a_file_comes_once_is_told_of_and_found_again(served: Path, tmp_path: Path) -> None:
    told: list[FetchEvent] = []
    with LoopbackArchive(served) as archive:
        one = wanted(archive, served, tmp_path)
        first = obtain(one, tmp_path, Client(QUICK, observe=told.append))
        again = obtain(one, tmp_path, Client(QUICK))
        assert len(downloads(archive)) == 1
    assert (first.is_new, again.is_new) == (True, False) and first.sha256 == again.sha256 == sha256_of(one.file.path)
    assert told[0] == TransferStarted(one.file.name, one.size) and told[-1] == TransferDone(
        one.file.name, first.size, first.sha256, one.url
    )
    assert sum(event.count for event in told if isinstance(event, BytesArrived)) == first.size
    assert_whole(tmp_path, served)


def test_a_new_file_is_recorded_before_it_has_its_name(served: Path, tmp_path: Path) -> None:
    kept: list[Obtained] = []

    def keep(obtained: Obtained) -> None:
        assert not one.file.path.exists()
        kept.append(obtained)

    with LoopbackArchive(served) as archive:
        one = wanted(archive, served, tmp_path)
        first = obtain(one, tmp_path, Client(QUICK), keep)
        obtain(one, tmp_path, Client(QUICK), keep)
    assert kept == [first]


@pytest.mark.parametrize("kind", ["busy", "too_many", "stall", "cut", "reset", "slow", "html", "json_error", "flipped"])
def test_each_fault_alone_is_overcome_if_it_passes(served: Path, tmp_path: Path, kind: Kind) -> None:
    with LoopbackArchive(served, [Fault(kind, where="download", times=2, seconds=0.5)]) as archive:
        assert obtain(wanted(archive, served, tmp_path), tmp_path, Client(QUICK)).is_new
        assert len(downloads(archive)) <= 3
    assert_whole(tmp_path, served)


REASONS = {
    "busy": "answers 503",
    "too_many": "answers 429",
    "stall": "sends nothing for 0.3 s",
    "cut": "ends its answer too early",
    "reset": "ends its answer too early",
    "slow": "sends nothing for 0.3 s",
    "html": "sends no CDF file, but .*html",
    "json_error": "sends no CDF file, but .*error",
    "flipped": "not those that were compressed",
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_fault_that_stays_is_named_and_leaves_nothing_bad(served: Path, tmp_path: Path, kind: Kind) -> None:
    with LoopbackArchive(served, [Fault(kind, where="download", times=0, seconds=0.5)]) as archive:
        one = wanted(archive, served, tmp_path)
        with pytest.raises(NetworkProblem) as problem:
            obtain(one, tmp_path, Client(replace(QUICK, attempts=2)))
    text = str(problem.value)
    assert text.startswith(f"{one.file.name}: ") and "tried 2 times" in text and "run again later" in text
    assert re.search(REASONS[kind], text) and one.url in text and "\n" not in text
    assert not (tmp_path / "mms4").exists() or not list((tmp_path / "mms4").rglob("*.cdf"))


def test_a_cut_transfer_goes_on_where_it_ended_in_the_next_attempt(served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(served, [Fault("cut", where="download")]) as archive:
        obtain(wanted(archive, served, tmp_path), tmp_path, Client(QUICK))
        first, second = downloads(archive)
    begin = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert second.status == 206 and 0 < begin <= first.sent
    assert second.sent == the_file(served).stat().st_size - begin
    assert_whole(tmp_path, served)


def test_a_later_process_goes_on_where_an_earlier_one_gave_up(served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(served, [Fault("cut", where="download", times=1)]) as archive:
        one = wanted(archive, served, tmp_path)
        with pytest.raises(NetworkProblem):
            obtain(one, tmp_path, Client(replace(QUICK, attempts=1)))
        obtain(one, tmp_path, Client(QUICK))
        assert [request.status for request in downloads(archive)] == [200, 206]
    assert_whole(tmp_path, served)


def test_a_part_of_another_file_is_not_continued(own_served: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with LoopbackArchive(own_served, [Fault("cut", where="download", times=1)]) as archive:
        with pytest.raises(NetworkProblem):
            obtain(wanted(archive, own_served, cache), cache, Client(replace(QUICK, attempts=1)))
        write_files(own_served, 4, "2017-07-11T22:34:00", 3.0, products=["edp_brst"])
        obtain(wanted(archive, own_served, cache), cache, Client(QUICK))
        assert [request.status for request in downloads(archive)] == [200, 200]
    assert_whole(cache, own_served)


@pytest.mark.parametrize("size", [10_000, 10**9], ids=["shorter", "longer"])
def test_a_server_that_contradicts_its_listing_is_not_asked_again(served: Path, tmp_path: Path, size: int) -> None:
    with LoopbackArchive(served) as archive:
        one = replace(wanted(archive, served, tmp_path), size=size)
        with pytest.raises(StaleListing, match=f"not {size:,} as listed or pinned"):
            obtain(one, tmp_path, Client(QUICK))
    assert len(downloads(archive)) <= 1  # the client hangs up, so the server may not have noted it
    assert left_over(tmp_path) == []


def test_a_file_that_is_gone_is_a_stale_listing(served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(served) as archive:
        one = wanted(archive, served, tmp_path)
        with pytest.raises(StaleListing, match="has no such file"):
            obtain(replace(one, url=one.url.replace("v3.0.0", "v9.0.0")), tmp_path, Client(QUICK))


def test_bad_content_is_never_published(own_served: Path, tmp_path: Path) -> None:
    relabel_spacecraft(the_file(own_served), 1)
    with LoopbackArchive(own_served) as archive, pytest.raises(NetworkProblem, match="holds mms1_edp_brst_l2_dce"):
        obtain(wanted(archive, own_served, tmp_path / "cache"), tmp_path / "cache", Client(QUICK))
    assert list((tmp_path / "cache" / "mms4").rglob("*.cdf")) == [] and left_over(tmp_path / "cache") == []


def test_content_of_another_time_is_never_published(tmp_path: Path) -> None:
    write_files(tmp_path, 4, "2017-07-11T22:34:00", 1.0, products=["fgm"], epoch_offset_ns={"fgm": 7_200_000_000_000})
    with LoopbackArchive(tmp_path) as archive, pytest.raises(NetworkProblem, match="are not what its name says"):
        obtain(wanted(archive, tmp_path, tmp_path / "cache"), tmp_path / "cache", Client(QUICK))


def test_a_pinned_sha256_must_be_that_of_the_file(served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(served) as archive:
        one = wanted(archive, served, tmp_path)
        with pytest.raises(NetworkProblem, match=f"not {'0' * 64} as pinned"):
            obtain(replace(one, sha256="0" * 64), tmp_path, Client(QUICK))
        assert obtain(replace(one, sha256=sha256_of(the_file(served))), tmp_path, Client(QUICK)).is_new


def flip(path: Path) -> None:
    """One bit, in the middle, and the time of the last change as it was."""
    content, before = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("spoil", [flip, lambda path: truncate(path, 0.5), lambda path: path.write_bytes(b"")])
def test_a_bad_file_in_the_cache_is_put_aside_and_replaced(
    served: Path, tmp_path: Path, spoil: object, is_known: bool
) -> None:
    told: list[FetchEvent] = []
    with LoopbackArchive(served) as archive:
        one = wanted(archive, served, tmp_path)
        first = obtain(one, tmp_path, Client(QUICK))
        spoil(one.file.path)  # type: ignore[operator]
        bad = sha256_of(one.file.path)
        if is_known:
            one = replace(one, known_sha256=first.sha256)
        assert obtain(one, tmp_path, Client(QUICK, observe=told.append)) == first
        assert len(downloads(archive)) == 2
    (aside,) = (tmp_path / ".mms-regions" / "quarantine").iterdir()
    assert aside.name.startswith(f"{one.file.name}.2") and aside.suffix != ".cdf" and sha256_of(aside) == bad
    assert any(isinstance(event, Quarantined) for event in told)
    assert_whole(tmp_path, served)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read from end to end, each time."""
    read: list[Path] = []

    def inspected(file: CdfFile, *, sha256: str) -> Inspected:
        read.append(file.path)
        return inspect(file, sha256=sha256)

    monkeypatch.setattr("mms_regions.archive.download.inspect", inspected)
    return read


def in_folder(folder: Path) -> FileSpec:
    file = file_named(the_file(folder).name, folder)
    assert file
    return FileSpec(file)


def test_a_file_that_many_segments_need_is_read_once_by_a_process(own_served: Path, reads: list[Path]) -> None:
    one = in_folder(own_served)
    sound = check_cached(one)
    assert [check_cached(one) for _ in range(20)] == [sound] * 20 and len(reads) == 1
    assert check_cached(replace(one, known_sha256=sound.sha256)) == sound and len(reads) == 2
    with pytest.raises(SegmentProblem, match=r"has .* bytes, not 7"):
        check_cached(replace(one, size=7))
    for _ in range(2):
        with pytest.raises(SegmentProblem, match="sha256 is not the one recorded"):
            check_cached(replace(one, sha256="0" * 64))
    assert len(reads) == 4, "what is not sound is not remembered"


def replaced(path: Path) -> None:
    """The same content, size and time of the last change, in another file."""
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def touched(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize("change", [replaced, touched])
def test_a_file_that_changes_is_read_again(own_served: Path, reads: list[Path], change: Callable[[Path], None]) -> None:
    one = in_folder(own_served)
    sound = check_cached(one)
    change(one.file.path)
    assert check_cached(one) == sound and len(reads) == 2


def test_a_bad_file_in_the_place_of_a_sound_one_is_seen(own_served: Path) -> None:
    one = in_folder(own_served)
    known = replace(one, known_sha256=check_cached(one).sha256)
    check_cached(known)
    flipped = one.file.path.with_suffix(".new")
    shutil.copy2(one.file.path, flipped)
    flip(flipped)
    flipped.replace(one.file.path)
    for wish in (one, known):
        with pytest.raises(SegmentProblem, match=one.file.name):
            check_cached(wish)


def test_what_the_manifest_vouches_for_stands_though_a_listing_says_another_size(served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(served) as archive:
        one = wanted(archive, served, tmp_path)
        known = obtain(one, tmp_path, Client(QUICK)).sha256
        assert not obtain(replace(one, size=7, known_sha256=known), tmp_path, Client(QUICK)).is_new


def test_folders_of_the_cache_may_be_links_to_another_file_system(served: Path, tmp_path: Path) -> None:
    memory = Path("/dev/shm")  # noqa: S108
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at hand")
    elsewhere = memory / f"mms-regions-{os.getpid()}"
    elsewhere.mkdir()
    try:
        (tmp_path / "mms4").symlink_to(elsewhere)
        with LoopbackArchive(served) as archive:
            obtain(wanted(archive, served, tmp_path), tmp_path, Client(QUICK))
        assert [path.name for path in elsewhere.rglob("*") if path.is_file()] == [the_file(served).name]
    finally:
        shutil.rmtree(elsewhere)


def test_a_cache_that_cannot_be_written_is_a_matter_of_the_machine(served: Path, tmp_path: Path) -> None:
    (tmp_path / "mms4").touch()
    with LoopbackArchive(served) as archive, pytest.raises(EnvironmentProblem, match="cannot be written"):
        obtain(wanted(archive, served, tmp_path), tmp_path, Client(QUICK))


def test_two_processes_at_the_same_file_transfer_it_once(served: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with LoopbackArchive(served, delay=0.5) as archive:
        one = wanted(archive, served, tmp_path)
        client = Client(replace(QUICK, read_timeout=5))
        others = [context.Process(target=obtain, args=(one, tmp_path, client)) for _ in range(3)]
        for process in others:
            process.start()
        for process in others:
            process.join()
        assert [process.exitcode for process in others] == [0, 0, 0]
        assert len(downloads(archive)) == 1
    assert_whole(tmp_path, served)


def test_waiting_for_another_process_is_told_and_has_an_end(served: Path, tmp_path: Path) -> None:
    told: list[FetchEvent] = []
    with LoopbackArchive(served) as archive:
        one = wanted(archive, served, tmp_path)

        def meanwhile(event: FetchEvent) -> None:
            if isinstance(event, TransferStarted):
                with pytest.raises(NetworkProblem, match="another process has been fetching it"):
                    obtain(one, tmp_path, Client(replace(QUICK, longest_wait=0.3), observe=told.append))

        obtain(one, tmp_path, Client(QUICK, observe=meanwhile))
    assert told and all(isinstance(event, Waiting) and event.why == "another process fetches it" for event in told)
    assert_whole(tmp_path, served)


def test_a_file_that_is_larger_than_what_is_free_is_not_begun(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with LoopbackArchive(served) as archive:
        one = wanted(archive, served, tmp_path)
        with pytest.raises(EnvironmentProblem, match=f"{one.size:,} bytes are to come, and 1,000 are free; free some"):
            obtain(one, tmp_path, Client(QUICK))
    assert left_over(tmp_path) == []
