"""A quiet sheet is in pressure balance, carries its current, has no electric field at rest, and no region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mms_regions.synthetic.layer import NONE_OF_THESE
from mms_regions.synthetic.quiet import QuietSheet

SHEET = QuietSheet(half_width=0.8, normal_b=0.1, guide_b=0.05, background_n=0.2, ion_share=0.8, drift=0.0)
Z = np.linspace(-4, 4, 161)


def test_it_is_in_balance_and_at_rest() -> None:
    seen = SHEET.plasma(np.zeros(161), Z)
    pressure = seen.n * (seen.t_i + seen.t_e) + 0.5 * seen.b[:, 0] ** 2
    np.testing.assert_allclose(pressure, 0.5 + 0.2 * 0.5)
    current = seen.n[:, None] * (seen.v_i - seen.v_e)
    np.testing.assert_allclose(current[1:-1, 1], np.gradient(seen.b[:, 0], Z)[1:-1], atol=5e-3)
    np.testing.assert_array_equal(seen.e, 0)
    assert set(SHEET.region(np.zeros(161), Z)) == {NONE_OF_THESE}
    assert np.isinf(SHEET.distance(np.zeros(161), Z)).all()


def test_plasma_that_drifts_has_the_field_of_its_convection() -> None:
    seen = replace(SHEET, drift=0.1).plasma(np.zeros(161), Z)
    np.testing.assert_allclose(seen.e[:, 1], 0.1 * 0.1)


@pytest.mark.parametrize("changes", [{"half_width": 0}, {"ion_share": 1.0}, {"background_n": -0.1}], ids=str)
def test_values_that_make_no_sheet_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no quiet sheet has"):
        replace(SHEET, **changes)
