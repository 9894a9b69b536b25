"""Physics is the same in a mirror: the analytic layer in one is such a layer, with its regions swapped."""

from __future__ import annotations

import numpy as np
import pytest

from mms_regions.synthetic.layer import Layer
from mms_regions.synthetic.mirrored import Mirrored, swapped

LAYER = Layer(
    slope=0.25, width=0.3, onset=1.0, jump=0.4, hall_b=0.5, guide_b=0.0, jet=0.8, reconnection_e=0.1, inflow_n=0.3,
    exhaust_n=1.0, cavity=0.3,
)  # fmt: skip
X, Z = (axis.ravel() for axis in np.meshgrid(np.linspace(-4, 4, 21), np.linspace(-2, 2, 20)))


@pytest.mark.parametrize(("x", "z"), [(True, False), (False, True), (True, True)])
def test_a_symmetric_layer_is_the_same_in_a_mirror(x: bool, z: bool) -> None:
    seen, mirrored = LAYER.plasma(X, Z), Mirrored(LAYER, x, z).plasma(X, Z)
    for name in ("b", "e", "n", "v_i", "v_e"):
        np.testing.assert_allclose(getattr(mirrored, name), getattr(seen, name), atol=1e-9, err_msg=name)
    there = LAYER.region(-X if x else X, -Z if z else Z)
    np.testing.assert_array_equal(Mirrored(LAYER, x, z).region(X, Z), swapped(x, z)[there])


def test_no_label_and_none_of_these_stay_what_they_are() -> None:
    assert list(swapped(True, True)) == [2, 4, 0, 5, 1, 3, 6, -1]
