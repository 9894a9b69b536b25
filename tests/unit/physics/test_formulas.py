"""Formulas on plain arrays against closed forms, numbers worked out by hand, SciPy and plain loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import interp1d

from mms_regions.core.types import Floats, Times
from mms_regions.physics.formulas import (
    PUBLISHED_CHARGE,
    alfven_speed,
    along_and_across,
    bin_mean,
    convection_field,
    current,
    dot,
    fields_and_currents,
    interpolate,
    parallel,
    perpendicular,
    published_mean,
    subtract_ion_background,
    temperature_tensor,
)

NUMBERS = st.floats(-1e3, 1e3, allow_subnormal=False)
POSITIVE = st.floats(0.01, 10.0)
NUMBERS_OR_NAN = st.one_of(NUMBERS, st.just(np.nan))
VECTORS = arrays(np.float64, (4, 3), elements=NUMBERS)
FIELDS = VECTORS.filter(lambda b: (np.linalg.norm(b, axis=1) > 1e-3).all())
COORDINATES = st.integers(0, 40)
INCREASING = st.lists(COORDINATES, max_size=30, unique=True).map(sorted).map(lambda t: np.array(t, np.int64))


def series(times: st.SearchStrategy[Times], columns: int = 2) -> st.SearchStrategy[tuple[Times, Floats]]:
    """Times and values (n, columns), some of them NaN."""
    return times.flatmap(
        lambda t: st.tuples(st.just(t), arrays(np.float64, (len(t), columns), elements=NUMBERS_OR_NAN))
    )


# Ion background


def test_background_known_numbers() -> None:
    """0.3 cm^-3 at 200 km/s with 0.1 cm^-3 of background: worked out in SI."""
    n, v, p = subtract_ion_background(
        n=np.array([0.3]),
        v=np.array([[200.0, 0.0, -100.0]]),
        p=np.diag([0.2, 0.3, 0.4])[None],
        n_bg=np.array([0.1]),
        p_bg=np.array([0.05]),
    )
    assert n == pytest.approx([0.2])
    assert v == pytest.approx(np.array([[300.0, 0.0, -150.0]]))
    # m n v_x^2 = 1.6726e-27 * 0.3e6 * (2e5)^2 = 2.00712e-11 Pa, m n' v'_x^2 = 3.01068e-11 Pa
    xx = 0.2 - 0.05 + 0.0200712 - 0.0301068
    xz = -0.0100356 + 0.0150534
    zz = 0.4 - 0.05 + 0.0050178 - 0.0075267
    assert p == pytest.approx(np.array([[[xx, 0, xz], [0, 0.25, 0], [xz, 0, zz]]]))


@given(arrays(np.float64, 4, elements=POSITIVE), VECTORS, arrays(np.float64, (4, 3, 3), elements=NUMBERS))
def test_no_background_changes_nothing(n: Floats, v: Floats, p: Floats) -> None:
    n_clean, v_clean, p_clean = subtract_ion_background(n, v, p, np.zeros(4), np.zeros(4))
    assert np.array_equal(n_clean, n) and np.array_equal(v_clean, v) and np.array_equal(p_clean, p)


@given(
    arrays(np.float64, 4, elements=POSITIVE),
    st.floats(0.0, 0.9),
    st.floats(0.0, 1.0),
    VECTORS,
    arrays(np.float64, (4, 3, 3), elements=st.floats(-1, 1)),
)
def test_background_leaves_particle_and_momentum_flux(
    n: Floats, share: float, p_bg: float, v: Floats, p: Floats
) -> None:
    """n v is untouched, and P + m n v v loses the background's isotropic pressure, nothing else."""
    n_clean, v_clean, p_clean = subtract_ion_background(n, v, p, share * n, np.full(4, p_bg))
    np.testing.assert_allclose(n_clean[:, None] * v_clean, n[:, None] * v, rtol=1e-12, atol=1e-12)
    lost = momentum_flux(n, v, p) - momentum_flux(n_clean, v_clean, p_clean)
    np.testing.assert_allclose(lost, np.broadcast_to(p_bg * np.eye(3), lost.shape), atol=1e-9)


def momentum_flux(n: Floats, v: Floats, p: Floats) -> Floats:
    """(n, 3, 3) nPa: P + m n v v."""
    return p + 1.6726e-27 * 1e6 * 1e6 * 1e9 * np.einsum("n,ni,nj->nij", n, v, v)


def test_background_equal_to_the_density_gives_no_warning_and_no_number() -> None:
    _, v, _ = subtract_ion_background(
        np.array([0.1]), np.zeros((1, 3)), np.zeros((1, 3, 3)), np.array([0.1]), np.zeros(1)
    )
    assert np.isnan(v).all()


# Temperature


@given(arrays(np.float64, 4, elements=POSITIVE), arrays(np.float64, (4, 3, 3), elements=st.floats(-1e4, 1e4)))
def test_pressure_is_density_times_temperature(n: Floats, t: Floats) -> None:
    p = n[:, None, None] * 1e6 * 1.3807e-23 * 11604.0 * t * 1e9  # cm^-3 and eV -> nPa
    np.testing.assert_allclose(temperature_tensor(p, n), t, rtol=1e-12, atol=1e-12)


def test_temperature_known_number() -> None:
    # 1 nPa in 1 cm^-3 is 1e-9 / 1e6 J = 1e-15 J, and 1 eV is 1.6022e-19 J
    assert temperature_tensor(np.eye(3)[None], np.ones(1))[0, 0, 0] == pytest.approx(6241.5, rel=1e-4)


def test_along_and_across_of_a_known_tensor() -> None:
    """300 eV along (0, 3, 4)/5 and 100 eV across it; the length of b does not matter."""
    b = np.array([[0.0, 3.0, 4.0], [0.0, 30.0, 40.0]])
    t = np.array([100 * np.eye(3) + 200 * np.outer([0, 0.6, 0.8], [0, 0.6, 0.8])] * 2)
    t_par, t_perp = along_and_across(t, b)
    assert t_par == pytest.approx([300.0, 300.0]) and t_perp == pytest.approx([100.0, 100.0])


@given(arrays(np.float64, (4, 3, 3), elements=NUMBERS), FIELDS)
def test_along_and_across_keep_the_trace(t: Floats, b: Floats) -> None:
    t_par, t_perp = along_and_across(t, b)
    np.testing.assert_allclose(t_par + 2 * t_perp, np.trace(t, axis1=1, axis2=2), rtol=1e-9, atol=1e-9)


# Currents, fields, directions


def test_one_charge_per_cm3_at_one_km_per_s_is_160_pico_ampere_per_m2() -> None:
    """The charge of SI; the published code has 1.6e-19 C."""
    one = current(np.ones(1), np.array([[1.0, 0.0, -2.0]]))
    assert one == pytest.approx(1.602176634e-4 * np.array([[1.0, 0.0, -2.0]]), rel=1e-12)


def test_convection_field_known_number() -> None:
    # 1000 km/s earthward across 5 nT northward: -v x B = +y, 1e6 * 5e-9 V/m = 5 mV/m
    v, b = np.array([[1000.0, 0.0, 0.0]]), np.array([[0.0, 0.0, 5.0]])
    assert convection_field(v, b) == pytest.approx(np.array([[0.0, 5.0, 0.0]]))


@given(VECTORS, FIELDS)
def test_convection_field_is_across_velocity_and_field(v: Floats, b: Floats) -> None:
    e = convection_field(v, b)
    np.testing.assert_allclose(dot(e, v), 0, atol=1e-4)
    np.testing.assert_allclose(dot(e, b), 0, atol=1e-4)


@given(VECTORS, FIELDS)
def test_parallel_and_perpendicular_make_the_vector(a: Floats, b: Floats) -> None:
    along, across = parallel(a, b), perpendicular(a, b)
    size = np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(dot(across, b) / size, 0, atol=1e-9)
    np.testing.assert_allclose((along / size)[:, None] * b + across, a, atol=1e-9)


def test_parallel_has_the_sign_of_the_projection() -> None:
    a, b = np.array([[1.0, 2.0, 3.0]] * 2), np.array([[0.0, 0.0, 7.0], [0.0, 0.0, -7.0]])
    assert parallel(a, b).tolist() == [3.0, -3.0]
    assert perpendicular(a, b).tolist() == [[1.0, 2.0, 0.0]] * 2


def test_a_zero_field_has_no_direction() -> None:
    a, b = np.ones((1, 3)), np.zeros((1, 3))
    assert np.isnan(parallel(a, b)).all() and np.isnan(perpendicular(a, b)).all()
    assert np.isnan(along_and_across(np.eye(3)[None], b)).all()


def test_alfven_speed_known_number() -> None:
    # 1e-8 / sqrt(1e5 * 1.6726219e-27 * 1.2566371e-6) = 1e-8 / 1.449786e-14 = 689757 m/s
    assert alfven_speed(10.0, 0.1) == pytest.approx(689.757, rel=1e-6)
    assert alfven_speed(20.0, 0.4) == pytest.approx(alfven_speed(10.0, 0.1))


def test_fields_and_currents_known_numbers() -> None:
    """B along z; 1 cm^-3, ions at +100 km/s and electrons at -100 km/s along x, E along x and z."""
    found = fields_and_currents(
        charge=PUBLISHED_CHARGE,  # so that numbers are round
        b=np.array([[0.0, 0.0, 10.0]]),
        e=np.array([[2.0, 0.0, 1.0]]),
        n_e=np.ones(1),
        v_i=np.array([[100.0, 0.0, 0.0]]),
        v_e=np.array([[-100.0, 0.0, 50.0]]),
    )
    expected = {
        "e_conv": [0, -1.0, 0],  # -v_e x B = -(-100, 0, 50) x (0, 0, 10) * 1e-3
        "e_prime": [2.0, 1.0, 1.0],
        "e_prime_par": 1.0,
        "e_prime_perp": [2.0, 1.0, 0],
        "e_par": 1.0,
        "e_perp": [2.0, 0, 0],
        "j": [0.032, 0, -0.008],
        "ji": [0.016, 0, 0],
        "je": [0.016, 0, -0.008],
        "j_mag": 0.0329848450,
        "ji_mag": 0.016,
        "je_mag": 0.0178885438,
        "j_par": -0.008,
        "ji_par": 0,
        "je_par": -0.008,
        "j_perp": [0.032, 0, 0],
        "ji_perp": [0.016, 0, 0],
        "je_perp": [0.016, 0, 0],
        "j_dot_e": 0.056,
        "j_dot_e_par": -0.008,
        "j_dot_e_perp": 0.064,
        "j_dot_e_prime": 0.056,
        "j_dot_e_prime_par": -0.008,
        "j_dot_e_prime_perp": 0.064,
        "ji_dot_e": 0.032,
        "ji_dot_e_par": 0,
        "ji_dot_e_perp": 0.032,
        "ji_dot_e_prime": 0.032,
        "ji_dot_e_prime_par": 0,
        "ji_dot_e_prime_perp": 0.032,
        "je_dot_e": 0.024,
        "je_dot_e_par": -0.008,
        "je_dot_e_perp": 0.032,
        "je_dot_e_prime": 0.024,
        "je_dot_e_prime_par": -0.008,
        "je_dot_e_prime_perp": 0.032,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name][0], value, atol=1e-9, err_msg=name)


@given(FIELDS, VECTORS, arrays(np.float64, 4, elements=POSITIVE), VECTORS, VECTORS)
def test_currents_add_up_and_electrons_gain_nothing_from_convection(
    b: Floats, e: Floats, n_e: Floats, v_i: Floats, v_e: Floats
) -> None:
    """J = J_i + J_e, J.E is the sum of its parts, and J_e.E' = J_e.E since v_e . (v_e x B) = 0."""
    found = fields_and_currents(b, e, n_e, v_i, v_e)
    np.testing.assert_allclose(found["j"], found["ji"] + found["je"], atol=1e-9)
    np.testing.assert_allclose(found["je_dot_e_prime"], found["je_dot_e"], atol=1e-6)
    for name in ("j_dot_e", "ji_dot_e_prime", "je_dot_e"):
        np.testing.assert_allclose(found[name], found[f"{name}_par"] + found[f"{name}_perp"], atol=1e-6)


# Interpolation


@given(
    series(st.lists(COORDINATES, min_size=2, max_size=30, unique=True).map(lambda t: np.array(t, np.int64))),
    arrays(np.int64, st.integers(0, 50), elements=st.integers(-5, 45)),
    st.sampled_from([0, 1_499_812_440_000_000_000]),
)
def test_interpolation_is_scipys_bit_for_bit(given_series: tuple[Times, Floats], target: Times, start: int) -> None:
    """Unsorted times, targets on and beside them, NaN anywhere; in steps of 256 ns, which SciPy's floats can hold."""
    (time, values), target = given_series, target * 256 + start
    time = time * 256 + start
    expected = interp1d(time, values, axis=0, bounds_error=False)(target)
    assert np.array_equal(interpolate(target, time, values), expected, equal_nan=True)
    one_column = interpolate(target, time, values[:, 0])
    assert np.array_equal(one_column, expected[:, 0], equal_nan=True)


def test_a_nan_on_the_left_spoils_the_coincidence_on_its_right() -> None:
    time, values = np.array([0, 10, 20, 30]), np.array([1.0, np.nan, 3.0, 4.0])
    found = interpolate(np.array([0, 5, 20, 30, 31]), time, values)
    assert np.array_equal(found, [np.nan, np.nan, np.nan, 4.0, np.nan], equal_nan=True)


@pytest.mark.parametrize("rows", [0, 1])
def test_interpolation_from_fewer_than_two_samples_gives_nothing(rows: int) -> None:
    found = interpolate(np.arange(3), np.arange(rows), np.ones((rows, 3, 3)))
    assert found.shape == (3, 3, 3) and np.isnan(found).all()


# Averages


@given(series(INCREASING), INCREASING, st.integers(0, 5))
def test_bin_mean_is_the_mean_of_what_lies_in_the_bin(rows: tuple[Times, Floats], begin: Times, width: int) -> None:
    time, values = rows
    end = begin + width
    expected = np.full((len(begin), 2), np.nan)
    for i in range(len(begin)):
        inside = values[(time >= begin[i]) & (time < end[i])]
        if len(inside):
            expected[i] = inside.mean(axis=0)
    np.testing.assert_allclose(bin_mean(begin, end, time, values), expected, rtol=1e-12, atol=1e-9)


def test_bins_are_half_open_and_keep_their_gaps() -> None:
    time, values = np.array([0, 1, 2, 3, 4]), np.array([1.0, 3.0, 5.0, np.nan, 7.0])
    found = bin_mean(np.array([0, 2, 4, 5]), np.array([2, 4, 5, 9]), time, values)
    assert np.array_equal(found, [2.0, np.nan, 7.0, np.nan], equal_nan=True)


@given(INCREASING, series(INCREASING))
def test_published_mean_is_the_published_rule(target: Times, rows: tuple[Times, Floats]) -> None:
    time, values = rows
    np.testing.assert_allclose(
        published_mean(target, time, values), published_rule(target, time, values), rtol=1e-12, atol=1e-9
    )


@given(series(st.lists(COORDINATES, min_size=1, max_size=9, unique=True).map(sorted).map(np.array)), st.integers(0, 3))
def test_published_mean_onto_few_targets(rows: tuple[Times, Floats], count: int) -> None:
    target = np.array([5, 12, 33])[:count]
    np.testing.assert_allclose(published_mean(target, *rows), published_rule(target, *rows), rtol=1e-12, atol=1e-9)


def published_rule(target: Times, time: Times, values: Floats) -> Floats:
    """The rule as it is written down, slips included, one sample after another; the later statement holds."""
    n = len(target)
    result = np.zeros((n, values.shape[1]))
    middle = [(a + b) / 2 for a, b in pairwise(target)]
    for i in range(n - 1):
        inside = time <= middle[0] if i == 0 else (time >= middle[i - 1]) & (time <= middle[i])
        if i == n - 2:
            inside = time >= middle[i]
        result[i] = mean_without_nan(values[inside])
        if np.isnan(result[i]).any():
            result[i] = result[i - 1]
    return result


def mean_without_nan(rows: Floats) -> Floats:
    good = [column[np.isfinite(column)] for column in rows.T]
    return np.array([column.mean() if len(column) else np.nan for column in good])


def test_published_mean_takes_both_ends_and_leaves_the_last_sample_zero() -> None:
    """Midpoints 5, 15, 25: what lies at 5 and 15 counts twice, sample 2 takes all from 25 on, sample 3 none."""
    time, values = np.array([0, 5, 10, 15, 20, 25, 30]), np.array([1.0, 3.0, 5.0, 7.0, 100.0, 9.0, 11.0])
    found = published_mean(np.array([0, 10, 20, 30]), time, values)
    assert found.tolist() == [2.0, 5.0, 10.0, 0.0]


def test_published_mean_fills_a_gap_with_the_row_before() -> None:
    time, values = np.array([0, 10, 20, 30]), np.array([[1.0, 1.0], [2.0, np.nan], [3.0, 3.0], [4.0, 4.0]])
    found = published_mean(np.array([0, 10, 20, 30]), time, values)
    assert found.tolist() == [[1.0, 1.0], [1.0, 1.0], [4.0, 4.0], [0.0, 0.0]]
