"""The HTTP client: what it says of itself, where it lets itself be sent, and how long it waits."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain, repeat
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
import requests

from mms_regions.archive.http import Client, Limits, NetworkProblem, RequestFailed, refuse_status
from mms_regions.core.messages import FetchEvent, Waiting
from mms_regions.core.version import __version__

QUICK = Limits(connect_timeout=2, read_timeout=1, attempts=3, wait_initial=0.01, wait_max=0.02)

Answer = tuple[int, dict[str, str]]


@contextmanager
def serving(answer: Callable[[str], Answer], seen: list[dict[str, str]]) -> Iterator[str]:
    """A server whose answers have no body; the headers of requests go to `seen`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            status, headers = answer(self.path)
            self.send_response(status)
            for item in ({"Content-Length": "0"} | headers).items():
                self.send_header(*item)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def ask(client: Client, url: str) -> str:
    return client.persist("page", url, lambda: client.text(url))


def test_it_says_what_it_is_and_nothing_of_who_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[dict[str, str]] = []

    def answer(path: str) -> Answer:
        return (302, {"Location": "/b"}) if path == "/a" else (200, {"Set-Cookie": "id=1"})

    with serving(answer, seen) as url:
        for path in ("/a", "/a"):
            ask(Client(QUICK), url + path)
    assert len(seen) == 4
    assert {headers["User-Agent"] for headers in seen} == {f"mms-regions/{__version__}"}
    assert not any({"Authorization", "Cookie"} & set(headers) for headers in seen)


@pytest.mark.parametrize("target", ["http://localhost:1/x", "ftp://127.0.0.1/x", "http://[::1/x", "//other.example/x"])
def test_it_is_not_sent_on_to_another_host_without_encryption(target: str) -> None:
    with serving(lambda path: (302, {"Location": target}), []) as url, pytest.raises(NetworkProblem) as problem:
        ask(Client(QUICK), url)
    assert "page: the server sends us on to" in str(problem.value) and "tried once" in str(problem.value)


@pytest.mark.parametrize(("status", "times"), [(400, 1), (403, 1), (404, 1), (429, 3), (500, 3), (503, 3)])
def test_only_what_may_pass_is_tried_again(status: int, times: int) -> None:
    seen: list[dict[str, str]] = []
    with serving(lambda path: (status, {}), seen) as url, pytest.raises(NetworkProblem, match=str(status)):
        ask(Client(QUICK), url)
    assert len(seen) == times


def test_a_wait_that_the_server_asks_for_is_kept_and_told() -> None:
    answers, told = iter([(503, {"Retry-After": "1"}), (200, {})]), list[FetchEvent]()
    with serving(lambda path: next(answers), []) as url:
        begin = datetime.now(UTC)
        ask(Client(QUICK, observe=told.append), url)
    assert datetime.now(UTC) - begin >= timedelta(seconds=1)
    assert any(isinstance(event, Waiting) and event.why == "server asks to wait 1 s" for event in told)


def test_waits_add_up_to_the_limit_and_no_further() -> None:
    seen: list[dict[str, str]] = []
    client = Client(Limits(longest_wait=1.5, wait_initial=0.01, wait_max=0.02))
    with (
        serving(lambda path: (429, {"Retry-After": "1"}), seen) as url,
        pytest.raises(NetworkProblem, match=r"asks to wait 1 s, more than the 2 s that are waited in all: run again"),
    ):
        ask(client, url)
    assert len(seen) == 2


def test_an_observer_can_end_a_wait() -> None:
    def stop(event: FetchEvent) -> None:
        if isinstance(event, Waiting) and "asks" in event.why:
            raise KeyboardInterrupt

    with serving(lambda path: (503, {"Retry-After": "500"}), []) as url, pytest.raises(KeyboardInterrupt):
        ask(Client(QUICK, observe=stop), url)


def test_no_attempt_begins_when_patience_is_over() -> None:
    seen: list[dict[str, str]] = []
    limits = Limits(attempts=50, patience=0.3, wait_initial=0.1, wait_max=0.1)
    with serving(lambda path: (500, {}), seen) as url, pytest.raises(NetworkProblem):
        ask(Client(limits), url)
    assert 2 <= len(seen) <= 6


@pytest.mark.parametrize(
    ("header", "seconds"), [("30", 30), ("0", 0), ("", 0), ("soon", 0), ("-5", 0), ("\u0663", 0), ("9" * 30, 0)]
)
def test_the_header_may_hold_seconds(header: str, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_the_header_may_hold_a_date() -> None:
    now = datetime.now(UTC)
    assert retry_after(format_datetime(now + timedelta(seconds=90), usegmt=True)) == pytest.approx(90, abs=3)
    assert retry_after(format_datetime(now - timedelta(seconds=90), usegmt=True)) == 0


def retry_after(header: str) -> float:
    response = requests.Response()
    response.status_code, response.raw = 503, io.BytesIO(b"busy \x1b[31m\n")
    response.headers["Retry-After"] = header
    with pytest.raises(RequestFailed) as problem:
        refuse_status(response)
    assert "\x1b" not in problem.value.said and "busy" in problem.value.said
    return problem.value.retry_after


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"read_timeout": 0}, {"longest_wait": -1}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="attempts and timeouts"):
        Limits(**wrong)


# Servers that mean ill: each of these went on without end, or ended all of a command.

SHORT = Limits(connect_timeout=0.2, read_timeout=1, attempts=1, least_rate=1e6, wait_initial=0.01, wait_max=0.02)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def sending(pieces: Callable[[], Iterator[bytes]], pause: float) -> Iterator[str]:
    """A server that sends these pieces as its answer to any request, with a pause after each, until the client goes."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.settimeout(20)
                self.request.recv(65536)
                for piece in pieces():
                    self.request.sendall(piece)
                    if ended.wait(pause):
                        return

    ended = threading.Event()
    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            ended.set()
            server.shutdown()
            thread.join()


def problem_of(pieces: Callable[[], Iterator[bytes]], pause: float = 0.0) -> str:
    with sending(pieces, pause) as url, pytest.raises(NetworkProblem) as problem:
        ask(Client(SHORT), url)
    assert "\n" not in str(problem.value) and len(str(problem.value)) < 500
    return str(problem.value)


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nX: ", HEAD + b"Content-Length: 100000\r\n\r\n", HEAD + b"\r\n", b"HTTP/1.1 503 Busy\r\n\r\n"],
    ids=["head", "body", "body without length", "error"],
)
def test_a_server_that_sends_a_byte_now_and_then_is_left(start: bytes) -> None:
    said = "the server is too slow|sends nothing for|answers 503"
    assert re.search(said, problem_of(lambda: chain([start], repeat(b"x")), 0.05))


def test_an_endless_listing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mms_regions.archive.http._MOST_TEXT", 10**6)
    assert "more than 1,000,000 bytes" in problem_of(lambda: chain([HEAD + b"\r\n"], repeat(bytes(10**5))))


def test_the_endless_body_of_a_redirect_is_not_read() -> None:
    start = b"HTTP/1.1 302 Found\r\nLocation: /on\r\n\r\n"
    assert "sends us on more than" in problem_of(lambda: chain([start], repeat(bytes(10**5))))


DIGITS = b"9" * 5000


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (HEAD + b"Content-Length: " + DIGITS, "an impossible number of bytes"),
        (HEAD + b"Content-Length: -1", "an impossible number of bytes"),
        (HEAD + b"Content-Length: " + b"9" * 17, "announces 99,999,999,999,999,999 bytes, more than"),
        (b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\nRetry-After: " + DIGITS, "answers 429"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: Mon, 01 Jan 99999 00:00:00 GMT", "answers 503"),
    ],
    ids=["length", "below zero", "too large", "wait", "date"],
)
def test_absurd_numbers_in_headers_end_the_request(head: bytes, said: str) -> None:
    assert re.search(said, problem_of(lambda: iter([head + b"\r\n\r\n"])))
