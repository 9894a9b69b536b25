"""What one HTTP request takes of its libraries: a session that says little about us, and their errors with a reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from mms_regions.archive.http import RequestFailed, shortly
from mms_regions.archive.watch import Watch, WatchedAdapter
from mms_regions.core.version import __version__

_PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@contextmanager
def failures(timeouts: tuple[float, float], watch: Watch) -> Iterator[None]:
    """Turn what libraries raise into RequestFailed with a reason."""
    try:
        with _too_late(watch):
            yield
    except requests.ConnectTimeout as problem:
        raise RequestFailed(f"no connection within {timeouts[0]:g} s", again=True) from problem
    except requests.ReadTimeout as problem:
        raise RequestFailed(f"the server sends nothing for {timeouts[1]:g} s", again=True) from problem
    except requests.exceptions.SSLError as problem:
        raise RequestFailed(f"no trust in the server ({_cause(problem)}{_named(_BUNDLES)})", again=False) from problem
    except requests.exceptions.ProxyError as problem:
        said = f"the proxy cannot be used ({_cause(problem)}{_named(_PROXIES)})"
        raise RequestFailed(said, again=True) from problem
    except requests.exceptions.ChunkedEncodingError as problem:
        raise RequestFailed("the server ends its answer too early", again=True) from problem
    except requests.ConnectionError as problem:
        stalled = "Read timed out" in str(problem)
        said = f"the server sends nothing for {timeouts[1]:g} s" if stalled else f"no connection ({_cause(problem)})"
        raise RequestFailed(said, again=True) from problem
    except (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException) as problem:
        raise RequestFailed(f"it cannot be asked for ({shortly(str(problem))})", again=False) from problem
    except OSError as problem:
        if "certificate bundle" not in str(problem):  # of a disk; requests has no class for this one
            raise
        raise RequestFailed(f"no trust in servers ({problem}{_named(_BUNDLES)})", again=False) from problem


def _named(variables: tuple[str, ...]) -> str:
    """Those that the user has set, by their names alone: the address of a proxy may hold a password."""
    found = [name for name in variables if os.environ.get(name)]
    return f"; the environment sets {', '.join(found)}" if found else ""


@contextmanager
def _too_late(watch: Watch) -> Iterator[None]:
    """Whatever an ended connection makes libraries raise, the cause is that it was too slow."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError) as problem:
        if watch.is_late:
            raise RequestFailed(watch.about, again=True) from problem
        raise


def _cause(problem: BaseException) -> str:
    """The innermost reason in words, such as `Connection refused`."""
    while inner := problem.__cause__ or problem.__context__:
        problem = inner
    return getattr(problem, "strerror", None) or shortly(str(problem))


class Session(requests.Session):
    """Proxies from the environment, and nothing else that says who we are; no redirects to weaker places."""

    def __init__(self) -> None:
        super().__init__()
        self.headers.update({"User-Agent": f"mms-regions/{__version__}", "Accept-Encoding": "identity"})
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.auth = lambda request: request  # else ~/.netrc would be asked

        for scheme in ("http://", "https://"):
            self.mount(scheme, WatchedAdapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Nowhere: requests would read the bodies of redirects to their ends."""
        return None

    def redirect_target(self, response: requests.Response) -> str | None:
        """Where an answer sends us on to, if it does. Raises RequestFailed for weaker places."""
        target = super().get_redirect_target(response)
        if target is not None and not _is_as_safe(response.url, target):
            response.close()
            raise RequestFailed(f"the server sends us on to {shortly(target)}, which is no safe place", again=False)
        return target


def _is_as_safe(url: str, target: str) -> bool:
    """Whether a redirect leads to the same host in the same way, or to any with encryption."""
    try:
        here, there = urlsplit(url), urlsplit(urljoin(url, target))
    except ValueError:
        return False
    return there.scheme == "https" or (here.scheme, here.hostname) == (there.scheme, there.hostname)


@cache
def session_of(process: int) -> Session:
    """The one of a process: connections must not be shared with a forked one."""
    return Session()
