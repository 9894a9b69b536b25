"""A layer has its six regions where geometry says, mirrors as physics says, and currents that obey Ampere's law."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mms_regions.core.types import Floats
from mms_regions.synthetic.crossing import draw_crossing
from mms_regions.synthetic.layer import (
    INFLOW_NORTH,
    INFLOW_SOUTH,
    OUTFLOW_EARTHWARD,
    OUTFLOW_TAILWARD,
    SEPARATRIX_NORTH,
    SEPARATRIX_SOUTH,
    Layer,
)

# Separatrices at |z| = 0.75 |x|: with these, distances come out in whole tenths (3, 4 and 5).
LAYER = Layer(
    slope=0.75,
    width=0.4,
    onset=1.0,
    jump=0.4,
    hall_b=0.5,
    guide_b=0.1,
    jet=0.8,
    reconnection_e=0.1,
    inflow_n=0.5,
    exhaust_n=1.0,
    cavity=0.4,
)
POSITIVE = ["slope", "width", "onset", "jump", "hall_b", "jet", "reconnection_e", "inflow_n", "exhaust_n", "cavity"]
NORTH_SOUTH = {0: 2, 2: 0, 3: 5, 5: 3, 1: 1, 4: 4}
EAST_WEST = {1: 4, 4: 1, 0: 0, 2: 2, 3: 3, 5: 5}

LAYERS = st.integers(0, 10**6).map(lambda seed: draw_crossing(seed, "layer", 10.0, 0.2).layer)
PLACES = arrays(np.float64, (2, 8), elements=st.floats(-6.0, 6.0, allow_subnormal=False))


def grid() -> tuple[Floats, Floats]:
    """Places all over a layer, none on an axis."""
    x, z = np.meshgrid(np.linspace(-5.9, 6.1, 40), np.linspace(-3.05, 2.95, 40))
    return x.ravel(), z.ravel()


@pytest.mark.parametrize(
    ("x", "z", "region"),
    [
        (0.0, 3.0, INFLOW_NORTH),
        (-1.0, 3.0, INFLOW_NORTH),
        (0.0, -3.0, INFLOW_SOUTH),
        (1.0, -3.0, INFLOW_SOUTH),
        (4.0, 0.5, OUTFLOW_EARTHWARD),
        (4.0, -0.5, OUTFLOW_EARTHWARD),
        (-4.0, 0.5, OUTFLOW_TAILWARD),
        (-4.0, -0.5, OUTFLOW_TAILWARD),
        (4.0, 3.0, SEPARATRIX_NORTH),
        (-4.0, 3.0, SEPARATRIX_NORTH),
        (4.0, -3.0, SEPARATRIX_SOUTH),
        (-4.0, -3.0, SEPARATRIX_SOUTH),
        (0.0, 0.0, SEPARATRIX_NORTH),  # the X-line, where all meet
    ],
)
def test_each_region_lies_where_geometry_says(x: float, z: float, region: int) -> None:
    assert LAYER.region(np.array([x]), np.array([z])) == [region]


def test_distance_is_across_the_separatrix_and_positive_in_the_inflow() -> None:
    z = np.array([3.5, 2.5, -3.5, -2.5])  # at x = 4 a separatrix is at |z| = 3, and its normal leans by 3:4
    assert LAYER.distance(np.full(4, 4.0), z) == pytest.approx([0.4, -0.4, 0.4, -0.4])


@pytest.mark.parametrize(
    ("z", "region"),
    [(3.4999, 3), (3.5001, 0), (2.5001, 3), (2.4999, 1), (-3.4999, 5), (-3.5001, 2), (-2.5001, 5), (-2.4999, 1)],
)
def test_a_separatrix_region_is_as_wide_as_the_layer_says(z: float, region: int) -> None:
    assert LAYER.region(np.array([4.0]), np.array([z])) == [region]


def test_the_sheet_belongs_to_the_north_and_the_x_line_to_the_earth() -> None:
    thin = replace(LAYER, slope=1e-9, width=1e-9)
    assert thin.region(np.array([0.0, -0.1]), np.array([1.0, -1.0])).tolist() == [INFLOW_NORTH, INFLOW_SOUTH]
    steep = replace(LAYER, slope=1e3, width=1e-6)
    x = np.array([1e-2, -1e-2])
    assert steep.region(x, np.zeros(2)).tolist() == [OUTFLOW_EARTHWARD, OUTFLOW_TAILWARD]
    assert LAYER.region(np.zeros(2), np.array([0.0, -1e-12])).tolist() == [SEPARATRIX_NORTH, SEPARATRIX_SOUTH]


@given(LAYERS, PLACES)
def test_mirrors_swap_regions(layer: Layer, places: Floats) -> None:
    x, z = np.where(np.abs(places) < 1e-6, 0.5, places)  # the axes themselves belong to one side
    region = layer.region(x, z)
    assert layer.region(x, -z).tolist() == [NORTH_SOUTH[int(r)] for r in region]
    assert layer.region(-x, z).tolist() == [EAST_WEST[int(r)] for r in region]


@given(LAYERS, PLACES)
def test_mirrors_turn_the_signs_of_fields_and_flows(layer: Layer, places: Floats) -> None:
    """As in Hall reconnection: each component is odd or even in z (north-south) and in x (earthward-tailward)."""
    x, z = places
    layer = replace(layer, guide_b=0.0)  # a guide field breaks the mirror of E
    here, south, west = layer.plasma(x, z), layer.plasma(x, -z), layer.plasma(-x, z)
    signs = {"b": ([-1, -1, 1], [1, -1, -1]), "v_i": ([1, 1, -1], [-1, 1, 1]), "v_e": ([1, 1, -1], [-1, 1, 1])}
    signs["e"] = ([1, 1, -1], [-1, 1, 1])
    for name, (north_south, east_west) in signs.items():
        value = getattr(here, name)
        np.testing.assert_allclose(getattr(south, name), value * north_south, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(getattr(west, name), value * east_west, atol=1e-9, err_msg=name)
    for name in ("n", "t_i", "t_e"):
        np.testing.assert_allclose(getattr(south, name), getattr(here, name), rtol=1e-9)
        np.testing.assert_allclose(getattr(west, name), getattr(here, name), rtol=1e-9)


def test_fields_point_as_in_the_tail() -> None:
    """B to the Earth north of the sheet and northward earthward of the X-line, jets away from it, Hall B_y with x z."""
    seen = LAYER.plasma(np.array([4.0]), np.array([1.0]))
    assert seen.b[0, 0] > 0.1 and seen.b[0, 2] > 0.05 and seen.b[0, 1] > LAYER.guide_b + 0.1
    assert seen.v_i[0, 0] == pytest.approx(LAYER.jet, rel=0.01)


@settings(max_examples=15)
@given(LAYERS)
def test_currents_obey_amperes_law(layer: Layer) -> None:
    """n (v_i - v_e) is the curl of b, here from differences of fourth order with a step of its own."""
    x, z = grid()
    h = 0.003

    def slope(dx: float, dz: float) -> Floats:
        at = {k: layer.plasma(x + k * dx, z + k * dz).b for k in (-2, -1, 1, 2)}
        return (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)

    along, across = slope(h, 0.0), slope(0.0, h)
    curl = np.stack([-across[:, 1], across[:, 0] - along[:, 2], along[:, 1]], axis=1)
    seen = layer.plasma(x, z)
    current = seen.n[:, None] * (seen.v_i - seen.v_e)
    np.testing.assert_allclose(current, curl, atol=0.005 * np.abs(curl).max())
    assert np.abs(curl).max() > 0.3  # there is a current to speak of


@given(LAYERS)
def test_electrons_are_frozen_in_and_e_y_is_the_same_everywhere(layer: Layer) -> None:
    seen = layer.plasma(*grid())
    assert (seen.e[:, 1] == layer.reconnection_e).all()
    frozen = -np.cross(seen.v_e, seen.b)
    np.testing.assert_allclose(seen.e[:, [0, 2]], frozen[:, [0, 2]], atol=1e-12)


@given(LAYERS, st.sampled_from([-1.0, 1.0]))
def test_far_out_the_inflow_is_quiet_and_drifts_to_the_sheet(layer: Layer, side: float) -> None:
    far = layer.plasma(np.linspace(-5.0, 5.0, 7), np.full(7, 60.0 * side))
    np.testing.assert_allclose(far.b, np.tile([side, layer.guide_b, 0.0], (7, 1)), atol=1e-6)
    np.testing.assert_allclose(far.v_i, np.tile([0.0, 0.0, -side * layer.reconnection_e], (7, 1)), atol=1e-6)
    np.testing.assert_allclose(far.v_e, far.v_i, atol=1e-4)
    assert far.n == pytest.approx(np.full(7, layer.inflow_n))


@given(LAYERS)
def test_electrons_stream_to_the_x_line_along_the_separatrices(layer: Layer) -> None:
    """On their inflow side, as the current of the Hall field needs; at their middle the ion jet may outweigh it."""
    x = np.array([-5.0, -3.0, 3.0, 5.0])
    for side in (-1.0, 1.0):
        seen = layer.plasma(x, side * (layer.slope * np.abs(x) + 0.5 * layer.width))
        assert (np.sign(x) * (seen.v_e[:, 0] - seen.v_i[:, 0]) < 0).all()


def test_the_electric_field_points_to_the_sheet_at_the_separatrices() -> None:
    x = np.array([-5.0, -3.0, 3.0, 5.0])
    for side in (-1.0, 1.0):
        seen = LAYER.plasma(x, side * LAYER.slope * np.abs(x))
        assert (side * seen.e[:, 2] < -0.05).all()
        assert (np.sign(x) * seen.v_e[:, 0] < -0.05).all()


@given(LAYERS)
def test_a_separatrix_is_a_cavity(layer: Layer) -> None:
    x = np.array([-4.0, 4.0])
    border = layer.slope * np.abs(x)
    filled = replace(layer, cavity=1e-12).plasma(x, border).n
    assert layer.plasma(x, border).n == pytest.approx(filled * (1 - layer.cavity))
    assert layer.plasma(x, border + 20 * layer.width).n == pytest.approx([layer.inflow_n] * 2, rel=1e-3)


def test_waves_are_strong_inside_and_weak_in_the_inflow() -> None:
    x = np.full(3, 4.0)
    assert LAYER.unrest(x, np.array([0.0, 2.9, 9.0])) == pytest.approx([1.0, 0.9, 0.15], abs=0.06)


@given(LAYERS, PLACES)
def test_the_truth_depends_on_no_field(layer: Layer, places: Floats) -> None:
    """Only slope and width, so geometry, make the regions."""
    x, z = places
    other = Layer(
        slope=layer.slope,
        width=layer.width,
        onset=9.0,
        jump=0.9,
        hall_b=5.0,
        guide_b=-3.0,
        jet=4.0,
        reconnection_e=2.0,
        inflow_n=7.0,
        exhaust_n=0.1,
        cavity=0.95,
    )
    assert np.array_equal(layer.region(x, z), other.region(x, z))
    assert np.array_equal(layer.distance(x, z), other.distance(x, z))


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_no_layer_has_a_size_that_is_not_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"no layer has {name} {value:g}")):
        replace(LAYER, **{name: value})


@pytest.mark.parametrize("name", ["jump", "cavity"])
def test_shares_are_below_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"no layer has {name} 1"):
        replace(LAYER, **{name: 1.0})


def test_a_guide_field_may_point_either_way() -> None:
    assert replace(LAYER, guide_b=-0.2).plasma(np.zeros(1), np.full(1, 50.0)).b[0, 1] == pytest.approx(-0.2)
