"""Pages of HTML from templates: text is escaped, pictures, style and script are in the page, nothing else is loaded."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from mms_regions.core.messages import NOT_KNOWN, counted, duration, percent, plural
from mms_regions.core.regions import Region
from mms_regions.model.cautions import MEANING
from mms_regions.model.coverage import REASONS
from mms_regions.report.facts import NOT_MADE


def render(template: str, regions: Sequence[Region], **facts: Any) -> bytes:
    """A page of a template (`index`, `more` or `event.html.j2`), with all that it names given."""
    given = {"style": _style(tuple(regions)), "not_made": NOT_MADE, "regions": regions, **facts}
    return _templates().get_template(template).render(given).encode()


def script() -> Markup:
    """What sorts and filters the table of a report."""
    return _source("report.js")


def zoom_script() -> Markup:
    """What draws panels that can be zoomed, once one comes near them."""
    return _source("zoom.js")


@cache
def _source(name: str) -> Markup:
    source = files("mms_regions.report").joinpath("templates", name).read_text()
    return Markup(source)  # noqa: S704 (a file of ours)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("mms_regions.report"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    ours = (
        _base64,
        _bytes,
        _clock,
        counted,
        _csp,
        duration,
        _inert,
        _instant,
        _number,
        percent,
        plural,
        _spelled,
        _utc,
        _words,
    )
    found.filters.update({function.__name__.removeprefix("_"): function for function in ours})
    found.globals |= {"cautions_mean": MEANING, "reasons_mean": REASONS}
    return found


@cache
def _style(regions: tuple[Region, ...]) -> Markup:
    text = _templates().get_template("report.css.j2").render(regions=regions)
    return Markup(text)  # noqa: S704 (a file of ours, in which only colours of ours are filled in)


def _csp(text: Markup) -> str:
    """What allows just this style or script: a page runs nothing that a name in a catalogue might bring."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _inert(text: str) -> Markup:
    """JSON in a page: nothing in it can end the element that it is in, or begin another."""
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 (without < there is no markup)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _number(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:.3f}"


def _bytes(size: int) -> str:
    return decimal(size)


def _utc(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time, unit="s")).replace("T", " ")


def _clock(time: np.datetime64) -> str:
    """The time of day, to a millisecond."""
    return str(np.datetime_as_string(time, unit="ms")).partition("T")[2]


def _instant(text: str) -> str:
    """A time of provenance, as `2026-07-11T10:34:00+00:00`, in the format of this page; other texts as they are."""
    return text.replace("T", " ").replace("+00:00", " UTC") if text.endswith("+00:00") else text


def _spelled(count: int) -> str:
    """Small numbers as words."""
    return dict(enumerate("zero one two three four five six seven eight nine".split())).get(count, str(count))


def _words(name: str) -> str:
    return name.replace("_", " ")
