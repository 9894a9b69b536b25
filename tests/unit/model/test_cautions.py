"""Labels that fields and moments speak against are found, and only those."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from mms_regions.model.cautions import cautions
from mms_regions.physics.formulas import alfven_speed

REGIONS = "inflow_north outflow_earthward inflow_south separatrix_north outflow_tailward separatrix_south"


def segment(label: list[int], speed: list[float], b_x: list[float]) -> xr.Dataset:
    n, zeros = len(label), np.zeros(len(label))
    data = xr.Dataset(
        {
            "label": ("time", np.array(label, np.int8), {"flag_meanings": REGIONS}),
            "vi_gsm": (("time", "xyz"), np.column_stack([zeros, -np.array(speed), zeros])),
            "b_gsm": (("time", "xyz"), np.column_stack([b_x, zeros, zeros])),
        },
        coords={"time": np.arange(n).astype("datetime64[ns]")},
    )
    return data.assign_attrs(b0=20.0, n0=0.2)


def test_alfven_speed_is_that_of_protons() -> None:
    assert alfven_speed(20.0, 0.2) == pytest.approx(975.4, abs=0.5)  # 21.812 km/s * 20 / sqrt(0.2)


def test_only_slow_outflow_is_quiet() -> None:
    slow, fast = 97.0, 98.0  # a tenth of the Alfven speed lies between
    found = cautions(segment([1, 4, 1, 4, 0, 3, -1], [slow, slow, fast, fast, slow, slow, slow], [5.0] * 7))
    assert found.quiet.tolist() == [True, True, False, False, False, False, False]
    assert found.shares["quiet"] == pytest.approx(2 / 6), "of the samples that have a label"


def test_a_separatrix_on_the_side_of_the_other_sign_is_flagged() -> None:
    found = cautions(segment([3, 3, 5, 5, 0, 3], [500.0] * 6, [1.0, -1.0, 1.0, -1.0, -1.0, np.nan]))
    assert found.wrong_side.tolist() == [False, True, True, False, False, False]


def test_a_segment_without_labels_has_no_shares() -> None:
    found = cautions(segment([-1, -1], [0.0, np.nan], [1.0, np.nan]))
    assert found.shares == {"quiet": 0.0, "wrong_side": 0.0}
