"""Thin electrons: what is averaged is what is conserved, for as short as it may be; what is unknown is marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cdf_files import QUIET, Arrays, constant, write_files

from mms_regions.archive.products import DES, DIS, EDP_BURST, FGM, find_files
from mms_regions.core.events import Event, Segment
from mms_regions.core.types import Floats
from mms_regions.physics.burst import read_burst
from mms_regions.physics.corrected import corrected_samples
from mms_regions.physics.frames import gse_to_gsm
from mms_regions.physics.samples import QUALITY_BITS, Samples
from mms_regions.physics.screening import Screening, Species
from mms_regions.physics.thin_electrons import (
    ELECTRON_MASS,
    FASTEST,
    RELATIVE_ERROR,
    WIDTHS,
    Electrons,
    averaged_electrons,
    density_error,
)

STEP = 30_000_000
START = "2017-07-11T22:34:00"
MASKED = ("te_par", "te_perp", "pe_gsm", "qe_gsm", "electron_spectrum_omni", "electron_spectrum_par", "j_gsm", "je_mag")


def species(n: Any, v: Floats | None = None, p: Floats | None = None, q: Floats | None = None) -> Species:
    """Electrons 30 ms apart."""
    n = np.asarray(n, float)
    rows, never = len(n), np.zeros(len(n), bool)
    return Species(
        time=np.arange(rows) * STEP,
        accumulation=STEP,
        n=n,
        v_gse=np.zeros((rows, 3)) if v is None else np.asarray(v, float),
        p_gse=np.zeros((rows, 3, 3)) if p is None else p,
        q_gse=np.zeros((rows, 3)) if q is None else q,
        caution=never,
        repeated=never,
        empty=never,
        background_large=never,
        penetrating=never,
        order=np.arange(rows),
    )


def averaged(single: Species, relative: float, longest: float = 0.3) -> Electrons:
    return averaged_electrons(single, relative * single.n, longest)


# The mean


def test_what_is_known_well_enough_stays_as_it_is() -> None:
    chance = np.random.default_rng(1)
    single = species(chance.uniform(0.1, 1, 50), chance.normal(size=(50, 3)), chance.normal(size=(50, 3, 3)))
    found = averaged(single, RELATIVE_ERROR)
    assert (found.count == 1).all() and not found.averaged.any() and not found.assumed.any()
    for name in ("n", "v_gse", "p_gse", "q_gse"):
        np.testing.assert_array_equal(getattr(found.species, name), getattr(single, name), err_msg=name)


@pytest.mark.parametrize(("relative", "count"), [(0.26, 3), (0.43, 3), (0.44, 5), (0.7, 9), (5.0, 9)])
def test_as_few_accumulations_are_combined_as_reach_the_error(relative: float, count: int) -> None:
    found = averaged(species(np.full(40, 0.05)), relative)
    assert (found.count[10:-10] == count).all(), "an error of r in each of k samples is one of r / sqrt(k) in the mean"
    assert found.species.n == pytest.approx(0.05)


@pytest.mark.parametrize(("longest", "most"), [(0.0, 1), (0.06, 1), (0.09, 3), (0.3, 9)])
def test_no_mean_is_longer_than_it_may_be(longest: float, most: int) -> None:
    assert averaged(species(np.full(40, 0.01)), 5.0, longest).count.max() == most


def test_particles_momentum_and_energy_of_a_mean_are_those_of_its_accumulations() -> None:
    chance = np.random.default_rng(2)
    n, v = chance.uniform(0.005, 0.05, 30), chance.normal(scale=5000, size=(30, 3))
    p, q = chance.normal(scale=1e-3, size=(30, 3, 3)), chance.normal(scale=1e-3, size=(30, 3))
    p += p.transpose(0, 2, 1)
    found = averaged(species(n, v, p, q), 5.0).species
    for middle in (4, 15, 25):
        window = slice(middle - 4, middle + 5)
        one = [x[middle : middle + 1] for x in (found.n, found.v_gse, found.p_gse, found.q_gse)]
        each = conserved(n[window], v[window], p[window], q[window])
        for of_mean, of_each in zip(conserved(*one), each, strict=True):
            np.testing.assert_allclose(of_mean, of_each, rtol=1e-9)


def conserved(n: Floats, v: Floats, p: Floats, q: Floats) -> tuple[Floats, ...]:
    """Means of density, n v, momentum flux (nPa) and energy flux (mW/m^2), written out in SI."""
    m, u, pressure = ELECTRON_MASS, v * 1e3, p * 1e-9
    momentum = pressure + m * (n * 1e6)[:, None, None] * u[:, :, None] * u[:, None, :]
    thermal = np.trace(pressure, axis1=1, axis2=2)
    flow = m * n * 1e6 * (u**2).sum(axis=1)
    energy = q * 1e-3 + np.einsum("nij,nj->ni", pressure, u) + 0.5 * (thermal + flow)[:, None] * u
    return n.mean(), (n[:, None] * v).mean(axis=0), momentum.mean(axis=0) * 1e9, energy.mean(axis=0) * 1e3


def test_two_streams_against_each_other_are_hot_and_at_rest() -> None:
    v = np.zeros((40, 3))
    v[::2, 0], v[1::2, 0] = 4000.0, -4000.0
    found = averaged(species(np.full(40, 0.03), v), 0.7, 0.3).species
    assert np.abs(found.v_gse[10:-10]).max() < 4000 / 8
    ram = ELECTRON_MASS * 0.03e6 * 4e6**2 * 1e9
    assert found.p_gse[10:-10, 0, 0] == pytest.approx(ram, rel=0.02)


def test_missing_rows_stay_missing_and_are_in_no_mean() -> None:
    n, v = np.full(40, 0.03), np.tile([1000.0, 0.0, 0.0], (40, 1))
    n[20], v[20] = np.nan, np.nan
    found = averaged(species(n, v), 5.0)
    assert np.isnan(found.species.n[20]) and found.count[20] == 0 and not found.assumed[20]
    assert (np.delete(found.species.n, 20) == pytest.approx(0.03)) and found.count[19] == 8
    assert np.delete(found.species.v_gse[:, 0], 20) == pytest.approx(1000.0)


def test_a_velocity_that_no_counted_electron_can_have_is_not_used() -> None:
    n, v = np.full(40, 0.03), np.tile([1000.0, 0.0, 0.0], (40, 1))
    v[20], v[10] = [FASTEST * 1.01, 0, 0], np.nan  # a NaN with a density: out of its valid range in the file
    found = averaged(species(n, v), 5.0)
    assert found.species.v_gse[:, 0] == pytest.approx(1000.0) and found.species.n == pytest.approx(0.03)
    lone = averaged(species(n, v), 0.1)
    assert np.flatnonzero(lone.assumed).tolist() == [10, 20] and np.isnan(lone.species.v_gse[[10, 20]]).all()


def test_an_error_is_the_files_else_that_of_the_density() -> None:
    n = np.array([0.0, 0.014, 0.056, 0.3, 5.0])
    typical = density_error(n, None)
    assert typical == pytest.approx([0.0, 0.75 * 0.014, 0.30 * 0.056, 0.06 * 0.3, 0.06 * 5])
    reported = np.array([np.nan, 1.0, np.nan, 2.0, np.nan])
    assert density_error(n, reported) == pytest.approx([0.0, 1.0, typical[2], 2.0, typical[4]])


# Through the files


def samples_of(
    folder: Path, n_e: float | Callable[[np.ndarray], np.ndarray], edit: Any = None, screening: Screening | None = None
) -> Samples:
    """Four seconds of electrons of this density."""
    scene = replace(QUIET, n_e=n_e if callable(n_e) else constant(n_e))
    write_files(folder, 4, START, 6.0, scene, products=("dis", "des", "fgm", "edp_brst"), edit=edit or {})
    begin = int(np.datetime64(START, "ns").astype(np.int64))
    t_start, t_end = (np.datetime64(begin + second * 10**9, "ns") for second in (1, 5))
    event = Event(name="A", t_start=t_start, t_end=t_end, B0=12.0, n0=0.1)
    products = (DIS, DES, FGM, EDP_BURST)
    burst = read_burst(find_files(Segment(event, 4), products, folder, 1.0), (begin, begin + 6 * 10**9))
    return corrected_samples(burst, event, 0.15, screening or Screening())


def has(samples: Samples, bit: str) -> np.ndarray:
    return (samples.quality & QUALITY_BITS[bit]) != 0


def labelled(samples: Samples) -> np.ndarray:
    return np.isfinite(samples.features).all(axis=1) & ~samples.bridged


def nothing_seen(rows: slice) -> dict[str, Callable[[Arrays], Arrays]]:
    """Accumulations in which DES saw no electron, as the files have them."""

    def edit(arrays: Arrays) -> Arrays:
        for name in ("numberdensity", "bulkv_gse", "prestensor_gse", "temppara", "tempperp", "heatq_gse"):
            arrays[name][rows] = 0
        arrays["errorflags"][rows] = 1 << 7
        return arrays

    return {"des": edit}


def test_a_short_while_without_electrons_is_in_the_means(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, 0.03, nothing_seen(slice(100, 102)))
    assert labelled(samples).all() and not has(samples, "electrons_assumed").any()
    assert has(samples, "electrons_averaged").all() and has(samples, "fpi_caution").sum() == 2
    thin = samples.physics["ne"]
    assert thin.min() == pytest.approx(0.03 * 5 / 7, rel=1e-5) and thin.max() == pytest.approx(0.03, rel=1e-5)
    v_e = np.linalg.norm(samples.physics["ve_gsm"], axis=1)
    assert v_e == pytest.approx(np.linalg.norm([-200.0, 150.0, 80.0]), rel=1e-5)


def test_a_long_while_without_electrons_is_thin_plasma_that_moves_with_the_ions(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, 0.03, nothing_seen(slice(100, 120)))
    assumed = has(samples, "electrons_assumed")
    assert labelled(samples).all() and assumed.sum() == 12, "20 less four on either side"
    assert (samples.physics["ne"][assumed] == 0).all()
    np.testing.assert_allclose(samples.physics["ve_gsm"][assumed], samples.physics["vi_gsm"][assumed], rtol=1e-5)
    for name in ("te_par", "pe_gsm", "qe_gsm", "j_gsm", "je_gsm", "e_prime_gsm", "j_dot_e"):
        assert np.isnan(samples.physics[name][assumed]).all(), f"{name} of an assumed velocity"
        assert np.isfinite(samples.physics[name][~assumed]).all(), name
    assert has(samples, "mean_of_9")[assumed].all()


def test_strict_masks_what_is_flagged_thin_and_averages_nothing(tmp_path: Path) -> None:
    samples = samples_of(tmp_path, 0.03, nothing_seen(slice(100, 120)), Screening(electrons="strict"))
    missing = has(samples, "electrons_missing")
    assert missing.sum() == 20 and not has(samples, "electrons_averaged").any()
    assert not any(has(samples, f"mean_of_{width}").any() for width in WIDTHS)


@pytest.mark.parametrize("electrons", ["robust", "strict"])
def test_nothing_is_derived_from_masked_electrons(tmp_path: Path, electrons: str) -> None:
    def edit(arrays: Arrays) -> Arrays:
        arrays["errorflags"][100:103] = 1 << 1  # short enough to be bridged
        arrays["numberdensity"][110:120] = -1.0
        return arrays

    samples = samples_of(tmp_path, 0.2, {"des": edit}, Screening(electrons=electrons))
    masked = has(samples, "electrons_missing")
    assert masked.sum() == 13 and samples.bridged.sum() == 3
    for name in MASKED:
        values = samples.physics[name]
        assert np.isnan(values[masked]).all() and np.isfinite(values[~masked]).all(), name
    assert np.isfinite(samples.physics["e_gsm"]).all() and np.isfinite(samples.physics["e_par"]).all()


def test_nothing_is_derived_from_masked_ions(tmp_path: Path) -> None:
    def edit(arrays: Arrays) -> Arrays:
        arrays["errorflags"][20] = 1 << 1
        return arrays

    samples = samples_of(tmp_path, 0.2, {"dis": edit})
    masked = has(samples, "ions_missing")
    assert masked.any() and samples.bridged[masked].all()
    for name in ("ti_par", "ti_perp", "j_gsm", "ji_gsm", "j_dot_e_prime"):
        values = samples.physics[name]
        assert np.isnan(values[masked]).all() and np.isfinite(values[~masked]).all(), name
    assert np.isfinite(samples.physics["je_gsm"]).all()


def test_temperatures_of_a_mean_are_those_of_its_pressure(tmp_path: Path) -> None:
    one, mean = (samples_of(tmp_path / str(n), n) for n in (0.2, 0.03))
    assert not has(one, "electrons_averaged").any() and has(mean, "electrons_averaged").all()
    widths = sum(width * has(mean, f"mean_of_{width}") for width in WIDTHS)
    assert (widths >= 3).all(), "each row says how many accumulations it is a mean over"
    for name in ("te_par", "te_perp"):
        np.testing.assert_allclose(mean.physics[name] * 0.03, one.physics[name] * 0.2, rtol=1e-4)


def test_a_velocity_beyond_the_range_of_des_does_not_make_electrons_missing(tmp_path: Path) -> None:
    def edit(arrays: Arrays) -> Arrays:
        arrays["bulkv_gse"][100] = [8e5, 0, 0]
        return arrays

    samples = samples_of(tmp_path, 0.03, {"des": edit})
    assert labelled(samples).all() and not has(samples, "electrons_assumed").any()
    expected = gse_to_gsm(samples.time, np.tile([-200.0, 150.0, 80.0], (len(samples), 1)))
    np.testing.assert_allclose(samples.physics["ve_gsm"], expected, rtol=1e-4, atol=0.01)


@pytest.mark.parametrize("every", [245, 490, 8192])
@pytest.mark.parametrize(("key", "name", "value"), [("edp_brst", "quality", 0), ("edp_brst", "dce_gse", -1e31)])
def test_one_bad_sample_of_the_field_costs_no_label(
    tmp_path: Path, every: int, key: str, name: str, value: float
) -> None:
    def edit(arrays: Arrays) -> Arrays:
        arrays[name][::every] = value
        return arrays

    samples = samples_of(tmp_path, 0.2, {key: edit})
    assert labelled(samples).mean() >= 0.95
    whole = samples_of(tmp_path / "whole", 0.2)
    np.testing.assert_allclose(samples.features, whole.features, atol=1e-6)
    expected = len(samples) * min(1.0, 246 / every)
    assert has(samples, "partial").sum() == pytest.approx(expected, rel=0.1, abs=4)


def test_a_bin_counts_from_half_of_its_samples_on(tmp_path: Path) -> None:
    """FGM has three or four samples in a bin: two are enough, one is not."""
    for lost, missing in ((2, False), (3, True)):

        def edit(arrays: Arrays, lost: int = lost) -> Arrays:
            flag = np.arange(len(arrays["flag"])) % 128 < lost  # every second, from a bin's begin or near it
            arrays["flag"][flag] = 1
            return arrays

        samples = samples_of(tmp_path / str(lost), 0.2, {"fgm": edit})
        assert has(samples, "magnetic_field_missing").any() == missing
        assert has(samples, "partial").any()


def test_the_least_quality_of_the_field_is_a_choice(tmp_path: Path) -> None:
    def edit(arrays: Arrays) -> Arrays:
        arrays["quality"][:] = 2
        return arrays

    careful = samples_of(tmp_path, 0.2, {"edp_brst": edit})
    assert labelled(careful).all() and has(careful, "edp_caution").all()
    with pytest.raises(Exception, match="no usable sample of electric field"):
        samples_of(tmp_path / "strict", 0.2, {"edp_brst": edit}, Screening(edp_quality=3))


def test_a_field_without_a_usable_sample_says_why(tmp_path: Path) -> None:
    def edit(arrays: Arrays) -> Arrays:
        arrays["quality"][:], arrays["bitmask"][:] = 0, 4 + 16
        arrays["bitmask"][:100] = 4
        return arrays

    with pytest.raises(Exception, match=r"EDP: probe saturation, bias sweep"):
        samples_of(tmp_path, 0.2, {"edp_brst": edit})
