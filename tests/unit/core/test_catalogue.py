"""Event lists: what is read, what is refused and with which words, and what a selection picks."""

from __future__ import annotations

import io
import pickle
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from mms_regions.core.catalogue import Catalogue, builtin_catalogues, one_interval, read_catalogue
from mms_regions.core.errors import InputProblem, UsageProblem
from mms_regions.core.events import Event, Segment

HEADER = "event,t_start,t_end,B0,n0"
ROW = "2017-05-28T03:58:30,2017-05-28T03:59:15,21.3,0.138"
START_NS = 1_495_943_910_000_000_000  # 2017-05-28T03:58:30 UTC

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}[A-Za-z0-9]", fullmatch=True)
name_lists = st.lists(names, min_size=1, max_size=12, unique_by=str.casefold)


def event(name: str = "A", **changes: object) -> Event:
    fields = {"t_start": "2017-05-28T03:58:30", "t_end": "2017-05-28T03:59:15", "B0": 21.3, "n0": 0.138}
    return Event.model_validate({"name": name, **fields, **changes})


def catalogue(*events: str) -> Catalogue:
    return Catalogue("test", tuple(event(name) for name in events))


def keys(segments: tuple[Segment, ...]) -> list[str]:
    return [segment.key for segment in segments]


@pytest.fixture
def written(tmp_path: Path):
    def write(*lines: str, end: str = "\n", encoding: str = "utf-8") -> Path:
        path = tmp_path / "events.csv"
        path.write_bytes(end.join([*lines, ""]).encode(encoding))
        return path

    return write


def refusal(path: Path | str) -> str:
    with pytest.raises(InputProblem) as problem:
        read_catalogue(path)
    return str(problem.value)


# Events


@pytest.mark.parametrize(
    ("text", "after_start_ns"),
    [
        ("2017-05-28T03:58:30", 0),
        ("2017-05-28 03:58:30", 0),
        ("2017-05-28T03:58:30Z", 0),
        ("2017-05-28T03:58:30+00:00", 0),
        ("2017-05-28T05:58:30+02:00", 0),
        ("2017-05-27T22:28:30.5-05:30", 500_000_000),
        ("2017-05-28T03:58:30.000000001Z", 1),
        (" 2017-05-28T03:58:30.25 ", 250_000_000),
        ("2017-05-28/03:58:30.5", 500_000_000),
        ("2017-148/03:58:30", 0),
        ("2017-148T03:58:30Z", 0),
        ("2017-05-28T05:58:30+0200", 0),
        ("2017-05-28 03:58", -30_000_000_000),
    ],
)
def test_times_are_read_as_utc_nanoseconds(text: str, after_start_ns: int) -> None:
    assert event(t_start=text).trange[0] == START_NS + after_start_ns


@given(st.integers(0, 14 * 365 * 86_400 * 10**9))
def test_any_time_of_the_mission_survives_being_written_and_read(offset: int) -> None:
    start = np.datetime64("2015-01-01", "ns") + np.timedelta64(offset, "ns")
    read = event(t_start=str(start), t_end=start + np.timedelta64(1, "s"))
    assert read.t_start == start
    assert read.seconds == 1.0
    assert Event.model_validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize(
    "text",
    [
        "2017-05-28",
        "",
        "NaT",
        "yesterday",
        "28/05/2017 03:58:30",
        "2017-05-28 3:58",
        "2017-366T03:58:30",
        "2017-000T03:58:30",
        "2017-13-28T03:58:30",
        "2017-02-29T03:58:30",
        "2017-05-28T24:00:00",
        "2016-12-31T23:59:60",
        "2017-05-28T03:58:30 UTC",
        "2017-05-28T03:58:30.0123456789",
        "2017-05-28T03:58:30+99:00",
        "0001-01-01T00:00:00+10:00",
        "2014-12-31T23:59:59.9",
        "2015-01-01T00:30:00+01:00",
        "2030-01-01T00:00:00",
        "9999-12-31T23:59:59-10:00",
    ],
)
def test_times_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"must (be|have the year first)"):
        event(t_start=text)


@pytest.mark.parametrize("t_end", ["2017-05-28T03:58:30", "2017-05-28T03:58:29", "2017-05-29T03:58:30.000000001"])
def test_an_interval_ends_after_its_start_and_within_a_day(t_end: str) -> None:
    with pytest.raises(ValidationError, match=r"after t_start .* at most 24 h"):
        event(t_end=t_end)


@pytest.mark.parametrize("column", ["B0", "n0"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e999", "", "strong", "21,3", True])
def test_normalisation_must_be_positive_and_finite(column: str, value: object) -> None:
    with pytest.raises(ValidationError, match="finite number above 0"):
        event(**{column: value})


@pytest.mark.parametrize("name", ["A", "9", "2017-07-11.a_b", "x" * 64])
def test_names_that_make_safe_folders(name: str) -> None:
    assert Segment(event(name), 2).folder == f"{name}_mms2"


@pytest.mark.parametrize("name", ["", "../../x", "a/b", "a\\b", "a b", ".a", "-a", "a.", "A\n", "é", "x" * 65, 7])
def test_names_that_do_not_are_refused(name: object) -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        event(name=name)


@pytest.mark.parametrize(
    ("value", "probes"),
    [
        ("1-4", (1, 2, 3, 4)),
        ("1,3", (1, 3)),
        ("2;4", (2, 4)),
        (" 1 3", (1, 3)),
        ("4,1 - 2", (1, 2, 4)),
        (4, (4,)),
        ((3, 1), (1, 3)),
        ([np.int64(2)], (2,)),
        ("mms4", (4,)),
        ("MMS1-4", (1, 2, 3, 4)),
        ("mms1-mms3", (1, 2, 3)),
        ("mms1, mms3", (1, 3)),
        (" All ", (1, 2, 3, 4)),
    ],
)
def test_probes_are_sorted_spacecraft_numbers(value: object, probes: tuple[int, ...]) -> None:
    assert event(probes=value).probes == probes


@pytest.mark.parametrize(
    "value", ["", "0", "5", "1-5", "4-1", "1,1", "1-3,2", "mms5", "all,1", "mms", "1--2", "-1", (), (1.5,), None]
)
def test_probes_that_cannot_be_are_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="must"):
        event(probes=value)


def test_an_event_is_frozen_hashable_and_travels() -> None:
    one = event(notes="from the list")
    with pytest.raises(ValidationError):
        one.B0 = 3.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(Segment(one, 4))) == Segment(one, 4)
    assert len({Segment(one, 4), Segment(event(notes="from the list"), 4)}) == 1
    with pytest.raises(ValidationError):
        event(probe="1")


def test_a_segment_names_itself() -> None:
    segment = Segment(event("A"), 4)
    assert (segment.key, segment.folder, segment.spacecraft) == ("A/mms4", "A_mms4", "mms4")
    with pytest.raises(ValueError, match="not 5"):
        Segment(event("A"), 5)


# Selections


@given(name_lists, st.data())
def test_a_range_picks_its_events_and_no_others(events: list[str], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(events) - 1))
    last = data.draw(st.integers(first, len(events) - 1))
    word = f"{events[first]}-{events[last]}"
    readings = [(word[:k], word[k + 1 :]) for k in range(len(word)) if word[k] == "-"]
    assume(word not in events and sum({*reading} <= {*events} for reading in readings) == 1)
    picked = catalogue(*events).segments(word, "2")
    assert [segment.event.name for segment in picked] == events[first : last + 1]


@given(name_lists, st.data())
def test_names_pick_themselves_in_the_order_of_the_list(events: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(events), min_size=1))
    probes = data.draw(st.lists(st.integers(1, 4), min_size=1))
    picked = catalogue(*events).segments(" , ".join(chosen), ",".join(map(str, probes)))
    assert keys(picked) == [f"{name}/mms{probe}" for name in events if name in chosen for probe in sorted(set(probes))]


def test_selections_mix_names_and_ranges() -> None:
    listed = catalogue("A", "B", "C", "D", "E", "F", "G")
    assert keys(listed.segments("G,A,C-E", "4")) == ["A/mms4", "C/mms4", "D/mms4", "E/mms4", "G/mms4"]
    assert keys(listed.segments("B - C;G", "1-2")) == ["B/mms1", "B/mms2", "C/mms1", "C/mms2", "G/mms1", "G/mms2"]
    assert len(listed.segments()) == 28


def test_an_exact_name_wins_over_a_range_and_hyphens_are_tried_in_turn() -> None:
    listed = catalogue("a", "a-c", "b", "c", "d-e", "f")
    assert keys(listed.segments("a-c", "1")) == ["a-c/mms1"]
    assert keys(listed.segments("a-c-d-e", "1")) == ["a-c/mms1", "b/mms1", "c/mms1", "d-e/mms1"]
    with pytest.raises(UsageProblem, match="several ranges"):
        catalogue("a", "a-b", "b-c", "c").segments("a-b-c", "1")


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ("K", "'K'.*Known events: A, B, C"),
        ("A,x", "'x'"),
        ("a", "'a'"),
        ("A-K", "'A-K'"),
        ("C-A", "C-A.*backwards"),
        ("", "picks nothing"),
        (" ,", "picks nothing"),
        ("../A", "'../A'"),
        ("A-", "'A-'"),
    ],
)
def test_event_selections_that_cannot_be_are_refused(events: str, words: str) -> None:
    with pytest.raises(UsageProblem, match=words):
        catalogue("A", "B", "C").segments(events, None)


@pytest.mark.parametrize("probes", ["7", "0", "1-7", "3-1", "", "x", "mms5"])
def test_probe_selections_that_cannot_be_are_refused(probes: str) -> None:
    with pytest.raises(UsageProblem, match=f"--probes '{probes}'.*1 to 4"):
        catalogue("A").segments(None, probes)


def test_a_spacecraft_that_an_event_does_not_list_is_not_selected() -> None:
    listed = Catalogue("test", (event("A", probes="1-3"), event("B")))
    assert keys(listed.segments(None, "3,4")) == ["A/mms3", "B/mms3", "B/mms4"]
    with pytest.raises(UsageProblem, match="A has 1,2,3"):
        listed.segments("A", "4")


# Catalogues


def test_the_built_in_catalogue() -> None:
    assert builtin_catalogues() == ("rogers2023",)
    listed = read_catalogue()
    assert "".join(one.name for one in listed.events) == "ABCDEFGHIJLOPQRSTUVWXYZ"
    assert len(listed.segments()) == 92
    assert listed.events[0] == event("A", B0=21.27865148, n0=0.13838144)


def test_what_spreadsheets_and_people_add_is_tolerated(written) -> None:
    path = written(
        '\ufeff# a comment, with "quotes',
        '"# one, as a spreadsheet writes it",,',
        "notes, probes ,event,t_start,t_end,B0,n0,,",
        "",
        f'"a note, with a comma",1-2,A,{ROW},,',
        ",,,,",
        f"  # another\r\n,,B,{ROW}",
        end="\r\n",
    )
    listed = read_catalogue(str(path))
    assert listed.name == "events"
    assert listed.events == (event("A", probes="1,2", notes="a note, with a comma"), event("B"))


VARIANTS = {
    "semicolons": (";", "A;2017-05-28T03:58:30;2017-05-28T03:59:15;21.3;0.138"),
    "semicolons and decimal commas": (";", "A;2017-05-28T03:58:30;2017-05-28T03:59:15;21,3;0,138"),
    "tabs": ("\t", f"A,{ROW}".replace(",", "\t")),
    "decimal commas in quotes": (",", 'A,2017-05-28T03:58:30,2017-05-28T03:59:15,"21,3","0,138"'),
    "times of SPEDAS": (",", f"A,{ROW}".replace("T", "/")),
    "days of the year": (",", f"A,{ROW}".replace("05-28", "148")),
    "offsets": (",", f"A,{ROW}".replace("T03:58:30", "T05:58:30+02:00")),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("case", VARIANTS)
def test_common_ways_to_write_a_catalogue_are_read(written, case: str, encoding: str) -> None:
    delimiter, row = VARIANTS[case]
    listed = read_catalogue(written(HEADER.replace(",", delimiter), row, encoding=encoding))
    assert (listed.events, listed.remarks) == ((event(),), ())


@pytest.mark.parametrize(
    "header",
    [
        HEADER.upper(),
        "Event, Start, Stop, b_0, N_0",
        "name,tstart,tend,B0 (nT),n0 [cm^-3]",
        "id,Start Time,end time,B0,n0(cm-3)",
        "label,time_start (UTC),time_end,B0,n0",
    ],
)
def test_columns_are_found_by_other_names(written, header: str) -> None:
    listed = read_catalogue(written(header, f"A,{ROW}"))
    assert (listed.events, listed.remarks) == ((event(),), ())


def test_unknown_columns_are_kept_as_notes_and_remarked(written) -> None:
    path = written(",event,t_start,t_end,B0,n0,Vx,notes", f"7,A,{ROW},-300,mine", f",B,{ROW}")
    listed = read_catalogue(path)
    assert [one.notes for one in listed.events] == ["mine; no name: 7; Vx: -300", ""]
    assert listed.remarks == (f"{path}: unknown columns are kept as notes: '', 'Vx'",)


def test_an_event_needs_an_interval_alone(written) -> None:
    listed = read_catalogue(written("t_start,t_end", "2017-05-28T03:58:30.5,2017-05-28T03:59:15"))
    assert listed.events == (event("20170528T035830.5", t_start="2017-05-28T03:58:30.5", B0=None, n0=None),)
    with pytest.raises(InputProblem, match=r"B0 or n0 is missing for 20170528T035830\.5; give both"):
        _ = listed.events[0].normalisation


def test_empty_values_of_a_row_are_unknown(written) -> None:
    path = written(HEADER + ",B0_sigma,n0_sigma", f"A,{ROW},2,0.05", ",2017-05-28T04:58:30,2017-05-28T04:59:15,,0.1")
    first, second = read_catalogue(path).events
    assert (first.B0_sigma, first.n0_sigma) == (2, 0.05)
    assert (second.name, second.B0, second.n0, second.n0_sigma) == ("20170528T045830", None, 0.1, None)


def test_a_sigma_needs_its_value(written) -> None:
    said = refusal(written("t_start,t_end,B0_sigma", "2017-05-28T03:58:30,2017-05-28T03:59:15,2"))
    assert "line 2: column B0_sigma = '2': must be left out, because B0 is not given" in said


def test_rows_without_names_that_begin_together_are_refused(written) -> None:
    said = refusal(written("start,end", *["2017-05-28T03:58:30,2017-05-28T03:59:15"] * 2))
    assert "line 3: column event = '20170528T035830': must be unique" in said


def test_a_hyphen_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join([HEADER, f"A,{ROW}"]).encode("utf-16")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    listed = read_catalogue("-")
    assert (listed.name, listed.events) == ("stdin", (event(),))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"event\n")))
    assert refusal("-").startswith("The catalogue stdin cannot be used:")


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(UsageProblem, match="stdin is a terminal; redirect a file"):
        read_catalogue("-")


def test_an_interval_alone_is_a_catalogue() -> None:
    (one,) = one_interval("2017-05-28T03:58:30/2017-05-28T03:59:15", 21.3).events
    assert one == event("20170528T035830", n0=None)
    assert one_interval("2017-05-28/03:58:30/2017-05-28/03:59:15", 21.3).events == (one,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2017-05-28T03:58:30", "--interval '2017-05-28T03:58:30' must be START/END in UTC"),
        ("2017-05-28/2017-05-29", "must be START/END"),
        ("2017-05-28T03:58:30/2017-05-28T03:58:00", "end of --interval = .* must be after t_start"),
        ("2017-05-28T25:00:00/2017-05-28T26:00:00", "start of --interval = .* a time that exists"),
    ],
)
def test_intervals_that_cannot_be_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageProblem, match=words):
        one_interval(text)


def test_the_hash_is_of_what_decides_the_numbers(written) -> None:
    first = read_catalogue(written(HEADER, f"A,{ROW}", f"B,{ROW}"))
    respelt = "A,2017-05-28 03:58:30.000Z,2017-05-28T04:59:15+01:00,2.130e1,.1380"
    again = written("probes," + HEADER + ",notes", f"4 3 2 1,{respelt}", f"1-4,B,{ROW},a note")
    assert read_catalogue(again).sha256 == first.sha256
    others = [(f"A,{ROW}1", f"B,{ROW}"), (f"B,{ROW}", f"A,{ROW}"), (f"A,{ROW}",), (f"A,{ROW}", f"C,{ROW}")]
    assert len({read_catalogue(written(HEADER, *rows)).sha256 for rows in others} | {first.sha256}) == 5


def test_everything_wrong_is_said_at_once_with_line_column_and_value(written) -> None:
    said = refusal(
        written(
            "# a list",
            HEADER + ",probes",
            "../../x,2017-05-28,2017-05-28T03:59:15,-3,nan,7",
            "",
            f"A,{ROW}",
            "B,2017-05-28T03:58:30,2017-05-28T03:58:00,,0.1",
            f"a,{ROW}",
            f'D,{ROW},"1,3",4',
        )
    )
    expected = [
        "line 3: column event = '../../x'",
        "line 3: column t_start = '2017-05-28'",
        "line 3: column B0 = '-3': must be a finite number above 0, in nT",
        "line 3: column n0 = 'nan': must be a finite number above 0, in cm^-3",
        "line 3: column probes = '7'",
        "line 6: column t_end = '2017-05-28T03:58:00': must be after t_start",
        "line 7: column event = 'a': must be unique, also but for case; line 5",
        "line 8: the row has 7 values for 6 columns",
    ]
    for words, line in zip(expected, said.splitlines()[1:], strict=True):
        assert words in line


def test_line_numbers_count_notes_of_several_lines(written) -> None:
    said = refusal(written(HEADER + ",notes", f'A,{ROW},"two\nlines"', f"B,{ROW}x"))
    assert "line 4: column n0 = '0.138x'" in said


def test_repeated_columns_are_reported_with_the_bad_rows(written) -> None:
    said = refusal(written(HEADER + ",prbes,b0", f"A,{ROW},1-2", f"B,{ROW}x"))
    assert "the column B0 is there more than once: 'B0', 'b0'; leave one" in said
    assert "line 3: column n0" in said


def test_a_long_list_of_problems_is_cut(written) -> None:
    said = refusal(written(HEADER, *(f"E{row},{ROW}x" for row in range(25))))
    assert len(said.splitlines()) == 22
    assert said.endswith("and 5 more.")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((), "empty"),
        (("# only a comment", ""), "empty"),
        ((HEADER,), "no events"),
        (("event,t_start,B0,n0", "A,1"), "line 1: the column t_end is missing; .* separated by commas, semicolons or"),
        (("A B C", "1 2 3"), "the columns t_start and t_end are missing"),
        ((HEADER.replace("n0", "n0 (m^-3)"), f"A,{ROW}"), r"line 1: the column 'n0 \(m\^-3\)' must be in cm\^-3"),
        ((HEADER, f"A,{ROW.replace('.', ',')}"), "line 2: the row has 7 values for 5 columns.*with a decimal point"),
        ((HEADER, f"A,{ROW.replace('2017-05-28T', '05/28/2017 ')}"), "column t_start = .*must have the year first"),
        ((HEADER + "\0", f"A,{ROW}"), r"has NUL bytes \(line 1\)"),
        (("PK\x03\x04",), "is an Excel workbook or another zip archive; save it as CSV"),
        (('{"event": "A"}',), "is JSON"),
        (("<!DOCTYPE html>",), "is HTML"),
        ((HEADER, f'"A,{ROW}'), "line 2.*quotes"),
    ],
)
def test_files_that_are_no_catalogue_are_refused(written, lines: tuple[str, ...], words: str) -> None:
    assert re.search(words, refusal(written(*lines)), re.DOTALL)


@given(st.permutations(HEADER.split(",")), st.lists(st.text('A1-:,"#\n 2017T', max_size=30), max_size=5))
def test_scribble_is_refused_in_words_and_never_crashes(columns: list[str], rows: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.csv"
        path.write_text("\n".join([",".join(columns), *rows]), encoding="utf-8")
        assert refusal(path).startswith(f"The catalogue {path} ")


def test_files_that_cannot_be_read_are_refused(written, tmp_path: Path) -> None:
    assert "not UTF-8" in refusal(written(HEADER, f"É,{ROW}", encoding="latin-1"))
    assert "NUL bytes" in refusal(written(HEADER, f"A,{ROW}", encoding="utf-16-le"))
    assert "built-in: rogers2023" in refusal("rogers2024")
    assert "cannot be read" in refusal(tmp_path)
    assert "cannot be read" in refusal("events\0.csv")


def test_catalogues_made_by_hand_are_checked_too() -> None:
    with pytest.raises(InputProblem, match="no events"):
        catalogue()
    with pytest.raises(InputProblem, match=r"twice .*: a"):
        catalogue("A", "B", "a")
