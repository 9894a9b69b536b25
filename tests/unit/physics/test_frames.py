"""GSE to GSM: against pyspedas through the mission, and the properties that any rotation about x has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mms_regions.core.types import Floats, Times
from mms_regions.physics.frames import gse_to_gsm, tensor_gse_to_gsm

Rotation = Callable[[Floats, Floats, str, str], Floats]
SECOND = 1_000_000_000
FIRST, LAST = (int(np.datetime64(day, "ns").astype(np.int64)) for day in ("2010-01-01", "2029-12-31"))
TIMES = arrays(np.int64, 5, elements=st.integers(FIRST, LAST))
VECTORS = arrays(np.float64, (5, 3), elements=st.floats(-1e3, 1e3))


def times(start: str, count: int, step: int) -> Times:
    """`count` times from `start` on, `step` ns apart."""
    return np.datetime64(start, "ns").astype(np.int64) + np.arange(count, dtype=np.int64) * step


def noise(*shape: int) -> Floats:
    return np.random.default_rng(1).uniform(-50, 50, shape)


@pytest.fixture(scope="module")
def pyspedas_rotation() -> Rotation:
    from pyspedas.cotrans_tools.cotrans_lib import subcotrans

    return subcotrans


@given(TIMES, VECTORS)
def test_a_rotation_about_x_keeps_x_and_the_length(time: Times, xyz: Floats) -> None:
    found = gse_to_gsm(time, xyz)
    assert np.array_equal(found[:, 0], xyz[:, 0])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(xyz, axis=1), rtol=1e-12, atol=1e-12)


@given(TIMES, VECTORS)
def test_the_rotation_can_be_turned_back(time: Times, xyz: Floats) -> None:
    """A rotation about x by minus the angle is the same between mirrored vectors (x, y, -z)."""
    mirror = np.array([1.0, 1.0, -1.0])
    back = mirror * gse_to_gsm(time, mirror * gse_to_gsm(time, xyz))
    np.testing.assert_allclose(back, xyz, atol=1e-9)


@given(TIMES)
def test_gsm_z_is_within_the_dipoles_reach_of_gse_z(time: Times) -> None:
    """The Earth's axis leans 23.5 degrees and the dipole 10 more from it, so the frames are never further apart."""
    z = gse_to_gsm(time, np.tile([0.0, 0.0, 1.0], (5, 1)))
    assert (np.degrees(np.arccos(z[:, 2])) < 35).all()


@given(TIMES, arrays(np.float64, (5, 3, 3), elements=st.floats(-10, 10)))
def test_a_turned_tensor_keeps_its_eigenvalues(time: Times, any_tensor: Floats) -> None:
    tensor = any_tensor + any_tensor.transpose(0, 2, 1)
    turned = tensor_gse_to_gsm(time, tensor)
    np.testing.assert_allclose(turned, turned.transpose(0, 2, 1), atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(turned), np.linalg.eigvalsh(tensor), atol=1e-9)


def test_a_tensor_turns_as_the_vectors_it_is_made_of() -> None:
    time, a, b = times("2017-07-11T22:34:00", 6, 30_000_000), noise(6, 3), noise(6, 3) + 1
    turned = np.einsum("ni,nj->nij", gse_to_gsm(time, a), gse_to_gsm(time, b))
    np.testing.assert_allclose(tensor_gse_to_gsm(time, np.einsum("ni,nj->nij", a, b)), turned, atol=1e-9)


@pytest.mark.parametrize(
    "start",
    [
        "2015-10-16T13:05:24.5",
        "2016-12-31T23:59:59.5",  # the next day, a leap second lies between
        "2017-07-11T22:34:00",
        "2019-12-31T23:59:58",
        "2020-02-29T12:00:00",
        "2024-12-31T23:59:59.9",
        "2025-12-31T23:59:59.9",
    ],
)
def test_the_rotation_is_that_of_pyspedas(start: str, pyspedas_rotation: Rotation) -> None:
    time, xyz = times(start, 50, SECOND // 4), noise(50, 3)
    expected = pyspedas_rotation(time / 1e9, xyz, "gse", "gsm")
    np.testing.assert_allclose(gse_to_gsm(time, xyz), expected, rtol=1e-8, atol=1e-8 * np.abs(xyz).max())


def test_sparse_unsorted_and_dense_times_agree() -> None:
    dense, xyz = times("2018-08-26T23:59:55", 1000, 7_812_500), noise(1000, 3)
    found = gse_to_gsm(dense, xyz)
    few = np.array([900, 3])
    np.testing.assert_allclose(gse_to_gsm(dense[few], xyz[few]), found[few], rtol=1e-8, atol=1e-8)
    order = np.random.default_rng(2).permutation(1000)
    assert np.array_equal(gse_to_gsm(dense[order], xyz[order]), found[order])


def test_no_times_give_no_vectors() -> None:
    assert gse_to_gsm(np.empty(0, np.int64), np.empty((0, 3))).shape == (0, 3)


def test_single_precision_in_gives_double_out() -> None:
    time = times("2017-07-11", 2, SECOND)
    assert gse_to_gsm(time, np.ones((2, 3), np.float32)).dtype == np.float64


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (9,), (3, 3, 3)])
def test_vectors_that_do_not_fit_the_times_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        gse_to_gsm(times("2017-07-11", 3, SECOND), np.zeros(shape))


@pytest.mark.parametrize("outside", ["1999-01-01", "2009-12-31T23:59:59.999999999", "2030-01-01"])
def test_years_without_a_dipole_are_refused(outside: str) -> None:
    time = np.concatenate([times("2017-07-11", 2, SECOND), times(outside, 1, 0)])
    with pytest.raises(ValueError, match="2010 to 2030"):
        gse_to_gsm(time, np.zeros((3, 3)))
