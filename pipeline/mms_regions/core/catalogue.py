"""Events, segments, and the lists of events that people write.

A catalogue is a CSV file of one event per row: event, t_start, t_end, B0 (nT), n0 (cm^-3) and, optionally, probes
and notes. All that is wrong in it is found before any work starts, and reported at once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from mms_regions.core.errors import InputProblem, UsageProblem, explain, shown
from mms_regions.core.files import expanded
from mms_regions.core.leap_seconds import Clock

DEFAULT_CATALOGUE = "rogers2023"
ALL_PROBES = (1, 2, 3, 4)

REQUIRED = ("event", "t_start", "t_end", "B0", "n0")
_OPTIONAL = ("probes", "notes")
_MOST_PROBLEMS = 20
_MOST_HOURS = 24
_YEARS = range(2015, 2030)  # MMS was launched in March 2015; the dipole model of frames.py ends with 2029
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[T ](?P<clock>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?"
    r"(?P<offset>Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)


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


def _utc(value: object) -> np.datetime64:
    """An ISO text, datetime or datetime64 as datetime64[ns] in UTC; a text without an offset is UTC already."""
    match = _TIME.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("must be a UTC date with a time of day, such as 2017-05-28T03:58:30")
    try:
        whole = datetime.fromisoformat(f"{match['date']}T{match['clock']}{match['offset'] or 'Z'}").astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise ValueError(f"must be a time that exists ({problem})") from None
    if whole.year not in _YEARS:
        raise ValueError(f"must be from {_YEARS[0]}, when MMS was launched, to the end of {_YEARS[-1]}")
    seconds = (whole - _EPOCH) // timedelta(seconds=1)
    return np.datetime64(seconds * 10**9 + int((match["fraction"] or "").ljust(9, "0")), "ns")


def _shortly(time: np.datetime64) -> str:
    """A time without the zeros at its end."""
    return str(time).rstrip("0").rstrip(".") if "." in str(time) else str(time)


def _positive(unit: str, value: object) -> float:
    problem = ValueError(f"must be a finite number above 0, in {unit}")
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
    """Spacecraft numbers as text (`1-4`, `1,3`, `2;4`, `1 3`), one number, or several: sorted, without repeats."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        value = ",".join(str(probe) for probe in value)
    numbers = _probe_numbers(str(value))
    if len(set(numbers)) < len(numbers):
        raise ValueError("must name each spacecraft once")
    return tuple(sorted(numbers))


def _probe_numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for item in _split(text):
        match = re.fullmatch(r"([1-4])(?:-([1-4]))?", item)
        if match is None or (match[2] and match[2] < match[1]):
            raise ValueError(f"must be spacecraft numbers of 1 to 4, such as 1-4 or 1,3; {shown(item)} is not")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not numbers:
        raise ValueError("must be spacecraft numbers of 1 to 4, such as 1-4 or 1,3, and is empty")
    return numbers


def _split(text: str) -> list[str]:
    """The items of a selection: split at commas, semicolons and blanks, but `C - F` is one item."""
    return [item for item in re.split(r"[,;\s]+", re.sub(r"\s*-\s*", "-", text)) if item]


UtcTime = Annotated[np.datetime64, BeforeValidator(_utc), PlainSerializer(str, return_type=str)]


class Event(BaseModel):
    """One crossing of a reconnection region: a row of a catalogue.

    name: also the folder name of the results. t_start, t_end: datetime64[ns], UTC, both inclusive, at most 24 h
    apart; ISO texts are taken, with another UTC offset converted. The normalisation (Waters et al. 2025): B0, nT, is
    the field of the lobe (the reversing field), n0, cm^-3, the density of the current sheet, not of the inflow.
    probes: the spacecraft that have data. Raises pydantic.ValidationError (a ValueError).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Annotated[str, BeforeValidator(safe_name)]
    t_start: UtcTime
    t_end: UtcTime
    B0: Annotated[float, BeforeValidator(partial(_positive, "nT"))]
    n0: Annotated[float, BeforeValidator(partial(_positive, "cm^-3"))]
    probes: Annotated[tuple[int, ...], BeforeValidator(_probes)] = ALL_PROBES
    notes: str = ""

    @field_validator("t_end")
    @classmethod
    def _after_t_start(cls, t_end: np.datetime64, info: ValidationInfo) -> np.datetime64:
        t_start = info.data.get("t_start", t_end - np.timedelta64(1, "ns"))  # a bad t_start is reported by itself
        if not t_start < t_end <= t_start + np.timedelta64(_MOST_HOURS, "h"):
            raise ValueError(f"must be after t_start ({_shortly(t_start)}) and at most {_MOST_HOURS} h later")
        return t_end

    @property
    def interval(self) -> str:
        """The interval in words, for messages."""
        return f"{_shortly(self.t_start)} to {_shortly(self.t_end)}"

    @property
    def trange(self) -> tuple[int, int]:
        """Start and end in ns UTC since 1970, both inclusive."""
        return int(self.t_start.astype(np.int64)), int(self.t_end.astype(np.int64))

    @property
    def seconds(self) -> float:
        """The length of the interval in s, a leap second in it counted."""
        start, end = Clock.within(*self.trange).even(np.array(self.trange))
        return float(end - start) / 1e9


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


@dataclass(frozen=True)
class Catalogue:
    """Events in the order of their list; names are unique, also but for case. Raises InputProblem otherwise."""

    name: str
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        if not self.events:
            raise InputProblem(f"The catalogue {self.name} has no events; give it at least one.")
        repeats = _repeats([event.name for event in self.events])
        if repeats:
            names = ", ".join(sorted({self.events[row].name for row in repeats}))
            raise InputProblem(f"The catalogue {self.name} has events twice (or alike but for case): {names}.")

    @property
    def sha256(self) -> str:
        """A hash of what decides the numbers: names, times, B0, n0 and probes in order, however they are spelt."""
        rows = [[event.name, *event.trange, event.B0, event.n0, event.probes] for event in self.events]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def segments(self, events: str | None = None, probes: str | None = None) -> tuple[Segment, ...]:
        """The segments of a selection, in catalogue order, then by spacecraft; None selects all.

        events: names and ranges in catalogue order, such as `A,C-F`. probes: such as `1-4` or `1,3`; an event whose
        row does not list a spacecraft has no segment for it. Raises UsageProblem for a name that is unknown,
        a range that runs backwards, and a selection that leaves nothing.
        """
        chosen = self.events if events is None else self._chosen(events)
        wanted = ALL_PROBES if probes is None else _wanted(probes)
        segments = tuple(Segment(event, probe) for event in chosen for probe in event.probes if probe in wanted)
        if not segments:
            has = "; ".join(f"{event.name} has {','.join(map(str, event.probes))}" for event in chosen[:10])
            raise UsageProblem(f"No segment is left: --probes {probes} picks none of the spacecraft listed ({has}).")
        return segments

    def _chosen(self, text: str) -> tuple[Event, ...]:
        picked = {row for item in _split(text) for row in self._range(item)}
        if not picked:
            raise UsageProblem(f"--events {shown(text)} picks nothing. {self._known()}")
        return tuple(event for row, event in enumerate(self.events) if row in picked)

    def _range(self, item: str) -> range:
        """The rows that an item names: one event, or `C-F`. Names may hold hyphens, so each one is tried."""
        rows = {event.name: row for row, event in enumerate(self.events)}
        if item in rows:
            return range(rows[item], rows[item] + 1)
        halves = [(item[: hyphen.start()], item[hyphen.end() :]) for hyphen in re.finditer("-", item)]
        ranges = [(rows[first], rows[last]) for first, last in halves if first in rows and last in rows]
        if not ranges:
            raise UsageProblem(f"--events names {shown(item)}, which is no event of {self.name}. {self._known()}")
        if len(ranges) > 1:
            raise UsageProblem(f"--events {item} can be read as several ranges; name the events one by one.")
        first, last = ranges[0]
        if first > last:
            raise UsageProblem(f"--events {item} runs backwards; ranges go in the order of the list. {self._known()}")
        return range(first, last + 1)

    def _known(self) -> str:
        names = [event.name for event in self.events]
        more = f" and {len(names) - 50} more" if len(names) > 50 else ""
        return f"Known events: {', '.join(names[:50])}{more}."


def _wanted(probes: str) -> frozenset[int]:
    try:
        return frozenset(_probe_numbers(probes))
    except ValueError as problem:
        raise UsageProblem(f"--probes {shown(probes)} {problem}.") from None


def builtin_catalogues() -> tuple[str, ...]:
    """The names of the catalogues that come with the package."""
    files = [entry.name for entry in _builtin_folder().iterdir() if entry.name.endswith(".csv")]
    return tuple(sorted(file.removesuffix(".csv") for file in files))


def read_catalogue(source: str | Path = DEFAULT_CATALOGUE) -> Catalogue:
    """Read and check an event list: the name of a built-in one, or a CSV file (UTF-8; `#` starts a comment line).

    Raises InputProblem, with everything that is wrong by line and column, if the list cannot be used.
    """
    if isinstance(source, str) and source in builtin_catalogues():
        name, text = source, _text(_builtin_folder() / f"{source}.csv", source)
    else:
        path = expanded(Path(source))
        name, text = path.stem, _text(path, source)
    return Catalogue(name, _events(text, source))


def _builtin_folder() -> Traversable:
    return resources.files("mms_regions.core") / "catalogues"


def _text(file: Path | Traversable, source: str | Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        known = ", ".join(builtin_catalogues())
        raise InputProblem(
            f"There is no catalogue {source}: neither a file nor a built-in list (built-in: {known})."
        ) from None
    except UnicodeDecodeError as problem:
        raise InputProblem(
            f"The catalogue {source} is not UTF-8 text (byte {problem.start}); save it as CSV in UTF-8."
        ) from None
    except (OSError, ValueError) as problem:
        raise InputProblem(f"The catalogue {source} cannot be read: {problem}. Give a readable CSV file.") from None


def _events(text: str, source: str | Path) -> tuple[Event, ...]:
    try:
        records = list(_records(text))
    except csv.Error as problem:
        raise InputProblem(f"The catalogue {source} is not a sound CSV file: {problem}. Check its quotes.") from None
    if not records:
        raise InputProblem(f"The catalogue {source} is empty; its first row must be {','.join(REQUIRED)}.")
    (line, header), rows = records[0], records[1:]
    problems = _header_problems(line, header)
    if not set(REQUIRED) <= set(header):
        raise _all_wrong(source, problems)
    if not rows:
        raise InputProblem(f"The catalogue {source} has a header and no events below it; add a row per event.")
    events = [_event(line, header, cells, problems) for line, cells in rows]
    problems += _name_problems(
        [(line, dict(zip(header, cells, strict=False)).get("event", "")) for line, cells in rows]
    )
    if problems:
        raise _all_wrong(source, problems)
    return tuple(event for event in events if event is not None)


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each record; blank lines, comments and empty last cells are left out."""
    lines = ("\n" if line.lstrip().startswith("#") else line for line in io.StringIO(text, newline=None))
    reader = csv.reader(lines, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as problem:
            raise csv.Error(f"line {line}: {problem}") from None
        while cells and not cells[-1]:
            cells.pop()
        if cells and not cells[0].startswith("#"):  # a comment in quotes, as spreadsheets write it
            yield line, cells


Problem = tuple[int, str]  # line in the file, what is wrong there


def _header_problems(line: int, header: Sequence[str]) -> list[Problem]:
    known = (*REQUIRED, *_OPTIONAL)
    missing = [
        (line, f"the column {name} is missing; the header must have {','.join(REQUIRED)}, separated by commas")
        for name in REQUIRED
        if name not in header
    ]
    unknown = [
        (line, f"the column {shown(name)} is unknown; columns are {', '.join(known)}")
        for name in header
        if name not in known
    ]
    twice = [(line, f"the column {name} is there twice; leave one") for name in known if header.count(name) > 1]
    return missing + unknown + twice


def _event(line: int, header: Sequence[str], cells: Sequence[str], problems: list[Problem]) -> Event | None:
    """The event of a row; if it is bad, None, and what is wrong is added to the problems."""
    if len(cells) > len(header):
        excess = f"the row has {len(cells)} values for {len(header)} columns; put texts with commas in quotes"
        problems.append((line, excess))
        return None
    row = dict.fromkeys(REQUIRED, "") | {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    fields = {"name" if name == "event" else name: row[name] for name in (*REQUIRED, *_OPTIONAL) if name in row}
    try:
        return Event.model_validate(fields)
    except ValidationError as problem:
        problems += [(line, f"column {wrong}") for wrong in explain(problem, {"name": "event"}).values()]
        return None


def _name_problems(names: Sequence[tuple[int, str]]) -> list[Problem]:
    return [
        (
            names[row][0],
            f"column event = {shown(names[row][1])}: must be unique, also but for case; line {names[first][0]} has it",
        )
        for row, first in _repeats([name for _, name in names]).items()
    ]


def _repeats(names: Sequence[str]) -> dict[int, int]:
    """Rows whose name an earlier row has, with that row; names alike but for case share a folder on some disks."""
    first = {name.casefold(): row for row, name in reversed(list(enumerate(names)))}
    return {row: first[name.casefold()] for row, name in enumerate(names) if name and first[name.casefold()] != row}


def _all_wrong(source: str | Path, problems: list[Problem]) -> InputProblem:
    lines = [f"  line {line}: {problem}." for line, problem in sorted(problems, key=lambda problem: problem[0])]
    more = [f"  and {len(lines) - _MOST_PROBLEMS} more."] if len(lines) > _MOST_PROBLEMS else []
    return InputProblem("\n".join([f"The catalogue {source} cannot be used:", *lines[:_MOST_PROBLEMS], *more]))
