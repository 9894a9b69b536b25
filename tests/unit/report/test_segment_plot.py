"""Pictures show each region in its colour at its time, say their units, and keep their words apart."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from drawn import (
    ALL,
    COLOURS,
    REGIONS,
    SIGHTS,
    START,
    STEP,
    ion_spectrum,
    is_hatched,
    labels,
    pixels,
    seen,
    segment,
    whole_segment,
    words_apart,
    words_drawn,
)
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.dates import num2date
from matplotlib.figure import Figure

from mms_regions.core.regions import regions_named
from mms_regions.model.cautions import MEANING, Cautions
from mms_regions.report.segment_plot import FADED, event_picture, save_picture, segment_picture
from mms_regions.report.strips import runs, superscript

EIGHT = [region.colour for region in regions_named([*REGIONS.split(), "none_of_these", "another"])]


def picture(label: xr.DataArray, truth: dict[str, xr.DataArray] | None = None, spacecraft: int = 1) -> Figure:
    """The same labels for each spacecraft, from mms1 on."""
    return event_picture({f"mms{i + 1}": segment(label) for i in range(spacecraft)}, truth or {}, "Event A")


def strip_names(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def colours_at(figure: Figure, strip: int, times: Iterable[np.datetime64]) -> list[np.ndarray]:
    """Around each time, the (m, 3) colours down the middle of a strip's height and a few pixels wide."""
    image, axes = pixels(figure), figure.axes[-1]
    middle = axes.get_yticks()[strip]
    places = [axes.transData.transform((axes.convert_xunits(time), middle)).astype(int) for time in times]
    return [image[y - 3 : y + 4, x - 8 : x + 9].reshape(-1, 3) for x, y in places]


def panel_at(figure: Figure, axes: Axes, samples: Iterable[int]) -> list[np.ndarray]:
    """Around each sample, the (m, 3) colours from the lower to the upper edge of a panel, a few pixels wide."""
    image = pixels(figure)
    (low, high), across = axes.get_ylim(), [axes.convert_xunits(START + sample * STEP) for sample in samples]
    ends = [axes.transData.transform([(x, low), (x, high)]).astype(int) for x in across]
    return [image[a[1] + 3 : b[1] - 2, a[0] - 4 : a[0] + 5].reshape(-1, 3) for a, b in ends]


@pytest.mark.parametrize("strip", [0, 1], ids=["model", "truth"])
def test_each_region_has_its_colour_and_no_label_is_hatched_white(strip: int) -> None:
    figure = picture(labels(ALL), {"mms1": labels(ALL)})
    middles = START + (25 + 50 * np.arange(7)) * STEP
    for region, found in zip([0, 1, 2, -1, 3, 4, 5], colours_at(figure, strip, middles), strict=True):
        if region == -1:
            assert is_hatched(found)
        else:
            np.testing.assert_allclose(found, np.tile(to_rgb(COLOURS[region]), (len(found), 1)), atol=0.01)


@pytest.mark.parametrize("sight", SIGHTS)
def test_readers_of_any_colour_vision_tell_the_colours_and_white_apart(sight: str) -> None:
    found = seen(np.array([to_rgb(colour) for colour in (*EIGHT, "white")]), sight)
    assert len(found) == 9 and min(np.linalg.norm(a - b) for a, b in combinations(found, 2)) > 0.1


@pytest.mark.parametrize("sight", SIGHTS)
def test_readers_of_any_colour_vision_tell_faded_colours_from_each_other_and_from_full_ones(sight: str) -> None:
    full = np.array([to_rgb(colour) for colour in EIGHT])
    pale, full = seen(full + (1 - full) * FADED, sight), seen(np.concatenate([full, np.ones((1, 3))]), sight)
    assert min(np.linalg.norm(a - b) for a, b in combinations(pale, 2)) > 0.05
    assert min(np.linalg.norm(a - b) for a in pale for b in full) > 0.1


def test_gaps_in_time_are_hatched_in_strips_and_lines() -> None:
    label = labels([4] * 300).isel(time=np.r_[0:100, 200:300])
    figure = picture(label)
    before, gap, after = colours_at(figure, 0, START + np.array([50, 150, 250]) * STEP)
    assert is_hatched(gap) and not is_hatched(before) and not is_hatched(after)
    for panel in figure.axes[:-1]:
        assert [is_hatched(found) for found in panel_at(figure, panel, [50, 150, 250])] == [False, True, False]
    b_x = next(line for line in figure.axes[0].lines if line.get_label() == "x")
    assert np.flatnonzero(np.isnan(b_x.get_ydata())).tolist() == [100]


def test_many_short_runs_do_not_pale() -> None:
    figure = picture(labels([0, 3] * 3500))
    (found,) = colours_at(figure, 0, [START + 3000 * STEP])
    low, high = np.sort([to_rgb(COLOURS[0]), to_rgb(COLOURS[3])], axis=0)
    assert (found >= low - 0.01).all() and (found <= high + 0.01).all(), "only blends of the two colours"


@given(st.lists(st.tuples(st.integers(-1, 5), st.sampled_from([30, 30, 30, 300])), min_size=1, max_size=40))
def test_runs_hold_each_sample_once_and_end_half_a_sample_beyond(samples: list[tuple[int, int]]) -> None:
    label = np.array([label for label, _ in samples])
    time = START + np.cumsum([step for _, step in samples]).astype("timedelta64[ms]")
    begin, end, found = runs(xr.DataArray(label, coords={"time": time}, dims="time"))
    begins, ends = (np.array([np.datetime64(num2date(d).replace(tzinfo=None)) for d in days]) for days in (begin, end))
    inside = (begins[:, None] <= time) & (time < ends[:, None])
    assert (inside.sum(axis=0) == 1).all()
    np.testing.assert_array_equal(found[inside.argmax(axis=0)], label)
    microsecond = np.timedelta64(1, "us")
    assert ((ends - begins) - inside.sum(axis=1) * STEP <= microsecond).all(), "no run reaches over a gap"


def test_truth_stands_under_its_spacecraft_and_only_where_it_is_given() -> None:
    label = labels(ALL)
    assert strip_names(picture(label, spacecraft=2).axes[-1]) == ["mms1 model", "mms2 model"]
    figure = picture(label, {"mms1": label, "mms3": label}, spacecraft=3)
    assert strip_names(figure.axes[-1]) == ["mms1 model", "truth", "mms2 model", "mms3 model", "truth"]
    assert (np.diff(figure.axes[-1].get_yticks()) < 0).all()


def test_units_frame_spacecraft_and_regions_are_said() -> None:
    figure = picture(labels(ALL))
    units = [axes.get_ylabel().partition(" ")[2] for axes in figure.axes[:-1]]
    assert units == ["(nT)", "(km/s)", "(km/s)", "(mV/m)", "(cm⁻³)"]
    assert "mms1" in figure.axes[0].get_title("left") and "GSM" in figure.axes[0].get_title("left")
    said = {text.get_text() for text in figure.texts} - {"Event A"}
    assert said == {*(name.replace("_", " ") for name in REGIONS.split()), "no label, or missing"}


def test_each_line_has_its_name_beside_it_in_its_colour() -> None:
    *panels, _ = picture(labels(ALL)).axes
    components = {"x": "blue", "y": "green", "z": "red"}
    for axes, magnitude in zip(panels, [True, False, False, False, None], strict=True):
        lines = {line.get_label(): line.get_color() for line in axes.lines if not line.get_label().startswith("_")}
        assert {text.get_text(): text.get_color() for text in axes.texts} == lines
        if magnitude is None:
            assert [*lines] == ["ions", "electrons"] and len(set(lines.values())) == 2
            continue
        assert [*lines] == [*components, "|B|"][: 3 + magnitude]
        for name, hue in components.items():
            assert to_rgb(lines[name])[["red", "green", "blue"].index(hue)] == max(to_rgb(lines[name])) > 0.5


def test_all_panels_share_a_time_axis_in_utc_with_its_date() -> None:
    figure = picture(labels([0] * 2000, START + np.timedelta64(20, "h")))
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    pixels(figure)
    ticks = [text.get_text() for text in figure.axes[-1].get_xticklabels()]
    assert "23:59:00" in ticks and len(set(ticks)) == len(ticks)
    assert figure.axes[-1].get_xlabel() == "UTC, 2017-05-28"
    low, high = figure.axes[-1].get_xlim()
    inside = [tick for tick in figure.axes[-1].get_xticks() if low <= tick <= high]
    for axes in figure.axes[:-1]:
        (lines,) = [one for one in axes.collections if isinstance(one, LineCollection)]
        assert sorted({x for line in lines.get_segments() for x in line[:, 0]}) == inside, "lines above the ticks"
    over_midnight = picture(labels([0] * 100, np.datetime64("2017-05-28T23:59:59", "ns")))
    assert over_midnight.axes[-1].get_xlabel() == "UTC, 2017-05-28 to 2017-05-29"


@pytest.mark.parametrize("spacecraft", [1, 4])
@pytest.mark.parametrize("samples", [60, 1500], ids=["2 s", "45 s"])
def test_no_two_words_overlap_and_all_are_in_the_picture(spacecraft: int, samples: int) -> None:
    label = labels(np.resize(ALL, samples))
    figure = picture(label, {f"mms{i}": label for i in (1, 2, 3, 4)}, spacecraft)
    assert {"Event A", "mms1 model", "inflow north"} <= set(words_apart(figure))


def region_axes(figure: Figure) -> Axes:
    """The panel of regions, which has the axis of time."""
    (found,) = [axes for axes in figure.axes if axes.get_xlabel().startswith("UTC")]
    return found


@pytest.mark.parametrize("samples", [700, 1500], ids=["21 s", "45 s"])
@pytest.mark.parametrize("with_all", [False, True], ids=["of the store", "with ions and stability"])
def test_a_segment_is_drawn_with_all_its_panels_and_no_words_overlap(samples: int, with_all: bool) -> None:
    data = whole_segment(samples)
    if with_all:
        data["stability"] = ("time", np.linspace(0, 1, samples))
    figure = segment_picture(data, ion_spectrum=ion_spectrum(data) if with_all else None)
    said = words_apart(figure)
    assert "Event A, MMS 1; model first, convention corrected" in said
    assert ("No ion spectrogram" in " ".join(said)) is not with_all
    assert ("stability (1)" in said) is with_all and ("ions (eV)" in said) is with_all
    assert {"B (nT)", "vᵢ (km/s)", "J.E' (nW m⁻³)", "electrons (eV)", "probability (1)"} <= {*said}
    assert "UTC, 2017-05-28" in said
    assert len({round(axes.get_position().x1, 6) for axes in stacked(figure)}) == 1, "one right edge"


def stacked(figure: Figure) -> list[Axes]:
    """The panels above each other, which share a time axis; not what stands beside them."""
    return [axes for axes in figure.axes if axes.get_xlim() == region_axes(figure).get_xlim()]


def panel(figure: Figure, name: str) -> Axes:
    """The panel whose label begins so."""
    (found,) = [axes for axes in stacked(figure) if axes.get_ylabel().startswith(name)]
    return found


def test_what_is_missing_is_hatched_in_its_own_panel_alone() -> None:
    data = whole_segment(700)
    data["e_gsm"].values[100:200] = np.nan
    data["ve_gsm"].values[100:200, 0] = np.nan  # y and z are there
    figure = segment_picture(data, ion_spectrum=ion_spectrum(data).isel(time=slice(0, None, 5)))
    for name, expected in (("E", True), ("vₑ", False), ("electrons", True), ("ions", True)):
        found = panel_at(figure, panel(figure, name), [50, 150, 250])
        assert [is_hatched(colours) for colours in found] == [False, expected, False], name


def test_a_spectrogram_is_hatched_at_gaps_of_its_own_cadence_and_where_all_of_it_is_missing() -> None:
    data = whole_segment(1000)
    ions = ion_spectrum(data).isel(time=np.r_[300:500:5, 700:1000:5])  # 150 ms apart, as ions are
    data["electron_spectrum_omni"].values[:] = np.nan
    figure = segment_picture(data, ion_spectrum=ions)
    found = {name: panel_at(figure, panel(figure, name), [400, 600, 800]) for name in ("ions", "electrons")}
    assert [is_hatched(colours) for colours in found["ions"]] == [False, True, False]
    assert (found["ions"][0].min(axis=1) < 0.95).all(), "nothing white between two samples"
    assert all(is_hatched(colours) for colours in found["electrons"])


def test_twenty_minutes_are_drawn_with_their_spectrum_where_it_is() -> None:
    data = whole_segment(20_000)
    data["electron_spectrum_omni"].values[5_000:10_000] = np.nan
    figure = segment_picture(data)
    found = panel_at(figure, panel(figure, "electrons"), [2_500, 7_500, 15_000])
    assert [is_hatched(colours) for colours in found] == [False, True, False]
    image, _ = panel(figure, "electrons").get_images()  # and the scale beside it
    assert image.get_array().shape[1] <= 2000, "no more columns than can be seen"


def test_marginal_probabilities_are_shown_where_the_segment_has_them() -> None:
    data = whole_segment(700)
    flat = data["probability"].where(data["probability"].isnull(), 1 / data.sizes["region"])
    figure = segment_picture(data.assign(probability_marginal=flat))
    assert "probability (1)" not in [axes.get_ylabel() for axes in figure.axes]
    axes = panel(figure, "marginal")
    first = next(one for one in axes.collections if isinstance(one, PolyCollection))
    lowest = first.get_paths()[0].vertices[:, 1].max()
    assert lowest == pytest.approx(1 / data.sizes["region"]), "the first region takes an equal part"


def test_stability_is_a_line_where_the_store_has_it() -> None:
    data = whole_segment(700)
    data["stability"] = ("time", np.where(data["label"] >= 0, np.linspace(0, 1, 700), np.nan))
    axes = panel(segment_picture(data), "stability")
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= 1
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_ydata(), data["stability"].values)
    figure = segment_picture(data)
    found = panel_at(figure, panel(figure, "stability"), [175, 25])  # the middle of what has no label; a label
    assert [is_hatched(colours) for colours in found] == [True, False]


def test_a_long_title_is_shortened_and_stays_in_the_picture() -> None:
    said = words_apart(segment_picture(whole_segment(60), "What people write above a picture to say all of it " * 9))
    assert [words for words in said if words.startswith("What people") and words.endswith("…")]


def test_two_tables_of_energies_are_drawn_on_one_scale() -> None:
    data = whole_segment(300)
    data["electron_energy"].values[1::2] *= 1.06  # FPI alternates between two tables
    figure = segment_picture(data)
    (axes,) = [axes for axes in figure.axes if axes.get_ylabel() == "electrons (eV)"]
    image, _ = axes.get_images()
    flux, (low, high) = image.get_array().T, image.get_extent()[2:]
    energies = np.logspace(low, high, flux.shape[1] + 1)
    for sample, cell in ((200, 5), (201, 5), (250, 38), (251, 38)):
        middle = np.sqrt(energies[cell] * energies[cell + 1])
        channel = np.abs(np.log(data["electron_energy"].values[sample] / middle)).argmin()
        wanted = data["electron_spectrum_omni"].values[sample, channel]
        assert flux[sample, cell] == pytest.approx(wanted), (sample, cell)


def test_cautions_are_told_with_their_shares_beneath_the_regions() -> None:
    data = whole_segment(700)  # of 600 labels 200 are outflow, half of these slow; Bx has the sign of the side or not
    rows = cautions_said(data)
    wrong = ((data["label"] == 3) & (data["b_gsm"][:, 0] < 0)) | ((data["label"] == 5) & (data["b_gsm"][:, 0] > 0))
    assert rows[0] == "slow outflow 16.7%"
    assert rows[1] == f"wrong side {int(wrong.sum()) / 600:.1%}"
    data["vi_gsm"].values[:] = 2000.0
    data["vi_gsm"].values[data["label"].values == 1] = [[1.0] * 3, *[[2000.0] * 3] * 99]
    assert cautions_said(data)[0] == "slow outflow 0.2%", "a few are not none"


def cautions_said(data: xr.Dataset) -> list[str]:
    """The words beneath the strip of regions, downwards."""
    axes = region_axes(segment_picture(data))
    assert strip_names(axes) == ["region"]
    heights = [text.get_position()[1] for text in axes.texts]
    assert heights == sorted(heights, reverse=True) and heights[0] < axes.get_yticks()[0]
    return [text.get_text() for text in axes.texts]


def test_all_cautions_at_once_are_read_in_full_beneath_the_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    data = whole_segment(700)
    every = Cautions({name: np.ones(700, bool) for name in MEANING}, np.ones(700, bool))
    monkeypatch.setattr("mms_regions.report.segment_plot.cautions", lambda data: every)
    said = words_apart(segment_picture(data))
    assert {f"{name.replace('_', ' ')} 100.0%" for name in MEANING} <= set(said)


def test_names_that_are_not_the_authors_are_said_to_be_inferred() -> None:
    data = whole_segment(60)
    for source, said in ((None, False), ("0" * 64, True)):
        data.attrs["model"] = json.dumps({"name": "first", "source_sha256": source})
        words = " ".join(text.get_text() for text in words_drawn(segment_picture(data)))
        assert ("Names of regions are inferred" in words) is said


def test_low_confidence_fades_the_upper_half_of_the_regions_alone() -> None:
    data = whole_segment(700).isel(time=slice(0, 50))
    data["probability"].values[25:, :] = 0.2
    figure = segment_picture(data)
    image, axes = pixels(figure), region_axes(figure)

    def at(sample: int, height: float) -> np.ndarray:
        x, y = axes.transData.transform((axes.convert_xunits(START + sample * STEP), height)).astype(int)
        return image[y, x]

    colour = to_rgb(COLOURS[0])
    for sample, height in ((10, -0.2), (10, -0.8), (40, -0.8)):
        np.testing.assert_allclose(at(sample, height), colour, atol=0.02)
    np.testing.assert_allclose(at(40, -0.2), np.array(colour) * (1 - FADED) + FADED, atol=0.02)


def test_a_saved_picture_is_a_png_and_the_same_each_time(tmp_path: Path) -> None:
    figure = picture(labels(ALL))
    for name in ("one", "two"):
        save_picture(figure, tmp_path / "new" / f"{name}.png", dpi=50)
    data = (tmp_path / "new" / "one.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data == (tmp_path / "new" / "two.png").read_bytes()


def test_a_picture_that_cannot_be_saved_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    with pytest.raises(OSError, match="file"):
        save_picture(Figure(figsize=(1, 1)), tmp_path / "file" / "a.png")
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        save_picture(Figure(figsize=(1, 1)), tmp_path / "a.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file"]


def test_what_is_no_segment_or_no_region_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one segment"):
        event_picture({}, {}, "Event A")
    with pytest.raises(ValueError, match="mms1 model: there are no samples"):
        picture(labels([]))
    with pytest.raises(ValueError, match="truth: there are no samples"):
        picture(labels(ALL), {"mms1": labels([])})
    with pytest.raises(ValueError, match=r"mms1 model: labels \[6\]"):
        picture(labels([0, 6]))
    with pytest.raises(ValueError, match="flag_meanings of `label` should name the regions"):
        picture(labels(ALL).assign_attrs(flag_meanings=""))


def test_importing_pictures_brings_in_no_torch_zarr_dask_or_pyplot() -> None:
    program = "import sys, mms_regions.report.segment_plot; print(*sys.modules)"
    folder = Path(__file__).parents[3] / "pipeline"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert not {"torch", "dask", "zarr", "pyspedas", "matplotlib.pyplot"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        ("nW m^-3", "nW m⁻³"),
        ("cm^-3", "cm⁻³"),
        ("cm-3", "cm⁻³"),
        ("nW/m3", "nW/m³"),
        ("10^-12", "10⁻¹²"),
        ("km/s", "km/s"),
        ("nT", "nT"),
        ("1", "1"),
    ],
)
def test_powers_in_units_are_superscripts(unit: str, shown: str) -> None:
    assert superscript(unit) == shown
