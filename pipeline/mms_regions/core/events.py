"""Events and segments: an interval of time in a reconnection region, and one spacecraft's view of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mms_regions.core.errors import InputProblem, UsageProblem, shown
from mms_regions.core.leap_seconds import Clock

ALL_PROBES = (1, 2, 3, 4)

_MOST_HOURS = 24
_YEARS = range(2015, 2030)  # MMS was launched in March 2015; the dipole model of frames.py ends with 2029
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d|\d{4}-\d{3})[T /](?P<clock>\d\d:\d\d)"
    r"(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?(?P<offset>Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_YEAR_LAST = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b.*", re.ASCII)


def is_safe_name(value: object) -> bool:
    """Whether a name, of an event or a model, is a good folder name everywhere."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def safe_name(value: object) -> str:
    """The name as it is. Raises ValueError, which says what is allowed, for one that is not safe."""
    if is_safe_name(value):
        return str(value)
    raise ValueError(
        "must be 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit and not ending in a dot"
    )


def utc_time(value: object) -> np.datetime64:
    """A text, datetime or datetime64 as datetime64[ns] in UTC; a text without an offset is UTC already.

    Texts are as ISO 8601 or SPEDAS have them: 2017-05-28T03:58:30.5Z, 2017-05-28/03:58:30, 2017-148T03:58 (day of
    year). Raises ValueError.
    """
    text = str(value).strip()
    match = TIME.fullmatch(text)
    if match is None and _YEAR_LAST.fullmatch(text):
        raise ValueError("must have the year first, such as 2017-05-28T03:58:30: which is the month is not clear")
    if match is None:
        raise ValueError("must be a UTC date with a time of day, such as 2017-05-28T03:58:30")
    clock = f"{match['clock']}:{match['second'] or '00'}{match['offset'] or 'Z'}"
    try:
        whole = datetime.fromisoformat(f"{_calendar_date(match['date'])}T{clock}").astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise ValueError(f"must be a time that exists ({problem})") from None
    if whole.year not in _YEARS:
        raise ValueError(f"must be from {_YEARS[0]}, when MMS was launched, to the end of {_YEARS[-1]}")
    seconds = (whole - _EPOCH) // timedelta(seconds=1)
    return np.datetime64(seconds * 10**9 + int((match["fraction"] or "").ljust(9, "0")), "ns")


def _calendar_date(text: str) -> str:
    """2017-05-28 of itself and of 2017-148, the day of the year."""
    if len(text) != len("2017-148"):
        return text
    found = datetime.strptime(text, "%Y-%j")
    if found.year != int(text[:4]):
        raise ValueError("day is out of range for year")
    return f"{found:%Y-%m-%d}"


def shortly(time: np.datetime64) -> str:
    """A time without the zeros at its end."""
    return str(time).rstrip("0").rstrip(".") if "." in str(time) else str(time)


def _positive(unit: str, value: object) -> float | None:
    """A number; None stays, for it is not known."""
    if value is None:
        return None
    point = ", with a decimal point" if isinstance(value, str) and "," in value else ""
    problem = ValueError(f"must be a finite number above 0, in {unit}{point}")
    if isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
        raise problem
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise problem from None
    if not (math.isfinite(number) and number > 0):
        raise problem
    return number


def _probes(value: object) -> tuple[int, ...]:
    """Spacecraft as text (`1-4`, `1,3`, `2;4`, `mms1`, `all`), one number, or several: sorted, without repeats."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        value = ",".join(str(probe) for probe in value)
    numbers = probe_numbers(str(value))
    if len(set(numbers)) < len(numbers):
        raise ValueError("must name each spacecraft once")
    return tuple(sorted(numbers))


def probe_numbers(text: str) -> list[int]:
    """The spacecraft that a text names, in its order: `1-4`, `1,3`, `mms1`, `mms1-4`, `all`. Raises ValueError."""
    if text.strip().casefold() == "all":
        return list(ALL_PROBES)
    numbers: list[int] = []
    for item in split_items(text):
        match = re.fullmatch(r"(?:mms)?([1-4])(?:-(?:mms)?([1-4]))?", item, re.IGNORECASE)
        if match is None or (match[2] and match[2] < match[1]):
            raise ValueError(f"must be spacecraft numbers of 1 to 4, such as 1-4 or 1,3; {shown(item)} is not")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not numbers:
        raise ValueError("must be spacecraft numbers of 1 to 4, such as 1-4 or 1,3, and is empty")
    return numbers


def split_items(text: str) -> list[str]:
    """The items of a selection: split at commas, semicolons and blanks, but `C - F` is one item."""
    return [item for item in re.split(r"[,;\s]+", re.sub(r"\s*-\s*", "-", text)) if item]


UtcTime = Annotated[np.datetime64, BeforeValidator(utc_time), PlainSerializer(str, return_type=str)]
Nanotesla = Annotated[float | None, BeforeValidator(partial(_positive, "nT"))]
PerCubicCm = Annotated[float | None, BeforeValidator(partial(_positive, "cm^-3"))]


@dataclass(frozen=True)
class Normalisation:
    """What features are divided by: b0 in nT, n0 in cm^-3."""

    b0: float
    n0: float


class Event(BaseModel):
    """One crossing of a reconnection region: a row of a catalogue.

    name: also the folder name of the results; made of t_start where it is not given. t_start, t_end: datetime64[ns],
    UTC, both inclusive, at most 24 h apart; texts are taken, with another UTC offset converted. The normalisation
    (Waters et al. 2025), None where it is not known: B0, nT, is the field of the lobe (the reversing field), n0, cm^-3,
    the density of the current sheet, not of the inflow; B0_sigma, n0_sigma are their standard errors. probes: the
    spacecraft that have data. Raises pydantic.ValidationError (a ValueError).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Annotated[str, BeforeValidator(safe_name)] = ""
    t_start: UtcTime
    t_end: UtcTime
    B0: Nanotesla = None
    n0: PerCubicCm = None
    B0_sigma: Nanotesla = None
    n0_sigma: PerCubicCm = None
    probes: Annotated[tuple[int, ...], BeforeValidator(_probes)] = ALL_PROBES
    notes: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "name" in data:
            return data
        return {**data, "name": _name_from(data.get("t_start"))}

    @field_validator("t_end")
    @classmethod
    def _after_t_start(cls, t_end: np.datetime64, info: ValidationInfo) -> np.datetime64:
        t_start = info.data.get("t_start", t_end - np.timedelta64(1, "ns"))  # a bad t_start is reported by itself
        if not t_start < t_end <= t_start + np.timedelta64(_MOST_HOURS, "h"):
            raise ValueError(f"must be after t_start ({shortly(t_start)}) and at most {_MOST_HOURS} h later")
        return t_end

    @field_validator("B0_sigma", "n0_sigma")
    @classmethod
    def _of_a_value(cls, sigma: float | None, info: ValidationInfo) -> float | None:
        value = str(info.field_name).removesuffix("_sigma")
        if sigma is not None and info.data.get(value, sigma) is None:
            raise ValueError(f"must be left out, because {value} is not given")
        return sigma

    @property
    def normalisation(self) -> Normalisation:
        """B0 and n0. Raises InputProblem where one is not known."""
        if self.B0 is None or self.n0 is None:
            raise InputProblem(f"B0 or n0 is missing for {self.name}; give both in the catalogue")
        return Normalisation(self.B0, self.n0)

    @property
    def has_scale_errors(self) -> bool:
        """Whether an error of B0 or n0 is known, or will be, for one of them is to be estimated."""
        return None in (self.B0, self.n0) or self.B0_sigma is not None or self.n0_sigma is not None

    @property
    def interval(self) -> str:
        """The interval in words, for messages."""
        return f"{shortly(self.t_start)} to {shortly(self.t_end)}"

    @property
    def trange(self) -> tuple[int, int]:
        """Start and end in ns UTC since 1970, both inclusive."""
        return int(self.t_start.astype(np.int64)), int(self.t_end.astype(np.int64))

    @property
    def seconds(self) -> float:
        """The length of the interval in s, a leap second in it counted."""
        start, end = Clock.within(*self.trange).even(np.array(self.trange))
        return float(end - start) / 1e9


def _name_from(t_start: object) -> str:
    """20170711T223330 of that time, without what makes names hard to type; a bad time is reported by itself."""
    try:
        return re.sub("[-:]", "", shortly(utc_time(t_start)))
    except ValueError:
        return "unnamed"


@dataclass(frozen=True)
class Segment:
    """One event seen by one spacecraft (1 to 4): the unit of work."""

    event: Event
    probe: int

    def __post_init__(self) -> None:
        if self.probe not in ALL_PROBES:
            raise ValueError(f"A segment is seen by spacecraft 1, 2, 3 or 4, not {self.probe}.")

    @property
    def spacecraft(self) -> str:
        """Such as mms4."""
        return f"mms{self.probe}"

    @property
    def key(self) -> str:
        """Such as A/mms4: the name of the segment in messages and in the store."""
        return f"{self.event.name}/{self.spacecraft}"

    @property
    def folder(self) -> str:
        """Such as A_mms4: the folder of its exported files."""
        return f"{self.event.name}_{self.spacecraft}"


def parse_key(key: str) -> tuple[str, int]:
    """Event and spacecraft of a key such as A/mms4. Raises UsageProblem for a text that is none."""
    event, slash, spacecraft = key.partition("/")
    if not slash or not event:
        raise UsageProblem(f"{shown(key)} is no segment; a segment is event/spacecraft, such as A/mms4")
    return event, one_probe(spacecraft)


def one_probe(probe: int | str) -> int:
    """The number of a spacecraft that is given as 4, "4" or "mms4". Raises UsageProblem for anything else."""
    try:
        (number,) = probe_numbers(str(probe))
    except ValueError:
        raise UsageProblem(f"{shown(probe)} is no spacecraft; give 1, 2, 3 or 4, or mms1 to mms4") from None
    return number
