"""Counting noise is that of the table, which was measured on real files."""

from __future__ import annotations

import numpy as np
import pytest

from mms_regions.synthetic.counting import counted, scattered

N = 40_000


@pytest.mark.parametrize(
    ("density", "scatter", "empty", "speed"),
    [
        (0.3, 0.06, 0.0, [280, 280, 160]),
        (0.056, 0.30, 0.0, [2150, 1700, 1000]),
        (0.028, 0.45, 0.015, [3200, 3000, 1500]),
        (0.014, 0.75, 0.10, [5500, 5000, 2400]),
        (0.005, 1.6, 0.30, [7000, 7000, 4000]),
        (1e-4, 1.6, 0.30, [7000, 7000, 4000]),
        (5.0, 0.06, 0.0, [280, 280, 160]),
    ],
)
def test_noise_is_that_of_the_table(density: float, scatter: float, empty: float, speed: list[float]) -> None:
    flow = np.array([-200.0, 100.0, 50.0])
    seen = counted(np.full(N, density), np.tile(flow, (N, 1)), np.random.default_rng(3))
    nothing = seen.n == 0
    assert nothing.mean() == pytest.approx(empty, abs=0.01)
    assert seen.n.mean() == pytest.approx(density, rel=0.03)
    assert seen.n.std() / density == pytest.approx(scatter, rel=0.05)
    quartiles = np.quantile(seen.v[~nothing] - flow, [0.25, 0.75], axis=0)
    assert np.diff(quartiles, axis=0)[0] / 1.349 == pytest.approx(speed, rel=0.05)
    tail = np.quantile(np.linalg.norm(seen.v[~nothing] - flow, axis=1), 0.999)
    assert tail > 10 * speed[0], "heavy tails"
    assert not seen.v[nothing].any() and not seen.n_err[nothing].any() and not seen.heat[nothing].any()


def test_flags_are_those_of_the_density_and_some_others() -> None:
    n = np.repeat([0.04, 0.3], N // 2)
    seen = counted(n, np.zeros((N, 3)), np.random.default_rng(3))
    assert ((seen.flags & 128) != 0).tolist() == (seen.n < 0.05).tolist()
    for bit in (16, 32, 512):
        assert 0.01 < ((seen.flags & bit) != 0).mean() < 0.4
    assert not (seen.flags & (1 | 2 | 2048)).any(), "none that masks"


def test_bad_samples_are_as_many_as_asked_in_short_runs() -> None:
    bad = scattered(100_000, 0.003, 9, np.random.default_rng(1))
    assert bad.mean() == pytest.approx(0.003, rel=0.2)
    assert not scattered(100, 0.0, 9, np.random.default_rng(1)).any()
