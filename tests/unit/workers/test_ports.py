"""Nobody else on this machine, whoever it is, gets a word out of the ports of a run; what is tried is noted."""

from __future__ import annotations

import asyncio
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dask
import distributed
import pytest
from distributed.core import rpc
from distributed.security import Security
from listeners import Answer, Listener, answers_to_nobody, family, listeners

from mms_regions.workers.local import local_pool
from mms_regions.workers.pool import PoolRequest

only_root = pytest.mark.skipif(os.getuid() != 0, reason="SKIPPED: ONLY ROOT CAN TRY AS ANOTHER USER")


@dataclass(frozen=True)
class Open:
    """A pool while it was open: the ports of its processes, what another user got there, and what was noted."""

    ports: list[Listener]
    answers: dict[Listener, Answer]
    log: str
    pages: dict[str, int]
    stranger: str

    def of(self, command: str) -> list[Listener]:
        return [one for one in self.ports if one.command == command]


def opened(folder: Path, dashboard: bool) -> Open:
    log = folder / "connections.log"
    routes = dask.config.set({"distributed.scheduler.http.routes": ["distributed.http.scheduler.api"]})  # by its user
    with routes, local_pool(PoolRequest(2, log=log), dashboard=dashboard) as pool:
        assert pool.submit(max, 1, 2).result() == 2
        ports = listeners(family())
        answers = answers_to_nobody(ports) if os.getuid() == 0 else {}
        web = distributed.default_client().dashboard_link.removesuffix("/status")
        paths = ("/status", "/info/main/workers.html", "/health", "/api/v1") if dashboard else ()
        pages = {path: _status(web + path) for path in paths}
        stranger = asyncio.run(_with_another_certificate(distributed.default_client().scheduler.address))
    return Open(ports, answers, log.read_text(), pages, stranger)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as problem:
        return problem.code


async def _with_another_certificate(address: str) -> str:
    other = Security.temporary().get_connection_args("client")
    async with rpc(address, timeout=20, connection_args=other) as scheduler:
        try:
            return str(await asyncio.wait_for(scheduler.identity(), 20))
        except (OSError, TimeoutError):
            return "refused"


@pytest.fixture(scope="module")
def with_pages(tmp_path_factory: pytest.TempPathFactory) -> Open:
    return opened(tmp_path_factory.mktemp("ports"), dashboard=True)


@pytest.fixture(scope="module")
def without_pages(tmp_path_factory: pytest.TempPathFactory) -> Open:
    return opened(tmp_path_factory.mktemp("ports"), dashboard=False)


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    yield
    assert logging.getLogger("distributed.comm.tcp").handlers == []


@only_root
def test_another_user_is_refused_by_scheduler_workers_and_their_keepers(without_pages: Open) -> None:
    assert len(without_pages.of("driver")) == 3, "the scheduler, and a keeper of each worker"
    assert len(without_pages.of("child")) == 2, "the workers"
    assert [one for one, answer in without_pages.answers.items() if not answer.is_refused] == []


@only_root
def test_what_is_no_port_of_tls_serves_pages_and_listens_on_localhost(with_pages: Open) -> None:
    open_to_others = {one: answer for one, answer in with_pages.answers.items() if not answer.is_refused}
    assert len(with_pages.ports) == 5 + 3
    assert len(open_to_others) == 3, "of the scheduler and two workers"
    assert all(one.is_local and answer.is_web for one, answer in open_to_others.items())


def test_pages_show_the_state_and_change_nothing_whatever_the_users_settings_of_dask(with_pages: Open) -> None:
    assert with_pages.pages == {"/status": 200, "/info/main/workers.html": 200, "/health": 200, "/api/v1": 404}


def test_a_certificate_of_another_run_is_refused(with_pages: Open, without_pages: Open) -> None:
    assert [with_pages.stranger, without_pages.stranger] == ["refused", "refused"]


def test_whoever_is_refused_is_a_line_in_the_log_and_nothing_on_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = opened(tmp_path, dashboard=False)
    lines = found.log.splitlines()
    assert lines and all("TLS handshake failed with remote" in line for line in lines)
    if found.answers:
        assert {line.split(":")[2].split()[-1] for line in lines} >= {str(os.getpid())}
        assert len({line.split("process ")[1].split(":")[0] for line in lines}) == 3, "of driver and both workers"
    shown = "".join(capfd.readouterr())
    assert "handshake" not in shown and "SSL" not in shown
