"""One polite HTTP client: retries by cause, the waits that a server asks for, and limits on both."""

from __future__ import annotations

import email.utils
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, TypeVar
from urllib.parse import urljoin

from mms_regions.core.errors import SegmentProblem
from mms_regions.core.messages import Notify, Throttle, Waiting, counted, ignore_messages

if TYPE_CHECKING:  # the libraries are imported with the first request: a run without any saves their time
    import requests

T = TypeVar("T")

CHUNK = 1 << 14  # bytes of a body at a time: what a broken connection costs, at most
_MOST_TEXT = 32 << 20  # bytes of a listing; a day of burst files is some 10 kB
_MOST_REDIRECTS = 5
_MOST_QUOTED = 120  # characters of a server's own words in a message
_BUSY = {408, 425, 429}  # besides 5xx: asking again later can help


class NetworkProblem(SegmentProblem):
    """A server that cannot be reached, or does not answer as it should; it may later."""

    retry_helps: ClassVar[bool] = True


@dataclass(frozen=True)
class Limits:
    """How patient a client is; times in s. Raises ValueError for numbers that make no sense.

    attempts: of one file or listing. patience: no attempt begins later than this after the first, waits that the
    server asks for apart. longest_wait: of those, in all. wait_initial, wait_max: between attempts, growing.
    least_rate: bytes a second of a body; a request that is slower is ended, as is one that takes longest_request.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 30.0  # without a single byte
    attempts: int = 5
    patience: float = 60.0
    longest_wait: float = 900.0
    wait_initial: float = 0.5
    wait_max: float = 15.0
    least_rate: float = 1000.0
    longest_request: float = 3600.0

    def __post_init__(self) -> None:
        positive = (self.connect_timeout, self.read_timeout, self.attempts, self.patience, self.wait_max)
        if min(*positive, self.least_rate, self.longest_request) <= 0 or min(self.longest_wait, self.wait_initial) < 0:
            raise ValueError(f"{self}: attempts and timeouts must be above 0, waits not below")


class RequestFailed(Exception):
    """One request that did not bring what it should.

    said: what is wrong, in words. again: whether another attempt may mend it. becomes: the problem that it is when
    there is no other attempt. status: of HTTP, 0 for no answer. retry_after: s, which the server asks to wait first.
    """

    def __init__(
        self,
        said: str,
        *,
        again: bool,
        becomes: type[NetworkProblem] = NetworkProblem,
        status: int = 0,
        retry_after: float = 0.0,
    ):
        super().__init__(said)
        self.said, self.again, self.becomes = said, again, becomes
        self.status, self.retry_after = status, retry_after


class Client:
    """Asks a server on behalf of one segment.

    throttle: entered around each request, so that a whole cluster can keep to a number of them at once. observe: hears
    of waits; what it raises ends them.
    """

    def __init__(self, limits: Limits, throttle: Throttle = nullcontext, observe: Notify = ignore_messages):
        self.limits, self.observe = limits, observe
        self._throttle = throttle
        self._obeyed = 0.0  # s waited because a server asked for it

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[requests.Response]:
        """One GET request; its body is read inside the `with`. Raises RequestFailed, also for what reading raises."""
        from mms_regions.archive.session import failures
        from mms_regions.archive.watch import Watch

        limits = self.limits
        watch = Watch(limits.connect_timeout + 2 * limits.read_timeout, limits.least_rate, limits.longest_request)
        with (
            self._throttle(),
            failures((limits.connect_timeout, limits.read_timeout), watch),
            watch,
            self._answer(url, dict(headers or {})) as response,
        ):
            watch.count(response.raw)
            yield response
            if watch.is_late:  # what came until then may look like a whole body
                raise RequestFailed(watch.about, again=True)

    def _answer(self, url: str, headers: dict[str, str]) -> requests.Response:
        """The answer at the end of all redirects, whose own bodies nobody reads."""
        from mms_regions.archive.session import session_of

        session, timeouts = session_of(os.getpid()), (self.limits.connect_timeout, self.limits.read_timeout)
        for _ in range(_MOST_REDIRECTS):
            response = session.get(url, headers=headers, stream=True, timeout=timeouts)
            target = session.redirect_target(response)
            if target is None:
                return response
            response.close()
            url = urljoin(url, target)
        raise RequestFailed(f"the server sends us on more than {_MOST_REDIRECTS} times", again=False)

    def text(self, url: str) -> str:
        """The whole body of a page. Raises RequestFailed."""
        return self.body(url, _MOST_TEXT).decode("utf-8", errors="replace")

    def body(self, url: str, most: int) -> bytes:
        """A whole body. Raises RequestFailed, also where it has more than `most` bytes or fewer than announced."""
        body = bytearray()
        with self.get(url) as response:
            refuse_status(response)
            announced = announced_bytes(response)
            if announced is not None and announced > most:
                size = counted(announced, "byte")
                raise RequestFailed(f"the server announces {size}, more than {most:,}", again=False)
            for chunk in response.iter_content(CHUNK):
                body += chunk
                if len(body) > most:
                    raise RequestFailed(f"the server sends more than {most:,} bytes", again=False)
        if announced is not None and len(body) < announced:
            raise RequestFailed(f"{counted(len(body), 'byte')} of {announced:,} came", again=True)
        return bytes(body)

    def persist(self, name: str, url: str, once: Callable[[], T]) -> T:
        """What `once` returns, called again while it raises RequestFailed that another attempt may mend.

        name: of what is asked for, in messages and events. Raises NetworkProblem, from the last RequestFailed.
        """
        import stamina

        logging.getLogger("stamina").addHandler(logging.NullHandler())  # an observer gets waits; stderr is not for them
        tries = _Tries(self, name)
        try:
            for attempt in stamina.retry_context(
                on=tries.goes_on,
                attempts=self.limits.attempts,
                timeout=None,
                wait_initial=self.limits.wait_initial,
                wait_jitter=self.limits.wait_initial,
                wait_max=self.limits.wait_max,
            ):
                tries.wait_as_asked()
                with attempt:
                    return once()
        except RequestFailed as failure:
            raise failure.becomes(tries.sentence(failure, url)) from failure
        raise AssertionError("retry_context ends by returning or raising")

    def may_obey(self, seconds: float) -> bool:
        """Whether a wait that a server asks for is within the limit."""
        return self._obeyed + seconds <= self.limits.longest_wait

    def obey(self, name: str, seconds: float) -> None:
        """Wait because a server asks for it, telling the observer every second."""
        self._obeyed += seconds
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.observe(Waiting(name, left, f"server asks to wait {seconds:.0f} s"))
            time.sleep(min(left, 1.0))


class _Tries:
    """The attempts at one thing: whether another is due, and what to say when none is."""

    def __init__(self, client: Client, name: str):
        self._client, self._limits, self._name = client, client.limits, name
        self._deadline = time.monotonic() + client.limits.patience
        self._count = 0
        self._asked = 0.0  # s, the wait that the last answer asked for

    def goes_on(self, problem: Exception) -> bool:
        """Asked after each failure, before the wait that grows with their number."""
        self._count += 1
        if not isinstance(problem, RequestFailed) or not problem.again:
            return False
        in_time = time.monotonic() < self._deadline and self._client.may_obey(problem.retry_after)
        if not in_time or self._count >= self._limits.attempts:
            return False
        self._asked = problem.retry_after
        if not self._asked:  # such a wait is reported while it lasts
            wait = min(self._limits.wait_initial * 2 ** (self._count - 1), self._limits.wait_max)
            self._client.observe(Waiting(self._name, wait, problem.said))
        return True

    def wait_as_asked(self) -> None:
        seconds, self._asked = self._asked, 0.0
        self._deadline += seconds
        self._client.obey(self._name, seconds)

    def sentence(self, failure: RequestFailed, url: str) -> str:
        times = f"tried {self._count} times" if self._count > 1 else "tried once"
        advice = "run again later to go on" if failure.again else "see whether the address (--archive-url) is right"
        if not self._client.may_obey(failure.retry_after):
            most = f"more than the {self._limits.longest_wait:.0f} s that are waited in all"
            advice = f"it asks to wait {failure.retry_after:.0f} s, {most}: run again later to go on"
        return f"{self._name}: {failure.said} ({url}, {times}); {advice}"


def refuse_status(response: requests.Response) -> None:
    """Raise RequestFailed for an answer that is no success, with what the server says."""
    status = response.status_code
    if status in (200, 206):
        return
    again = status >= 500 or status in _BUSY
    retry_after = _seconds(response.headers.get("Retry-After", "")) if again else 0.0
    said = f"the server answers {status} {response.reason or ''}".rstrip()
    raise RequestFailed(f"{said}{_quoted(response)}", again=again, status=status, retry_after=retry_after)


def announced_bytes(response: requests.Response) -> int | None:
    """How many bytes the body of an answer has, if that is said. Raises RequestFailed where it is no such number."""
    text = response.headers.get("Content-Length", "").strip()
    if text and not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise RequestFailed(f"the server announces an impossible number of bytes, {shortly(text)}", again=False)
    return int(text) if text else None


def shortly(text: str) -> str:
    """A text from outside on one line, cut, and without signs that a terminal would obey."""
    line = " ".join(text.split())
    return json.dumps(line[:_MOST_QUOTED] + ("..." if len(line) > _MOST_QUOTED else ""), ensure_ascii=True)


def _quoted(response: requests.Response) -> str:
    """The first words of an error's body."""
    from requests import RequestException

    try:
        start = next(response.iter_content(1024), b"")
    except RequestException:
        return ""
    text = start.decode("utf-8", errors="replace")
    return f": {shortly(text)}" if text.strip() else ""


def _seconds(text: str) -> float:
    """What a Retry-After header asks for, as seconds or as a date; 0 where it makes no sense."""
    if re.fullmatch(r"\s*\d{1,9}\s*", text, re.ASCII):
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
    return max((date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
