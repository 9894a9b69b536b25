"""The 14 features: their columns, signs and scales, what a `Samples` refuses, and a golden file from an oracle."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from numpy.typing import NDArray

from mms_regions.core.events import Event
from mms_regions.core.types import Floats, Times
from mms_regions.physics.burst import SPECTRA, Burst, ElectricField, MagneticField, Moments
from mms_regions.physics.features import scaled_features, simulation_axes
from mms_regions.physics.published import published_samples
from mms_regions.physics.samples import FEATURES, QUALITY_BITS, Samples, as_physics

EVENT = Event(
    name="golden", t_start="2017-07-11T22:34:00", t_end="2017-07-11T22:34:03", B0=oracle.B0, n0=oracle.N0, probes="4"
)


def one_sample(**given: list[float] | float) -> dict[str, float]:
    """The features of one sample of zeros, but for what is given, with B0 = 10 nT and n0 = 0.1 cm^-3."""
    inputs = {name: np.zeros((1, 3)) for name in ("b_gsm", "e_gsm", "v_i_gsm", "v_e_gsm")}
    inputs |= {name: np.zeros(1) for name in ("n_i", "n_e")}
    inputs |= {name: np.array([value]) for name, value in given.items()}
    found = scaled_features(**inputs, b0=10.0, n0=0.1)
    assert found.shape == (1, 14) and found.dtype == np.float32
    return dict(zip(FEATURES, found[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"b_gsm": [10.0, 20.0, 30.0]}, {"Bx": 1.0, "By": -3.0, "Bz": 2.0}),
        # v_A of 10 nT and 0.1 cm^-3 is 689.757 km/s, so B0 v_A is 6.89757 mV/m
        ({"e_gsm": [6.89757, 0.689757, -13.79514]}, {"Ex": 1.0, "Ey": 2.0, "Ez": 0.1}),
        ({"n_i": 0.05}, {"ni": 0.5}),
        ({"n_e": 0.2}, {"ne": 2.0}),
        ({"v_i_gsm": [-689.757, 344.8785, 1379.514]}, {"vix": -1.0, "viy": -2.0, "viz": 0.5}),
        # the electron Alfven speed is sqrt(1836) times that: 29555.0 km/s
        ({"v_e_gsm": [29555.0, -2955.50, 14777.5]}, {"vex": 1.0, "vey": -0.5, "vez": -0.1}),
    ],
    ids=str,
)
def test_each_input_fills_its_own_columns(given: dict[str, list[float]], expected: dict[str, float]) -> None:
    assert one_sample(**given) == pytest.approx(dict.fromkeys(FEATURES, 0.0) | expected, rel=1e-5)


def test_the_simulation_has_z_where_gsm_has_y() -> None:
    assert simulation_axes(np.array([[1.0, 2.0, 3.0]])).tolist() == [[1.0, -3.0, 2.0]]


def test_a_missing_input_is_missing_in_its_own_columns_only() -> None:
    found = one_sample(v_i_gsm=[np.nan] * 3)
    assert {name for name, value in found.items() if np.isnan(value)} == {"vix", "viy", "viz"}


def as_burst(m: oracle.Measurements) -> Burst:
    """The measurements of the oracle as the package holds them; what it has no use for is zero."""
    ions = moments(m.ion_time, m.n_i, m.v_i, "dis", n_bg=m.n_bg, p_bg=np.zeros(len(m.ion_time)))
    fields = [
        ElectricField(m.e_time, no_source(m.e_time), (), m.e, np.full(len(m.e_time), 3, np.uint8)) for _ in range(2)
    ]
    magnetic = MagneticField(m.b_time, no_source(m.b_time), (), m.b, np.linalg.norm(m.b, axis=1))
    return Burst(4, ions, moments(m.electron_time, m.n_e, m.v_e, "des"), magnetic, *fields, np.zeros(3))


def moments(time: Times, n: Floats, v: Floats, short: str, **background: Floats) -> Moments:
    rows = len(time)
    return Moments(
        time=time,
        source=no_source(time),
        files=(),
        accumulation=30_000_000,
        n=n,
        v_gse=v,
        p_gse=np.zeros((rows, 3, 3)),
        q_gse=np.zeros((rows, 3)),
        t_par=np.zeros(rows),
        t_perp=np.zeros(rows),
        error_flags=np.zeros(rows, np.uint32),
        energy=np.zeros((rows, 32)),
        spectra={name: np.zeros((rows, 32)) for name in SPECTRA[short]},
        **background,
    )


def no_source(time: Times) -> NDArray[np.int16]:
    return np.zeros(len(time), np.int16)


@pytest.fixture(scope="module")
def golden() -> Floats:
    return np.load(oracle.GOLDEN)["features"]


@pytest.fixture(scope="module")
def samples() -> Samples:
    return published_samples(as_burst(oracle.measure(oracle.SEED)), EVENT)


def test_the_oracle_still_makes_the_golden_file(golden: Floats) -> None:
    features = oracle.published_features(oracle.measure(oracle.SEED), oracle.B0, oracle.N0)
    np.testing.assert_allclose(features, golden, rtol=1e-6, atol=1e-6)


def test_the_package_makes_the_golden_features(samples: Samples, golden: Floats) -> None:
    np.testing.assert_allclose(samples.features, golden, rtol=1e-6, atol=1e-6)
    assert 40 < np.isfinite(golden).all(axis=1).sum() < len(golden)  # gaps, and enough between them


def test_times_are_those_of_the_passes_through_float_seconds(samples: Samples) -> None:
    electron_time = oracle.measure(oracle.SEED).electron_time
    assert samples.time.tolist() == oracle.ticks(electron_time, 0.075)
    assert np.abs(samples.time - electron_time - 75_000_000).max() < 1000


def test_quality_says_which_input_is_missing(samples: Samples, golden: Floats) -> None:
    missing = np.isnan(golden)
    for name, columns in {
        "magnetic_field_missing": slice(0, 3),
        "electric_field_missing": slice(3, 6),
        "ions_missing": slice(8, 11),
    }.items():
        flagged = (samples.quality & QUALITY_BITS[name]) != 0
        assert flagged.any() and np.array_equal(flagged, missing[:, columns].any(axis=1)), name
    assert not samples.bridged.any()


def replaced(samples: Samples, **changed: object) -> Samples:
    return Samples(**(vars(samples) | changed))


def test_samples_refuse_features_of_another_shape(samples: Samples) -> None:
    with pytest.raises(ValueError, match="'features'"):
        replaced(samples, features=samples.features[:, :13])


def test_samples_refuse_a_missing_and_an_unknown_quantity(samples: Samples) -> None:
    physics = dict(samples.physics)
    physics["b_sm"] = physics.pop("b_gsm")
    with pytest.raises(ValueError, match=r"\['b_gsm', 'b_sm'\]"):
        replaced(samples, physics=physics)


def test_samples_refuse_an_infinite_feature(samples: Samples) -> None:
    features = samples.features.copy()
    features[3, 6] = np.inf
    with pytest.raises(ValueError, match="infinite"):
        replaced(samples, features=features)


def test_bridged_samples_are_those_with_the_bit(samples: Samples) -> None:
    quality = samples.quality.copy()
    quality[5] |= QUALITY_BITS["bridged"]
    assert np.flatnonzero(replaced(samples, quality=quality).bridged).tolist() == [5]


def test_physics_is_stored_in_single_precision_under_names_with_a_frame() -> None:
    stored = as_physics({"j": np.ones((2, 3)), "j_mag": np.ones(2), "e_perp": np.ones((2, 3))})
    assert set(stored) == {"j_gsm", "j_mag", "e_perp_gsm"}
    assert all(values.dtype == np.float32 for values in stored.values())
