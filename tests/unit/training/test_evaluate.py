"""Changed features are those of the plasma that is turned, moved or mirrored; figures stand beside their limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mms_regions.physics.features import scaled_features
from mms_regions.synthetic.layer import Layer, Plasma
from mms_regions.synthetic.mirrored import Mirrored
from mms_regions.training.baselines import label_by_rule
from mms_regions.training.evaluate import LIMITS, against_limits, f1_scores, mirror_image, seen_by_moving, turned

LAYER = Layer(
    slope=0.25, width=0.3, onset=1.0, jump=0.4, hall_b=0.5, guide_b=0.2, jet=0.8, reconnection_e=0.1, inflow_n=0.3,
    exhaust_n=1.0, cavity=0.3,
)  # fmt: skip
X, Z = (axis.ravel() for axis in np.meshgrid(np.linspace(-4, 4, 9), np.linspace(-2, 2, 9)))


def features(seen: Plasma) -> np.ndarray:
    """Of a layer with B0 = 1 nT and n0 = 1 cm^-3."""
    v_a = 21.812072
    return scaled_features(seen.b, 1e-3 * v_a * seen.e, seen.n, seen.n, v_a * seen.v_i, v_a * seen.v_e, 1.0, 1.0)


def test_a_moving_layer_has_the_velocity_and_its_electric_field() -> None:
    seen, velocity = LAYER.plasma(X, Z), np.array([0.15, 0.0, 0.0])
    moving = replace(seen, v_i=seen.v_i + velocity, v_e=seen.v_e + velocity, e=seen.e - np.cross(velocity, seen.b))
    np.testing.assert_allclose(seen_by_moving(features(seen), 0.15), features(moving), atol=1e-4)


@pytest.mark.parametrize("sides", [(True, False), (False, True), (True, True)])
def test_a_mirror_image_is_what_is_seen_in_a_mirrored_layer(sides: tuple[bool, bool]) -> None:
    there = Mirrored(LAYER, *sides).plasma(-X if sides[0] else X, -Z if sides[1] else Z)
    np.testing.assert_allclose(mirror_image(features(LAYER.plasma(X, Z)), *sides), features(there), atol=1e-6)


def test_a_turn_keeps_x_and_lengths_and_is_undone_by_its_opposite() -> None:
    seen = features(LAYER.plasma(X, Z))
    found = turned(seen, 20.0)
    np.testing.assert_array_equal(found[:, [0, 3, 6, 7, 8, 11]], seen[:, [0, 3, 6, 7, 8, 11]])
    np.testing.assert_allclose((found[:, :3] ** 2).sum(axis=1), (seen[:, :3] ** 2).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(turned(found, -20.0), seen, atol=1e-6)
    assert not np.allclose(found, seen)


def test_the_rule_knows_the_analytic_layer_better_than_chance() -> None:
    assert (label_by_rule(features(LAYER.plasma(X, Z))) == LAYER.region(X, Z)).mean() > 0.5


def test_f1_is_of_what_occurs() -> None:
    label, truth = np.array([0, 0, 1, 1], np.int8), np.array([0, 1, 1, 1], np.int8)
    assert f1_scores(label, truth, 3) == [pytest.approx(2 / 3), pytest.approx(4 / 5), None]


def test_limits_are_met_or_missed() -> None:
    good = {name: 1.0 if least else 0.0 for name, (least, _) in LIMITS.items()}
    assert all(line["met"] for line in against_limits(good).values())
    missed = against_limits({**good, "overall": 0.87, "mirror_swaps": 0.02, "none_recall": None})
    assert {name for name, line in missed.items() if not line["met"]} == {"overall", "mirror_swaps", "none_recall"}
    assert missed["overall"]["limit"] == ">= 0.88"
