"""Convention `corrected` against closed forms: what is measured is right, what is missing is never a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cdf_files import Arrays, Edit, Scene, constant, take_rows, write_files
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_regions.archive.products import DES, DIS, EDP_BURST, FGM, CdfFile, find_files, parse_name
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Event, Segment
from mms_regions.physics.burst import Burst, read_burst
from mms_regions.physics.corrected import corrected_samples
from mms_regions.physics.frames import gse_to_gsm
from mms_regions.physics.samples import FEATURES, QUALITY_BITS, Samples
from mms_regions.physics.screening import in_time_order

PRODUCTS = (DIS, DES, FGM, EDP_BURST)
KEYS = tuple(product.key for product in PRODUCTS)
SECOND = 1_000_000_000
STEP = 30_000_000
START = "2017-07-11T22:34:00"
PERIOD = {"dis": 150_000_000, "des": STEP, "fgm": SECOND / 128, "edp_brst": SECOND / 8192}
DELAY = {"dis": 75_000_000, "des": 15_000_000, "fgm": 0, "edp_brst": 0}
INPUT = {"dis": "ions", "des": "electrons", "fgm": "magnetic_field", "edp_brst": "electric_field"}
INPUT_BITS = sum(QUALITY_BITS[f"{name}_missing"] for name in INPUT.values())


def ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


def event(begin: float = 1.0, end: float = 5.0, start: str = START) -> Event:
    """An interval given in seconds after `start`."""
    t_start, t_end = (np.datetime64(ns(start) + round(t * SECOND), "ns") for t in (begin, end))
    return Event(name="A", t_start=t_start, t_end=t_end, B0=12.0, n0=0.1)


def write(data_dir: Path, scene: Scene, seconds: float = 6.0, start: str = START, **options: Any) -> None:
    write_files(data_dir, 4, start, seconds, scene, products=KEYS, origin=START, **options)


def burst_of(data_dir: Path, of: Event, margin: float = 1.0) -> Burst:
    begin, end = of.trange
    trange = (begin - round(margin * SECOND), end + round(margin * SECOND))
    return read_burst(find_files(Segment(of, 4), PRODUCTS, data_dir, margin), trange)


def samples_of(
    data_dir: Path, scene: Scene, of: Event | None = None, margin: float = 1.0, bridge: float = 0.15, **options: Any
) -> Samples:
    """Samples of one file of each product that begins at START."""
    write(data_dir, scene, **options)
    of = of or event()
    return corrected_samples(burst_of(data_dir, of, margin), of, bridge)


def seconds(samples: Samples) -> np.ndarray:
    return (samples.time - ns(START)) / SECOND


def has(samples: Samples, bit: str) -> np.ndarray:
    return (samples.quality & QUALITY_BITS[bit]) != 0


def finite(samples: Samples) -> np.ndarray:
    """Which rows have all features; a row never has some of an input's and not the others."""
    return np.isfinite(samples.features).all(axis=1)


def gsm(samples: Samples, gse: np.ndarray) -> np.ndarray:
    return gse_to_gsm(samples.time, np.broadcast_to(gse, (len(samples), 3)))


def line(start: Any, slope: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: np.asarray(start) + np.multiply.outer(t, slope)


RAMP = Scene(
    b_gse=line([10.0, 2.0, 5.0], [-2.0, 1.0, 0.5]),
    e_gse=line([0.5, -1.0, 2.0], [3.0, -2.0, 1.0]),
    v_i=line([100.0, -50.0, 20.0], [40.0, 10.0, -30.0]),
    v_e=line([-200.0, 150.0, 80.0], [100.0, -60.0, 20.0]),
    n_i=line(0.2, 0.01),
    n_e=line(0.2, 0.02),
)


# Closed forms


def test_rows_are_electron_centres_from_start_to_end(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, RAMP)
    assert samples.time[0] == ns(START) + 33 * STEP + 15_000_000
    assert (np.diff(samples.time) == STEP).all()
    assert samples.time[-1] == ns(START) + 166 * STEP + 15_000_000
    assert finite(samples).all() and not samples.quality.any()


def test_the_mean_of_a_ramp_is_the_ramp_at_the_centre(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, RAMP)
    for name, ramp, step in (("e_gsm", RAMP.e_gse, 1 / 8192), ("b_gsm", RAMP.b_gse, 1 / 128)):
        slope = np.linalg.norm(np.asarray(ramp(np.ones(1))) - ramp(np.zeros(1)))
        error = np.linalg.norm(samples.physics[name] - gsm(samples, ramp(seconds(samples))), axis=1)
        assert error.max() < slope * step / 2 + 1e-5


@pytest.mark.parametrize(("at", "partly"), [(3.005, [100 - 33]), (3.0, [])])
def test_the_mean_of_a_step_is_the_share_of_its_samples(tmp_path: Path, at: float, partly: list[int]) -> None:
    """Against a plain mean of each bin; at 3.0 s a sample lies on the edge of two bins, and is of the later one."""

    def jump(t: np.ndarray) -> np.ndarray:
        return np.where(t[:, None] < at, [4.0, 0.0, 0.0], [-4.0, 0.0, 0.0])

    samples = samples_of(tmp_path, Scene(b_gse=jump, e_gse=jump))
    for name, rate in (("b_gsm", 128), ("e_gsm", 8192)):
        t = np.arange(6 * rate) * SECOND // rate + ns(START)
        bins = [(t >= row - 15_000_000) & (t < row + 15_000_000) for row in samples.time]
        expected = [np.where(t[inside] < ns(START) + at * SECOND, 4.0, -4.0).mean() for inside in bins]
        np.testing.assert_allclose(samples.physics[name][:, 0], expected, rtol=1e-6)
        np.testing.assert_array_equal(np.flatnonzero(np.abs(samples.physics[name][:, 0]) < 3.9), partly)


def test_moments_stand_at_the_centres_of_their_accumulations(tmp_path: Path) -> None:
    """The files have the ramps at the centres, so right times give them back exactly; ions are interpolated."""
    samples = samples_of(tmp_path, RAMP)
    t = seconds(samples)
    np.testing.assert_allclose(samples.physics["ne"], RAMP.n_e(t), rtol=1e-6)
    np.testing.assert_allclose(samples.physics["ni"], RAMP.n_i(t), rtol=1e-6)
    np.testing.assert_allclose(samples.physics["ve_gsm"], gsm(samples, np.asarray(RAMP.v_e(t))), atol=1e-4)
    np.testing.assert_allclose(samples.physics["vi_gsm"], gsm(samples, np.asarray(RAMP.v_i(t))), atol=1e-4)


def test_a_convection_field_leaves_nothing_in_the_electron_frame(tmp_path: Path) -> None:
    b, v_e = np.array([10.0, 2.0, 5.0]), np.array([-200.0, 150.0, 80.0])
    e = np.array([-0.59, -1.8, 1.9])  # -v_e x B, by hand, in mV/m
    samples = samples_of(tmp_path, Scene(b_gse=constant(b), v_e=constant(v_e), e_gse=constant(e)))
    np.testing.assert_allclose(samples.physics["e_conv_gsm"], gsm(samples, e), atol=1e-5)
    np.testing.assert_allclose(samples.physics["e_prime_gsm"], 0, atol=1e-5)
    np.testing.assert_allclose(samples.physics["j_dot_e_prime"], 0, atol=1e-7)
    j_dot_e = 0.2 * 1.602176634e-4 * (np.array([100.0, -50.0, 20.0]) - v_e) @ e
    np.testing.assert_allclose(samples.physics["j_dot_e"], j_dot_e, rtol=1e-5)


def test_features_are_scaled_and_in_the_axes_of_the_simulation(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, RAMP)
    v_a = 12.0 * 1e-9 / np.sqrt(0.1 * 1e6 * 1.6726219e-27 * 4e-7 * np.pi) / 1e3
    physics, columns = samples.physics, dict(zip(FEATURES, samples.features.T, strict=True))
    expected = {
        **{"Bx": physics["b_gsm"][:, 0] / 12, "By": -physics["b_gsm"][:, 2] / 12, "Bz": physics["b_gsm"][:, 1] / 12},
        **{"Ey": -physics["e_gsm"][:, 2] / (12 * v_a * 1e-3), "viz": physics["vi_gsm"][:, 1] / v_a},
        **{"ni": physics["ni"] / 0.1, "ne": physics["ne"] / 0.1, "vex": physics["ve_gsm"][:, 0] / v_a / 1836**0.5},
    }
    for name, values in expected.items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-5, err_msg=name)


def with_background(n: float, v: np.ndarray, p: np.ndarray, n_bg: float, p_bg: float) -> Scene:
    """Ions of density n, velocity v and pressure p as an instrument with this background has them in its moments."""
    mass = 1.6726e-27 * 1e6 * 1e6 * 1e9  # kg, cm^-3 and (km/s)^2 to nPa
    total, bulk = n + n_bg, v * n / (n + n_bg)
    pressure = p + p_bg * np.eye(3) + mass * (n * np.outer(v, v) - total * np.outer(bulk, bulk))
    return Scene(
        b_gse=constant([0.0, 0.0, 8.0]),
        n_i=constant(total),
        v_i=constant(bulk),
        p_i=constant(pressure),
        n_bg=constant(n_bg),
        p_bg=constant(p_bg),
    )


def test_ions_are_those_without_the_background(tmp_path: Path) -> None:
    v = np.array([300.0, -120.0, 60.0])
    scene = with_background(n=0.4, v=v, p=np.diag([0.2, 0.4, 0.5]), n_bg=0.1, p_bg=0.05)
    samples = samples_of(tmp_path, scene)
    np.testing.assert_allclose(samples.physics["ni"], 0.4, rtol=1e-6)
    np.testing.assert_allclose(samples.physics["vi_gsm"], gsm(samples, v), rtol=1e-5)
    ev_per_npa = 1e-15 / 1.602177e-19 / 0.4  # T = P / n', in eV
    np.testing.assert_allclose(samples.physics["ti_par"], 0.5 * ev_per_npa, rtol=1e-4)
    np.testing.assert_allclose(samples.physics["ti_perp"], 0.3 * ev_per_npa, rtol=1e-4)


def test_a_background_above_the_density_leaves_no_ions(tmp_path: Path) -> None:
    scene = replace(RAMP, n_bg=lambda t: np.where((t > 2.5) & (t < 3.5), 0.5, 0.0))
    samples = samples_of(tmp_path, scene)
    t = seconds(samples)
    without = (t > 2.475) & (t < 3.525)  # from the last ion sample with n' > 0 to the next one
    np.testing.assert_array_equal(finite(samples), ~without)
    np.testing.assert_array_equal(has(samples, "ions_missing"), without)
    nearest_is_empty = (t > 2.55) & (t < 3.45)
    np.testing.assert_array_equal(has(samples, "ion_background_exceeds_density"), nearest_is_empty)
    assert np.isnan(samples.physics["ni"][without]).all() and np.isnan(samples.physics["ti_par"][without]).all()
    assert np.isfinite(samples.physics["ne"]).all() and not samples.bridged.any()


# Gaps


def deleted(rows: np.ndarray, key: str, arrays: Arrays) -> Arrays:
    return take_rows(arrays, ~rows)


def filled(rows: np.ndarray, key: str, arrays: Arrays) -> Arrays:
    name = {"dis": "numberdensity", "des": "bulkv_gse", "fgm": "b_gse", "edp_brst": "dce_gse"}[key]
    arrays[name][rows] = -1e31
    return arrays


def flagged(rows: np.ndarray, key: str, arrays: Arrays) -> Arrays:
    name, value = {"fgm": ("flag", 1), "edp_brst": ("quality", 0)}.get(key, ("errorflags", 1 << 11))
    arrays[name][rows] = value
    return arrays


Way = Callable[[np.ndarray, str, Arrays], Arrays]
WAYS = pytest.mark.parametrize("way", [deleted, filled, flagged], ids=lambda way: way.__name__)
INSTRUMENTS = pytest.mark.parametrize("key", KEYS)


def gap(key: str, begin: float, length: float, way: Way) -> Mapping[str, Edit]:
    """An edit that takes away what a product has of [begin, begin + length), in seconds after START."""

    def edit(arrays: Arrays) -> Arrays:
        t = arrays["epoch"] + DELAY[key] - ns(START)
        return way((t >= begin * SECOND) & (t < (begin + length) * SECOND), key, arrays)

    return {key: edit}


def touched(key: str, begin: float, length: float, samples: Samples) -> np.ndarray:
    """Rows without a value: between the samples on both sides of the gap, or with less than half of a bin left."""
    t = np.arange(0, 6 * SECOND, PERIOD[key]) + DELAY[key]
    last, first = t[t < begin * SECOND][-1], t[t >= (begin + length) * SECOND][0]
    at, half = samples.time - ns(START), STEP / 2
    if key in ("dis", "des"):
        return (at > last) & (at < first)
    left = t[(t < begin * SECOND) | (t >= (begin + length) * SECOND)]
    count = np.searchsorted(left, at + half) - np.searchsorted(left, at - half)
    return count < STEP / PERIOD[key] / 2


@WAYS
@INSTRUMENTS
def test_a_long_gap_is_rows_without_features(tmp_path: Path, key: str, way: Way) -> None:
    samples = samples_of(tmp_path, RAMP, edit=gap(key, 3.0, 0.5, way))
    gone = touched(key, 3.0, 0.5, samples)
    assert 0.45 <= gone.sum() * 0.03 <= 0.66
    assert len(samples) == 134 and (np.diff(samples.time) == STEP).all()
    np.testing.assert_array_equal(finite(samples), ~gone)
    np.testing.assert_array_equal(has(samples, f"{INPUT[key]}_missing"), gone)
    np.testing.assert_array_equal(has(samples, "no_electron_sample"), gone & (key == "des") & (way is deleted))
    assert not samples.bridged.any()


@WAYS
@INSTRUMENTS
def test_a_short_gap_is_bridged_on_the_line(tmp_path: Path, key: str, way: Way) -> None:
    length = 0.15 if key == "dis" else 0.06
    whole = samples_of(tmp_path / "whole", RAMP)
    samples = samples_of(tmp_path / "gap", RAMP, edit=gap(key, 3.0, length, way))
    across = touched(key, 3.0, length, samples)
    assert across.any() and finite(samples).all()
    np.testing.assert_array_equal(samples.bridged, across)
    np.testing.assert_array_equal(has(samples, f"{INPUT[key]}_missing"), across)
    np.testing.assert_array_equal(samples.time, whole.time)
    np.testing.assert_array_equal(samples.features[~across], whole.features[~across])
    np.testing.assert_allclose(samples.features, whole.features, atol=2e-3, rtol=1e-5)


@INSTRUMENTS
def test_without_a_bridge_every_gap_is_missing(tmp_path: Path, key: str) -> None:
    length = 0.15 if key == "dis" else 0.06
    samples = samples_of(tmp_path, RAMP, bridge=0.0, edit=gap(key, 3.0, length, deleted))
    np.testing.assert_array_equal(finite(samples), ~touched(key, 3.0, length, samples))
    assert not samples.bridged.any()


@INSTRUMENTS
def test_a_gap_as_long_as_the_bridge_is_the_last_that_is_bridged(tmp_path: Path, key: str) -> None:
    period = PERIOD[key] / SECOND
    bridge = 0.3 if key == "dis" else 0.15
    most = int(bridge / period + 1e-9)
    for count, expected in ((most, True), (most + 1, False)):
        edit = gap(key, 3.0 + DELAY[key] / SECOND - period / 2, count * period, deleted)
        samples = samples_of(tmp_path / str(count), RAMP, bridge=bridge, edit=edit)
        assert finite(samples).all() == expected == samples.bridged.any()


@pytest.mark.parametrize("key", ["fgm", "edp_brst", "des"])
def test_a_short_gap_over_an_edge_of_the_interval_is_bridged_too(tmp_path: Path, key: str) -> None:
    edits = [gap(key, second - 0.06, 0.12, deleted)[key] for second in (1.0, 5.0)]
    samples = samples_of(tmp_path, RAMP, edit={key: lambda arrays: edits[1](edits[0](arrays))})
    assert finite(samples).all() and samples.bridged[[0, -1]].all()
    np.testing.assert_allclose(samples.features, samples_of(tmp_path / "whole", RAMP).features, atol=2e-3, rtol=1e-5)


def test_gaps_of_two_instruments_at_once_are_bridged_only_if_both_are_short(tmp_path: Path) -> None:
    edit = {**gap("fgm", 3.0, 0.06, deleted), **gap("edp_brst", 2.9, 0.5, deleted)}
    samples = samples_of(tmp_path, RAMP, edit=edit)
    np.testing.assert_array_equal(finite(samples), ~touched("edp_brst", 2.9, 0.5, samples))
    assert not samples.bridged.any()


@pytest.mark.parametrize(
    ("key", "name", "value", "bit", "usable"),
    [
        ("des", "errorflags", 1 << 3, "fpi_caution", True),
        ("des", "errorflags", 1 << 7, "fpi_caution", True),
        ("des", "errorflags", 1 << 1, "electrons_missing", False),
        ("dis", "errorflags", 1 << 7, "ions_missing", True),
        ("dis", "errorflags", 1 << 5, "fpi_caution", True),
        ("dis", "errorflags", 1 << 13, "ions_missing", True),
        ("dis", "errorflags", 2**32 - 1, "ions_missing", False),
        ("edp_brst", "quality", 1, "electric_field_missing", False),
        ("edp_brst", "quality", 2, "edp_caution", True),
        ("edp_brst", "quality", 4, "electric_field_missing", True),
        ("edp_brst", "quality", 255, "electric_field_missing", False),
    ],
)
def test_flags_mask_or_warn(tmp_path: Path, key: str, name: str, value: int, bit: str, usable: bool) -> None:
    def edit(arrays: Arrays) -> Arrays:
        inside = np.abs(arrays["epoch"] - ns(START) - 3 * SECOND) < SECOND // 4
        arrays[name][inside] = value
        return arrays

    samples = samples_of(tmp_path, RAMP, edit={key: edit})
    near, far = np.abs(seconds(samples) - 3.05) < 0.1, np.abs(seconds(samples) - 3.05) > 0.5
    assert finite(samples)[near].all() == usable == finite(samples)[near].any()
    said = not usable or "caution" in bit
    assert has(samples, bit)[near].all() == said and not samples.quality[far].any()


def test_thin_electrons_without_a_spacecraft_potential_are_missing(tmp_path: Path) -> None:
    edit = {"des": lambda arrays: {**arrays, "errorflags": np.full_like(arrays["errorflags"], 8)}}
    scene = replace(RAMP, n_e=lambda t: np.where(t < 3.0, 0.11, 0.09))
    samples = samples_of(tmp_path, scene, edit=edit)
    np.testing.assert_array_equal(finite(samples), seconds(samples) < 3.0)


@pytest.mark.parametrize("key", KEYS)
def test_an_input_without_any_usable_sample_fails_the_segment(tmp_path: Path, key: str) -> None:
    write(tmp_path, RAMP, edit=gap(key, 0.0, 7.0, filled))
    name = INPUT[key].replace("_", " ")
    with pytest.raises(SegmentProblem, match=rf"A/mms4: no usable sample of {name} in 2017-07-11T22:34:01"):
        corrected_samples(burst_of(tmp_path, event()), event(), 0.15)


# Intervals and files


def test_a_margin_gives_the_edges_data(tmp_path: Path) -> None:
    with_margin = samples_of(tmp_path, RAMP, margin=1.0)
    without = corrected_samples(burst_of(tmp_path, event(), margin=0.0), event(), 0.15)
    assert finite(with_margin).all()
    edges = np.array([0, -1])  # a bin that half of its samples are in counts, and says that it is partial
    assert (~finite(without) | has(without, "partial"))[edges].all() and not finite(without)[edges].all()
    assert finite(without)[5:-6].all()
    inner = with_margin.time[finite(with_margin)]
    np.testing.assert_array_equal(inner[np.isin(inner, without.time)], without.time)
    np.testing.assert_array_equal(without.features[5:-6], with_margin.features[np.isin(inner, without.time)][5:-6])


@pytest.mark.parametrize("duration", [24, 48])
def test_both_ends_of_an_interval_are_rows_that_its_slot_can_hold(tmp_path: Path, duration: int) -> None:
    of = event(33.5 * 0.03, 33.5 * 0.03 + duration)
    samples = samples_of(tmp_path, RAMP, of, seconds=duration + 2.5)
    slot = int(np.ceil((1.001 * duration / 0.03 + 2) / 32)) * 32
    assert (samples.time[0], samples.time[-1]) == of.trange
    assert len(samples) == duration * 100 // 3 + 1 <= slot
    assert finite(samples).all()


@INSTRUMENTS
def test_data_that_begin_late_or_end_early_leave_rows_to_the_ends(tmp_path: Path, key: str) -> None:
    def edit(arrays: Arrays) -> Arrays:
        t = arrays["epoch"] - ns(START)
        return take_rows(arrays, (t >= 2 * SECOND) & (t < 4 * SECOND))

    samples = samples_of(tmp_path, RAMP, edit={key: edit})
    t = seconds(samples)
    assert 0 <= t[0] - 1 < 0.03 and 0 <= 5 - t[-1] < 0.03 and (np.diff(samples.time) == STEP).all()
    inside = (t > 2.2) & (t < 3.9)
    assert finite(samples)[inside].all() and not finite(samples)[(t < 1.98) | (t > 4.02)].any()
    assert has(samples, f"{INPUT[key]}_missing")[~finite(samples)].all() and not samples.bridged.any()


def test_an_event_without_electrons_fails(tmp_path: Path) -> None:
    write(tmp_path, RAMP, edit=gap("des", 0.9, 4.2, deleted))
    with pytest.raises(SegmentProblem, match="A: no electron sample in 2017-07-11T22:34:01"):
        corrected_samples(burst_of(tmp_path, event()), event(), 0.15)


@pytest.mark.parametrize("start", ["2018-01-01T00:00:00", "2017-07-26T00:00:00"])
def test_files_of_the_day_before_are_used(tmp_path: Path, start: str) -> None:
    before = str(np.datetime64(ns(start) - 3 * SECOND, "ns"))[:19]
    write_files(tmp_path, 4, before, 6.0, RAMP, origin=before)
    samples = corrected_samples(burst_of(tmp_path, event(0.5, 1.5, start)), event(0.5, 1.5, start), 0.15)
    assert finite(samples).all() and samples.time[0] >= ns(start) + SECOND // 2
    np.testing.assert_allclose(samples.physics["ne"], RAMP.n_e((samples.time - ns(before)) / SECOND), rtol=1e-6)


@pytest.mark.parametrize(("version", "taken"), [("9.0.0", 2.0), ("0.1.0", 1.0), (None, 2.0)])
def test_of_equal_times_the_higher_version_then_the_later_file_is_kept(
    tmp_path: Path, version: str | None, taken: float
) -> None:
    first, later = (
        Scene(n_i=constant(k), n_e=constant(k), b_gse=constant([k, 0, 0]), e_gse=constant([k, 0, 0]))
        for k in (1.0, 2.0)
    )
    write(tmp_path, first)
    write(tmp_path, later, start="2017-07-11T22:34:03", **({"version": version} if version else {}))
    samples = corrected_samples(burst_of(tmp_path, event(end=7.0)), event(end=7.0), 0.15)
    assert (np.diff(samples.time) == STEP).all() and finite(samples).all()
    t = seconds(samples)
    for at, value, repeated in (
        ((t > 1) & (t < 2.9), 1.0, False),
        ((t > 3.1) & (t < 5.9), taken, True),
        (t > 6.1, 2.0, False),
    ):
        assert (has(samples, "repeated_time")[at] == repeated).all()
        for name in ("ni", "ne"):
            np.testing.assert_allclose(samples.physics[name][at], value, rtol=1e-6)
        for name in ("b_gsm", "e_gsm"):
            np.testing.assert_allclose(samples.physics[name][at, 0], value, rtol=1e-6)


def test_rows_spread_over_files_in_any_way_give_the_same_samples(tmp_path: Path) -> None:
    """In one file; in two that follow each other; and in two whose rows lie between each other's at random."""
    chance = np.random.default_rng(5)
    whole = samples_of(tmp_path / "one", RAMP)
    masks = {key: chance.random(60_000) < 0.5 for key in KEYS}
    ordered = {key: np.arange(60_000) < round(3 * SECOND / PERIOD[key]) for key in KEYS}
    for name, chosen in (("two", ordered), ("mixed", masks)):
        for start, mine in ((START, chosen), ("2017-07-11T22:34:01", {key: ~mask for key, mask in chosen.items()})):
            edit = {key: partial(chosen_rows, mine[key]) for key in KEYS}
            offset = {key: ns(START) - ns(start) for key in KEYS}
            write(tmp_path / name, RAMP, start=start, edit=edit, epoch_offset_ns=offset)
        samples = corrected_samples(burst_of(tmp_path / name, event()), event(), 0.15)
        assert_same(samples, whole)


def chosen_rows(mask: np.ndarray, arrays: Arrays) -> Arrays:
    return take_rows(arrays, mask[: len(arrays["epoch"])])


def assert_same(one: Samples, other: Samples) -> None:
    """Bit for bit."""
    arrays = [{"time": x.time, "features": x.features, "quality": x.quality, **x.physics} for x in (one, other)]
    for name, values in arrays[0].items():
        np.testing.assert_array_equal(values, arrays[1][name], err_msg=name)


# Properties


@pytest.fixture(scope="module")
def burst(tmp_path_factory: pytest.TempPathFactory) -> Burst:
    folder = tmp_path_factory.mktemp("burst")
    write(folder, RAMP, seconds=4.0)
    return burst_of(folder, event(1.0, 3.0))


holes = st.dictionaries(
    st.sampled_from(["ions", "electrons", "magnetic", "electric"]),
    st.lists(st.tuples(st.floats(0, 4), st.floats(0, 0.6)), min_size=1, max_size=3),
)


@settings(max_examples=60)
@given(holes=holes, bridge=st.sampled_from([0.0, 0.06, 0.15, 0.4]))
def test_features_are_finite_exactly_where_all_inputs_are_measured_or_bridged(
    burst: Burst, holes: dict[str, list[tuple[float, float]]], bridge: float
) -> None:
    for name, gaps in holes.items():
        data = getattr(burst, name)
        t = (data.time - ns(START)) / SECOND
        gone = np.any([(t >= begin) & (t < begin + length) for begin, length in gaps], axis=0)
        values = {"ions": "n", "electrons": "v_gse", "magnetic": "b_gse", "electric": "e_gse"}[name]
        array = getattr(data, values).copy()
        array[gone] = np.nan
        burst = replace(burst, **{name: replace(data, **{values: array})})
    samples = corrected_samples(burst, event(1.0, 3.0), bridge)
    assert (np.diff(samples.time) == STEP).all() and len(samples) == 67
    np.testing.assert_array_equal(np.isfinite(samples.features).any(axis=1) | ~finite(samples), True)
    np.testing.assert_array_equal(finite(samples), ((samples.quality & INPUT_BITS) == 0) | samples.bridged)
    np.testing.assert_array_equal(samples.bridged & ((samples.quality & INPUT_BITS) == 0), False)
    np.testing.assert_allclose(
        samples.physics["ne"][finite(samples)], RAMP.n_e(seconds(samples))[finite(samples)], rtol=1e-5
    )


def cdf_file(second: int, version: int) -> CdfFile:
    file = parse_name(Path(f"mms4_fpi_brst_l2_des-moms_201707112234{second:02}_v3.{version}.0.cdf"))
    assert file is not None
    return file


files_and_rows = st.lists(
    st.tuples(st.integers(0, 59), st.integers(0, 12)), min_size=1, max_size=5, unique=True
).flatmap(
    lambda files: st.tuples(
        st.just([cdf_file(*file) for file in files]),
        st.lists(st.tuples(st.integers(0, 20), st.integers(0, len(files) - 1)), max_size=40, unique=True),
    )
)


@given(files_and_rows)
def test_time_order_is_that_of_a_plain_search(given_: tuple[list[CdfFile], list[tuple[int, int]]]) -> None:
    files, rows = given_
    time = np.array([t for t, _ in rows], np.int64)
    source = np.array([k for _, k in rows], np.int16)
    order, repeated = in_time_order(time, source, files)
    np.testing.assert_array_equal(time[order], sorted(set(time.tolist())))
    for row, twice in zip(order, repeated, strict=True):
        equal = [k for t, k in rows if t == time[row]]
        assert twice == (len(equal) > 1)
        best = max(equal, key=lambda k: (files[k].version, files[k].start))
        assert source[row] == best


def test_rows_in_order_stay_as_they_are() -> None:
    order, repeated = in_time_order(np.arange(5), np.zeros(5, np.int16), [cdf_file(0, 1)])
    np.testing.assert_array_equal(order, np.arange(5))
    assert not repeated.any()
