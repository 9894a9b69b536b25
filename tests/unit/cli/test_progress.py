"""What a transfer tells is shown: a line per file in a log, files, bytes and waits on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mms_regions.cli.progress import PlainLines, ProgressBar, Transfers
from mms_regions.core.messages import (
    BytesArrived,
    Event,
    FetchEvent,
    FetchStarted,
    Quarantined,
    Remark,
    RunStarted,
    SegmentDone,
    SegmentFetched,
    ShardLabelled,
    TransferDone,
    TransferStarted,
    Waiting,
    counted,
)

ASKED = "server asks to wait 3 s"
FETCH: tuple[Event, ...] = (
    FetchStarted(2),
    Quarantined("old.cdf", "old.cdf: has 5 bytes, not 9"),
    TransferStarted("a.cdf", 3_000_000),
    TransferStarted("b.cdf", 2_000_000, offset=500_000),
    BytesArrived("a.cdf", 2_000_000),
    Waiting("b.cdf", 3.0, ASKED),
    Waiting("b.cdf", 2.0, ASKED),
    Waiting("b.cdf", 1.0, ASKED),
    BytesArrived("a.cdf", 1_000_000),
    TransferDone("a.cdf", 3_000_000, "0" * 64, "http://archive/a.cdf"),
    SegmentFetched("A/mms1"),
    Waiting("b.cdf", 0.5, "the server answers 503"),
    SegmentFetched("A/mms2", "no file of [fgm_brst_l2]; leave it out", no_data=True),
)


def stamped_lines(events: Sequence[Event], step: float) -> list[str]:
    """The lines of a log of events that come every `step` s from noon on."""
    lines: list[str] = []
    clock = count(datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp(), step)
    now = next(clock)
    with PlainLines(lines.append, lambda: now) as observe:
        for event in events:
            observe(event)
            now = next(clock)
    return lines


def lines_of(*events: Event) -> list[str]:
    return [line.removeprefix("2026-11-26T12:00:00Z ") for line in stamped_lines(events, 0.0)]


def screen_of(*events: Event) -> str:
    """All that a terminal was sent."""
    screen = io.StringIO()
    with ProgressBar(Console(file=screen, force_terminal=True, width=160)) as observe:
        for event in events:
            observe(event)
    return screen.getvalue()


def test_a_log_has_a_line_for_each_file_segment_and_wait() -> None:
    assert lines_of(*FETCH) == [
        "2 segments to fetch",
        "old.cdf: quarantined, old.cdf: has 5 bytes, not 9",
        "b.cdf: waiting 3 s, server asks to wait 3 s",
        "a.cdf: 3.0 MB arrived",
        "[1/2] fetched A/mms1",
        "b.cdf: waiting 0 s, the server answers 503",
        "[2/2] no data A/mms2: no file of [fgm_brst_l2]; leave it out",
    ]


def test_a_line_of_a_log_has_its_time_the_rate_and_the_time_left() -> None:
    """Time begins with the workers; a failed segment is done too, and shards give the rate where nothing else is."""
    run = (Remark("starting workers"), RunStarted(5, 1), SegmentDone("A/mms1"), SegmentDone("A/mms2", "damaged"))
    assert stamped_lines([*run, ShardLabelled(0)], 30.0) == [
        "2026-11-26T12:00:00Z starting workers",
        "2026-11-26T12:00:30Z 5 segments to prepare, 1 shard to label",
        "2026-11-26T12:01:00Z [1/5] prepared A/mms1; 2 segments per minute, 2 min 00 s left",
        "2026-11-26T12:01:30Z [2/5] failed A/mms2: damaged; 2 segments per minute, 1 min 30 s left",
        "2026-11-26T12:02:00Z shard 0 labelled",
    ]
    labels = stamped_lines([RunStarted(0, 2), ShardLabelled(3), ShardLabelled(7)], 60.0)
    assert labels[1:] == [
        "2026-11-26T12:01:00Z shard 3 labelled; 1 shard per minute, 1 min 00 s left",
        "2026-11-26T12:02:00Z shard 7 labelled; 1 shard per minute",
    ]


@given(st.integers(1, 900))
def test_a_long_wait_is_one_line_in_a_log_and_other_files_have_their_own(seconds: int) -> None:
    long = [Waiting(name, float(left), ASKED) for left in range(seconds, 0, -1) for name in ("a.cdf", "b.cdf")]
    assert lines_of(*long) == [f"{name}: waiting {seconds} s, {ASKED}" for name in ("a.cdf", "b.cdf")]


def test_the_bars_show_segments_files_bytes_and_each_trouble_as_it_is_worded() -> None:
    shown = screen_of(*FETCH)
    assert "quarantined" in shown and "old.cdf: has 5 bytes, not 9" in shown
    assert "A/mms2: no file of [fgm_brst_l2]; leave it out" in shown
    last = shown[shown.rindex("segments fetched") :]
    assert re.search(r"2/2 (\d+:\d\d:\d\d|-:--:--)", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last)), "with the time left"
    assert "1 of 2 files, the server answers 503" in last and "3.0/4.5 MB" in last


def test_the_bars_say_what_is_waited_for_and_for_how_long_only_while_it_is() -> None:
    until_wait, after_it = FETCH[:6], FETCH[:9]
    assert "0 of 2 files, server asks to wait 3 s (3 s left)" in last_frame(screen_of(*until_wait))
    assert "(1 s left)" in last_frame(screen_of(*FETCH[:8]))
    assert "wait" not in last_frame(screen_of(*after_it)) and "0 of 2 files" in last_frame(screen_of(*after_it))


def last_frame(shown: str) -> str:
    return shown[shown.rindex("segments fetched") :]


def test_bytes_are_shown_where_no_size_is_known() -> None:
    shown = last_frame(screen_of(FetchStarted(1), TransferStarted("a.cdf", None), BytesArrived("a.cdf", 1_500_000)))
    assert "0 of 1 file" in shown and "1.5/?" in shown


PASSES = st.lists(st.tuples(st.integers(1, 5_000_000), st.floats(0, 1)), max_size=6)


@given(PASSES)
def test_what_arrived_is_what_was_announced_once_all_is_done(sizes: list[tuple[int, float]]) -> None:
    """Also where some of a file was there from an earlier try."""
    now = Transfers()
    for number, (size, share) in enumerate(sizes):
        name, offset = f"{number}.cdf", int(size * share)
        events: tuple[FetchEvent, ...] = (
            TransferStarted(name, size, offset),
            BytesArrived(name, size - offset),
            TransferDone(name, size, "0" * 64, ""),
        )
        for event in events:
            now = now.after(event)
    assert now.describe() == f"{len(sizes)} of {counted(len(sizes), 'file')}" and now.arrived == now.announced
