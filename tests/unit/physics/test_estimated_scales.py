"""Scales estimated from sheets whose scales are known, and what is said of intervals that show too little."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from mms_regions import ScaleEstimate, estimate_scales
from mms_regions.core.errors import SegmentProblem, UsageProblem

B0, N0 = 18.0, 0.4  # nT, cm^-3
TEMPERATURE = (B0 * 1e-9) ** 2 / (2 * 4e-7 * np.pi) / (N0 * 1e6) / 1.602176634e-19  # eV, of a sheet without lobe plasma


def harris(low: float = -3.0, high: float = 3.0, n: int = 1500, lobe: float = 0.02) -> dict[str, np.ndarray]:
    """A way across a Harris sheet from `low` to `high` widths, with a few per cent of plasma in the lobe."""
    z = np.linspace(low, high, n)
    density = N0 * (lobe + 1 / np.cosh(z) ** 2)
    hot = TEMPERATURE * np.ones(n)
    b = np.stack([B0 * np.tanh(z), np.zeros(n), np.zeros(n)], axis=1)
    found = {"b_gsm": b, "ni": density, "ne": density, "ti_perp": 0.8 * hot, "te_perp": 0.2 * hot}
    return {name: values.astype(np.float32) for name, values in found.items()}


def within(value: float | None, sigma: float | None, truth: float) -> bool:
    return value is not None and sigma is not None and abs(value - truth) < sigma


def test_a_complete_crossing_gives_both_scales() -> None:
    found = estimate_scales(harris())
    assert found.b0 == pytest.approx(B0 * np.sqrt(1.02), rel=1e-3), "and the pressure of the plasma of the lobe"
    assert found.n0 == pytest.approx(0.94 * N0, rel=0.03), "the median of the part with |B| < B0 / 2"
    assert within(found.b0, found.b0_sigma, B0) and within(found.n0, found.n0_sigma, N0)
    assert found.temperature == pytest.approx(TEMPERATURE * 1.02 / 0.94, rel=0.03)
    assert (found.lobe_seen, found.sheet_seen, found.method, found.cautions) == (True, True, "balance, sheet", ())
    assert found.b_q98 == pytest.approx(B0, rel=0.01)


def test_the_core_alone_gives_the_field_of_a_lobe_that_was_never_seen() -> None:
    found = estimate_scales(harris(-0.3, 0.3))
    assert found.b0 == pytest.approx(B0 * np.sqrt(1.02), rel=1e-3) and found.b_q98 < 0.3 * B0
    assert (found.lobe_seen, found.sheet_seen) == (False, True)


def test_the_lobe_alone_gives_no_density_and_says_so() -> None:
    found = estimate_scales(harris(2.0, 4.0))
    assert within(found.b0, found.b0_sigma, B0)
    assert (found.n0, found.n0_sigma, found.temperature, found.method) == (None, None, None, "balance")
    (caution,) = found.cautions
    assert caution == "the sheet was not seen (beta is at most 0.094), so n0 is not estimated"


def test_the_edge_of_the_sheet_gives_a_guess_that_says_so() -> None:
    found = estimate_scales(harris(0.6, 3.0))
    assert found.method == "balance, densest" and not found.sheet_seen
    assert found.n0 is not None and 0.5 < found.n0 / N0 < 2
    assert found.n0_sigma == pytest.approx(0.7 * found.n0) and "good to a factor of 2" in found.cautions[0]


def test_noise_of_single_samples_does_not_move_the_scales() -> None:
    clean, rng = harris(), np.random.default_rng(1)
    noise = {"ne": 1 + 0.1 * rng.normal(size=1500), "ni": rng.gamma(50, 1 / 50, 1500)}
    noisy = {**clean, **{name: clean[name] * values for name, values in noise.items()}}
    found, sound = estimate_scales(noisy), estimate_scales(clean)
    assert found.b0 == pytest.approx(sound.b0, rel=0.02) and found.n0 == pytest.approx(sound.n0, rel=0.03)
    assert found.b0_sigma > sound.b0_sigma


def test_missing_samples_are_left_out_and_electrons_may_be_missing() -> None:
    gaps = harris()
    gaps["b_gsm"][::3] = np.nan
    gaps["ti_perp"][1::3] = np.nan
    sound = estimate_scales(harris())
    assert estimate_scales(gaps).b0 == pytest.approx(sound.b0, rel=1e-3)
    found = estimate_scales({**harris(), "te_perp": np.full(1500, np.nan, np.float32)})
    assert found.b0 == pytest.approx(sound.b0, rel=0.12), "ions carry most of the pressure"


def test_too_few_samples_are_refused() -> None:
    few = harris()
    few["ni"][29:] = np.nan
    with pytest.raises(SegmentProblem, match="from 29 samples with magnetic field and ions; at least 30"):
        estimate_scales(few)


def test_what_is_not_in_balance_is_doubted() -> None:
    hot = harris(-0.5, 0.5)
    hot["ti_perp"][750:] *= 4
    assert "the pressure is not in balance" in " ".join(estimate_scales(hot).cautions)


@pytest.mark.parametrize("factors", [{"b_gsm": 8, "ti_perp": 64, "te_perp": 64}, {"ne": 20, "ni": 20, "ti_perp": 0.05}])
def test_plasma_that_is_not_of_the_tail_is_doubted(factors: dict[str, float]) -> None:
    other = {name: values * np.float32(factors.get(name, 1)) for name, values in harris().items()}
    assert "not the plasma of the magnetotail" in " ".join(estimate_scales(other).cautions)


def test_a_dataset_is_taken_and_one_that_lacks_a_variable_is_refused() -> None:
    dims = {"b_gsm": ("time", "xyz")}
    data = xr.Dataset({name: (dims.get(name, "time"), values) for name, values in harris().items()})
    found = estimate_scales(data)
    assert isinstance(found, ScaleEstimate) and found == estimate_scales(harris())
    with pytest.raises(UsageProblem, match="ti_perp is missing"):
        estimate_scales(data.drop_vars("ti_perp"))
