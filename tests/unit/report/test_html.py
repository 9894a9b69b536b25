"""Words of pages: figures that do not lie by rounding, text that stays text, a policy that fits what it allows."""

from __future__ import annotations

import re
from base64 import b64decode
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from drawn import COLOURS, REGIONS
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup

from mms_regions.core.events import Event, Segment
from mms_regions.core.messages import percent
from mms_regions.core.origin import origin_of
from mms_regions.core.regions import regions_named
from mms_regions.report.event_page import page_of
from mms_regions.report.facts import SegmentFacts
from mms_regions.report.html import render, script
from mms_regions.report.report import SOFTWARE


@given(st.floats(0, 1))
def test_percent_says_neither_none_of_what_is_there_nor_all_of_what_is_not_whole(share: float) -> None:
    told = percent(share)
    assert (told == "0%") == (share == 0)
    assert (told == "100%") == (share == 1)
    assert re.fullmatch(r"0%|100%|<0\.1%|>99\.9%|\d{1,2}\.\d%", told)
    assert told not in ("0.0%", "100.0%")
    if told[0] not in "<>":
        assert abs(float(told.rstrip("%")) - 100 * share) <= 0.0500001


@pytest.mark.parametrize(
    ("share", "told"),
    [(None, "-"), (0, "0%"), (1e-9, "<0.1%"), (0.0005, "0.1%"), (0.25, "25.0%"), (0.9994, "99.9%"), (0.9996, ">99.9%")],
)
def test_percent_of_some(share: float | None, told: str) -> None:
    assert percent(share) == told


def event_page(notes: str = "", name: str = "x.zarr", reason: str = "") -> str:
    """The page of an event of one segment that failed."""
    start, end = (np.datetime64(f"2017-07-11T10:34:{second}", "ns") for second in ("00", "06"))
    event = Event(name="A", t_start=start, t_end=end, B0=12, n0=0.2, probes=(2,), notes=notes)
    shared: dict[str, Any] = {"software": SOFTWARE, "made": "today", "store": name, "name": name, "model": None}
    shared |= {
        "deciding": {"convention": "corrected"},
        "inferred": False,
        "regions": regions_named(REGIONS.split()),
        "perturbed": None,
    }
    facts = [SegmentFacts(Segment(event, 2), "failed", reason=reason)]
    own = {
        "event": event,
        "origin": origin_of([]),
        "facts": facts,
        "pictures": {},
        "alts": {2: ""},
        "overview": None,
        "agreement": None,
        "panels": {},
        "stretches": {},
        "shortest": 0.15,
        "before": None,
        "after": None,
        "script": None,
    }
    return render("event.html.j2", **shared, **own, low_confidence=0.7).decode()


@pytest.mark.parametrize("field", ["notes", "name", "reason"])
def test_what_others_wrote_is_text(field: str) -> None:
    page = event_page(**{field: "<script>ran = 1</script> & \"quoted\" 'x'"})
    assert "<script>ran" not in page
    assert "&lt;script&gt;ran = 1&lt;/script&gt; &amp; &#34;quoted&#34; &#39;x&#39;" in page


def test_a_page_allows_its_own_style_and_nothing_else_and_loads_nothing() -> None:
    page = event_page()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (allowed,) = re.findall(r"sha256-([\w+/=]+)", policy)
    assert b64decode(allowed) == sha256(style.encode()).digest()
    assert policy.startswith("default-src 'none'; ") and "script-src" not in policy and "unsafe" not in policy
    assert re.findall(r"(?:src|href)=\"(?!#|\.\./index\.html|data:)[^\"]*", page) == []
    assert re.search(r"url\(|@import", style) is None


def test_the_regions_have_the_colours_of_the_pictures() -> None:
    page = event_page()
    for index, colour in enumerate(COLOURS):
        assert f".r{index} {{ fill: {colour}; background: {colour}; }}" in page


def test_a_template_that_lacks_what_it_names_fails() -> None:
    with pytest.raises(UndefinedError):
        render("event.html.j2", (), software=SOFTWARE)


def test_the_script_is_not_escaped() -> None:
    assert isinstance(script(), Markup) and "=>" in script() and "</script" not in script()


def test_a_page_of_an_event_is_in_a_folder() -> None:
    start, end = (np.datetime64(f"2017-07-11T10:34:{second}", "ns") for second in ("00", "06"))
    event = Event(name="A_1", t_start=start, t_end=end, B0=12, n0=0.2)
    assert page_of(event) == "events/A_1.html"
    assert re.fullmatch(r"events/[0-9a-f]{16}\.html", page_of(event.model_copy(update={"name": "../../x"})))
