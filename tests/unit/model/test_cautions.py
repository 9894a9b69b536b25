"""Labels that fields and moments speak against are found, and only those."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from mms_regions.core.types import NO_LABEL
from mms_regions.model.cautions import LOW_CONFIDENCE, MEANING, TAIL_X, cautions, low_confidence_of
from mms_regions.physics.formulas import alfven_speed
from mms_regions.physics.samples import QUALITY_BITS

REGIONS = "inflow_north outflow_earthward inflow_south separatrix_north outflow_tailward separatrix_south"
NORTH, EARTHWARD, SOUTH, SEPARATRIX_NORTH, TAILWARD, SEPARATRIX_SOUTH = range(6)
IN_THE_TAIL = [-140_000.0, 20_000.0, 0.0]


def segment(label: list[int], v_x: Any = 500.0, b_x: Any = 15.0, position: Any = None, **more: Any) -> xr.Dataset:
    """A segment of the tail: n 0.1 cm^-3, ions of 3 keV, electrons of 600 eV, unless told otherwise."""
    n = len(label)

    def along_x(values: Any) -> np.ndarray:
        return np.column_stack([np.broadcast_to(np.asarray(values, float), n), np.zeros(n), np.zeros(n)])

    scalars = {"ni": 0.1, "ne": 0.1, "ti_par": 3e3, "ti_perp": 3e3, "te_par": 600.0, "te_perp": 600.0} | more
    data = xr.Dataset(
        {
            "label": ("time", np.array(label, np.int8), {"flag_meanings": REGIONS}),
            "vi_gsm": (("time", "xyz"), along_x(v_x)),
            "b_gsm": (("time", "xyz"), along_x(b_x)),
            **{name: ("time", np.broadcast_to(np.asarray(value), n).copy()) for name, value in scalars.items()},
        },
        coords={"time": np.arange(n).astype("datetime64[ns]")},
    )
    return data.assign_attrs(b0=20.0, n0=0.2, position_gse=position or IN_THE_TAIL)


def test_alfven_speed_is_that_of_protons() -> None:
    assert alfven_speed(20.0, 0.2) == pytest.approx(975.4, abs=0.5)  # 21.812 km/s * 20 / sqrt(0.2)


def test_only_outflow_that_is_slow_along_x_is_slow_outflow() -> None:
    slow, fast = 97.0, 98.0  # a tenth of the Alfven speed lies between
    label = [EARTHWARD, TAILWARD, EARTHWARD, TAILWARD, NORTH, SEPARATRIX_NORTH, NO_LABEL]
    found = cautions(segment(label, [slow, -slow, fast, -fast, slow, slow, slow]))
    assert found["slow_outflow"].tolist() == [True, True, False, False, False, False, False]
    assert found.shares["slow_outflow"] == pytest.approx(2 / 6), "of the samples that have a label"
    across = segment([EARTHWARD], 0.0)
    across["vi_gsm"].values[:, 1] = 2000.0  # fast, but not along x
    assert cautions(across)["slow_outflow"].all()


def test_outflow_against_its_direction_is_found() -> None:
    found = cautions(segment([EARTHWARD, EARTHWARD, TAILWARD, TAILWARD, NORTH], [300.0, -300.0, 300.0, -300.0, -300.0]))
    assert found["against_flow"].tolist() == [False, True, True, False, False]


def test_a_separatrix_on_the_side_of_the_other_sign_is_flagged() -> None:
    label = [SEPARATRIX_NORTH, SEPARATRIX_NORTH, SEPARATRIX_SOUTH, SEPARATRIX_SOUTH, NORTH, SEPARATRIX_NORTH]
    found = cautions(segment(label, b_x=[1.0, -1.0, 1.0, -1.0, -1.0, np.nan]))
    assert found["wrong_side"].tolist() == [False, True, True, False, False, False]


def test_inflow_as_dense_or_as_hot_as_the_sheet_is_found() -> None:
    dense = cautions(segment([NORTH, NORTH, SOUTH, EARTHWARD], ni=[0.13, 0.15, 0.15, 0.15]))
    assert dense["dense_inflow"].tolist() == [False, True, True, False], "0.7 of n0 = 0.2 cm^-3"
    # 0.1 cm^-3 of 3.6 keV is 0.0577 nPa, as much as a field of 12.04 nT
    hot = cautions(segment([NORTH, NORTH], b_x=[12.1, 12.0]))
    assert hot["dense_inflow"].tolist() == [False, True]
    unknown = cautions(segment([NORTH], b_x=12.0, te_par=np.nan))
    assert not unknown["dense_inflow"].any(), "what is not known speaks against nothing"


def test_densities_that_differ_by_more_than_a_factor_of_two_are_found() -> None:
    found = cautions(segment([NORTH] * 5, ni=[0.1, 0.1, 0.1, 0.1, np.nan], ne=[0.19, 0.21, 0.04, 0.0, 0.1]))
    assert found["density_mismatch"].tolist() == [False, True, True, True, False]


def test_flags_of_the_instrument_are_passed_on() -> None:
    names = {
        "background_large": "ion_background_large",
        "penetrating_radiation": "penetrating_radiation",
        "electrons_assumed": "electrons_assumed",
    }
    for name, bit in names.items():
        found = cautions(segment([NORTH, NORTH, NO_LABEL], quality=np.array([0, 1, 1]) * QUALITY_BITS[bit]))
        assert found[name].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("outside", "given"),
    [
        (False, {}),
        (False, {"position": [TAIL_X - 1, 0.0, 0.0]}),
        (True, {"position": [TAIL_X + 1, 0.0, 0.0]}),
        (True, {"position": [60_000.0, 0.0, 0.0]}),  # the dayside magnetopause
        (False, {"position": [np.nan] * 3}),
        (False, {"ni": 2.0}),
        (True, {"ni": 20.0}),  # magnetosheath, solar wind
        (True, {"ni": 2.0, "ti_par": 100.0, "ti_perp": 100.0}),
        (False, {"ni": 0.05, "ti_par": 100.0, "ti_perp": 100.0}),  # the cold lobe
        (True, {"b_x": 100.0}),  # the inner magnetosphere
    ],
)
def test_what_is_no_magnetotail_says_so(outside: bool, given: dict[str, Any]) -> None:
    found = cautions(segment([NORTH, NO_LABEL], **given))
    assert found["outside_tail"].tolist() == [outside, False]


def test_a_segment_without_labels_has_no_shares() -> None:
    found = cautions(segment([NO_LABEL, NO_LABEL], [0.0, np.nan], [1.0, np.nan]))
    assert found.shares == dict.fromkeys(MEANING, 0.0)


def test_a_low_confidence_is_what_the_card_of_the_model_says() -> None:
    data = segment([NORTH])
    assert low_confidence_of(data) == LOW_CONFIDENCE
    assert low_confidence_of(data.assign_attrs(model={"low_confidence": 0.99})) == 0.99
