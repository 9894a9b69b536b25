"""The lists of events that people write, and selections from them.

A catalogue is a text file with a header and one event per row: t_start and t_end are required; event, B0 (nT), n0
(cm^-3), B0_sigma, n0_sigma, probes and notes are optional. Everything that is wrong in it is found before any work
starts, and reported at once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from mms_regions.core.errors import InputProblem, UsageProblem, explain, shown
from mms_regions.core.events import (
    ALL_PROBES,
    TIME,
    Event,
    Segment,
    probe_numbers,
    split_items,
)
from mms_regions.core.files import expanded, read_all, read_file
from mms_regions.core.messages import counted

DEFAULT_CATALOGUE = "rogers2023"
STDIN = "-"

REQUIRED = ("t_start", "t_end")
_ALIASES = {
    "event": "event name id label",
    "t_start": "t_start tstart start start_time time_start begin",
    "t_end": "t_end tend end end_time time_end stop t_stop tstop stop_time time_stop",
    "B0": "b0 b_0",
    "n0": "n0 n_0",
    "B0_sigma": "b0_sigma sigma_b0 b0_err b0_error",
    "n0_sigma": "n0_sigma sigma_n0 n0_err n0_error",
    "probes": "probes probe spacecraft sc",
    "notes": "notes note comment comments",
}
COLUMNS = tuple(_ALIASES)
_BY_ALIAS = {alias: column for column, aliases in _ALIASES.items() for alias in aliases.split()}
_NUMBERS = ("B0", "n0", "B0_sigma", "n0_sigma")
_CM3 = ("cm^-3", "cm-3", "cm**-3", "1/cm^3", "1/cm3", "1/cc", "cc")
_UNITS = {  # as a title may say them, in small letters, the proper one first
    **dict.fromkeys(("t_start", "t_end"), ("utc",)),
    **dict.fromkeys(("B0", "B0_sigma"), ("nt",)),
    **dict.fromkeys(("n0", "n0_sigma"), _CM3),
}
_WITH_UNIT = re.compile(r"(?P<title>.*?)\s*[(\[](?P<unit>[^)\]]*)[)\]]")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_MOST_PROBLEMS = 20
_NO_TEXT = {  # how files begin that are no CSV
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed with gzip",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 or NetCDF file",
    b"\xcd\xf3\x00\x01": "a CDF file",
    b"{": "JSON",
    b"[": "JSON",
    b"<": "HTML or XML",
}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Catalogue:
    """Events in the order of their list; names are unique, also but for case. Raises InputProblem otherwise.

    remarks: what its reader should know of the file it is from, in sentences.
    """

    name: str
    events: tuple[Event, ...]
    remarks: tuple[str, ...] = field(default=(), compare=False)

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
        rows = [[event.name, *event.trange, event.B0, event.n0, event.probes, *_sigmas(event)] for event in self.events]
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
        picked = {row for item in split_items(text) for row in self._range(item)}
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
        return frozenset(probe_numbers(probes))
    except ValueError as problem:
        raise UsageProblem(f"--probes {shown(probes)} {problem}.") from None


def _sigmas(event: Event) -> tuple[float | None, ...]:
    """The standard errors of an event, or nothing: hashes of lists without them stay as they were."""
    sigmas = (event.B0_sigma, event.n0_sigma)
    return () if sigmas == (None, None) else sigmas


def one_interval(text: str, b0: float | None = None, n0: float | None = None) -> Catalogue:
    """A catalogue of one event: START/END in UTC, such as `2017-07-11T22:33:30/2017-07-11T22:34:30`.

    Times may be written as SPEDAS does, with a slash between date and time. b0: nT, n0: cm^-3, None if not known.
    Raises UsageProblem.
    """
    halves = [(text[: slash.start()], text[slash.end() :]) for slash in re.finditer("/", text)]
    readable = [(start, end) for start, end in halves if all(TIME.fullmatch(time.strip()) for time in (start, end))]
    if len(readable) != 1:
        raise UsageProblem(
            f"--interval {shown(text)} must be START/END in UTC, such as 2017-07-11T22:33:30/2017-07-11T22:34:30"
        )
    fields = {"t_start": readable[0][0], "t_end": readable[0][1], "B0": b0, "n0": n0}
    try:
        return Catalogue("interval", (Event.model_validate(fields),))
    except ValidationError as problem:
        names = {"t_start": "start of --interval", "t_end": "end of --interval", "B0": "--b0", "n0": "--n0"}
        raise UsageProblem("; ".join(explain(problem, names).values())) from None


def builtin_catalogues() -> tuple[str, ...]:
    """The names of the catalogues that come with the package."""
    files = [entry.name for entry in _builtin_folder().iterdir() if entry.name.endswith(".csv")]
    return tuple(sorted(file.removesuffix(".csv") for file in files))


def read_catalogue(source: str | Path = DEFAULT_CATALOGUE) -> Catalogue:
    """Read and check an event list: the name of a built-in one, a text file, or `-`, which is stdin.

    Text is UTF-8, or UTF-16 with its mark; values are separated by commas, semicolons or tabs; `#` starts a comment
    line. Names of columns may be in any case, and common other names are understood. Columns that are not known are
    kept as notes, and a remark says so. Raises InputProblem, with everything that is wrong by line and column, if the
    list cannot be used.
    """
    if source == STDIN:
        name, shown_as, data = "stdin", "stdin", _from_stdin()
    elif isinstance(source, str) and source in builtin_catalogues():
        name, shown_as, data = source, source, _bytes(partial(read_file, _builtin_folder() / f"{source}.csv"), source)
    else:
        path = expanded(Path(source))
        name, shown_as, data = path.stem, str(source), _bytes(partial(read_file, path), source)
    events, remarks = _events(_text(data, shown_as), shown_as)
    return Catalogue(name, events, remarks)


def _builtin_folder() -> Traversable:
    return resources.files("mms_regions.core") / "catalogues"


def _from_stdin() -> bytes:
    if sys.stdin.isatty():
        raise UsageProblem("the catalogue `-` is read from stdin, and stdin is a terminal; redirect a file to it")
    return _bytes(partial(read_all, sys.stdin.buffer), "stdin")


def _bytes(read: Callable[[], bytes], source: str | Path) -> bytes:
    try:
        return read()
    except FileNotFoundError:
        known = ", ".join(builtin_catalogues())
        raise InputProblem(
            f"There is no catalogue {source}: neither a file nor a built-in list (built-in: {known})."
        ) from None
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise InputProblem(f"The catalogue {source} cannot be read: {why}. Give a readable CSV file.") from None


def _text(data: bytes, source: str) -> str:
    """The text of a file. Raises InputProblem, which names what else it is, where it is none."""
    for begin, kind in _NO_TEXT.items():
        if data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(begin):
            raise InputProblem(f"The catalogue {source} is {kind}; save it as CSV (in UTF-8).")
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        raise InputProblem(
            f"The catalogue {source} is not UTF-8 text (byte {problem.start}); save it as CSV in UTF-8."
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputProblem(f"The catalogue {source} has NUL bytes (line {line}); save it as CSV in UTF-8.")
    return text


def _events(text: str, source: str) -> tuple[tuple[Event, ...], tuple[str, ...]]:
    """The events of a file, and what is to be remarked of it."""
    try:
        records = list(_records(text))
    except csv.Error as problem:
        raise InputProblem(f"The catalogue {source} is not a sound CSV file: {problem}. Check its quotes.") from None
    if not records:
        raise InputProblem(f"The catalogue {source} is empty; its first row must name columns: {','.join(COLUMNS)}.")
    (line, titles), rows = records[0], records[1:]
    header = [_column(title) for title in titles]
    problems = _header_problems(line, titles, header)
    if not set(REQUIRED) <= set(header):
        raise _all_wrong(source, problems)
    if not rows:
        raise InputProblem(f"The catalogue {source} has a header and no events below it; add a row per event.")
    labels = [column or f"{title or 'no name'}: " for title, column in zip(titles, header, strict=True)]
    events = [_event(line, labels, cells, problems) for line, cells in rows]
    given = [dict(zip(header, cells, strict=False)).get("event", "") for _, cells in rows]
    names = [event.name if event else name for event, name in zip(events, given, strict=True)]
    problems += _name_problems([(line, name) for (line, _), name in zip(rows, names, strict=True)])
    if problems:
        raise _all_wrong(source, problems)
    unknown = [shown(title) for title, column in zip(titles, header, strict=True) if not column]
    remarks = [f"{source}: unknown columns are kept as notes: {', '.join(unknown)}"] if unknown else []
    return tuple(event for event in events if event is not None), tuple(remarks)


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each record; blank lines, comments and empty last cells are left out."""
    lines = ["\n" if line.lstrip().startswith("#") else line for line in io.StringIO(text, newline=None)]
    reader = csv.reader(lines, delimiter=_delimiter(lines), strict=True, skipinitialspace=True)
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


def _delimiter(lines: Sequence[str]) -> str:
    """What separates the titles of columns."""
    header = next((line for line in lines if line.strip(" \t\n,;") and not line.startswith('"#')), "")
    return max(",;\t", key=header.count)


Problem = tuple[int, str]  # line in the file, what is wrong there


def _column(title: str) -> str:
    """The column that a title means; empty for one that is not known. A unit after it may be `(nT)` or `[cm^-3]`."""
    match = _WITH_UNIT.fullmatch(title)
    plain = re.sub(r"[\s-]+", "_", (match["title"] if match else title).strip().casefold())
    return _BY_ALIAS.get(plain, "")


def _header_problems(line: int, titles: Sequence[str], header: Sequence[str]) -> list[Problem]:
    problems = []
    if missing := [name for name in REQUIRED if name not in header]:
        columns = f"column {missing[0]} is" if len(missing) == 1 else f"columns {' and '.join(missing)} are"
        problems.append(
            f"the {columns} missing; the first row must name the columns ({','.join(COLUMNS)}), separated by "
            "commas, semicolons or tabs"
        )
    for name in COLUMNS:
        same = [shown(title) for title, column in zip(titles, header, strict=True) if column == name]
        if len(same) > 1:
            problems.append(f"the column {name} is there more than once: {', '.join(same)}; leave one")
    for title, column in zip(titles, header, strict=True):
        match, units = _WITH_UNIT.fullmatch(title), _UNITS.get(column)
        if match and units and match["unit"].strip().casefold() not in units:
            unit = {"nt": "nT", "utc": "UTC"}.get(units[0], units[0])
            problems.append(f"the column {shown(title)} must be in {unit}; convert its values")
    return [(line, problem) for problem in problems]


def _event(line: int, labels: Sequence[str], cells: Sequence[str], problems: list[Problem]) -> Event | None:
    """The event of a row; if it is bad, None, and what is wrong is added to the problems."""
    if len(cells) > len(labels):
        excess = f"the row has {counted(len(cells), 'value')} for {counted(len(labels), 'column')}"
        problems.append((line, f"{excess}; put texts with commas in quotes, and write numbers with a decimal point"))
        return None
    row = {label: cell for label, cell in zip(labels, cells, strict=False) if cell}
    fields = dict.fromkeys(REQUIRED, "") | {name: row[name] for name in COLUMNS if name in row}
    fields |= {name: row[name].replace(",", ".") for name in _NUMBERS if _DECIMAL_COMMA.fullmatch(row.get(name, ""))}
    if "event" in fields:
        fields["name"] = fields.pop("event")
    extra = [f"{label}{cell}" for label, cell in row.items() if label not in COLUMNS]
    if extra:
        fields["notes"] = "; ".join([*filter(None, [fields.get("notes")]), *extra])
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
