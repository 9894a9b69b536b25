"""The files of segments against a real HTTP server with faults: planned, fetched, killed, mixed up, checked offline."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archive_faults import Fault, LoopbackArchive, RandomFaults
from cdf_files import Scene, take_rows, truncate, write_files

from mms_regions.archive.fetch import FetchOptions, check_offline, fetch_segment, files_of, plan_segment
from mms_regions.archive.http import Limits, NetworkProblem
from mms_regions.archive.manifest import Manifest, Pinned, known_files, manifest_path, read_manifest
from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, PRODUCTS, find_files
from mms_regions.archive.servers import Source
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.files import sha256_of
from mms_regions.core.messages import FetchEvent, Quarantined, Remark, Waiting, ignore_messages
from mms_regions.run.inputs import Inputs, Ledger, obtain_files
from mms_regions.workers.pool import InProcessPool

QUICK = Limits(connect_timeout=2, read_timeout=0.3, attempts=5, wait_initial=0.01, wait_max=0.02)
FIVE = len(PRODUCTS)


def segment(t_start: str = "22:34:00", t_end: str = "22:34:02", probe: int = 4, day: str = "2017-07-11") -> Segment:
    event = Event(name="A", t_start=f"{day}T{t_start}", t_end=f"{day}T{t_end}", B0=12.0, n0=0.1)
    return Segment(event, probe)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All products of mms4, each in one file, around one segment; only to be read."""
    folder = tmp_path_factory.mktemp("served")
    write_files(folder, 4, "2017-07-11T22:33:59", 2.0)
    return folder


@pytest.fixture
def own_served(served: Path, tmp_path: Path) -> Path:
    """A copy of it, to spoil."""
    return Path(shutil.copytree(served, tmp_path / "served"))


def sdc(archive: LoopbackArchive, limits: Limits = QUICK) -> Source:
    return Source("sdc", archive.sdc_url, limits)


def contents(folder: Path) -> dict[str, str]:
    """The sha256 of every file of the archive in a folder, by name."""
    return {path.name: sha256_of(path) for path in (folder).glob("mms?/**/*.cdf")}


def downloads(archive: LoopbackArchive) -> Counter[str]:
    return Counter(request.name for request in archive.requests if request.name)


@pytest.mark.parametrize("server", ["sdc", "spdf"])
def test_a_segment_comes_with_a_listing_per_product_and_a_request_per_file(
    served: Path, tmp_path: Path, server: str
) -> None:
    with LoopbackArchive(served) as archive:
        source = Source(server, getattr(archive, f"{server}_url"), QUICK)  # type: ignore[arg-type]
        pins = fetch_segment(segment(), source, FetchOptions(PRODUCTS, 1.0, tmp_path))
        assert len(archive.requests) == 2 * FIVE
        assert (
            fetch_segment(segment(), source, FetchOptions(PRODUCTS, 1.0, tmp_path, known=Manifest(files=pins))) == pins
        )
        assert len(archive.requests) == 3 * FIVE
    assert {pin.name: pin.sha256 for pin in pins} == contents(tmp_path) == contents(served)
    assert {pin.source for pin in pins} == {server} and all(pin.url.endswith(pin.name) for pin in pins)
    found = find_files(segment(), PRODUCTS, tmp_path)
    assert files_of(pins, PRODUCTS, tmp_path) == found and pickle.loads(pickle.dumps(pins)) == pins


def test_only_what_overlaps_is_brought_in_its_highest_version(tmp_path: Path) -> None:
    served = tmp_path / "served"
    for start in ("22:20:00", "22:30:00", "22:33:59", "22:34:10"):
        write_files(served, 4, f"2017-07-11T{start}", 0.5, products=["fgm"])
    write_files(served, 4, "2017-07-11T22:33:59", 0.5, products=["fgm"], version="5.100.0")
    with LoopbackArchive(served) as archive:
        pins = fetch_segment(segment(), sdc(archive), FetchOptions((FGM,), 0.0, tmp_path / "c"))
        wide = fetch_segment(segment(), sdc(archive), FetchOptions((FGM,), 10.0, tmp_path / "c"))
    assert [pin.name[17:] for pin in pins] == ["20170711223359_v5.100.0.cdf"]
    assert [pin.name[17:31] for pin in wide] == ["20170711223000", "20170711223359", "20170711223410"]


def test_the_file_of_the_day_before_is_found_across_midnight(tmp_path: Path) -> None:
    write_files(tmp_path / "served", 1, "2017-08-09T23:59:58", 5.0, products=["fgm"])
    with LoopbackArchive(tmp_path / "served") as archive:
        after = segment("00:00:00.5", "00:00:02", probe=1, day="2017-08-10")
        (pin,) = fetch_segment(after, sdc(archive), FetchOptions((FGM,), 0.0, tmp_path / "c"))
    assert pin.name[17:31] == "20170809235958"


def test_a_product_that_is_nowhere_is_named_and_nothing_is_transferred(tmp_path: Path) -> None:
    write_files(tmp_path / "served", 4, "2017-07-11T22:33:59", 1.0, products=["fgm", "des"])
    with LoopbackArchive(tmp_path / "served") as archive:
        with pytest.raises(SegmentProblem, match=r"A/mms4: .* names no file of fpi_brst_l2_dis-moms, edp_brst_l2_dce"):
            fetch_segment(segment(), sdc(archive), FetchOptions((DIS, DES, FGM, EDP_BURST), 0.0, tmp_path / "c"))
        assert not downloads(archive)


def test_a_version_that_is_replaced_after_the_listing_is_listed_again(own_served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(own_served, [Fault("new_version", where="download", match="des-moms")]) as archive:
        pins = fetch_segment(segment(), sdc(archive), FetchOptions((DES, FGM), 0.0, tmp_path / "c"))
        assert [request.status for request in archive.requests if "des-moms" in request.name] == [404, 200]
    assert pins[0].version > "3.4.0" and pins[0].sha256 == sha256_of(next(own_served.rglob("*des-moms*.cdf")))


def test_a_wrong_size_in_a_listing_is_listed_again_and_refused_if_it_stays(served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(served, [Fault("wrong_size", where="listing")]) as archive:
        assert fetch_segment(segment(), sdc(archive), FetchOptions((FGM,), 0.0, tmp_path))
    with LoopbackArchive(served, [Fault("wrong_size", where="listing", times=0)]) as archive:
        begin = time.monotonic()
        with pytest.raises(NetworkProblem, match="as listed or pinned"):
            fetch_segment(segment(), sdc(archive), FetchOptions((DES,), 0.0, tmp_path))
    assert time.monotonic() - begin < 2


def test_hostile_names_write_nothing(served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(served, hostile_listing=["../../x.cdf"]) as archive, pytest.raises(SegmentProblem):
        fetch_segment(segment(), sdc(archive), FetchOptions(PRODUCTS, 0.0, tmp_path / "a" / "b"))
    assert list(tmp_path.iterdir()) == []


def test_other_spacecraft_and_products_in_a_listing_are_left_alone(served: Path, tmp_path: Path) -> None:
    others = [f"mms{p}_{w}_20170711223359_v9.0.0.cdf" for p, w in ((3, "fgm_brst_l2"), (4, "fpi_brst_l2_des-dist"))]
    with LoopbackArchive(served, hostile_listing=others) as archive:
        fetch_segment(segment(), sdc(archive), FetchOptions((FGM,), 0.0, tmp_path))
        assert list(downloads(archive)) == list(contents(tmp_path))


def test_the_plan_says_what_is_there_bad_and_missing_and_transfers_nothing(served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(served) as archive:
        pins = fetch_segment(segment(), sdc(archive), FetchOptions((FGM, DES), 0.0, tmp_path))
        truncate(pins[1].file(tmp_path).path, 0.5)
        before = len(downloads(archive))
        plan = plan_segment(
            segment(), sdc(archive), FetchOptions((FGM, DES, DIS), 0.0, tmp_path, known=Manifest(files=pins))
        )
        assert len(downloads(archive)) == before
    assert [file.state for file in plan.files] == ["there", "bad", "missing"] and plan.remarks == ()
    sizes = {path.name: path.stat().st_size for path in served.rglob("*.cdf")}
    assert [file.name for file in plan.to_transfer] == [plan.files[1].name, plan.files[2].name]
    assert plan.bytes_to_transfer == sum(sizes[file.name] for file in plan.to_transfer)


def test_the_plan_tells_early_what_cannot_be_there(tmp_path: Path) -> None:
    write_files(tmp_path / "s", 4, "2023-08-01T22:33:59", 1.0, products=["dis", "edp_brst"], version={"dis": "3.2.0"})
    with LoopbackArchive(tmp_path / "s") as archive:
        late = segment(day="2023-08-01")
        plan = plan_segment(late, sdc(archive), FetchOptions((DIS, FGM, EDP_BURST), 0.0, tmp_path / "c"))
    old, absent, field = plan.remarks
    assert "no ion background" in old and "no file of fgm_brst_l2" in absent and "after 2023-07-03" in field


def test_pinned_files_need_no_listing_and_must_be_exactly_those(own_served: Path, tmp_path: Path) -> None:
    with LoopbackArchive(own_served) as archive:
        pinned = Manifest(files=fetch_segment(segment(), sdc(archive), FetchOptions((DES, FGM), 0.0, tmp_path / "1")))
        write_files(own_served, 4, "2017-07-11T22:33:59", 1.0, products=["des"], version="3.9.0")
        before = len(archive.requests)
        again = fetch_segment(segment(), sdc(archive), FetchOptions((DES, FGM), 0.0, tmp_path / "2", pinned))
        assert len(archive.requests) == before + 2
        assert {p.name: p.sha256 for p in again} == {p.name: p.sha256 for p in pinned.files} == contents(tmp_path / "2")
        changed = Manifest(files=[p.model_copy(update={"sha256": "0" * 64}) for p in pinned.files])
        with pytest.raises(NetworkProblem, match="as pinned"):
            fetch_segment(segment(), sdc(archive), FetchOptions((DES,), 0.0, tmp_path / "3", changed))
        with pytest.raises(
            SegmentProblem, match=r"A/mms4: the manifest has no file of fpi_brst_l2_dis-moms for 2017-07"
        ):
            fetch_segment(segment(), sdc(archive), FetchOptions((DIS, FGM), 0.0, tmp_path / "3", pinned))
    assert contents(tmp_path / "3") == {}


def test_a_listing_wait_is_told_and_a_long_one_ends_the_segment(served: Path, tmp_path: Path) -> None:
    told: list[FetchEvent] = []
    slow_down = Fault("too_many", where="listing", seconds=300)
    limits = replace(QUICK, longest_wait=200)
    with (
        LoopbackArchive(served, [slow_down]) as archive,
        pytest.raises(NetworkProblem, match="asks to wait 300 s, more than the 200 s"),
    ):
        fetch_segment(segment(), sdc(archive, limits), FetchOptions((FGM,), 0.0, tmp_path, notify=told.append))
    with LoopbackArchive(served, [replace(slow_down, seconds=1)]) as archive:
        fetch_segment(segment(), sdc(archive), FetchOptions((FGM,), 0.0, tmp_path, notify=told.append))
    assert any(isinstance(event, Waiting) and event.why == "server asks to wait 1 s" for event in told)


@pytest.mark.parametrize("server", ["sdc", "spdf"])
def test_without_a_network_it_ends_soon_with_a_sentence(tmp_path: Path, server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    source = Source(server, url, replace(QUICK, attempts=2))  # type: ignore[arg-type]
    begin = time.monotonic()
    with pytest.raises(NetworkProblem, match=r"no connection \(Connection refused\).*tried 2 times.*run again later"):
        fetch_segment(segment(), source, FetchOptions(PRODUCTS, 0.0, tmp_path))
    assert time.monotonic() - begin < 2


def refuse_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", connect)


def test_offline_finds_and_verifies_what_is_there(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_connections(monkeypatch)
    pins = check_offline(segment(), FetchOptions(PRODUCTS, 1.0, served))
    assert {pin.name: pin.sha256 for pin in pins} == contents(served) and {pin.source for pin in pins} == {"cache"}
    assert check_offline(segment(), FetchOptions(PRODUCTS, 1.0, served, Manifest(files=pins))) == pins


def test_offline_names_everything_that_is_bad_or_missing(own_served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_connections(monkeypatch)
    pins = check_offline(segment(), FetchOptions((DES, FGM, DIS), 0.0, own_served))
    known, paths = Manifest(files=pins), [pin.file(own_served).path for pin in pins]
    truncate(paths[0], 0.9)
    content = bytearray(paths[1].read_bytes())
    content[len(content) // 2] ^= 4
    paths[1].write_bytes(content)
    for pinned in (None, known):
        with pytest.raises(SegmentProblem) as problem:
            check_offline(segment(), FetchOptions((DES, FGM, DIS), 0.0, own_served, pinned, known))
        assert all(path.name in str(problem.value) for path in paths[:2]) and paths[2].name not in str(problem.value)
    paths[2].unlink()
    with pytest.raises(SegmentProblem, match=f"{paths[2].name}: not there; fetch it"):
        check_offline(segment(), FetchOptions((DIS,), 0.0, own_served, known, known))
    with pytest.raises(SegmentProblem, match="no file of fpi_brst_l2_dis-moms"):
        check_offline(segment(), FetchOptions((DIS,), 0.0, own_served, known=known))


def spoilt(path: Path) -> None:
    """As a download that was cut off."""
    truncate(path, 0.5)


def emptied(path: Path) -> None:
    """A burst file without a record, as at the edge of a burst."""
    path.unlink()
    edit = {"fgm": lambda arrays: take_rows(arrays, np.zeros(len(arrays["epoch"]), bool))}
    data_dir = path.parents[7]
    written = write_files(data_dir, 4, "2017-07-11T22:03:00", 1.0, products=["fgm"], edit=edit)["fgm"]
    assert written == path


@pytest.fixture
def with_earlier(served: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A folder that has a file of half an hour before too, and that file."""
    folder = tmp_path / "served"
    shutil.copytree(served, folder)
    return folder, write_files(folder, 4, "2017-07-11T22:03:00", 1.0, products=["fgm"])["fgm"]


@pytest.mark.parametrize("spoil", [spoilt, emptied])
def test_an_earlier_file_that_is_bad_or_empty_is_left_out_where_no_sample_is_missed(
    with_earlier: tuple[Path, Path], tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder, earlier = with_earlier
    spoil(earlier)
    before, heard = contents(folder), []
    options = FetchOptions(PRODUCTS, 0.0, folder, notify=heard.append)
    within = segment("22:33:59.5", "22:34:02")  # its own file begins in the same second
    pins = check_offline(within, options)
    assert earlier.name not in [pin.name for pin in pins] and len(pins) == len(PRODUCTS)
    assert [earlier.name in event.text for event in heard if isinstance(event, Remark)] == [True]
    assert contents(folder) == before, "nothing is put aside offline"
    with LoopbackArchive(folder) as archive:
        fetched = fetch_segment(within, sdc(archive), FetchOptions(PRODUCTS, 0.0, tmp_path / "cache"))
    assert [pin.name for pin in fetched] == [pin.name for pin in pins]


def test_an_earlier_file_that_is_bad_fails_a_segment_whose_first_samples_it_may_have(
    with_earlier: tuple[Path, Path],
) -> None:
    folder, earlier = with_earlier
    spoilt(earlier)
    with pytest.raises(SegmentProblem, match=earlier.name):
        check_offline(segment("22:33:50", "22:34:02"), FetchOptions(PRODUCTS, 0.0, folder))


def test_a_bad_file_is_replaced_online(served: Path, tmp_path: Path) -> None:
    told: list[FetchEvent] = []
    with LoopbackArchive(served) as archive:
        pins = fetch_segment(segment(), sdc(archive), FetchOptions((FGM, EDP_FAST), 0.0, tmp_path))
        path = pins[0].file(tmp_path).path
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        known = known_files(tmp_path).near(segment())
        fetch_segment(
            segment(), sdc(archive), FetchOptions((FGM, EDP_FAST), 0.0, tmp_path, known=known, notify=told.append)
        )
    assert [event.name for event in told if isinstance(event, Quarantined)] == [path.name]
    assert contents(tmp_path).items() <= contents(served).items()


def test_the_ledger_of_a_run_keeps_where_a_file_came_from_whichever_segment_ends_first(
    served: Path, tmp_path: Path
) -> None:
    with LoopbackArchive(served) as archive:
        inputs = Inputs(FetchOptions((FGM,), 0.0, tmp_path), sdc(archive))
        ledger = Ledger(lambda: inputs, InProcessPool(), 1, ignore_messages)
        (new,), (found,) = (obtain_files(segment(), ledger.inputs) for _ in range(2))
        assert (new.source, found.source) == ("sdc", "cache")
        for pin in (found, new, found):
            ledger.note([pin])
        ledger.write()
    assert ledger.files == {new.name: new} and read_manifest(manifest_path(tmp_path)).files == (new,)


MANY = 50  # files of each spacecraft, one after the other


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 small files: 50 of the magnetic field of each spacecraft; only to be read."""
    folder = tmp_path_factory.mktemp("many")
    for probe in (1, 2, 3, 4):
        for n in range(MANY):
            start = f"2017-07-11T22:{30 + n // 10:02}:{n % 10 * 6:02}"
            write_files(folder, probe, start, 0.2, products=["fgm"])
    return folder


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
def test_200_files_through_20_percent_of_faulty_answers(many: Path, tmp_path: Path, seed: int) -> None:
    served, cache = shutil.copytree(many, tmp_path / "served"), tmp_path / "cache"
    kinds = ("busy", "too_many", "stall", "cut", "reset", "slow", "html", "json_error", "wrong_size", "new_version")
    faults = RandomFaults(seed, 0.2, kinds, most_per_file=3, seconds=0.5)  # type: ignore[arg-type]
    limit = threading.BoundedSemaphore(3)

    def throttle() -> AbstractContextManager[object]:
        return limit

    def fetch(probe: int) -> tuple[Pinned, ...]:
        one = segment("22:30:00", "22:35:00", probe)
        return fetch_segment(one, sdc(archive), FetchOptions((FGM,), 0.0, cache, throttle=throttle))

    with LoopbackArchive(Path(served), random=faults) as archive, ThreadPoolExecutor(4) as pool:
        pins = [pin for done in pool.map(fetch, (1, 2, 3, 4)) for pin in done]
        requests, at_once = archive.requests, archive.most_at_once
    assert len(pins) == 4 * MANY
    assert sorted(contents(cache).values()) == sorted(contents(many).values()) == sorted(pin.sha256 for pin in pins)
    faulty = Counter(request.fault for request in requests if request.fault)
    relisted = faulty["new_version"] + faulty["wrong_size"]
    assert sum(faulty.values()) > 20 and at_once <= 3
    assert len(requests) <= 1.3 * 4 * MANY + sum(faulty.values()) + relisted
    assert not (cache / ".mms-regions" / "quarantine").exists()


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.long)])
def test_killed_at_random_points_it_completes_and_fetches_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    served, cache, rng = tmp_path / "served", tmp_path / "cache", random.Random(7)
    noise = Scene(e_gse=lambda t: np.random.default_rng(0).normal(size=(len(t), 3)))
    for n in range(30):
        write_files(served, 4, f"2017-07-11T22:34:{n:02}", 0.5, noise, products=["edp_brst"])
    monkeypatch.setenv("PYTHONPATH", str(Path(fetch_segment.__code__.co_filename).parents[2]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mms_regions.archive.fetch", "pycdfpp"])
    whole: dict[str, str] = {}
    # Each file is half there for a while, so that kills come at every stage of a transfer.
    with LoopbackArchive(served, [Fault("stall", where="download", times=0, seconds=0.02)]) as archive:
        words = (segment("22:34:00", "22:34:40"), sdc(archive), FetchOptions((EDP_BURST,), 0.0, cache))
        for _ in range(kills):
            asked = downloads(archive)
            process = context.Process(target=fetch_segment, args=words)
            process.start()
            process.join(rng.uniform(0.05, 0.25))
            process.kill()
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)
            assert not set(downloads(archive) - asked) & set(whole), "a whole file was fetched again"
            whole = contents(cache)
            assert whole.items() <= contents(served).items()
            recorded = {pin.name: pin.sha256 for pin in known_files(cache).files if pin.source == "sdc"}
            assert whole.items() <= recorded.items(), "where a file came from is lost"
        assert len(fetch_segment(*words)) == 30  # type: ignore[arg-type]
    assert contents(cache) == contents(served)
    assert [path for path in (cache / ".mms-regions" / "staging").iterdir() if path.suffix == ".partial"] == []
