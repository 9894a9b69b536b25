"""`fetch` and `run` against a server, as people call them: what comes, what is refused, what goes on after trouble."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import xarray as xr
from archive_faults import Fault, Kind, LoopbackArchive, RandomFaults
from cdf_files import truncate
from processes import log_lines

from mms_regions.archive.manifest import Manifest, known_files, read_manifest, write_manifest
from mms_regions.core.files import sha256_of

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]

ALL = ["A/mms1", "A/mms2", "LONG/mms1", "B/mms1", "B/mms2"]
pytestmark = pytest.mark.system

PRODUCTS = 4  # of the default convention: as many listings, and here files, for each segment
ONE = ("--events", "A", "--probes", "1")
PASSING: tuple[Kind, ...] = ("busy", "stall", "cut", "reset", "html", "json_error", "wrong_size", "flipped")


@pytest.fixture
def archive(data_dir: Path) -> Iterator[LoopbackArchive]:
    """A server of the small data set."""
    with LoopbackArchive(data_dir) as server:
        yield server


@pytest.fixture
def words(catalogue: Path, profile: Path, tmp_path: Path) -> Words:
    """The words of `fetch`, or of `run` into store.zarr, with an empty cache; those given after them count."""

    def all_words(command: str, url: str, *more: object) -> list[object]:
        into = ["--store", tmp_path / "store.zarr"] if command == "run" else []
        files = ["--data-dir", tmp_path / "cache", "--archive-url", url, "--profile", profile]
        return [command, catalogue, *files, *into, *more]

    return all_words


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def contents(folder: Path) -> dict[str, str]:
    """The sha256 of everything that stands under the name of a file of the archive, by name."""
    return {path.name: sha256_of(path) for path in folder.glob("mms?/**/*.cdf")}


def pinned(manifest: Manifest) -> dict[str, str]:
    return {pin.name: pin.sha256 for pin in manifest.files}


def downloads(archive: LoopbackArchive) -> Counter[str]:
    return Counter(request.name for request in archive.requests if request.name)


def file_of(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(f"mms?/**/{pattern}")
    return path


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file over."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def raw(store: Path) -> xr.Dataset:
    return xr.open_zarr(store, chunks=None, decode_times=False, mask_and_scale=False)


def assert_same_store(one: Path, other: Path) -> None:
    """Every array equal bit for bit, NaN included; the index with its inputs too."""
    first, second = raw(one), raw(other)
    assert set(first.variables) == set(second.variables)
    for name in first.variables:
        a, b = (data[name].values for data in (first, second))
        same = a.tolist() == b.tolist() if a.dtype.kind == "T" else a.tobytes() == b.tobytes()
        assert same, name


def inputs_of(store: Path) -> dict[str, dict[str, str]]:
    """What the index says that each segment was made from: sha256 by name."""
    index = xr.open_zarr(store, chunks=None)
    keys = [f"{e}/mms{p}" for e, p in zip(index["event"].values, index["probe"].values, strict=True)]
    texts = index["inputs"].values.tolist()
    return {k: {i["name"]: i["sha256"] for i in json.loads(t)} for k, t in zip(keys, texts, strict=True)}


# What comes


def test_what_run_fetches_makes_the_store_that_the_same_files_make_offline(
    mms_regions_here: Command, words: Words, archive: LoopbackArchive, data_dir: Path, healthy: Path, tmp_path: Path
) -> None:
    done = mms_regions_here(*words("run", archive.sdc_url))
    assert done.returncode == 0, done.stderr
    store = tmp_path / "store.zarr"
    assert_same_store(store, healthy)
    served = contents(data_dir)
    named = {name: sha256 for files in inputs_of(store).values() for name, sha256 in files.items()}
    assert named == served == pinned(read_manifest(tmp_path / "store.zarr.run" / "manifest.json"))
    assert set(inputs_of(store)["A/mms2"]) == {name for name in served if re.match(r"mms2_.*_20170711103358_", name)}


def test_a_run_with_a_manifest_takes_exactly_its_files(
    mms_regions_here: Command, words: Words, own_data: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "store.zarr", tmp_path / "again.zarr"
    with LoopbackArchive(own_data) as archive:
        assert mms_regions_here(*words("run", archive.sdc_url, *ONE)).returncode == 0
        old = file_of(own_data, "mms1_*des-moms_20170711103358*")
        newer = old.with_name(old.name.replace("_v3.4.0", "_v3.10.0"))
        shutil.copy(old, newer)
        other_cache = ("--data-dir", tmp_path / "other")
        plan = mms_regions_here(*words("fetch", archive.sdc_url, *ONE, *other_cache, "--dry-run"))
        assert newer.name in plan.stdout and old.name not in plan.stdout
        manifest = tmp_path / "store.zarr.run" / "manifest.json"
        pin = ("--manifest", manifest, *other_cache, "--store", again)
        done = mms_regions_here(*words("run", archive.sdc_url, *ONE, *pin))
    assert done.returncode == 0, done.stderr
    assert_same_store(first, again)
    assert contents(tmp_path / "other") == pinned(read_manifest(manifest)) == inputs_of(again)["A/mms1"]
    assert old.name in inputs_of(again)["A/mms1"]


def test_what_a_manifest_lacks_or_a_server_no_longer_has_is_named(
    mms_regions_here: Command, words: Words, own_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.json"
    with LoopbackArchive(own_data) as archive:
        assert mms_regions_here(*words("fetch", archive.sdc_url, *ONE)).returncode == 0
        whole = known_files(tmp_path / "cache")
        write_manifest(path, Manifest(files=tuple(pin for pin in whole.files if "dis-moms" not in pin.name)))
        pin = ("--manifest", path, "--json", "--data-dir", tmp_path / "other")
        lacks = mms_regions_here(*words("run", archive.sdc_url, *ONE, *pin))
        write_manifest(path, whole)
        gone = file_of(own_data, "mms1_*des-moms_20170711103358*")
        gone.unlink()
        without = mms_regions_here(*words("fetch", archive.sdc_url, *ONE, *pin))
    reason = json.loads(lacks.stdout)["no_data"]["A/mms1"]
    assert lacks.returncode == 4 and "the manifest has no file of fpi_brst_l2_dis-moms for 2017-07-11" in reason
    reason = json.loads(without.stdout)["failed"]["A/mms1"]
    assert without.returncode == 4 and f"{gone.name}: the server has no such file (404)" in reason
    assert gone.name not in contents(tmp_path / "other")


def test_fetching_again_asks_for_listings_only(
    mms_regions_here: Command, words: Words, archive: LoopbackArchive, data_dir: Path, cache: Path
) -> None:
    first = mms_regions_here(*words("fetch", archive.sdc_url))
    assert (first.returncode, downloads(archive)) == (0, dict.fromkeys(contents(data_dir), 1))
    manifest = (cache / ".mms-regions" / "manifest.json").read_bytes()
    asked = len(archive.requests)
    again = mms_regions_here(*words("fetch", archive.sdc_url, "--json"))
    assert (again.returncode, again.stdout.count("\n")) == (0, 1)
    size = sum(path.stat().st_size for path in data_dir.rglob("*.cdf"))
    told = {"data_dir": str(cache), "complete": ALL, "failed": {}, "no_data": {}, "files": 20, "bytes": size}
    assert json.loads(again.stdout) == told
    later = archive.requests[asked:]
    assert [request.name for request in later] == [""] * (1 + PRODUCTS * len(ALL))  # the first: does it answer?
    assert (cache / ".mms-regions" / "manifest.json").read_bytes() == manifest


def test_a_file_that_several_segments_need_comes_once_and_from_where_it_came(
    mms_regions_here: Command, words: Words, archive: LoopbackArchive, cache: Path, tmp_path: Path
) -> None:
    interval = "2017-07-11T10:34:00,2017-07-11T10:34:0{},12.0,0.2,1\n"
    (tmp_path / "overlapping.csv").write_text(
        "event,t_start,t_end,B0,n0,probes\n" + "".join(f"E{n},{interval.format(n)}" for n in range(1, 7))
    )
    fetch = words("fetch", archive.sdc_url, "--json")
    fetch[1] = tmp_path / "overlapping.csv"
    done = mms_regions_here(*fetch)
    assert (done.returncode, json.loads(done.stdout)["files"]) == (0, PRODUCTS)
    assert downloads(archive) == dict.fromkeys(contents(cache), 1) and len(contents(cache)) == PRODUCTS
    assert {pin.source for pin in known_files(cache).files} == {"sdc"}


def test_files_that_were_there_are_recorded_as_such(
    mms_regions_here: Command, words: Words, archive: LoopbackArchive, own_data: Path
) -> None:
    there = ("--data-dir", own_data)
    assert mms_regions_here(*words("fetch", archive.sdc_url, *there)).returncode == 0
    kept = known_files(own_data)
    assert pinned(kept) == contents(own_data) and {pin.source for pin in kept.files} == {"cache"}
    assert not downloads(archive)


def test_the_mirror_serves_as_well(
    mms_regions_here: Command, words: Words, archive: LoopbackArchive, data_dir: Path, cache: Path
) -> None:
    done = mms_regions_here(*words("fetch", archive.spdf_url, "--source", "spdf", *ONE))
    assert done.returncode == 0, done.stderr
    assert len(contents(cache)) == PRODUCTS and contents(cache).items() <= contents(data_dir).items()
    assert {pin.source for pin in known_files(cache).files} == {"spdf"}


def test_a_dry_run_says_files_and_bytes_and_writes_nothing(
    mms_regions_here: Command, words: Words, archive: LoopbackArchive, data_dir: Path, cache: Path
) -> None:
    sizes = {path.name: path.stat().st_size for path in data_dir.rglob("*.cdf")}
    told = mms_regions_here(*words("fetch", archive.sdc_url, "--dry-run", "--json"))
    lines = mms_regions_here(*words("fetch", archive.sdc_url, "--dry-run")).stdout.splitlines()
    assert not cache.exists() and not downloads(archive)
    plan = json.loads(told.stdout)
    assert (told.returncode, plan["files"], plan["bytes"], plan["failed"]) == (0, 20, sum(sizes.values()), {})
    assert list(plan["segments"]) == ALL
    files = [file for segment in plan["segments"].values() for file in segment["files"]]
    assert {file["name"]: file["bytes"] for file in files} == sizes and {file["state"] for file in files} == {"missing"}
    assert [line for line in lines if line.startswith("A/mms1: 4 of 4 files, ")] == lines[:1]
    assert re.fullmatch(r"20 files to transfer, \d+\.\d MB; nothing was fetched", lines[-1])
    assert {line.split()[-1] for line in lines if line.startswith("    missing ")} == set(sizes)


# Trouble on the way


@pytest.mark.system
def test_faulty_answers_end_in_whole_files_or_in_segments_that_say_why(
    mms_regions: Command, mms_regions_here: Command, words: Words, data_dir: Path, cache: Path
) -> None:
    """20 % of all answers are faulty, and one file is never to be had; what this leaves out comes later."""
    never = Fault("new_version", where="download", match="mms2_fgm_.*_20170711103358", times=0)
    random = RandomFaults(seed=4, share=0.2, kinds=PASSING, most_per_file=1, seconds=0.1)
    with LoopbackArchive(data_dir, [never], random, delay=0.01) as archive:
        done = mms_regions(*words("fetch", archive.sdc_url, "--workers", 2, "--json"))
        struck, at_once = Counter(request.fault for request in archive.requests), archive.most_at_once
    assert at_once <= 4 and len(set(struck) - {None, "new_version"}) >= 4
    assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr
    told, whole, served = json.loads(done.stdout), contents(cache), contents(data_dir)
    assert told["complete"] == [key for key in ALL if key != "A/mms2"] and list(told["failed"]) == ["A/mms2"]
    assert re.match(r"mms2_fgm_brst_l2_20170711103358_v[\d.]+\.cdf: the server has no such", told["failed"]["A/mms2"])
    assert pinned(known_files(cache)).items() <= whole.items() <= served.items() and len(whole) >= 4 * PRODUCTS

    with LoopbackArchive(data_dir) as archive:
        again = mms_regions_here(*words("fetch", archive.sdc_url, "--json"))
        assert downloads(archive) == dict.fromkeys(served.keys() - whole.keys(), 1)
    assert (again.returncode, json.loads(again.stdout)["complete"]) == (0, ALL)
    assert contents(cache) == pinned(known_files(cache)) == served


def test_bad_files_of_a_cache_are_named_offline_and_replaced_online(
    mms_regions_here: Command,
    words: Words,
    archive: LoopbackArchive,
    data_dir: Path,
    healthy: Path,
    cache: Path,
    tmp_path: Path,
) -> None:
    assert mms_regions_here(*words("fetch", archive.sdc_url)).returncode == 0
    cut, flipped = file_of(cache, "mms2_fgm*_20170711103358*"), file_of(cache, "mms1_*des-moms_20170711223958*")
    truncate(cut, 0.7)
    flip(flipped)
    bad = {path.name: sha256_of(path) for path in (cut, flipped)}

    offline = mms_regions_here(*words("run", archive.sdc_url, "--offline", "--json"))
    told = json.loads(offline.stdout)
    assert (offline.returncode, told["complete"]) == (4, ["A/mms1", "LONG/mms1", "B/mms2"])
    assert cut.name in told["failed"]["A/mms2"] and flipped.name in told["failed"]["B/mms1"]
    assert {path.name: sha256_of(path) for path in (cut, flipped)} == bad

    asked = downloads(archive)
    online = mms_regions_here(*words("run", archive.sdc_url))
    assert online.returncode == 0, online.stderr
    assert downloads(archive) - asked == dict.fromkeys(bad, 1) and contents(cache) == contents(data_dir)
    assert_same_store(tmp_path / "store.zarr", healthy)
    aside = {path.name.partition(".cdf")[0] + ".cdf": path for path in (cache / ".mms-regions/quarantine").iterdir()}
    assert {name: sha256_of(path) for name, path in aside.items()} == bad
    assert [path for path in aside.values() if path.suffix == ".cdf"] == []
    assert all(f"{name}: quarantined, " in online.stderr for name in bad)


@pytest.mark.system
def test_the_limit_is_that_of_all_workers_and_what_they_tell_is_heard(
    mms_regions: Command, words: Words, data_dir: Path, cache: Path
) -> None:
    slow_down = Fault("too_many", where="download", match="mms1_fgm_.*_20170711103358", seconds=1)
    with LoopbackArchive(data_dir, [slow_down], delay=0.01) as archive:
        fetch = words("fetch", archive.sdc_url, "--workers", 2)
        done = mms_regions(*fetch, env={"MMS_REGIONS_TRANSFERS": "1"})
        assert archive.most_at_once == 1
    assert done.returncode == 0, done.stderr
    lines = log_lines(done.stderr)
    arrived = {line.partition(":")[0] for line in lines if re.search(r"cdf: [\d.]+ [kM]B arrived$", line)}
    assert arrived == set(contents(cache)) == set(contents(data_dir))
    waiting = [line for line in lines if line.endswith(": waiting 1 s, server asks to wait 1 s")]
    assert [line.partition("_v")[0] for line in waiting] == ["mms1_fgm_brst_l2_20170711103358"]
    assert waiting == [line for line in lines if ": waiting " in line and "mms1_fgm" in line], "told of once"


@pytest.mark.system
def test_ctrl_c_leaves_whole_files_which_the_next_fetch_does_not_fetch_again(
    mms_regions_here: Command, environment: dict[str, str], words: Words, data_dir: Path, cache: Path
) -> None:
    half_there = Fault("stall", where="download", times=0, seconds=0.4)  # each file, for so long
    with LoopbackArchive(data_dir, [half_there]) as archive:
        command = [sys.executable, "-m", "mms_regions", *map(str, words("fetch", archive.sdc_url, "--workers", 2))]
        with subprocess.Popen(
            command,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        ) as fetch:
            assert fetch.stderr is not None
            seen = next((line for line in fetch.stderr if line.endswith(" arrived\n")), "")
            os.killpg(fetch.pid, signal.SIGINT)
            rest = fetch.stderr.read()
        assert seen and fetch.returncode == 75, rest
        assert rest.endswith("mms-regions: interrupted; run the same command again to continue\n")
        assert "Traceback" not in rest
        whole, served = contents(cache), contents(data_dir)
        assert 0 < len(whole) < len(served) and whole.items() <= served.items()
        kept = known_files(cache)
        assert kept.files and {pin.source for pin in kept.files} == {"sdc"}, "where files came from is known at once"
    with LoopbackArchive(data_dir) as archive:
        again = mms_regions_here(*words("fetch", archive.sdc_url))
        assert again.returncode == 0, again.stderr
        assert downloads(archive) <= Counter(served.keys() - whole.keys())  # one may have been all there but its name
    assert contents(cache) == pinned(known_files(cache)) == served


@pytest.mark.system
@pytest.mark.parametrize("workers", [0, 2])
def test_a_kill_loses_no_word_of_where_a_file_came_from(
    mms_regions_here: Command,
    environment: dict[str, str],
    words: Words,
    data_dir: Path,
    cache: Path,
    tmp_path: Path,
    workers: int,
) -> None:
    with LoopbackArchive(data_dir, delay=0.01) as archive:
        fetch = words("fetch", archive.sdc_url)
        command = [sys.executable, "-m", "mms_regions", *map(str, fetch), "--workers", str(workers)]
        with subprocess.Popen(
            command,
            env={**environment, "TMPDIR": str(tmp_path)},  # for what a killed cluster leaves behind
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as killed:
            assert killed.stderr is not None
            seen = next((line for line in killed.stderr if line.endswith(" arrived\n")), "")
            os.killpg(killed.pid, signal.SIGKILL)
        assert seen and killed.returncode == -signal.SIGKILL
        whole, kept = contents(cache), known_files(cache)
        assert log_lines(seen)[0].partition(":")[0] in whole and whole.items() <= pinned(kept).items()
        assert {pin.source for pin in kept.files} == {"sdc"}
        manifest = cache / ".mms-regions" / "manifest.json"
        assert not manifest.exists()
        again = mms_regions_here(*fetch)
    assert again.returncode == 0, again.stderr
    after = {pin.name: pin for pin in read_manifest(manifest).files}
    assert after.keys() == contents(data_dir).keys() and not manifest.with_suffix(".journal").exists()
    assert {name: after[name] for name in whole} == {pin.name: pin for pin in kept.files if pin.name in whole}


# What is refused, and where there is nothing


@pytest.mark.parametrize(
    ("more", "env", "code", "message"),
    [
        (
            [],
            {"MMS_REGIONS_OFFLINE": "true"},
            2,
            r"Nothing can be fetched offline \(environment MMS_REGIONS_OFFLINE\)",
        ),
        (["--dry-run"], {"MMS_REGIONS_OFFLINE": "true"}, 2, "Nothing can be fetched offline"),
        (["--source", "esa"], {}, 2, "'esa'.*sdc or spdf"),
        (["--archive-url", "ftp://x"], {}, 2, "--archive-url.*http"),
        (["--manifest", "/nowhere/m.json"], {}, 3, "There is no manifest /nowhere/m.json; give the path of one"),
        (["--transfers", "8"], {}, 2, "No such option"),
        ([], {"MMS_REGIONS_TRANSFERS": "0"}, 2, "MMS_REGIONS_TRANSFERS.*from 1 to 64"),
    ],
)
def test_words_that_make_no_sense_are_refused_before_anything_is_asked(
    mms_regions_here: Command,
    words: Words,
    archive: LoopbackArchive,
    cache: Path,
    more: list[str],
    env: dict[str, str],
    code: int,
    message: str,
) -> None:
    done = mms_regions_here(*words("fetch", archive.sdc_url, *more), env=env)
    assert done.returncode == code and re.search(message, done.stderr, re.DOTALL), done.stderr
    assert not downloads(archive) and not cache.exists()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Where connections are made to, while it lasts."""
    made: list[object] = []
    connect = socket.socket.connect

    def counted(self: socket.socket, address: tuple[str, int]) -> None:
        made.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", counted)
    return made


@pytest.mark.parametrize("offline", [False, True], ids=["no network", "offline"])
def test_with_neither_a_server_nor_files_the_whole_catalogue_ends_with_a_sentence(
    mms_regions_here: Command, tmp_path: Path, connections: list[object], offline: bool
) -> None:
    (tmp_path / "empty").mkdir()
    words = ["run", "--store", tmp_path / "x.zarr", "--data-dir", tmp_path / "empty", "--workers", 0]
    done = mms_regions_here(*words, "--model", "first", *(["--offline"] if offline else []))
    assert done.returncode == 4 and len(connections) <= (0 if offline else 2)
    why = "offline, as asked for" if offline else r"127\.0\.0\.1:9: no connection \(Connection refused\)"
    said = rf"mms-regions: There is no file of 92 segments under {tmp_path}/empty.*: {why}.*`mms-regions fetch`.*\n"
    assert re.fullmatch(said, done.stderr), done.stderr


def test_without_a_server_what_is_there_is_used_and_the_rest_says_why_it_was_not_fetched(
    mms_regions_here: Command, words: Words, archive: LoopbackArchive, connections: list[object]
) -> None:
    assert mms_regions_here(*words("fetch", archive.sdc_url, *ONE)).returncode == 0
    connections.clear()
    done = mms_regions_here(*words("run", "http://127.0.0.1:9", "--json"))
    told = json.loads(done.stdout)
    assert (done.returncode, told["complete"]) == (4, ["A/mms1"]) and len(connections) <= 2
    for key in ALL[1:]:
        reason = told["failed"][key]
        assert re.search(r"They were not fetched: .*Connection refused.*internet access", reason), reason


@pytest.mark.parametrize("command", ["run", "fetch"])
def test_with_neither_a_server_nor_a_folder_one_sentence_says_so(
    mms_regions_here: Command, words: Words, connections: list[object], cache: Path, command: str
) -> None:
    done = mms_regions_here(*words(command, "http://127.0.0.1:9"))
    assert done.returncode == 2 and len(connections) <= 2
    said = rf"^mms-regions: 127\.0\.0\.1:9: no connection \(Connection refused\).*There is no folder {cache} \(.*\n\Z"
    assert re.search(said, done.stderr, re.M), done.stderr
