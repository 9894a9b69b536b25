"""What all tests share: where the reference cases are, and loud lines about what could not be tested here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mms_regions.core.isolated import collect_rarely

VARIABLE = "MMS_REGIONS_REFERENCE"
# `nohup` has tests, and all commands that they start, ignore the signal that some of them are about.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Of Debian, without which some tests are skipped.
PACKAGES = {"SLURM": "slurmctld slurmd slurm-client munge", "CHROMIUM": "chromium chromium-driver"}

# Of tests on a cluster, and of those that kill commands or send them signals.
SYSTEM_FIXTURES = {"slurm", "processes"}

collect_rarely()  # as each command does

# A machine that others use too stalls now and then: a slow example is no failure.
settings.register_profile("mms_regions", deadline=None)
settings.load_profile("mms_regions")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder that holds reference/, models/ and real/, as MMS_REGIONS_REFERENCE names it."""
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"reference cases not at hand: {VARIABLE} is not set")
    folder = Path(named).absolute()
    if not (folder / "reference").is_dir():
        pytest.fail(f"{VARIABLE} is {named}, which holds no folder reference/: correct it, or unset it to skip.")
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """A store takes a thousand fsyncs, and no test cuts the power; commands in processes of their own still wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures that they use, so that `-m "not system"` needs no second list."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "reference" in fixtures:
            item.add_marker("reference")
        if not SYSTEM_FIXTURES.isdisjoint(fixtures):
            item.add_marker("system")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in capitals how many tests did not run for want of the reference cases."""
    skipped = [report for report in terminalreporter.getreports("skipped") if "reference" in report.keywords]
    if skipped and not os.environ.get(VARIABLE):
        line = f"SKIPPED: REFERENCE CASES (TESTS: {len(skipped)}). TO RUN THEM, SET {VARIABLE} TO THEIR FOLDER."
        terminalreporter.write_line(line, red=True, bold=True)
    for what, packages in PACKAGES.items():
        begin = f"SKIPPED: {what}"
        without = [report for report in terminalreporter.getreports("skipped") if begin in str(report.longrepr)]
        if without:
            line = f"{begin} (TESTS: {len(without)}). TO RUN THEM, INSTALL {packages}."
            terminalreporter.write_line(line, red=True, bold=True)
    for kind in ("passed", "failed", "skipped"):
        for report in terminalreporter.getreports(kind):
            _show_containers(terminalreporter, report)


def _show_containers(terminalreporter: pytest.TerminalReporter, report: pytest.TestReport) -> None:
    """What tests/containers.sh said: sizes, steps, and in red what it could not do."""
    for name, said in getattr(report, "user_properties", ()):
        if name == "containers" and report.when == "call":
            for line in str(said).splitlines():
                loud = line.startswith("SKIPPED")
                terminalreporter.write_line(line, red=loud, bold=loud)
