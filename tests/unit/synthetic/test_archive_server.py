"""The loopback archive: both APIs, ranges, every fault as a client sees it, what it counts, how it stops."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests
from archive_faults import Fault, Kind, LoopbackArchive, RandomFaults
from cdf_files import write_files
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_regions.core.errors import EnvironmentProblem, InputProblem
from mms_regions.synthetic.archive_server import ArchiveServer

OLD = "mms4_fgm_brst_l2_20170711223303_v5.9.0.cdf"
NEW = "mms4_fgm_brst_l2_20170711223303_v5.92.0.cdf"
NEXT_DAY = "mms4_fgm_brst_l2_20170712000000_v5.92.0.cdf"
FGM = dict(sc_id="mms4", instrument_id="fgm", data_rate_mode="brst", data_level="l2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mms4's magnetometer with two versions of one file and one of the next day, and a little of the rest."""
    root = tmp_path_factory.mktemp("archive")
    write_files(root, 4, "2017-07-11T22:33:03", 2.0, version={"fgm": "5.9.0"}, products=["fgm"])
    write_files(root, 4, "2017-07-11T22:33:03", 3.0, version={"fgm": "5.92.0"}, products=["fgm", "dis", "edp_fast"])
    write_files(root, 4, "2017-07-12T00:00:00", 1.0, version={"fgm": "5.92.0"}, products=["fgm"])
    write_files(root, 2, "2017-07-11T22:33:03", 1.0, products=["dis"])
    (root / "notes.txt").write_text("private")
    (root / "mms4" / "quarantined.cdf").write_text("no name of the archive")
    return root


@pytest.fixture
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy
        yield session


def content(folder: Path, name: str) -> bytes:
    return next(folder.rglob(name)).read_bytes()


def download(archive: LoopbackArchive, name: str) -> str:
    return f"{archive.sdc_url}/download/science?file={name}"


def listing(archive: LoopbackArchive, **query: str) -> str:
    return f"{archive.sdc_url}/file_info/science?{'&'.join(f'{key}={value}' for key, value in query.items())}"


def names(answer: requests.Response) -> list[str]:
    return [file["file_name"] for file in answer.json()["files"]]


def links(answer: requests.Response) -> list[str]:
    return [part.partition('"')[0] for part in answer.text.split('href="')[1:]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (FGM, [NEW, NEXT_DAY]),
        (FGM | {"end_date": "2017-07-12"}, [NEW, NEXT_DAY]),
        (FGM | {"end_date": "2017-07-11"}, []),
        (FGM | {"start_date": "2017-07-11-22-33-03", "end_date": "2017-07-11-22-33-03"}, [NEW]),
        (FGM | {"start_date": "2017-07-11-22-33-04"}, [NEXT_DAY]),
        (FGM | {"sc_id": "mms1"}, []),
        (FGM | {"sc_id": ".."}, []),
        ({"data_rate_mode": "fast"}, ["mms4_edp_fast_l2_dce_20170711_v3.0.0.cdf"]),
        (
            {"descriptor": "dis-moms"},
            [f"mms{probe}_fpi_brst_l2_dis-moms_20170711223303_v3.4.0.cdf" for probe in (2, 4)],
        ),
        (FGM | {"sc_id": "mms1,mms4", "descriptor": "dce"}, []),
    ],
)
def test_the_science_data_center_lists_the_latest_version_of_what_is_asked_for(
    folder: Path, client: requests.Session, query: dict[str, str], found: list[str]
) -> None:
    with LoopbackArchive(folder) as archive:
        answer = client.get(listing(archive, **query))
    assert answer.status_code == 200
    assert sorted(names(answer)) == found
    for file in answer.json()["files"]:
        assert file["file_size"] == len(content(folder, file["file_name"]))
        assert file["timetag"] in ("2017-07-11T22:33:03", "2017-07-12T00:00:00", "2017-07-11T00:00:00")


def test_a_date_in_another_form_is_refused(folder: Path, client: requests.Session) -> None:
    with LoopbackArchive(folder) as archive:
        assert client.get(listing(archive, **FGM, start_date="20170711")).status_code == 400


@pytest.mark.parametrize("name", [OLD, NEW])
def test_any_version_can_be_downloaded_by_name(folder: Path, client: requests.Session, name: str) -> None:
    with LoopbackArchive(folder) as archive:
        assert client.get(download(archive, name)).content == content(folder, name)


def test_the_mirror_is_walked_by_its_links(folder: Path, client: requests.Session) -> None:
    with LoopbackArchive(folder) as archive:
        pages, files = [f"{archive.spdf_url}/"], {}
        while pages:
            page = pages.pop()
            urls = [urljoin(page, link) for link in links(client.get(page))]
            below = [url for url in urls if url.startswith(page) and url != page and "?" not in url]
            pages += [url for url in below if url.endswith("/")]
            files |= {urlsplit(url).path: client.get(url).content for url in below if not url.endswith("/")}
    month = "/pub/data/mms/mms4/fgm/brst/l2/2017/07/"
    assert {path for path in files if path.startswith(month)} == {month + name for name in (OLD, NEW, NEXT_DAY)}
    assert len(files) == 6
    assert all(body == content(folder, path.rpartition("/")[2]) for path, body in files.items())


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/notes.txt",
        "/pub/data/mms/notes.txt",
        "/pub/data/mms/../notes.txt",
        "/pub/data/mms/mms4/quarantined.cdf",
        "/pub/data/mms/mms9/",
        f"/pub/data/mms/mms4/fgm/brst/l2/2017/07/11/{NEW}",
        "/mms/sdc/public/files/api/v1/download/science",
        f"/mms/sdc/public/files/api/v1/download/science?file=mms4/fgm/brst/l2/2017/07/11/{NEW}",
        "/mms/sdc/public/files/api/v1/download/science?file=../notes.txt",
        "/mms/sdc/public/files/api/v1/download/science?file=%00",
        f"/mms/sdc/public/files/api/v1/download/science?file={'a' * 300}.cdf",
    ],
)
def test_what_is_not_a_file_of_the_archive_is_not_found(folder: Path, path: str) -> None:
    with LoopbackArchive(folder) as archive:
        answer = exchange(archive, path)
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_a_link_that_leads_outside_is_not_followed(tmp_path: Path, client: requests.Session) -> None:
    path = write_files(tmp_path / "in", 4, "2017-07-11T22:33:03", 1.0, products=["fgm"])["fgm"]
    path.rename(tmp_path / "outside.cdf")
    path.symlink_to(tmp_path / "outside.cdf")
    with LoopbackArchive(tmp_path / "in") as archive:
        assert client.get(download(archive, path.name)).status_code == 404
        assert names(client.get(listing(archive))) == []


def exchange(archive: LoopbackArchive, target: str) -> bytes:
    """All bytes that the server sends for this target, which goes out as it is."""
    with socket.create_connection(("127.0.0.1", int(archive.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("span", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=100-199", slice(100, 200)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=10-99999999999", slice(10, None)),
    ],
)
def test_a_range_is_that_part_of_the_file(folder: Path, client: requests.Session, span: str, part: slice) -> None:
    whole = content(folder, NEW)
    first, last, _ = part.indices(len(whole))
    with LoopbackArchive(folder) as archive:
        for url in (download(archive, NEW), f"{archive.spdf_url}/mms4/fgm/brst/l2/2017/07/{NEW}"):
            answer = client.get(url, headers={"Range": span})
            assert (answer.status_code, answer.content) == (206, whole[part])
            assert answer.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(whole)}"
        assert archive.requests[0].range == span
        assert archive.requests[0].sent == len(whole[part])


def test_a_range_beyond_the_end_is_refused_and_an_odd_one_ignored(folder: Path, client: requests.Session) -> None:
    size = len(content(folder, NEW))
    with LoopbackArchive(folder) as archive:
        beyond = client.get(download(archive, NEW), headers={"Range": f"bytes={size}-"})
        odd = client.get(download(archive, NEW), headers={"Range": "bytes=-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert (odd.status_code, len(odd.content)) == (200, size)


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_if_range_gives_the_rest_only_of_the_same_file(folder: Path, client: requests.Session, header: str) -> None:
    with LoopbackArchive(folder) as archive:
        url = download(archive, NEW)
        about = client.head(url)
        same = client.get(url, headers={"Range": "bytes=9-", "If-Range": about.headers[header]})
        other = client.get(url, headers={"Range": "bytes=9-", "If-Range": '"another"'})
    assert (about.content, about.headers["Content-Length"]) == (b"", str(len(content(folder, NEW))))
    assert (same.status_code, other.status_code) == (206, 200)


def test_one_connection_serves_many_requests(folder: Path, client: requests.Session) -> None:
    with LoopbackArchive(folder) as archive:
        for _ in range(20):
            client.get(download(archive, NEW))
        assert (len(archive.requests), archive.connections) == (20, 1)


def test_extra_files_are_at_their_paths(folder: Path, client: requests.Session) -> None:
    faults = [Fault("cut", match="notes")]
    with LoopbackArchive(folder, faults, extra={"/weights/notes": folder / "notes.txt"}) as archive:
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            client.get(f"{archive.url}/weights/notes")
        assert client.get(f"{archive.url}/weights/notes").content == b"private"


def test_hostile_names_stand_in_the_listings(folder: Path, client: requests.Session) -> None:
    hostile = ["../../x", "/etc/passwd", "a\0b", "<&>", "m" * 300]
    with LoopbackArchive(folder, hostile_listing=hostile) as archive:
        assert names(client.get(listing(archive, **FGM)))[2:] == hostile
        index = client.get(f"{archive.spdf_url}/mms4/fgm/brst/l2/2017/07/")
    assert links(index)[-5:] == ["../../x", "/etc/passwd", "a\0b", "&lt;&amp;&gt;", "m" * 300]


def get_twice(folder: Path, client: requests.Session, fault: Fault) -> tuple[requests.Response, requests.Response]:
    with LoopbackArchive(folder, [fault]) as archive:
        first, second = (client.get(download(archive, NEW)) for _ in range(2))
        assert [request.fault for request in archive.requests] == [fault.kind, None]
        assert [request.status for request in archive.requests] == [first.status_code, second.status_code]
    assert second.content == content(folder, NEW)
    return first, second


def test_busy_and_too_many_are_said_by_the_status(folder: Path, client: requests.Session) -> None:
    assert get_twice(folder, client, Fault("busy"))[0].status_code == 503
    answer = get_twice(folder, client, Fault("too_many", seconds=2.5))[0]
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")


def test_error_pages_pass_for_success(folder: Path, client: requests.Session) -> None:
    page = get_twice(folder, client, Fault("html"))[0]
    assert (page.status_code, page.text[:6]) == (200, "<html>")
    assert get_twice(folder, client, Fault("json_error"))[0].json() == {"error": "internal error"}


def test_a_flipped_body_has_one_wrong_bit(folder: Path, client: requests.Session) -> None:
    first, second = get_twice(folder, client, Fault("flipped"))
    both = zip(first.content, second.content, strict=True)
    assert sum((a ^ b).bit_count() for a, b in both) == 1


def test_a_slow_answer_is_a_good_one(folder: Path, client: requests.Session) -> None:
    first, second = get_twice(folder, client, Fault("slow", seconds=0.3))
    assert first.content == second.content
    assert first.elapsed.total_seconds() > 0.3 > second.elapsed.total_seconds()


def half_of(folder: Path, fault: Fault) -> tuple[bytes, type[Exception] | None]:
    """The body that comes in half a second, with what ends it."""
    with LoopbackArchive(folder, [fault]) as archive:
        port = int(archive.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.sendall(f"GET {urlsplit(download(archive, NEW)).path}?file={NEW} HTTP/1.1\r\n\r\n".encode())
            data, end = b"", None
            try:
                while piece := connection.recv(65536):
                    data += piece
            except OSError as problem:
                end = type(problem)
    head, _, body = data.partition(b"\r\n\r\n")
    size = len(content(folder, NEW))
    assert f"Content-Length: {size}".encode() in head
    assert (archive.requests[0].sent, archive.requests[0].fault) == (size // 2, fault.kind)
    return body, end


@pytest.mark.parametrize(("kind", "end"), [("cut", None), ("reset", ConnectionResetError), ("stall", TimeoutError)])
def test_half_of_the_body_comes_then_the_connection_ends_or_hangs(
    folder: Path, kind: Kind, end: type[Exception] | None
) -> None:
    body, how = half_of(folder, Fault(kind, seconds=60))
    assert how is end
    whole = content(folder, NEW)
    assert body == whole[: len(whole) // 2]


def test_a_patient_client_gets_the_rest_after_a_stall(folder: Path, client: requests.Session) -> None:
    get_twice(folder, client, Fault("stall", seconds=0.1))


def test_a_wrong_size_is_in_one_listing_only(folder: Path, client: requests.Session) -> None:
    with LoopbackArchive(folder, [Fault("wrong_size")]) as archive:
        first, second = (client.get(listing(archive, **FGM)).json()["files"] for _ in range(2))
    assert all(a["file_size"] > b["file_size"] for a, b in zip(first, second, strict=True))


def test_a_new_version_takes_the_place_of_the_listed_one(folder: Path, client: requests.Session) -> None:
    newer = NEW.replace("5.92.0", "5.92.1")
    with LoopbackArchive(folder, [Fault("new_version", match=r"v5\.92")]) as archive:
        assert names(client.get(listing(archive, **FGM)))[0] == NEW
        assert [client.get(download(archive, NEW)).status_code for _ in range(2)] == [404, 404]
        assert names(client.get(listing(archive, **FGM)))[0] == newer
        month = f"{archive.spdf_url}/mms4/fgm/brst/l2/2017/07/"
        assert newer in links(client.get(month)) and NEW not in links(client.get(month))
        assert client.get(month + newer).content == content(folder, NEW)
        assert client.get(download(archive, newer)).content == content(folder, NEW)


def test_faults_keep_to_their_place_their_match_and_their_number(folder: Path, client: requests.Session) -> None:
    faults = [Fault("busy", "download", match="v5.92", times=2), Fault("busy", "listing", match="mms4", times=0)]

    def statuses(ask: Callable[[str], requests.Response], url: str) -> list[int]:
        return [ask(url).status_code for _ in range(3)]

    with LoopbackArchive(folder, faults) as archive:
        assert statuses(client.get, download(archive, OLD)) == [200, 200, 200]
        assert statuses(client.get, download(archive, NEW)) == [503, 503, 200]
        assert statuses(client.head, download(archive, NEW)) == [503, 503, 200]
        assert statuses(client.get, download(archive, NEXT_DAY)) == [503, 503, 200]
        assert statuses(client.get, listing(archive, **FGM)) == [503, 503, 503]
        assert statuses(client.get, listing(archive, sc_id="mms2")) == [200, 200, 200]


def test_random_faults_are_in_the_answers(folder: Path, client: requests.Session) -> None:
    def run() -> list[Kind | None]:
        with LoopbackArchive(folder, random=RandomFaults(3, 0.5, ("busy", "html"), 2)) as archive:
            for name in (OLD, NEW, NEXT_DAY):
                for _ in range(5):
                    client.get(download(archive, name))
            return [request.fault for request in archive.requests]

    assert run() == run()
    assert 0 < len([kind for kind in run() if kind]) <= 6


def test_downloads_at_once_are_counted(folder: Path) -> None:
    def get(url: str) -> int:
        return requests.get(url, timeout=10).status_code

    for workers in (1, 3):
        with LoopbackArchive(folder, delay=0.05) as archive, ThreadPoolExecutor(workers) as pool:
            assert set(pool.map(get, [download(archive, NEW)] * 9)) == {200}
            list(pool.map(get, [listing(archive)] * 9))
            assert archive.most_at_once == workers
            assert len(archive.requests) == 18


@settings(max_examples=20)
@given(kinds=st.lists(st.sampled_from(["busy", "cut", "html", "flipped", "reset", "new_version"]), max_size=4))
def test_one_download_after_the_other_never_counts_as_two(folder: Path, kinds: list[Kind]) -> None:
    """The count is down and the request in the log before the client has the last byte."""
    faults = [Fault(kind, "download") for kind in kinds]
    with LoopbackArchive(folder, faults) as archive, requests.Session() as session:
        for n in range(6):
            with suppress(requests.RequestException):
                session.get(download(archive, NEW))
            assert len(archive.requests) == n + 1
        assert archive.most_at_once == 1


@pytest.mark.parametrize("kind", ["stall", "slow"])
def test_closing_does_not_wait_for_an_answer_that_hangs(folder: Path, kind: Kind) -> None:
    with ThreadPoolExecutor(1) as pool:
        with LoopbackArchive(folder, [Fault(kind, seconds=300)]) as archive:
            hanging = pool.submit(requests.get, download(archive, NEW), timeout=30)
            time.sleep(0.2)
            begin = time.monotonic()
        assert time.monotonic() - begin < 1
        with pytest.raises(requests.RequestException):
            hanging.result(timeout=5)
        assert time.monotonic() - begin < 2


def test_nothing_answers_after_the_end(folder: Path, client: requests.Session) -> None:
    with LoopbackArchive(folder) as archive:
        client.get(listing(archive))
    with pytest.raises(requests.ConnectionError):
        client.get(listing(archive))
    archive.close()


def test_it_is_quiet_and_says_what_is_wrong_at_the_start(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with LoopbackArchive(folder) as archive:
        exchange(archive, "/nothing")
        with pytest.raises(EnvironmentProblem, match="--port"):
            ArchiveServer(folder, port=int(archive.url.rpartition(":")[2]))
    with pytest.raises(InputProblem, match="no such folder"):
        LoopbackArchive(folder / "absent")
    assert capfd.readouterr() == ("", "")
