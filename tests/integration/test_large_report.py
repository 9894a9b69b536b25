"""A large report draws the events that need a look, and its table has several pages; figures are of all segments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from report_pages import content, names, words_of

from mms_regions.report.survey import MOST

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]

NOTE = (
    "pages of 2 of 4 events: first those with failures, then those with the most cautions or without data, "
    "4 segments at most; name other events with --events"
)


@pytest.fixture(scope="module")
def four_are_many() -> Iterator[None]:
    """Of reports of more than four segments; and a picture of strips has two rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mms_regions.report.survey.MOST", 4)
        patch.setattr("mms_regions.report.overview_plot.ROWS_PER_OVERVIEW", 2)
        yield


@pytest.fixture(scope="module")
def done(
    four_are_many: None, troubled: Path, tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command
) -> tuple[Path, CompletedProcess[str]]:
    """The report of six segments: A (one failed), LONG (cautions), B (one damaged), C (missing)."""
    out = tmp_path_factory.mktemp("report") / "r"
    return out, mms_regions_here("report", troubled, "--out", out, "--workers", 0)


def test_only_events_that_need_a_look_are_drawn_and_page_and_command_say_so(
    done: tuple[Path, CompletedProcess[str]], mms_regions_here: Command
) -> None:
    out, said = done
    lines = said.stderr.splitlines()
    assert (said.returncode, lines[0]) == (4, f"mms-regions: {NOTE}")
    assert lines[1].startswith("mms-regions: B/mms2 cannot be read: ")
    assert f"This report has {NOTE}. The table of all segments is on 2 pages." in words_of(out / "index.html")
    assert names(out / "events") == ["A.html", "B.html"], "A/mms2 failed, B/mms2 is damaged"
    assert f"Of more than {MOST} segments" in " ".join(mms_regions_here("report", "--help").stdout.split())


def test_figures_are_of_all_segments_on_all_pages_of_the_table(done: tuple[Path, CompletedProcess[str]]) -> None:
    out, _ = done
    index = words_of(out / "index.html")
    assert "6 segments of 4 events: 3 complete , 1 failed , 1 unreadable , 1 missing ." in index
    assert "3 of 6 segments have no labels that could be shown" in index
    assert "Of 6 segments (4 events, one per spacecraft) 3 could be labelled" in index
    assert names(out) == ["bokeh.min.js", "events", "index-2.html", "index.html"]
    row = r'<th scope="row" data-value="\d+">(?:<a [^>]*>)?([^<]+)'
    rows = [re.findall(row, (out / name).read_text()) for name in ("index.html", "index-2.html")]
    assert rows == [["A/mms1", "A/mms2", "LONG/mms1"], ["B/mms1", "B/mms2", "C/mms1"]]
    assert "3 of 3 segments on this page" in index and "3 of 6 segments, events B to C" in words_of(
        out / "index-2.html"
    )


def test_all_links_of_a_paged_report_lead_to_pages_of_it(done: tuple[Path, CompletedProcess[str]]) -> None:
    out, _ = done
    found = content(out)
    for name in [*found]:
        if name.endswith(".html"):
            for link in re.findall(r'href="([^"#:]+)[^":]*"', found[name].decode()):
                assert (out / name).parent.joinpath(link).is_file(), f"{name}: {link}"
    assert 'href="index-2.html#segments"' in found["index.html"].decode()
    assert 'href="index.html#segments"' in found["index-2.html"].decode()
    assert 'href="events/LONG.html' not in found["index.html"].decode(), "an event without a page has no link"


def test_events_that_are_named_are_drawn(
    four_are_many: None, troubled: Path, mms_regions_here: Command, tmp_path: Path
) -> None:
    named = ("--events", "A,LONG,C", "--probes", "1", "--workers", 0)
    few = mms_regions_here("report", troubled, "--out", tmp_path / "r", *named)
    assert (few.returncode, few.stderr) == (0, "")
    assert names(tmp_path / "r" / "events") == ["A.html", "C.html", "LONG.html"]
    every = mms_regions_here("report", troubled, "--out", tmp_path / "e", "--events", "A,LONG,B,C", "--workers", 0)
    assert every.returncode == 4 and "pages of" not in every.stderr
    assert names(tmp_path / "e" / "events") == ["A.html", "B.html", "C.html", "LONG.html"], "however many"
