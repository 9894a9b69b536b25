"""The dashboard that a run names answers in a browser while the run goes on, on this machine and with SLURM jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, chromium, why_not
from listeners import listeners
from private_slurm import Slurm
from processes import Nursery
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := why_not():
        pytest.skip(f"SKIPPED: {reason}")
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def test_the_dashboard_of_a_local_run_answers_while_it_goes_on(
    browser: Browser,
    processes: Nursery,
    run_words: Callable[..., list[object]],
    profile: Path,
    slow_writes: Any,
    tmp_path: Path,
) -> None:
    shown, slow = tmp_path / "shown.toml", slow_writes(1000)
    shown.write_text(profile.read_text() + "\n[cluster]\ndashboard = true\n")
    words = run_words(tmp_path / "x.zarr", "--profile", shown, "--workers", 2)
    run = processes.start(*words, env=slow.env)
    try:
        slow.wait_for(run)
        (link,) = re.findall(r"dashboard: (http://127\.0\.0\.1:\d+/status)", run.said)
        assert_answers(browser, link)
    finally:
        run.end()


def test_the_dashboard_of_a_slurm_run_answers_while_it_goes_on(
    browser: Browser,
    slurm: Slurm,
    processes: Nursery,
    run_words: Callable[..., list[object]],
    profile: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    gate, on_jobs = tmp_path / "gate", tmp_path / "jobs.toml"
    wait = f"until [ -e {gate} ]; do sleep 0.1; done"
    cluster = f'[cluster]\nkind = "slurm"\n[cluster.cpu]\nqueue = "cpu"\nmemory = "1 GB"\nsetup = ["{wait}"]\n'
    on_jobs.write_text(f"{profile.read_text()}\n{cluster}")
    words = run_words(tmp_path / "x.zarr", "--profile", on_jobs, "--events", "B")
    run = processes.start(*words, env={**environment, **slurm.environment})
    try:
        run.until("/status")
        (link,) = re.findall(r"dashboard: ssh -N -L .*, then (http://127\.0\.0\.1:\d+/status)", run.said)
        assert_answers(browser, link)
        gate.touch()
        assert run.wait().returncode == 0, run.said
    finally:
        gate.touch()
        run.end()


def assert_answers(browser: Browser, link: str) -> None:
    """The page comes, draws with bokeh's script, and asks no other machine."""
    browser.requests()
    browser.driver.get(link)
    drawn = "return typeof Bokeh !== 'undefined' && Bokeh.documents.some((one) => one.roots().length > 0)"
    WebDriverWait(browser.driver, 120).until(lambda _: browser.run(drawn))
    assert "Dask" in browser.run("return document.title")
    origin = link.removesuffix("/status")
    asked = [url for url in browser.requests() if url.startswith(("http", "ws"))]
    assert [url for url in asked if url.startswith(origin)]
    assert [url for url in asked if not url.startswith((origin, origin.replace("http", "ws")))] == []


def test_without_a_dashboard_none_is_named_and_nothing_listens(
    processes: Nursery,
    run_words: Callable[..., list[object]],
    profile: Path,
    slow_writes: Any,
    tmp_path: Path,
) -> None:
    slow = slow_writes(1000)
    words = run_words(tmp_path / "x.zarr", "--profile", profile, "--workers", 2)
    run = processes.start(*words, env=slow.env)
    try:
        slow.wait_for(run)
        assert "dashboard" not in run.said
        ports = listeners({run.pid: "driver", **dict.fromkeys(run.workers, "worker")})
        assert ports and all(one.is_local and one.speaks_tls for one in ports), "no page is left"
    finally:
        run.end()
