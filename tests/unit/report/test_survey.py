"""Which events of a large report are drawn: failures first, then what has cautions or no data, 500 segments at most."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mms_regions.core.events import Event, Segment
from mms_regions.report.facts import Measured, SegmentFacts
from mms_regions.report.survey import MOST, events_to_draw


def facts(
    event: str, state: str = "complete", caution: float = 0.0, labelled: float = 1.0, doubts: str = ""
) -> list[SegmentFacts]:
    """An event as two spacecraft see it, of which the second has these."""
    start = np.datetime64("2017-07-11T10:34:00", "ns")
    seen = Event(name=event, t_start=start, t_end=start + np.timedelta64(6, "s"), B0=12, n0=0.2)
    fine, other = (
        Measured(200, (1.0, 0.0), known, 0.9, 0.0, {"slow_outflow": 0.0, "wrong_side": share}, {}, doubts=why)
        for known, share, why in ((1.0, 0.0, ""), (labelled, caution, doubts))
    )
    second = SegmentFacts(Segment(seen, 2), state, measured=other if state == "complete" else None)
    return [SegmentFacts(Segment(seen, 1), "complete", measured=fine), second]


def joined(events: Iterable[list[SegmentFacts]]) -> list[SegmentFacts]:
    return [one for event in events for one in event]


def test_events_with_failures_without_data_and_with_cautions_are_drawn_and_no_others() -> None:
    troubled = {
        "failed": facts("failed", "failed"),
        "unreadable": facts("unreadable", "unreadable"),
        "no_data": facts("no_data", "no_data"),
        "caution": facts("caution", caution=0.01),
        "few": facts("few", labelled=0.9),
        "doubts": facts("doubts", doubts="n0 is too low"),
    }
    sound = [facts("fine"), facts("missing", "missing"), facts("prepared", "prepared")]
    assert events_to_draw(joined([*sound, *troubled.values()])) == set(troubled)


def test_the_gravest_are_drawn_where_they_are_too_many() -> None:
    many = [facts(f"c{i}", caution=(i + 1) / 1000) for i in range(MOST // 2)]
    troubled = [facts("failed", "failed"), facts("no_data", "no_data")]
    drawn = events_to_draw(joined([*many, *troubled]))
    assert len(drawn) == MOST // 2, "two segments each"
    assert drawn == {"failed", *(f"c{i}" for i in range(1, MOST // 2))}, "without the least caution, and no data"


def test_failures_go_before_larger_cautions_and_among_them_the_larger_ones_first() -> None:
    failed = [facts(f"f{i}", "failed") for i in range(MOST // 2)]
    assert events_to_draw(joined([facts("worst", caution=1.0), *failed])) == {f"f{i}" for i in range(MOST // 2)}
