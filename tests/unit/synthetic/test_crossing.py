"""A crossing follows from seed and name alone, has four spacecraft a tetrahedron apart, and sane units in GSM."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import snapshot

from mms_regions.core.errors import UsageProblem
from mms_regions.core.events import Event, Segment
from mms_regions.model.card import find_model
from mms_regions.physics.formulas import alfven_speed
from mms_regions.synthetic.crossing import (
    FIRST_TRAINING_SEED,
    PERTURBATION,
    Crossing,
    draw_crossing,
    draw_simulated_crossing,
    scales_now,
)
from mms_regions.synthetic.layer import INFLOW_NORTH, INFLOW_SOUTH
from mms_regions.synthetic.snapshot import sheets_of
from mms_regions.synthetic.write import synthesise
from mms_regions.training.train import Recipe

B0, N0 = 12.0, 0.2  # nT, cm^-3
TIME = np.arange(0.0, 60.0, 0.03)
KM_PER_D_I = 227.7 / np.sqrt(N0)  # c / omega_pi of protons
SEEDS = st.integers(0, FIRST_TRAINING_SEED - 1)
CROSSINGS = SEEDS.map(lambda seed: draw_crossing(seed, "A", B0, N0))
some = settings(max_examples=25)


def calm(crossing: Crossing) -> Crossing:
    """The crossing without its waves."""
    return replace(crossing, waves=replace(crossing.waves, size=0.0 * crossing.waves.size))


def everything(crossing: Crossing) -> list[float]:
    """Numbers of all parts of a crossing: layer, scales, axes, way, tetrahedron, waves, noise."""
    seen = crossing.plasma(2, np.linspace(0, 10, 50))
    parts = [*vars(seen).values(), crossing.place(2, TIME), crossing.axes, crossing.tetrahedron]
    scalars = [crossing.b0, crossing.n0, *vars(crossing.layer).values(), *vars(crossing.noise).values()]
    return [*np.concatenate([part.ravel() for part in parts]), *scalars]


@some
@given(SEEDS)
def test_seed_and_name_decide_all(seed: int) -> None:
    first = everything(draw_crossing(seed, "A", B0, N0))
    assert everything(draw_crossing(seed, "A", B0, N0)) == first
    for other in (draw_crossing(seed + 1, "A", B0, N0), draw_crossing(seed, "B", B0, N0)):
        assert np.mean(np.equal(everything(other), first)) < 0.02  # nothing is shared but a zero here and there


@given(CROSSINGS)
def test_the_spacecraft_are_a_regular_tetrahedron_of_10_to_40_km(crossing: Crossing) -> None:
    sides = [np.linalg.norm(a - b) for a, b in combinations(crossing.tetrahedron, 2)]
    assert len(sides) == 6 and 10 <= sides[0] <= 40
    assert sides == pytest.approx([sides[0]] * 6)


@some
@given(CROSSINGS)
def test_places_differ_by_the_tetrahedron_in_ion_inertial_lengths(crossing: Crossing) -> None:
    apart = (crossing.place(3, TIME) - crossing.place(1, TIME)) * KM_PER_D_I * np.sqrt(N0 / crossing.n0)
    expected = (crossing.tetrahedron[2] - crossing.tetrahedron[0])[[0, 2]]
    np.testing.assert_allclose(apart, np.tile(expected[:, None], len(TIME)), rtol=1e-3, atol=1e-3)


@some
@given(CROSSINGS)
def test_spacecraft_agree_on_the_region_but_at_borders(crossing: Crossing) -> None:
    regions = np.array([crossing.region(probe, TIME) for probe in (1, 2, 3, 4)])
    alike = (regions == regions[0]).all(axis=0)
    assert 0.7 < alike.mean() < 1.0
    x, z = crossing.place(1, TIME[~alike])
    to_border = np.minimum(np.abs(np.abs(crossing.layer.distance(x, z)) - crossing.layer.width), np.abs(z))
    to_border = np.minimum(to_border, np.abs(x))
    assert to_border.max() < 40 / (KM_PER_D_I * np.sqrt(N0 / crossing.n0))  # no further than its neighbours are


def test_most_ways_lead_through_all_six_regions() -> None:
    crossings = [draw_crossing(seed, "A", B0, N0) for seed in range(50)]
    complete = [set(crossing.region(1, TIME).tolist()) == set(range(6)) for crossing in crossings]
    assert np.mean(complete) > 0.8


@given(CROSSINGS)
def test_scales_are_near_those_of_the_catalogue(crossing: Crossing) -> None:
    assert abs(crossing.b0 / B0 - 1) <= PERTURBATION == 0.2
    assert abs(crossing.n0 / N0 - 1) <= PERTURBATION


@some
@given(CROSSINGS)
def test_fields_and_flows_are_of_the_size_of_their_units(crossing: Crossing) -> None:
    seen, distance = calm(crossing).plasma(1, TIME), crossing.layer.distance(*crossing.place(1, TIME))
    v_a = alfven_speed(crossing.b0, crossing.n0)
    far = distance > 2 * crossing.layer.width
    b = np.linalg.norm(seen.b[far], axis=1)
    assert ((b / crossing.b0 > 0.75) & (b / crossing.b0 < 1.1)).all()
    speed = np.linalg.norm(seen.v_i, axis=1)
    assert speed.max() < 1.2 * v_a and np.linalg.norm(seen.v_e, axis=1).max() < 60 * v_a
    e_y = seen.e @ crossing.axes[1]
    assert e_y == pytest.approx(np.full(len(TIME), crossing.b0 * v_a * 1e-3 * crossing.layer.reconnection_e))
    assert (seen.n > 0).all() and seen.n.max() < 1.5 * crossing.n0
    m_v2 = 1.6726e-27 * (v_a * 1e3) ** 2 / 1.602e-19  # eV
    assert ((0.09 * m_v2 < seen.t_i) & (seen.t_i < 0.41 * m_v2)).all()


@some
@given(CROSSINGS)
def test_vectors_are_in_gsm_by_the_layers_axes(crossing: Crossing) -> None:
    """The axes are right-handed, within 15 degrees or so of GSM, and turn vectors without a stretch."""
    np.testing.assert_allclose(crossing.axes @ crossing.axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(crossing.axes) == pytest.approx(1.0)
    assert np.degrees(np.arccos(np.diag(crossing.axes))).max() < 3**0.5 * 15
    inside = crossing.layer.plasma(*crossing.place(4, TIME))
    seen = calm(crossing).plasma(4, TIME)
    np.testing.assert_allclose(seen.b @ crossing.axes.T, crossing.b0 * inside.b, atol=1e-9)
    v_a = alfven_speed(crossing.b0, crossing.n0)
    np.testing.assert_allclose(seen.v_e @ crossing.axes.T, v_a * inside.v_e, atol=1e-9)


@some
@given(CROSSINGS)
def test_b_x_tells_the_side_of_the_sheet_in_the_inflow(crossing: Crossing) -> None:
    b_x, region = calm(crossing).plasma(2, TIME).b[:, 0], crossing.region(2, TIME)
    assert (b_x[region == INFLOW_NORTH] > 0).all() and (b_x[region == INFLOW_SOUTH] < 0).all()


@some
@given(CROSSINGS)
def test_waves_move_fields_but_neither_truth_nor_density(crossing: Crossing) -> None:
    quiet, wavy = calm(crossing), crossing
    assert np.array_equal(quiet.region(1, TIME), wavy.region(1, TIME))
    one, other = quiet.plasma(1, TIME), wavy.plasma(1, TIME)
    assert np.array_equal(one.n, other.n) and np.array_equal(one.v_i, other.v_i)
    assert all(not np.allclose(getattr(one, name), getattr(other, name)) for name in ("b", "e", "v_e"))
    assert np.abs(other.b - one.b).max() < 0.6 * crossing.b0


# Seeds of events and of trainings never meet.


@pytest.mark.parametrize("seed", [-1, FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 5])
def test_no_event_has_a_training_seed(tmp_path: Path, seed: int) -> None:
    event = Event(name="A", t_start="2017-07-11T10:34:00", t_end="2017-07-11T10:34:06", B0=B0, n0=N0)
    with pytest.raises(UsageProblem, match="--seed is from 0 to 2147483647"):
        synthesise([Segment(event, 1)], tmp_path, seed)
    assert list(tmp_path.iterdir()) == []


@given(
    st.lists(st.integers(0, 999), min_size=2, max_size=4, unique=True),
    st.integers(1, 500_000),
    st.integers(1, 500_000),
)
def test_trainings_and_their_scores_share_no_seed(seeds: list[int], crossings: int, scoring: int) -> None:
    recipes = [Recipe(seed=seed, crossings=crossings, scoring_crossings=scoring, batch=1) for seed in seeds]
    ranges = [both for recipe in recipes for both in (recipe.training_seeds, recipe.scoring_seeds)]
    in_order = sorted(ranges, key=lambda r: r.start)
    assert all(first.stop <= second.start for first, second in pairwise(in_order))
    assert in_order[0].start >= FIRST_TRAINING_SEED
    assert [len(r) for r in ranges] == [crossings, scoring] * len(recipes)


@pytest.mark.parametrize(
    "wrong", [{"seed": 1000}, {"seed": -1}, {"crossings": 500_001}, {"scoring_crossings": 500_001}]
)
def test_a_recipe_that_would_reach_into_other_seeds_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageProblem):
        Recipe(**wrong)


def test_the_shipped_model_was_trained_and_scored_on_seeds_that_no_event_has() -> None:
    scores: Any = find_model("analytic-layer", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card.scores
    (first, last), (first_scored, last_scored) = scores["training_seeds"], scores["scoring_seeds"]
    assert min(first, first_scored) >= FIRST_TRAINING_SEED
    assert last < first_scored or last_scored < first
    assert last - first + 1 == scores["recipe"]["crossings"]
    assert last_scored - first_scored + 1 == scores["recipe"]["scoring_crossings"]


def test_a_layer_that_passes_is_seen_to_move_against_the_way() -> None:
    """Plasma and the electric field of its convection: what is at rest in the layer moves, and E + v x B stays."""
    crossing = calm(draw_crossing(3, "A", B0, N0))
    still, passing = crossing.plasma(1, TIME), replace(crossing, moving=True).plasma(1, TIME)
    x, z = crossing.way.at(TIME)
    velocity = -np.gradient(np.stack([x, 0 * x, z]), TIME, axis=1).T * 227.7 / np.sqrt(crossing.n0) @ crossing.axes
    np.testing.assert_allclose((passing.v_i - still.v_i)[1:-1], velocity[1:-1], atol=0.5)
    np.testing.assert_allclose(passing.v_e - still.v_e, passing.v_i - still.v_i, atol=1e-6)
    expected = still.e - 1e-3 * np.cross(passing.v_i - still.v_i, still.b)
    np.testing.assert_allclose(passing.e, expected, atol=1e-9)


def test_scales_now_are_those_of_the_sheet_as_it_is() -> None:
    """That sheet has half of the density that it had, everywhere, and at its edge B_z and a guide field besides B0."""
    crossing = draw_simulated_crossing(3, "A", B0, N0, sheets_of(snapshot()))
    b0, n0 = scales_now(crossing, 60.0)
    assert n0 == pytest.approx(0.5 * crossing.n0, rel=0.01)
    assert 1.0 < b0 / crossing.b0 < np.sqrt(1 + 0.2**2 + 1.0)
