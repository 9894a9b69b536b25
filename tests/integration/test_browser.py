"""Reports open from a file in a real browser: without a network, by mouse and by keyboard, on a phone and on a desk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from browser import Browser, chromium, why_not
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]

PHONE, DESK, PAPER = 390, 1280, 703  # pixels; of an A4 page without its margins
DATA = "return [...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[arguments[0]]?.dataset.value)"
RAN = "return typeof ran !== 'undefined'"  # what text of the catalogue would set, were it run
SHOWN = "#table tbody tr:not([hidden]) th"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := why_not():
        pytest.skip(f"SKIPPED: {reason}")
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module", params=["troubled", pytest.param("many", marks=pytest.mark.long)])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command) -> Path:
    """The report of a store with six segments in all states, or of the 92 segments of the catalogue."""
    if request.param == "troubled":
        return Path(request.getfixturevalue("troubled_report"))
    out = tmp_path_factory.mktemp("report") / "many"
    done = mms_regions_here("report", request.getfixturevalue("many_complete"), "--out", out, "--workers", 0)
    assert done.returncode == 0, done.stderr
    return out


def pages(report: Path) -> list[Path]:
    """The first page, and those of the first events."""
    return [report / "index.html", *sorted(report.glob("events/*.html"))[:4]]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_pages_are_whole_at_any_width_and_ask_for_nothing_else(browser: Browser, report: Path, width: int) -> None:
    for page in pages(report):
        browser.open(page, width)
        assert browser.said() == []
        asked = browser.requests()
        assert page.as_uri() in asked
        beside = {page.as_uri(), (report / "bokeh.min.js").as_uri()}
        assert [url for url in asked if url not in beside and not url.startswith("data:")] == []
        unseen = "return [...document.images].filter((one) => !one.complete || !one.naturalWidth).map((one) => one.alt)"
        assert browser.run(unseen) == []
        assert browser.run("return innerWidth") == width >= browser.run("return document.documentElement.scrollWidth")
    assert len(browser.all("img")) > 0


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_what_is_wider_than_the_page_scrolls_by_itself_and_by_keyboard(
    browser: Browser, report: Path, width: int
) -> None:
    script = """
        const clipped = (one) => {
          for (let at = one.parentElement; at; at = at.parentElement) {
            if (getComputedStyle(at).overflowX === "auto") return at;
          }
          return null;
        };
        const wide = [...document.querySelectorAll("main *")].filter(
          (one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1);
        return [wide.length, wide.filter((one) => {
          const box = clipped(one);
          return !(box && box.tabIndex === 0 && box.getAttribute("role") === "region"
            && (box.getAttribute("aria-label") || document.getElementById(box.getAttribute("aria-labelledby"))));
        }).map((one) => one.outerHTML.slice(0, 200))];
    """
    found = 0
    for page in pages(report):
        browser.open(page, width)
        count, outside = browser.run(script)
        assert outside == []
        found += count
    assert found > 0 or width == DESK, "on a desk all fits"
    browser.open(report / "index.html", PHONE)
    browser.run("document.querySelector('.tall').focus()")
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    moved = "const done = arguments[0]; setTimeout(() => done(document.querySelector('.tall').scrollLeft), 500)"
    assert browser.driver.execute_async_script(moved) > 0


def test_the_structure_is_one_that_can_be_read_out(browser: Browser, report: Path) -> None:
    for page in pages(report):
        browser.open(page)
        assert browser.run("return document.documentElement.lang") == "en"
        levels = browser.run("return [...document.querySelectorAll('h1,h2,h3,h4')].map((one) => +one.tagName[1])")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert browser.all("img:not([alt]), img[alt='']") == []
        unlabelled = "return [...document.querySelectorAll('input, select')].filter((one) => !one.labels.length).length"
        assert browser.run(unlabelled) == 0
        ids = browser.run("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
        assert len(ids) == len(set(ids))
        assert browser.all("th:not([scope])") == []
        assert len(browser.all("th")) > 0 or page.stem == "C"  # which has not been made
        assert {one.get_attribute("aria-labelledby") for one in browser.all("[aria-labelledby]")} <= set(ids)
        inside = browser.run("return [...document.querySelectorAll('a[href^=\"#\"]')].map((one) => one.hash.slice(1))")
        assert len(inside) > 1 and set(inside) <= set(ids)
        nameless = (
            "return [...document.querySelectorAll('a, button, summary')].filter((one) => !one.textContent.trim())"
        )
        assert browser.run(nameless) == []


def in_order(values: list[str], up: bool) -> bool:
    """Whether numbers are so as numbers, and words as words, with what is not known at the end."""
    known = [value for value in values if value]
    if any(values[len(known) :]):
        return False
    try:
        keys: list[float] | list[str] = [float(value) for value in known]
    except ValueError:
        keys = known
    return keys == sorted(keys, reverse=not up)


def test_the_table_sorts_by_each_heading_with_the_mouse(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    for column, button in enumerate(browser.all("#table thead button")):
        for direction in ("ascending", "descending"):
            browser.run("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", button)
            button.click()
            sorts = browser.run("return [...document.querySelectorAll('#table thead th')].map((one) => one.ariaSort)")
            assert sorts[column] == direction
            assert sorts.count("none") == len(sorts) - 1
            values = browser.run(DATA, column)
            assert in_order([value or "" for value in values], direction == "ascending"), (column, values)
    assert len(browser.all("#table tbody tr")) in (6, 92)
    assert browser.said() == []


def test_all_columns_of_the_table_are_in_sight_at_1200_pixels(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html", 1200)
    headings = "#table thead th"
    assert browser.texts(headings)[4:] == ["Labelled", "Regions", "Confidence", "Cautions", "Stability", "Flags"]
    assert browser.run("const box = document.querySelector('.tall'); return box.scrollWidth - box.clientWidth") <= 0


def test_numbers_are_sorted_as_numbers_and_unknown_ones_come_last(browser: Browser, troubled_report: Path) -> None:
    browser.open(troubled_report / "index.html")
    seconds = browser.find("#table thead th:nth-child(4) button")
    seconds.click()
    assert browser.run(DATA, 3) == ["6.0", "6.0", "7.5", "7.5", "30.0", "36.0"], "7.5 before 30"
    labelled = browser.find("#table thead th:nth-child(5) button")
    for _ in range(2):
        labelled.click()
        assert [bool(value) for value in browser.run(DATA, 4)] == [True, True, True, False, False, False]


def test_the_table_sorts_by_keyboard(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    browser.run("document.getElementById('state').focus()")
    browser.press(Keys.TAB)
    assert browser.driver.switch_to.active_element.get_attribute("role") == "region", "the table can be scrolled"
    for column in range(4):
        browser.press(Keys.TAB)
        focused = browser.driver.switch_to.active_element
        assert focused.tag_name == "button"
        outline = browser.run("return getComputedStyle(arguments[0]).outlineStyle", focused)
        assert outline == "solid", "one sees where the focus is"
        for key, direction in ((Keys.ENTER, "ascending"), (Keys.SPACE, "descending")):
            browser.press(key)
            heading = browser.all("#table thead th")[column]
            assert heading.get_attribute("aria-sort") == direction
            assert in_order([value or "" for value in browser.run(DATA, column)], direction == "ascending")


def test_rows_are_found_by_words_and_by_state(browser: Browser, troubled_report: Path) -> None:
    browser.open(troubled_report / "index.html")
    shown, words = browser.find("#shown"), browser.find("#words")
    assert (shown.get_attribute("aria-live"), shown.text) == ("polite", "6 of 6 segments")
    words.send_keys("mms2")
    assert (browser.texts(SHOWN), shown.text) == (["A/mms2", "B/mms2"], "2 of 6 segments")
    words.send_keys(" FAILED", Keys.ENTER)
    assert (browser.texts(SHOWN), shown.text) == (["A/mms2"], "1 of 6 segments")
    words.send_keys(" nothing")
    assert (browser.texts(SHOWN), shown.text) == ([], "0 of 6 segments")
    words.send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.BACKSPACE)
    assert shown.text == "6 of 6 segments"
    choices = browser.texts("#state option")
    assert set(choices) == {"any", "complete", "failed", "missing", "unreadable"}
    browser.find("#state").send_keys("missing")
    assert (browser.texts(SHOWN), shown.text) == (["C/mms1"], "1 of 6 segments")
    browser.find("#table thead button").click()
    assert browser.texts(SHOWN) == ["C/mms1"], "who sorts keeps what was chosen"
    words.send_keys("ions missing")
    assert browser.texts(SHOWN) == []
    browser.find("#state").send_keys("any")
    assert browser.texts(SHOWN) == ["LONG/mms1"]
    assert browser.said() == []


def test_links_lead_to_events_and_back(browser: Browser, report: Path) -> None:
    browser.open(report / "index.html")
    link = browser.all("#table tbody th a")[-1]
    key = link.text
    event, _, probe = key.partition("/")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    assert browser.run("return location.hash") == f"#{probe}"
    assert browser.find("h1").text == f"Event {event}"
    assert browser.find(f"#{probe} h2").text.startswith(probe.upper())
    browser.find("header a[href*='index']").click()
    assert browser.run("return location.href") == (report / "index.html").as_uri()
    every = browser.run("return [...document.querySelectorAll('a')].map((one) => one.href.split('#')[0])")
    for url in set(every):
        assert Path(url.removeprefix("file://")).is_file() or url == (report / "index.html").as_uri(), url


def test_who_has_no_mouse_skips_to_the_contents_first(browser: Browser, report: Path) -> None:
    for page in pages(report)[:2]:
        browser.open(page)
        browser.press(Keys.TAB)
        skip = browser.driver.switch_to.active_element
        assert skip.text == "Skip to content" and skip.rect["x"] >= 0
        browser.press(Keys.ENTER)
        assert browser.run("return location.hash") == "#main"
        browser.press(Keys.TAB)
        assert browser.run("return document.getElementById('main').contains(document.activeElement)")


def test_what_names_and_notes_bring_is_text(browser: Browser, troubled_report: Path, troubled: Path) -> None:
    browser.open(troubled_report / "index.html")
    assert browser.find("h1").text == troubled.name
    assert browser.run("return document.title").startswith(troubled.name)
    assert not browser.run(RAN)
    for event, note in (("A", "a <b>bold</b> note<script>ran=1</script>"), ("LONG", "<img src=x ")):
        browser.open(troubled_report / "events" / f"{event}.html")
        assert note in browser.find("header").text
        assert browser.all("header b, header script, header img") == []
        assert not browser.run(RAN)


DRAWN = "return document.querySelectorAll('.zoom.drawn').length"
RANGE = """
    const found = Bokeh.documents[arguments[0]].get_model_by_name("time");
    return [found.start, found.end];
"""


def zoomed(browser: Browser, page: Path) -> WebElement:
    """The panels of the first segment of a page, once they are drawn."""
    browser.open(page, DESK)
    browser.run("document.querySelector('.zoom').scrollIntoView()")
    WebDriverWait(browser.driver, 60).until(lambda _: browser.run(DRAWN))
    return browser.find(".zoom.drawn .panels")


def test_panels_zoom_in_time_together_by_dragging_and_go_back(browser: Browser, troubled_report: Path) -> None:
    panels = zoomed(browser, troubled_report / "events" / "LONG.html")
    begin, end = browser.run(RANGE, 0)
    assert end - begin == pytest.approx(36_000, abs=100), "ms"
    assert browser.run("return Bokeh.documents[0].roots()[0].children.length") == 8, "no ions: they are in CDF files"
    browser.run("arguments[0].scrollIntoView()", panels)
    browser.drag((400, 120), 200)  # in the panel of B
    WebDriverWait(browser.driver, 30).until(lambda _: browser.run(RANGE, 0) != [begin, end])
    low, high = browser.run(RANGE, 0)
    assert begin < low < high < end and high - low < 0.5 * (end - begin)
    browser.run("Bokeh.documents[0].get_model_by_name('time').reset()")
    assert browser.run(RANGE, 0) == [begin, end]
    assert browser.said() == []


@pytest.fixture
def printed(browser: Browser) -> Iterator[Browser]:
    """The browser, as it lays pages out for print."""
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    yield browser
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_print_cuts_nothing_squeezes_no_picture_and_breaks_no_heading(printed: Browser, report: Path) -> None:
    squeezed = """return [...document.images].filter((one) => one.width && one.height &&
      Math.abs(one.width / one.height * one.naturalHeight / one.naturalWidth - 1) > 0.02).map((one) => one.alt)"""
    scrolled = """return [...document.querySelectorAll("body, .wide, .tall")]
      .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.ariaLabel || one.className)"""
    lines = """return [...document.querySelectorAll("#table thead th")]
      .map((one) => one.getBoundingClientRect().height / parseFloat(getComputedStyle(one).fontSize))"""
    for page in pages(report):
        printed.open(page, PAPER)
        assert printed.run(squeezed) == []
        assert printed.run(scrolled) == []
        assert max(printed.run(lines), default=0) < 5, "a heading of the table has two lines at most"


def test_the_picture_stays_for_print_and_where_no_script_runs(browser: Browser, troubled_report: Path) -> None:
    page = troubled_report / "events" / "A.html"
    zoomed(browser, page)
    shown = "return ['.static', '.panels', '.live'].map((one) => getComputedStyle(document.querySelector(one)).display)"
    assert browser.run(shown) == ["none", "block", "block"]
    browser.find(".zoom button").click()
    assert browser.run(shown) == ["block", "none", "block"]
    browser.find(".zoom button").click()
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    printed = browser.run(shown)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert printed == ["block", "none", "none"]
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(page)
        assert browser.find(".static img").is_displayed() and not browser.find(".live").is_displayed()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_an_event_leads_to_the_next_and_the_one_before(browser: Browser, troubled_report: Path) -> None:
    browser.open(troubled_report / "events" / "A.html")
    assert browser.all("a[rel=prev]") == []
    seen = []
    while following := browser.all("a[rel=next]"):
        seen.append(following[0].text)
        following[0].click()
    assert seen == ["Event LONG \N{RIGHTWARDS ARROW}", "Event B \N{RIGHTWARDS ARROW}", "Event C \N{RIGHTWARDS ARROW}"]
    browser.find("a[rel=prev]").click()
    assert browser.find("h1").text == "Event B"


INJECTED = {
    "a script": "const one = document.createElement('script'); one.textContent = 'ran = 1';document.body.append(one)",
    "a handler": "document.body.insertAdjacentHTML('beforeend', \"<img alt='x' src='data:,' onerror='ran = 1'>\")",
    "a file": "const one = document.createElement('script'); one.src = 'https://127.0.0.1:9/x.js';"
    "document.body.append(one)",
    "a picture": "const one = new Image(); one.src = 'https://127.0.0.1:9/x.png'; document.body.append(one)",
}


@pytest.mark.parametrize("what", INJECTED)
def test_a_page_would_not_run_nor_load_what_is_not_its_own(browser: Browser, troubled_report: Path, what: str) -> None:
    for page in (troubled_report / "index.html", troubled_report / "events" / "A.html"):
        browser.open(page)
        browser.run(INJECTED[what])
        browser.driver.execute_async_script("setTimeout(arguments[0], 200)")
        assert not browser.run(RAN)
        said = browser.said()
        assert any("Content Security Policy" in line or "Content-Security-Policy" in line for line in said), said
        assert [url for url in browser.requests() if url.startswith("http")] == []
