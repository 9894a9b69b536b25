"""Times that are easily got wrong: a leap second, midnights, events of a window or less, events longer than shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pycdfpp
import pytest
import xarray as xr
from cdf_files import PRODUCTS, Arrays, Edit, Scene, take_rows, write_files
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, find_files
from mms_regions.core.events import Event, Segment
from mms_regions.core.leap_seconds import LEAP_SECONDS, Clock
from mms_regions.core.types import DAY, SECOND, WINDOW
from mms_regions.physics.burst import read_burst
from mms_regions.physics.published import published_variables
from mms_regions.physics.samples import FEATURES, QUALITY_BITS
from mms_regions.store.read import open_store, segment_of

pytestmark = pytest.mark.system  # a minute or more

Command = Callable[..., "CompletedProcess[str]"]
Rows = Sequence[tuple[str, int, int]]  # name, t_start and t_end in ns UTC
Run = Callable[..., Path]

CONVENTIONS = ("corrected", "published")
BURST = tuple(product for product in PRODUCTS if product != "edp_fast")
STEP = 30_000_000  # ns between electron samples
CENTRE = {"corrected": 15_000_000, "published": 75_000_000}  # ns from the start of an accumulation to its time
TURNED_OR_NOT = [FEATURES.index(name) for name in ("Bx", "Ex", "ni", "ne", "vix", "vex")]  # the same in GSE and GSM


def ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


def iso(time: int) -> str:
    return str(np.datetime64(time, "ns"))


def wave(period: float, *sizes: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: np.sin(2 * np.pi * t[:, None] / period + np.arange(3)) * np.array(sizes)


SCENE = Scene(
    b_gse=wave(11.0, 15.0, 3.0, 4.0),
    e_gse=wave(3.0, 4.0, 6.0, 8.0),
    v_i=wave(7.0, 500.0, 100.0, 100.0),
    v_e=wave(2.0, 3000.0, 900.0, 900.0),
    n_i=lambda t: 0.2 + 0.01 * np.sin(t),
    n_e=lambda t: 0.2 + 0.001 * t,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command, profile: Path) -> Run:
    """Run events, seen by mms1, into a store; gives the store."""

    def make(rows: Rows, data_dir: Path, convention: str, *more: object, code: int = 0) -> Path:
        folder = tmp_path_factory.mktemp("run")
        lines = [f"{name},{iso(begin)},{iso(end)},12.0,0.2,1" for name, begin, end in rows]
        (folder / "events.csv").write_text("\n".join(["event,t_start,t_end,B0,n0,probes", *lines, ""]))
        words = ["run", folder / "events.csv", "--store", folder / "x.zarr", "--data-dir", data_dir, "--offline"]
        done = mms_regions_here(*words, "--profile", profile, "--convention", convention, *more)
        assert done.returncode == code, done.stderr
        return folder / "x.zarr"

    return make


@cache
def loaded(store: Path) -> xr.Dataset:
    """All of a store, which no test of this file changes."""
    return open_store(store).load()


def segment(store: Path, name: str) -> xr.Dataset:
    found = segment_of(loaded(store), name, 1)
    assert found is not None
    return found


def times(data: xr.Dataset) -> np.ndarray:
    return data["time"].values.astype("datetime64[ns]").astype(np.int64)


def has(data: xr.Dataset, bit: str) -> np.ndarray:
    return (data["quality"].values & QUALITY_BITS[bit]) != 0


def assert_labelled_where_complete(data: xr.Dataset) -> None:
    """A label where all features are there from the window's start to the sample, which is not bridged."""
    complete = np.isfinite(data["features"].values).all(axis=1)
    windows = [complete[first : first + WINDOW] for first in range(0, len(complete), WINDOW)]
    so_far = np.concatenate([np.logical_and.accumulate(window) for window in windows])
    np.testing.assert_array_equal(data["label"].values >= 0, so_far & ~has(data, "bridged"))
    np.testing.assert_array_equal(np.isfinite(data["probability"].values).all(axis=1), data["label"].values >= 0)


def assert_equal(one: xr.Dataset, other: xr.Dataset) -> None:
    """All samples, labels and times equal bit for bit."""
    assert len(one.data_vars) > 50 and set(one.data_vars) == set(other.data_vars)
    sampled = [name for name in one.variables if "time" in one[name].dims]
    assert [name for name in sampled if one[name].values.tobytes() != other[name].values.tobytes()] == []


def write_pieces(
    data_dir: Path, begin: int, edges: Sequence[int], without: Callable[[str, np.ndarray], np.ndarray] | None = None
) -> None:
    """Burst files of SCENE, which begins at `begin`: one after the other, each from one edge (ns UTC) to the next.

    without: says of a product which of its times are missing.
    """
    for first, last in pairwise(edges):
        write_files(
            data_dir,
            1,
            iso(first),
            (last - begin) / SECOND,
            SCENE,
            products=BURST,
            origin=iso(begin),
            epoch_offset_ns=dict.fromkeys(BURST, begin - first),  # so that all are samples of one record
            edit={key: partial(piece, key=key, first=first, without=without) for key in BURST},
        )


def piece(arrays: Arrays, key: str, first: int, without: Callable[[str, np.ndarray], np.ndarray] | None) -> Arrays:
    """What begins at `first` or later, and is not missing."""
    epoch = arrays["epoch"]
    return take_rows(arrays, (epoch >= first) & ~(without(key, epoch) if without else np.zeros(len(epoch), bool)))


def write_fast(data_dir: Path, begin: int, end: int, day: Edit | None = None, start: int | None = None) -> None:
    """A fast-mode file of SCENE, with a minute more on both sides; `day` takes what is of one day, named by `start`."""
    start = begin if start is None else start
    edits = {"edp_fast": day} if day else {}
    write_files(
        data_dir, 1, iso(start), (end - start) / SECOND, SCENE, products=["edp_fast"], origin=iso(begin), edit=edits
    )


# A leap second. The same 24 s are measured in a night that had one and in a night that had none.

MIDNIGHT = ns("2017-01-01")  # after 2016-12-31T23:59:60
PLAIN_MIDNIGHT = ns("2018-01-01")
TO_PLAIN = PLAIN_MIDNIGHT - MIDNIGHT
BEFORE, AFTER = 12 * SECOND, 12 * SECOND  # of midnight, in the files

# In even time, which in these nights is UTC up to 23:59:59.999999999 and the leap second begins at midnight.
LEAP_EVENTS = {
    "THROUGH": (MIDNIGHT - 5 * SECOND, MIDNIGHT + 5 * SECOND),
    "UP_TO_IT": (MIDNIGHT - 6 * SECOND, MIDNIGHT - SECOND // 10),
    "FROM_IT": (MIDNIGHT + SECOND, MIDNIGHT + 4 * SECOND),
    "LATER": (MIDNIGHT + 4 * SECOND, MIDNIGHT + 8 * SECOND),
}


def to_utc(even: int) -> int:
    """By hand: what is at 23:59:60 or later in even time is a second earlier in UTC."""
    return even if even < MIDNIGHT else even - SECOND


def whole(data_dir: Path, midnight: int) -> None:
    begin, end = midnight - BEFORE, midnight + AFTER
    write_pieces(data_dir, begin, [begin, end])
    write_fast(data_dir, begin, end)


def in_pieces(data_dir: Path, midnight: int) -> None:
    """Several files, one from within the second on, with gaps, and one more that repeats times of two others."""
    begin, end = midnight - BEFORE, midnight + AFTER
    cuts = [midnight + round(t * SECOND) for t in (-3.7, 0.4, 2.3)]
    without = partial(in_a_gap, midnight)
    write_pieces(data_dir, begin, [begin, *cuts, end], without)
    write_pieces(data_dir, begin, [midnight - SECOND // 3, midnight + SECOND // 3], without)
    write_fast(data_dir, begin, end)


def in_a_gap(midnight: int, key: str, epoch: np.ndarray) -> np.ndarray:
    """0.6 s of electrons are missing where the second begins, and 0.1 s of the magnetic field where it ends."""
    begin, length = {"des": (-0.2, 0.6), "fgm": (0.95, 0.1)}.get(key, (0.0, 0.0))
    seconds = (epoch - midnight) / SECOND
    return (seconds >= begin) & (seconds < begin + length)


def count_leap_second(path: Path) -> None:
    """Let what a file has from midnight on be a second earlier: its epochs then run on through 23:59:60."""
    midnight = pycdfpp.to_tt2000(np.array([MIDNIGHT], "datetime64[ns]")).view(np.int64)[0]
    cdf = pycdfpp.load(str(path))
    for _, variable in cdf.items():
        if variable.type == pycdfpp.DataType.CDF_TIME_TT2000:
            raw = np.array(variable.values)
            tt2000 = raw.view(np.int64)
            tt2000[tt2000 >= midnight] -= SECOND
            variable.set_values(raw, variable.type, force=True)
    pycdfpp.save(cdf, str(path))


def count_leap_second_in_name(path: Path) -> None:
    """What begins in the first second of the new year begins in the leap second: the last one of the old year's day."""
    tag, at = path.name.split("_")[-2], str(path)
    if tag == "20170101000000":
        at = at.replace("/2017/01/01/", "/2016/12/31/").replace(tag, "20161231235960")
    elif tag == "20170101000002":
        at = at.replace(tag, "20170101000001")
    path.rename(at)


@pytest.fixture(scope="module", params=[whole, in_pieces], ids=["whole", "in_pieces"])
def nights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The data folders of the night with a leap second and of the plain night."""
    leap, plain = (tmp_path_factory.mktemp(name) for name in ("leap", "plain"))
    request.param(leap, MIDNIGHT)
    request.param(plain, PLAIN_MIDNIGHT)
    for path in sorted(leap.rglob("*.cdf")):
        count_leap_second(path)
        count_leap_second_in_name(path)
    return leap, plain


@pytest.fixture(scope="module", params=CONVENTIONS)
def two_nights(request: pytest.FixtureRequest, nights: tuple[Path, Path], run: Run) -> tuple[str, Path, Path]:
    """The convention, and the stores of both nights."""
    leap = [(name, to_utc(begin), to_utc(end)) for name, (begin, end) in LEAP_EVENTS.items()]
    plain = [(name, begin + TO_PLAIN, end + TO_PLAIN) for name, (begin, end) in LEAP_EVENTS.items()]
    return request.param, run(leap, nights[0], request.param), run(plain, nights[1], request.param)


@pytest.mark.parametrize("name", LEAP_EVENTS)
def test_a_leap_second_changes_nothing_but_the_names_of_its_samples(
    two_nights: tuple[str, Path, Path], name: str
) -> None:
    _, leap_store, plain_store = two_nights
    leap, plain = segment(leap_store, name), segment(plain_store, name)
    even = times(plain) - TO_PLAIN
    inside = (even >= MIDNIGHT) & (even < MIDNIGHT + SECOND)
    np.testing.assert_array_equal(times(leap), np.where(even < MIDNIGHT, even, np.where(inside, even, even - SECOND)))
    np.testing.assert_array_equal(has(leap, "leap_second"), inside)
    expected = plain["quality"].values + np.where(inside, QUALITY_BITS["leap_second"], 0)
    np.testing.assert_array_equal(leap["quality"].values, expected)
    np.testing.assert_array_equal(leap["features"][:, TURNED_OR_NOT], plain["features"][:, TURNED_OR_NOT])
    scalars = [name for name, array in plain.data_vars.items() if array.dims == ("time",) and array.dtype == np.float32]
    assert len(scalars) > 20
    for scalar in scalars:
        np.testing.assert_allclose(leap[scalar], plain[scalar], rtol=1e-4, atol=1e-4, err_msg=scalar)
    assert_labelled_where_complete(leap)
    np.testing.assert_array_equal(leap["label"] >= 0, plain["label"] >= 0)


def test_the_files_and_gaps_of_the_leap_second_are_those_meant(
    two_nights: tuple[str, Path, Path], nights: tuple[Path, Path]
) -> None:
    convention, store, _ = two_nights
    data = segment(store, "THROUGH")
    begin_in_it = {path.name for path in nights[0].rglob("*_20161231235960_*")}
    assert len(begin_in_it) in (0, len(BURST))
    assert begin_in_it <= {file["name"] for file in json.loads(data.attrs["inputs"])}
    if begin_in_it and convention == "corrected":
        assert has(data, "no_electron_sample").sum() == 20
        assert has(data, "bridged").any() and has(data, "repeated_time").any()


def test_the_clock_knows_the_leap_seconds_of_the_cdf_library() -> None:
    """The midnights of the years of MMS at which TT2000 goes on by a second more than UTC."""
    midnights = np.arange(ns("2015-01-01") // DAY, ns("2030-01-01") // DAY) * DAY
    tt2000 = np.asarray(pycdfpp.to_tt2000(midnights.astype("datetime64[ns]"))).view(np.int64)
    longer = np.diff(tt2000) - DAY
    assert set(longer) == {0, SECOND}
    assert tuple(midnights[1:][longer > 0]) == LEAP_SECONDS


@given(st.lists(st.integers(-3 * SECOND, 3 * SECOND), min_size=1, max_size=20), st.sampled_from(LEAP_SECONDS))
def test_names_in_utc_are_those_of_the_cdf_library(offsets: list[int], leap: int) -> None:
    origin = leap - 5 * SECOND
    even = leap + np.array(offsets)
    tt2000 = np.asarray(pycdfpp.to_tt2000(np.array([origin], "datetime64[ns]")))
    epochs = (tt2000.view(np.int64) + (even - origin)).view(tt2000.dtype)
    utc = np.asarray(pycdfpp.to_datetime64(epochs)).astype("datetime64[ns]").astype(np.int64)
    clock = Clock.within(origin, leap)
    np.testing.assert_array_equal(clock.utc(even), utc)
    np.testing.assert_array_equal(clock.even(utc) - even, np.where(clock.in_leap_second(even), SECOND, 0))
    np.testing.assert_array_equal(Clock.within(leap, leap + DAY).utc(even), even)


def test_an_interval_with_a_leap_second_is_a_second_longer_and_none_can_begin_in_one(
    tmp_path: Path, mms_regions_here: Command
) -> None:
    assert Event(name="A", t_start="2016-12-31T23:59:59", t_end="2017-01-01T00:00:00", B0=1, n0=1).seconds == 2
    assert Event(name="A", t_start="2017-01-01T00:00:00", t_end="2017-01-01T00:00:01", B0=1, n0=1).seconds == 1
    (tmp_path / "x.csv").write_text("event,t_start,t_end,B0,n0\nA,2016-12-31T23:59:60,2017-01-01T00:00:05,12,0.2\n")
    done = mms_regions_here("catalogue", "check", tmp_path / "x.csv")
    assert done.returncode == 3
    assert "line 2: column t_start = '2016-12-31T23:59:60': must be a time that exists" in done.stderr


def test_the_published_variables_have_names_in_utc(nights: tuple[Path, Path]) -> None:
    event = Event(name="A", t_start="2016-12-31T23:59:59", t_end="2017-01-01T00:00:01", B0=12, n0=0.2)
    files = find_files(Segment(event, 1), (DIS, DES, FGM, EDP_BURST, EDP_FAST), nights[0])
    burst = read_burst(files, event.trange)
    even = burst.electric.time
    assert even[-1] - even[0] == pytest.approx(3 * SECOND, abs=2 * SECOND / 8192)
    found = published_variables(burst, event)
    utc = found["mms1_E_norm"]["time"].values.astype(np.int64)
    expected = np.where(even < MIDNIGHT + SECOND, even, even - SECOND)
    np.testing.assert_allclose(utc - expected, 0, atol=600)  # its passes through float seconds


# Midnights: of a day, of a leap day and of a year. Burst files lie in folders of days, fast-mode files cover a day.

NIGHTS = {  # cuts: seconds from midnight at which one burst file ends and the next begins
    ns("2017-07-12"): (-0.013, 3.1),
    ns("2016-03-01"): (-4.2, 0.0),
    ns("2018-01-01"): (-1.77, 0.5, 1.9),
}
AROUND = {"ACROSS": (-5.0, 5.0), "UP_TO": (-6.0, 0.0), "FROM": (0.0, 6.0), "SOON_AFTER": (0.045, 4.0)}


def midnight_events() -> Iterator[tuple[str, int, int]]:
    for night in NIGHTS:
        for name, (begin, end) in AROUND.items():
            yield f"{name}_{iso(night)[:10]}", night + round(begin * SECOND), night + round(end * SECOND)


@pytest.fixture(scope="module")
def one_file_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_file_each")
    for night in NIGHTS:
        whole(folder, night)
    return folder


@pytest.fixture(scope="module")
def cut_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut_files")
    for night, cuts in NIGHTS.items():
        begin, end = night - BEFORE, night + AFTER
        write_pieces(folder, begin, [begin, *(night + round(cut * SECOND) for cut in cuts), end])
        write_fast(folder, begin, night, day=partial(of_day, day=night // DAY - 1))
        write_fast(folder, begin, end, day=partial(of_day, day=night // DAY), start=night)
    return folder


def of_day(arrays: Arrays, day: int) -> Arrays:
    return take_rows(arrays, arrays["epoch"] // DAY == day)


@pytest.fixture(scope="module", params=CONVENTIONS)
def midnights(request: pytest.FixtureRequest, run: Run, one_file_each: Path, cut_files: Path) -> tuple[str, Path, Path]:
    """The convention, and the stores from uncut and from cut files."""
    events = list(midnight_events())
    return request.param, run(events, one_file_each, request.param), run(events, cut_files, request.param)


def test_midnight_and_files_that_end_around_it_change_nothing(
    midnights: tuple[str, Path, Path], cut_files: Path
) -> None:
    assert len(list(cut_files.rglob("*_edp_fast_*.cdf"))) == 2 * len(NIGHTS)
    convention, uncut, cut = midnights
    for name, begin, end in midnight_events():
        data = segment(cut, name)
        assert_equal(data, segment(uncut, name))
        assert_labelled_where_complete(data)
        first = begin if convention == "published" else begin - CENTRE[convention]
        grid = np.arange(-(-first // STEP) * STEP, first + (end - begin) + 1, STEP) + CENTRE[convention]
        np.testing.assert_allclose(times(data) - grid, 0, atol=600 if convention == "published" else 0)
        if convention == "corrected":
            assert (data["label"] >= 0).all() and (data["quality"] == 0).all()


def test_the_field_turns_through_midnight_as_in_the_files(
    midnights: tuple[str, Path, Path], one_file_each: Path
) -> None:
    for night in NIGHTS:
        data = segment(midnights[1], f"ACROSS_{iso(night)[:10]}")
        if midnights[0] == "published":  # its averages are not of their time at the ends
            data = data.isel(time=slice(1, -4))
        tag = iso(night - BEFORE)[:19].translate(str.maketrans("", "", "-:T"))
        (path,) = one_file_each.rglob(f"mms1_fgm_brst_l2_{tag}_*.cdf")
        cdf = pycdfpp.load(str(path))
        known = pycdfpp.to_datetime64(cdf["Epoch"]).astype(np.int64) - night
        for i in range(3):
            expected = np.interp(times(data) - night, known, cdf["mms1_fgm_b_gsm_brst_l2"].values[:, i])
            np.testing.assert_allclose(data["b_gsm"][:, i], expected, atol=0.05)  # theirs is good to 0.1 degree


# Events of a window, of less, of one sample.

SHORT = ns("2017-07-11T10:34:00")
LENGTHS = (1, 31, 32, 33, 64)


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minute")
    write_files(folder, 1, iso(SHORT), 10.0, SCENE)
    return folder


def short_events(convention: str, lengths: Sequence[int]) -> list[tuple[str, int, int]]:
    """Events that begin and end at a sample, as the convention has it: at its centre, or at its start."""
    begin = SHORT + 70 * STEP + (CENTRE["corrected"] if convention == "corrected" else 0)
    return [(f"N{n}", begin, begin + round(max(n - 1, 0.95) * STEP)) for n in lengths]


def assert_nothing_outside_slots(store: Path, lengths: Sequence[int]) -> None:
    data = xr.open_zarr(store, chunks=None)
    assert data["n_samples"].values.tolist() == list(lengths)
    inside = np.full(data.sizes["sample"], -1)
    for row, (first, n) in enumerate(zip(data["first"].values, lengths, strict=True)):
        assert (inside[first : first + n] == -1).all() and first % WINDOW == 0
        inside[first : first + n] = row
    np.testing.assert_array_equal(data["segment_id"].values, inside)
    rest = data.isel(sample=inside < 0)
    assert rest.sizes["sample"] > 0 and np.isnat(rest["time"].values).all()
    assert (rest["label"] == -1).all() and (rest["quality"] == 0).all()
    assert np.isnan(rest["probability"]).all() and np.isnan(rest["features"]).all() and np.isnan(rest["ne"]).all()


def test_events_of_a_window_or_less_are_the_first_samples_of_longer_ones(run: Run, minute: Path) -> None:
    store = run(short_events("corrected", LENGTHS), minute, "corrected")
    assert_nothing_outside_slots(store, LENGTHS)
    longest = segment(store, f"N{LENGTHS[-1]}")
    for n in LENGTHS:
        data = segment(store, f"N{n}")
        assert (data["label"] >= 0).all() and (data["quality"] == 0).all()
        assert_equal(data, longest.isel(time=slice(n)))


def test_published_events_of_a_window_or_less_are_labelled_where_they_are_complete(run: Run, minute: Path) -> None:
    store = run(short_events("published", LENGTHS[1:]), minute, "published")
    assert_nothing_outside_slots(store, LENGTHS[1:])
    for n in LENGTHS[1:]:
        data = segment(store, f"N{n}")
        assert_labelled_where_complete(data)
        missing = np.flatnonzero(data["label"].values < 0)  # what the 75 ms move out of reach of ions and fields
        assert 0 < missing.size < 6 and missing[0] == n - missing.size


def test_a_published_event_of_one_sample_fails_alone_with_a_reason(
    run: Run, minute: Path, mms_regions_here: Command
) -> None:
    store = run(short_events("published", [1, 32]), minute, "published", code=4)
    told = json.loads(mms_regions_here("status", store, "--json").stdout)["segments"]
    assert [row["status"] for row in told] == ["no_data", "complete"]
    assert "has all features" in told[0]["reason"]


# An event that is longer than a shard.


@pytest.fixture(scope="module")
def one_shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "large.toml"
    path.write_text('shard_samples = 65536\nmodel = "first"\ndevice = "cpu"\nworkers = 0\n')
    return path


@pytest.mark.parametrize("minutes", [3, pytest.param(20, marks=pytest.mark.long)])
def test_an_event_longer_than_many_shards_is_the_same_in_one(
    run: Run, one_shard: Path, tmp_path: Path, minutes: int
) -> None:
    begin = ns("2017-07-11T10:30:00")
    end = begin + minutes * 60 * SECOND
    for first in [begin - 2 * SECOND, *range(begin, end, 60 * SECOND), end]:
        length = 60.0 if begin <= first < end else 2.0
        write_files(tmp_path, 1, iso(first), length, SCENE, products=BURST, origin=iso(begin))
    events = [("LONG", begin, end)]
    small, large = run(events, tmp_path, "corrected"), run(events, tmp_path, "corrected", "--profile", one_shard)
    assert len(list((small / "label" / "c").iterdir())) == -(-minutes * 2000 // 1024)
    assert len(list((large / "label" / "c").iterdir())) == 1
    data = segment(small, "LONG")
    assert_equal(data, segment(large, "LONG"))
    assert data.sizes["time"] == minutes * 2000
    assert (data["label"] >= 0).all()
    assert_nothing_outside_slots(small, [minutes * 2000])
