"""Instruments see what a crossing holds, at their cadence and by their time tags, with noise and troubles as asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, Product
from mms_regions.core.errors import UsageProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.types import SECOND, Floats, Times
from mms_regions.physics.formulas import along_and_across, subtract_ion_background, temperature_tensor
from mms_regions.physics.frames import gse_to_gsm
from mms_regions.synthetic.cdf_writer import unmeasured, variables
from mms_regions.synthetic.crossing import Noise, draw_crossing
from mms_regions.synthetic.instruments import Arrays, Troubles, View, measured, rows, troubled

EVENT = Event(name="A", t_start="2017-07-11T10:34:00", t_end="2017-07-11T10:34:06", B0=12.0, n0=0.2)
BEGIN, END = EVENT.trange[0] - 2 * SECOND, EVENT.trange[1] + 2 * SECOND
PERFECT = Troubles(perfect=True)
NOISELESS = Noise(b=0.0, e=0.0, n=0.0, v_i=0.0, v_e=0.0)
NOISY = Noise(b=0.1, e=2.0, n=0.1, v_i=50.0, v_e=200.0)
ALL = [DIS, DES, FGM, EDP_BURST, EDP_FAST]
HALF = {DIS: 75_000_000, DES: 15_000_000}  # ns, of an accumulation
FLAGS = {DIS: "errorflags", DES: "errorflags", FGM: "flag", EDP_BURST: "quality"}


def view(noise: Noise = NOISELESS, troubles: Troubles = PERFECT, seed: int = 5, probe: int = 3) -> View:
    """One spacecraft's 10 s, with just this noise."""
    crossing = replace(draw_crossing(seed, "A", EVENT.B0, EVENT.n0), noise=noise)
    return View(Segment(EVENT, probe), crossing, seed, BEGIN, END, troubles)


def seconds(time: Times) -> Floats:
    return (time - EVENT.trange[0]) / SECOND


def in_gsm(time: Times, arrays: Arrays, key: str) -> Floats:
    return gse_to_gsm(time, arrays[key][:, :3])


@pytest.mark.parametrize(
    ("product", "period"),
    [(DIS, 0.15e9), (DES, 0.03e9), (FGM, 1e9 / 128), (EDP_BURST, 1e9 / 8192), (EDP_FAST, 1e9 / 32)],
)
def test_samples_fill_the_view_at_the_cadence_of_the_instrument(product: Product, period: float) -> None:
    epoch = measured(view(), product)["epoch"]
    assert np.abs(np.diff(epoch) - period).max() <= 1
    assert BEGIN <= epoch[0] < BEGIN + 30_000_000 and END - period <= epoch[-1] < END
    assert len(epoch) == pytest.approx((END - epoch[0]) / period, abs=1)


def test_every_fifth_electron_sample_begins_with_an_ion_sample() -> None:
    ions, electrons = measured(view(), DIS)["epoch"], measured(view(), DES)["epoch"]
    assert np.isin(ions, electrons).all()


def test_clocks_differ_between_instruments_and_spacecraft() -> None:
    starts = {int(measured(view(probe=probe), product)["epoch"][0]) for probe in (1, 2) for product in (DES, FGM)}
    assert len(starts) == 4


@pytest.mark.parametrize("product", ALL, ids=lambda product: product.key)
def test_keys_and_shapes_are_those_of_the_files(product: Product) -> None:
    arrays, known = measured(view(), product), variables(product)
    arrays |= unmeasured(product, arrays)
    assert set(arrays) == set(known)
    for key, variable in known.items():
        records = 1 if variable.time is None else len(arrays[variable.time])
        assert arrays[key].shape == (records, *variable.shape), key


@pytest.mark.parametrize(("product", "flow"), [(DIS, "v_i"), (DES, "v_e")], ids=["dis", "des"])
def test_moments_are_those_at_the_centre_and_tagged_at_the_start(product: Product, flow: str) -> None:
    here = view()
    arrays = measured(here, product)
    centre = arrays["epoch"] + HALF[product]
    true, early = (here.crossing.plasma(3, seconds(time)) for time in (centre, arrays["epoch"]))
    n, v = arrays["numberdensity"], arrays["bulkv_gse"]
    if product is DIS:
        n, v, _ = subtract_ion_background(n, v, arrays["prestensor_gse"], arrays["numberdensity_bg"], arrays["pres_bg"])
    assert n == pytest.approx(true.n)
    np.testing.assert_allclose(gse_to_gsm(centre, v), getattr(true, flow), rtol=1e-9, atol=1e-6)
    assert np.abs(n / early.n - 1).max() > 1e-3  # a tag at the centre would give other values
    assert arrays["epoch_plus_var"] == pytest.approx([2 * HALF[product] / SECOND]) and arrays["epoch_minus_var"] == [0]


@pytest.mark.parametrize("product", [FGM, EDP_BURST, EDP_FAST], ids=lambda product: product.key)
def test_fields_are_those_at_their_tags(product: Product) -> None:
    here = view()
    arrays = measured(here, product)
    time = arrays["epoch"]
    key, name = ("b_gse", "b") if product is FGM else ("dce_gse", "e")
    true = getattr(here.crossing.plasma(3, seconds(time)), name)
    close = 1e-9 if product is FGM else 0.01 * np.abs(true).max()  # E is interpolated from every millisecond
    np.testing.assert_allclose(in_gsm(time, arrays, key), true, atol=close)


def test_the_magnetic_field_is_in_both_frames_with_its_magnitude() -> None:
    here = view(NOISY)
    arrays = measured(here, FGM)
    np.testing.assert_allclose(arrays["b_gsm"][:, :3], in_gsm(arrays["epoch"], arrays, "b_gse"), atol=1e-9)
    np.testing.assert_allclose(arrays["b_gsm"][:, 0], arrays["b_gse"][:, 0])
    for key in ("b_gse", "b_gsm"):
        np.testing.assert_allclose(arrays[key][:, 3], np.linalg.norm(arrays[key][:, :3], axis=1))


def test_positions_are_a_tetrahedron_in_the_tail() -> None:
    """Sides are those of the crossing's tetrahedron; positions reach beyond the view."""
    found = [measured(view(probe=probe), FGM) for probe in (1, 2, 3, 4)]
    side = np.linalg.norm(np.diff(view().crossing.tetrahedron[:2], axis=0))
    for one, other in ((0, 1), (0, 3), (1, 2)):
        apart = found[one]["r_gse"][0, :3] - found[other]["r_gse"][0, :3]
        assert np.linalg.norm(apart) == pytest.approx(side, rel=1e-6)
    assert (found[0]["r_gsm"][:, 0] < -100_000).all()
    state = found[0]["epoch_state"]
    assert state[0] <= BEGIN and state[-1] >= END


# Background and temperatures


@pytest.mark.parametrize(("background", "share"), [(False, 0.02), (True, 1.0)])
def test_ions_have_the_background_and_lose_it_again(background: bool, share: float) -> None:
    here = view(troubles=Troubles(perfect=True, background=background))
    arrays = measured(here, DIS)
    true = here.crossing.plasma(3, seconds(arrays["epoch"] + HALF[DIS]))
    assert arrays["numberdensity_bg"] == pytest.approx(np.full(len(true.n), share * here.crossing.n0))
    assert arrays["numberdensity"] == pytest.approx(true.n + arrays["numberdensity_bg"])
    n, v, p = subtract_ion_background(
        *(arrays[key] for key in ("numberdensity", "bulkv_gse", "prestensor_gse", "numberdensity_bg", "pres_bg"))
    )
    assert n == pytest.approx(true.n)
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), np.linalg.norm(true.v_i, axis=1), rtol=1e-6)
    assert np.trace(temperature_tensor(p, n), axis1=1, axis2=2) / 3 == pytest.approx(true.t_i, rel=1e-3)


def test_pressures_are_a_little_more_along_b_than_across() -> None:
    here = view()
    arrays = measured(here, DES)
    centre = arrays["epoch"] + HALF[DES]
    true, b_gse = here.crossing.plasma(3, seconds(centre)), here.plasma(centre).b
    t_par, t_perp = along_and_across(temperature_tensor(arrays["prestensor_gse"], arrays["numberdensity"]), b_gse)
    assert t_par == pytest.approx(1.10 * true.t_e, rel=1e-3) and t_perp == pytest.approx(0.95 * true.t_e, rel=1e-3)
    assert arrays["temppara"] == pytest.approx(t_par) and arrays["tempperp"] == pytest.approx(t_perp)


def test_ion_temperatures_in_files_are_those_of_the_moments_in_them() -> None:
    """As in real files: with the background, so other than those of the ions."""
    here = view(troubles=Troubles(perfect=True, background=True))
    arrays = measured(here, DIS)
    whole = temperature_tensor(arrays["prestensor_gse"], arrays["numberdensity"])
    mean = (arrays["temppara"] + 2 * arrays["tempperp"]) / 3
    assert mean == pytest.approx(np.trace(whole, axis1=1, axis2=2) / 3)
    true = here.crossing.plasma(3, seconds(arrays["epoch"] + HALF[DIS]))
    assert (np.abs(mean / true.t_i - 1) > 0.05).any()


def test_spectra_are_largest_at_twice_the_temperature() -> None:
    here = view()
    arrays = measured(here, DES)
    true = here.crossing.plasma(3, seconds(arrays["epoch"] + HALF[DES]))
    peak = np.take_along_axis(arrays["energy"], arrays["energyspectr_omni"].argmax(axis=1)[:, None], axis=1)[:, 0]
    step = arrays["energy"][0, 1] / arrays["energy"][0, 0]
    assert (np.abs(np.log(peak / (2 * true.t_e))) <= np.log(step)).all()


# Noise


@pytest.mark.parametrize(
    ("product", "key", "name", "size"),
    [
        (FGM, "b_gse", "b", NOISY.b),
        (EDP_BURST, "dce_gse", "e", NOISY.e),
        (EDP_FAST, "dce_gse", "e", NOISY.e),
        (DES, "bulkv_gse", "v_e", NOISY.v_e),
    ],
    ids=["fgm", "edp_brst", "edp_fast", "des"],
)
def test_noise_is_as_large_as_the_crossing_says(product: Product, key: str, name: str, size: float) -> None:
    clean, noisy = measured(view(), product), measured(view(NOISY), product)
    assert np.array_equal(clean["epoch"], noisy["epoch"])
    rest = (noisy[key] - clean[key])[:, :3]
    assert rest.std(axis=0) == pytest.approx([size] * 3, rel=0.15)
    assert np.abs(rest.mean(axis=0)).max() < 5 * size / np.sqrt(len(rest))


def test_noise_of_moments_is_that_of_the_plasma_without_background() -> None:
    clean, noisy = (measured(view(noise, Troubles(perfect=True, background=True)), DIS) for noise in (NOISELESS, NOISY))
    keys = ("numberdensity", "bulkv_gse", "prestensor_gse", "numberdensity_bg", "pres_bg")
    n, v, p = subtract_ion_background(*(clean[key] for key in keys))
    n_noisy, v_noisy, p_noisy = subtract_ion_background(*(noisy[key] for key in keys))
    assert (n_noisy / n - 1).std() == pytest.approx(NOISY.n, rel=0.3)
    assert (v_noisy - v).std() == pytest.approx(NOISY.v_i, rel=0.2)
    np.testing.assert_allclose(p_noisy / n_noisy[:, None, None], p / n[:, None, None], rtol=1e-6, atol=1e-9)


def test_noise_differs_between_spacecraft_and_seeds_and_is_repeatable() -> None:
    def noise(**which: int) -> Floats:
        with_noise, without = (measured(view(size, **which), FGM)["b_gse"][:1000] for size in (NOISY, NOISELESS))
        return with_noise - without

    first = noise(probe=1)
    assert np.array_equal(noise(probe=1), first)
    assert not np.allclose(noise(probe=2), first) and not np.allclose(noise(probe=1, seed=6), first)


# As real instruments


REAL = Troubles()


def test_electrons_scatter_with_their_density_and_say_by_how_much() -> None:
    here = view(troubles=REAL)
    clean, real = measured(view(), DES), measured(here, DES)
    n, ratio = real["numberdensity"], real["numberdensity"] / clean["numberdensity"]
    assert ratio.mean() == pytest.approx(1, abs=0.1) and 0.03 < ratio.std() < 1
    assert (real["errorflags"] & 128 != 0).tolist() == (n < 0.05).tolist()
    some = n > 0
    assert (real["numberdensity_err"][some] / n[some]).max() <= 0.9991
    assert (real["bulkv_err"][some] > 0).all() and real["bulkv_err"].shape == real["bulkv_gse"].shape


def test_electrons_of_a_thin_tail_have_empty_samples_as_real_files_have_them() -> None:
    here = view(troubles=REAL)
    thin = replace(here, crossing=replace(here.crossing, n0=0.02))
    arrays = measured(thin, DES)
    nothing = arrays["numberdensity"] == 0
    assert 0.02 < nothing.mean() < 0.5
    for key in ("bulkv_gse", "prestensor_gse", "temppara", "tempperp", "numberdensity_err", "energyspectr_omni"):
        assert (arrays[key][nothing] == 0).all() and np.isfinite(arrays[key]).all(), key


def test_a_share_of_the_samples_of_fields_is_bad_and_says_so() -> None:
    electric, magnetic = measured(view(troubles=REAL), EDP_BURST), measured(view(troubles=REAL), FGM)
    bad = electric["quality"] < 2
    assert 0.001 < bad.mean() < 0.006 and (electric["bitmask"][bad] == 8).all() and not electric["bitmask"][~bad].any()
    clean = measured(view(), EDP_BURST)
    assert np.array_equal(electric["dce_gse"][~bad], clean["dce_gse"][~bad])
    assert np.abs(electric["dce_gse"][bad] - clean["dce_gse"][bad]).mean() > 10
    assert set(np.unique(magnetic["flag"])) <= {0, 1}


def test_radiation_is_a_small_share_of_the_ions_and_taken_off_again() -> None:
    here = view(troubles=REAL)
    arrays = measured(here, DIS)
    share = arrays["numberdensity_bg"] / arrays["numberdensity"]
    assert 0.01 < np.median(share) < 0.2 and share.max() < 0.8
    assert (arrays["errorflags"] != 0).tolist() == (share >= 0.2).tolist()
    true = here.crossing.plasma(3, seconds(arrays["epoch"] + HALF[DIS]))
    assert arrays["numberdensity"] - arrays["numberdensity_bg"] == pytest.approx(true.n)


# Troubles


def contents(here: View, products: list[Product]) -> dict[Product, Arrays]:
    return {product: measured(here, product) for product in products}


def stretches(where: NDArray[np.bool_]) -> int:
    return int((np.diff(np.concatenate([[False], where]).astype(int)) == 1).sum())


QUICK = [DIS, DES, FGM]
CLEAN = contents(view(), QUICK)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_gaps_are_stretches_of_an_event_without_samples(seed: int, gaps: int) -> None:
    """Up to 1.5 s long, begun in the event, and the samples that are left are untouched."""
    with_gaps = troubled(replace(view(troubles=Troubles(perfect=True, gaps=gaps)), seed=seed), CLEAN)
    lost = 0
    for product, arrays in CLEAN.items():
        here = np.isin(arrays["epoch"], with_gaps[product]["epoch"])
        for key, values in rows(product, arrays, here).items():
            assert np.array_equal(values, with_gaps[product][key]), key
        lost += stretches(~here)
        gone = arrays["epoch"][~here]
        if len(gone):
            assert EVENT.trange[0] <= gone[0] and gone[-1] <= EVENT.trange[1] + 1.5 * SECOND
    assert lost <= gaps


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_flags_are_stretches_of_bad_quality_and_nothing_else_changes(seed: int, flags: int) -> None:
    flagged = troubled(replace(view(troubles=Troubles(perfect=True, flags=flags)), seed=seed), CLEAN)
    found = 0
    for product, arrays in CLEAN.items():
        changed = {key for key, values in arrays.items() if not np.array_equal(values, flagged[product][key])}
        assert changed <= {FLAGS[product]}
        where = flagged[product][FLAGS[product]] != arrays[FLAGS[product]]
        assert (flagged[product][FLAGS[product]][where] == 1).all()
        found += stretches(where)
    assert found <= flags


@pytest.mark.parametrize("seed", range(8))
def test_one_gap_and_one_flag_are_there_when_asked_for(seed: int) -> None:
    here = replace(view(troubles=Troubles(perfect=True, gaps=1, flags=1)), seed=seed)
    spoilt = troubled(here, CLEAN)
    assert sum(len(arrays["epoch"]) - len(spoilt[product]["epoch"]) for product, arrays in CLEAN.items()) > 0
    only_flags = troubled(replace(here, troubles=Troubles(perfect=True, flags=1)), CLEAN)
    assert sum(int(arrays[FLAGS[product]].sum()) for product, arrays in only_flags.items()) > 0


def test_a_bad_electric_field_has_quality_0() -> None:
    clean = contents(view(), [EDP_BURST])
    flagged = troubled(view(troubles=Troubles(perfect=True, flags=1)), clean)[EDP_BURST]
    assert set(np.unique(clean[EDP_BURST]["quality"])) == {3} and set(np.unique(flagged["quality"])) == {0, 3}


def test_no_troubles_change_nothing() -> None:
    assert all(
        np.array_equal(values, arrays[key])
        for product, arrays in troubled(view(), CLEAN).items()
        for key, values in CLEAN[product].items()
    )


def test_rows_keep_what_follows_no_sample() -> None:
    arrays = CLEAN[FGM]
    some = rows(FGM, arrays, np.arange(len(arrays["epoch"])) < 7)
    assert len(some["b_gse"]) == len(some["epoch"]) == 7
    assert np.array_equal(some["r_gse"], arrays["r_gse"]) and np.array_equal(some["epoch_state"], arrays["epoch_state"])


@pytest.mark.parametrize("wrong", [{"gaps": -1}, {"flags": -1}, {"pieces": 0}, {"pieces": 11}])
def test_impossible_troubles_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageProblem, match="--gaps and --flags are 0 or more, --pieces is from 1 to 10"):
        Troubles(**wrong)
