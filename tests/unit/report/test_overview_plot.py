"""Overviews tell how far spacecraft agree, and of each segment its regions, or why there are none."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from drawn import ALL, COLOURS, START, STEP, is_hatched, labels, pixels, words_apart
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mms_regions.report.overview_plot import (
    ROWS_PER_OVERVIEW,
    OverviewRow,
    agreement,
    catalogue_overview,
    event_overview,
    overview_pages,
)
from mms_regions.report.segment_plot import FADED, save_picture


def at(milliseconds: list[int], values: list[int]) -> xr.DataArray:
    """Labels so long after the start."""
    time = START + np.array(milliseconds, "timedelta64[ms]")
    return xr.DataArray(np.array(values, np.int8), coords={"time": time}, dims="time")


def test_agreement_is_the_share_of_the_most_frequent_label_of_those_that_have_one() -> None:
    share = agreement(
        {
            "mms1": labels([0, 0, 0, 0, -1, 3]),
            "mms2": labels([0, 0, 1, -1, -1, 3]),
            "mms3": labels([0, 1, 2, 1, 2, -1]),
            "mms4": labels([0, 1, 3, 2, -1, -1]),
        }
    )
    np.testing.assert_allclose(share, [1, 0.5, 0.25, 1 / 3, np.nan, 1])
    np.testing.assert_array_equal(share["time"], START + np.arange(6) * STEP)


def test_agreement_takes_the_nearest_sample_within_half_a_cadence() -> None:
    first = at([0, 30, 60, 90, 120], [1] * 5)
    late = at([44, 74, 120], [1, 2, 1])  # 14 ms late, and none near 0 and 90
    np.testing.assert_array_equal(agreement({"mms1": first, "mms2": late}), [np.nan, 1, 0.5, np.nan, 1])
    later = at([46, 136], [1, 1])  # of 30 and 60 nearer to 60; 16 ms from 120, of which half a cadence is 15
    np.testing.assert_array_equal(agreement({"mms1": first, "mms2": later}), [np.nan, np.nan, 1, np.nan, np.nan])


def test_agreement_begins_with_the_first_sample_of_any_and_ends_with_the_last() -> None:
    early, late = labels([4, 4]), labels([4, 4], START + 5 * STEP)
    share = agreement({"mms1": early, "mms2": late})
    assert share["time"].values[0] == early["time"].values[0] and share["time"].values[-1] == late["time"].values[-1]
    assert np.isnan(share).all()
    assert np.isnan(agreement({"mms1": early})).all(), "one alone agrees with nobody"
    with pytest.raises(ValueError, match="no samples to compare"):
        agreement({"mms1": labels([])})


SERIES = st.lists(st.tuples(st.integers(-1, 5), st.integers(1, 3)), min_size=1, max_size=12)


@given(st.lists(SERIES, min_size=1, max_size=4))
def test_agreement_is_what_counting_sample_by_sample_gives(many: list[list[tuple[int, int]]]) -> None:
    """Steps of 1 to 3 cadences, so that there are gaps."""
    series = {}
    for i, samples in enumerate(many):
        steps = np.cumsum([step for _, step in samples])
        series[f"mms{i + 1}"] = at((30 * steps).tolist(), [label for label, _ in samples])
    share = agreement(series)
    for time, found in zip(share["time"].values, share.values, strict=True):
        here = [int(label.sel(time=time)) for label in series.values() if time in label["time"].values]
        known = [label for label in here if label >= 0]
        expected = Counter(known).most_common(1)[0][1] / len(known) if len(known) >= 2 else np.nan
        np.testing.assert_allclose(found, expected)
    np.testing.assert_array_equal(agreement(dict(reversed(series.items()))), share)


def segment(label: xr.DataArray, confidence: float = 0.9) -> xr.Dataset:
    """What a store gives of a segment, as far as an overview needs it."""
    probability = np.full((label.size, 6), (1 - confidence) / 5)
    known = label.values >= 0
    probability[known, label.values[known]] = confidence
    probability[~known] = np.nan
    return xr.Dataset({"label": label, "probability": (("time", "region"), probability)})


def colour_at(figure: Figure, axes: Axes, x: float, y: float) -> np.ndarray:
    column, row = axes.transData.transform((x, y)).astype(int)
    return pixels(figure)[row, column]


def colours_around(figure: Figure, axes: Axes, x: float, y: float) -> np.ndarray:
    column, row = axes.transData.transform((x, y)).astype(int)
    return pixels(figure)[row - 4 : row + 5, column - 6 : column + 7].reshape(-1, 3)


@pytest.mark.parametrize("samples", [160, 1500, 6000], ids=["5 s", "45 s", "180 s"])
@pytest.mark.parametrize("spacecraft", [1, 2, 4])
def test_an_event_is_drawn_with_all_its_spacecraft_and_no_words_overlap(spacecraft: int, samples: int) -> None:
    label = labels(np.resize(ALL, samples))
    figure = event_overview({f"mms{i + 1}": segment(label) for i in range(spacecraft)}, "Event A")
    said = words_apart(figure)
    assert {"Event A", "inflow north", "UTC, 2017-05-28", "agreement (1)"} <= {*said}
    assert [words for words in said if words.startswith("mms")] == [f"mms{i + 1}" for i in range(spacecraft)]


def test_agreement_stands_under_the_strips_on_the_same_time_axis_and_is_hatched_where_it_is_undefined() -> None:
    first, second = labels([0] * 300), labels([0] * 100 + [1] * 100 + [-1] * 100)
    figure = event_overview({"mms1": segment(first), "mms2": segment(second)}, "Event A")
    strips, panel = figure.axes
    assert strips.get_xlim() == panel.get_xlim() and strips.get_position().x1 == panel.get_position().x1
    (line,) = [line for line in panel.get_lines() if len(line.get_ydata()) == 300]
    np.testing.assert_array_equal(line.get_ydata(), [1] * 100 + [0.5] * 100 + [np.nan] * 100)
    places = [panel.convert_xunits(START + sample * STEP) for sample in (50, 150, 250)]
    assert [is_hatched(colours_around(figure, panel, x, 0.25)) for x in places] == [False, False, True]


def test_low_confidence_of_one_spacecraft_fades_its_strip_alone() -> None:
    sure, unsure = segment(labels([0] * 100)), segment(labels([0] * 100), confidence=0.5)
    figure = event_overview({"mms1": sure, "mms2": unsure}, "Event A")
    strips, middle = figure.axes[0], figure.axes[0].convert_xunits(START + 50 * STEP)
    full = np.array(to_rgb(COLOURS[0]))
    for height, expected in ((-0.25, full), (-0.75, full), (-1.25, full * (1 - FADED) + FADED), (-1.75, full)):
        np.testing.assert_allclose(colour_at(figure, strips, middle, height), expected, atol=0.02)


def rows(events: int, spacecraft: int = 4, samples: int = 700) -> list[OverviewRow]:
    label = labels(np.resize(ALL, samples))
    return [OverviewRow(f"E{i}/mms{j + 1}", label) for i in range(events) for j in range(spacecraft)]


@pytest.mark.parametrize(("events", "spacecraft"), [(1, 1), (1, 4), (23, 4)])
def test_a_catalogue_is_drawn_in_rows_and_no_words_overlap(events: int, spacecraft: int) -> None:
    table = [*rows(events, spacecraft), OverviewRow("F/mms1", None, "failed: no files")]
    figure = catalogue_overview(table, "many")
    said = words_apart(figure)
    assert [words for words in said if words.startswith("E")] == [f"E{i}" for i in range(events)], "once per event"
    assert said.count("mms1") == events + 1 and said.count("21 s") == events * spacecraft
    assert {"many", "failed: no files", "inflow north", "share of time (%)"} <= {*said}
    heights = [len(table) * 0.18, len(table) * 0.4]
    assert heights[0] < figure.get_figheight() < 2 + heights[1]


TIMES = "\N{MULTIPLICATION SIGN}"
REASON = "failed: $MMS_DATA_DIR/mms2_fgm_brst_l2_20170706154600_v5.92.0.cdf\nends before its last record; " * 5


def test_a_segment_without_labels_says_why_in_one_line_that_stays_in_its_place() -> None:
    table = [*rows(1, 3), OverviewRow("E0/mms4", None, REASON), OverviewRow("a very long name of an event " * 4, None)]
    said = words_apart(catalogue_overview(table, "a title that is much too long " * 9))
    (why,) = [words for words in said if words.startswith("failed")]
    assert why.endswith("…") and "\n" not in why and len(why) > 80
    assert "no labels" in said and "E0" in said
    (short,) = [words for words in said if words.startswith("a very long name")]
    assert short.endswith("…")
    nothing = words_apart(catalogue_overview([OverviewRow("A/mms1", None, "missing: no files")], "none"))
    assert "missing: no files" in nothing and "inflow north" not in nothing


def test_strips_have_one_scale_and_begin_with_their_first_sample() -> None:
    late = labels([1] * 500, START + np.timedelta64(1, "h"))
    table = [OverviewRow("A/mms1", labels([0] * 1000)), OverviewRow("B/mms1", late)]
    figure = catalogue_overview(table, "two")
    strips = figure.axes[0]
    assert strips.get_xlim() == pytest.approx((0, 30))
    for x, y, expected in ((1, -0.5, 0), (29, -0.5, 0), (1, -2, 1), (14, -2, 1)):
        np.testing.assert_allclose(colour_at(figure, strips, x, y), to_rgb(COLOURS[expected]), atol=0.02)
    np.testing.assert_array_equal(colour_at(figure, strips, 22, -2), [1, 1, 1])
    assert not [words for words in words_apart(figure) if words.startswith(TIMES)]


def test_a_strip_too_short_to_be_seen_is_magnified_and_says_how_much() -> None:
    table = [OverviewRow("A/mms1", labels([0] * 40_000)), OverviewRow("B/mms1", labels([1] * 333 + [3] * 333))]
    figure = catalogue_overview(table, "20 min and 20 s")
    assert {"1200 s", "20 s", f"{TIMES} 20"} <= {*words_apart(figure)}
    assert "that many times longer" in figure.axes[0].get_xlabel()
    found = [colour_at(figure, figure.axes[0], x, -2) for x in (190, 210, 390)]
    np.testing.assert_allclose(found, [to_rgb(COLOURS[i]) for i in (1, 3, 3)], atol=0.02)


def test_shares_of_time_stand_on_top_of_each_other_with_both_sides_of_a_kind_together() -> None:
    table = [OverviewRow("A/mms1", labels([0] * 100 + [2] * 200 + [1] * 300 + [-1] * 400))]
    figure = catalogue_overview(table, "one")
    shares = figure.axes[1]
    for x, region in ((5, 0), (20, 2), (45, 1)):
        np.testing.assert_allclose(colour_at(figure, shares, x, -0.5), to_rgb(COLOURS[region]), atol=0.02)
    assert is_hatched(colours_around(figure, shares, 80, -0.5))
    assert is_hatched(colours_around(figure, figure.axes[0], 25, -0.5)), "and the strip where it has no label"


def test_gaps_in_time_are_hatched_in_a_catalogue() -> None:
    label = labels([4] * 1000).isel(time=np.r_[0:300, 700:1000])
    figure = catalogue_overview([OverviewRow("A/mms1", label)], "a gap")
    found = [is_hatched(colours_around(figure, figure.axes[0], x, -0.5)) for x in (4, 15, 26)]
    assert found == [False, True, False]


def test_times_that_run_backwards_are_drawn_where_they_belong() -> None:
    label = labels([1] * 200 + [0] * 300).isel(
        time=np.r_[200:500, 0:200]
    )  # the published convention keeps such an order
    figure = catalogue_overview([OverviewRow("A/mms1", label)], "backwards")
    found = [colour_at(figure, figure.axes[0], x, -0.5) for x in (1, 5, 7, 14)]
    np.testing.assert_allclose(found, [to_rgb(COLOURS[region]) for region in (1, 1, 0, 0)], atol=0.02)


@given(st.lists(st.integers(1, 5), max_size=5) | st.lists(st.integers(1, 5), min_size=40, max_size=80))
def test_pages_hold_each_row_once_and_never_part_an_event(sizes: list[int]) -> None:
    table = [OverviewRow(f"E{i}/mms{j}", None) for i, size in enumerate(sizes) for j in range(size)]
    pages = list(overview_pages(table))
    assert [row for page in pages for row in page] == table
    assert all(0 < len(page) <= ROWS_PER_OVERVIEW for page in pages)
    assert sum(len(list(groupby(page, key=lambda row: row.event))) for page in pages) == len(sizes)
    assert len(pages) <= 1 + len(table) // (ROWS_PER_OVERVIEW - 4), "no more pages than it takes"


def test_an_event_of_more_rows_than_a_page_has_is_parted() -> None:
    pages = list(overview_pages([OverviewRow(f"A/{i}", None) for i in range(2 * ROWS_PER_OVERVIEW + 1)]))
    assert [len(page) for page in pages] == [ROWS_PER_OVERVIEW, ROWS_PER_OVERVIEW, 1]


def test_overviews_saved_twice_are_the_same_bytes(tmp_path: Path) -> None:
    label = labels(ALL)
    for name, figure in (
        ("event", event_overview({"mms1": segment(label), "mms2": segment(label)}, "A")),
        ("catalogue", catalogue_overview(rows(1), "A")),
    ):
        for turn in ("one", "two"):
            save_picture(figure, tmp_path / f"{name}_{turn}.png", dpi=50)
        assert (tmp_path / f"{name}_one.png").read_bytes() == (tmp_path / f"{name}_two.png").read_bytes()


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one segment"):
        event_overview({}, "A")
    with pytest.raises(ValueError, match="at least one row"):
        catalogue_overview([], "A")
    with pytest.raises(ValueError, match="A/mms1: there are no samples"):
        catalogue_overview([OverviewRow("A/mms1", labels([]))], "A")
    with pytest.raises(ValueError, match=r"mms1: labels \[6\]"):
        event_overview({"mms1": segment(labels([5])).assign(label=labels([6]))}, "A")
    with pytest.raises(ValueError, match="should name the regions"):
        catalogue_overview([OverviewRow("A/mms1", labels(ALL).assign_attrs(flag_meanings=""))], "A")
