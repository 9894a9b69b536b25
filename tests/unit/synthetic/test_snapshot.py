"""A snapshot as a layer: the X-line, regions by the flux function, both sheets alike, values between grid points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from snapshots import CELLS, GUIDE, SIDE, X_LINE, H, snapshot

from mms_regions.synthetic.layer import (
    INFLOW_NORTH,
    INFLOW_SOUTH,
    NONE_OF_THESE,
    OUTFLOW_EARTHWARD,
    OUTFLOW_TAILWARD,
    SEPARATRIX_NORTH,
    SEPARATRIX_SOUTH,
)
from mms_regions.synthetic.snapshot import Edges, Sheet, read_sheets, sheets_of, write_sheets


@pytest.fixture(scope="module", params=[0, 1], ids=["lower", "upper"])
def sheet(request: pytest.FixtureRequest) -> Sheet:
    return sheets_of(snapshot())[request.param]


def region(sheet: Sheet, x: float, z: float) -> int:
    return int(sheet.region(np.array([x]), np.array([z]))[0])


def test_regions_lie_around_the_x_line_as_in_the_published_model(sheet: Sheet) -> None:
    assert sheet.reconnected == pytest.approx(1.4, abs=0.03)
    assert (region(sheet, 0, 3), region(sheet, 0, -3)) == (INFLOW_NORTH, INFLOW_SOUTH)
    assert (region(sheet, 5, 0), region(sheet, -5, 0)) == (OUTFLOW_EARTHWARD, OUTFLOW_TAILWARD)
    z = np.linspace(0.05, 3.15, 200)
    for side, expected in ((1, SEPARATRIX_NORTH), (-1, SEPARATRIX_SOUTH)):
        column = sheet.region(np.full(200, 5.0), side * z)
        changes = column[np.flatnonzero(np.diff(column, prepend=-2))]
        assert list(changes[:3]) == [OUTFLOW_EARTHWARD, expected, INFLOW_NORTH if side > 0 else INFLOW_SOUTH]
        first_inflow = z[np.argmax(column == changes[2])]
        s = sheet.s[round((side * first_inflow - sheet.z) / H), round((5.0 - sheet.x) / H)]
        assert s == pytest.approx(-0.1, abs=H), "within a grid cell, for |B| is 1 there"


def test_fields_are_those_of_a_tail_sheet_in_both_halves(sheet: Sheet) -> None:
    seen = sheet.plasma(np.array([5.0, 5.0]), np.array([3.0, -3.0]))
    np.testing.assert_allclose(seen.b[:, 0], [np.tanh(3), -np.tanh(3)], atol=0.02)
    np.testing.assert_allclose(seen.b[:, 1], GUIDE, atol=1e-6)
    np.testing.assert_allclose(seen.e[:, 1], 0.1, atol=1e-6)
    assert (seen.v_i[:, 0] > 0.9).all()
    np.testing.assert_allclose(seen.v_e[:, 0], 2 * seen.v_i[:, 0] * np.sqrt(1836 / 25), rtol=1e-5)
    np.testing.assert_allclose(seen.t_i, 0.2, rtol=1e-5)
    assert sheet.inflow_n == pytest.approx(0.5)


def test_values_between_grid_points_are_linear(sheet: Sheet) -> None:
    x = sheet.x + H * np.array([70.0, 70.5, 71.0])
    seen = sheet.plasma(x, np.zeros(3)).b[:, 2]
    assert seen[1] == pytest.approx(0.5 * (seen[0] + seen[2]), rel=1e-5)


def test_beyond_the_box_and_near_its_images_there_is_no_region(sheet: Sheet) -> None:
    assert region(sheet, 0, SIDE / 8 + 0.1) == region(sheet, SIDE / 4 + 0.2, 0) == -1
    assert region(sheet, SIDE / 4 - 0.2, 0) == OUTFLOW_EARTHWARD
    assert region(sheet, 0, SIDE / 8 - 0.1) == INFLOW_NORTH


def test_there_is_no_region_where_reconnection_has_not_come() -> None:
    begun = snapshot()
    at = np.arange(CELLS) * H
    from_line = np.abs((at - X_LINE * H + SIDE / 4) % (SIDE / 2) - SIDE / 4)  # of either sheet
    begun["e"][1] *= from_line < 3.0
    for sheet in sheets_of(begun):
        assert sheet.reach == pytest.approx(3.0, abs=0.3)
        assert region(sheet, 2.5, 0) == OUTFLOW_EARTHWARD and region(sheet, 3.5, 0) == region(sheet, -3.5, 3) == -1


def test_outflow_begins_at_the_x_line_where_the_inward_field_reaches_the_middle() -> None:
    deep = snapshot()
    deep["e"][2] = np.where(deep["e"][2] == 0, 0, np.sign(deep["e"][2]))

    def outflow(core: float) -> int:
        return int((sheets_of(deep, edges=Edges(core=core))[0].regions == OUTFLOW_EARTHWARD).sum())

    assert outflow(0.2) < outflow(1 / 3) < outflow(0.5)
    assert outflow(0.0) < 0.5 * outflow(1 / 3)


def test_regions_depend_on_the_edges_that_are_asked_for() -> None:
    def layers(edges: Edges) -> int:
        return int(np.isin(sheets_of(snapshot(), edges=edges)[0].regions, [SEPARATRIX_NORTH, SEPARATRIX_SOUTH]).sum())

    usual = layers(Edges())
    assert layers(Edges(outside=-0.05)) < usual < layers(Edges(outside=-0.2))
    assert layers(Edges(share=0.7)) < usual < layers(Edges(share=0.3))


def test_before_onset_all_is_none_of_the_regions() -> None:
    lower, upper = sheets_of(snapshot(0.2))
    assert set(np.unique(lower.regions)) == set(np.unique(upper.regions)) == {NONE_OF_THESE}


def test_sheets_survive_the_disk_with_every_second_point(sheet: Sheet, tmp_path: Path) -> None:
    write_sheets(tmp_path / "sheets.npz", (sheet, sheet))
    again, _ = read_sheets(tmp_path / "sheets.npz")
    assert (again.h, again.x, again.z, again.reach) == (2 * H, sheet.x, sheet.z, sheet.reach)
    np.testing.assert_array_equal(again.regions, sheet.regions[::2, ::2])
    x, z = np.meshgrid(np.linspace(-5, 5, 40), np.linspace(-3, 3, 40))
    for quantity in ("b", "e", "n", "v_i"):
        there, here = (getattr(one.plasma(x.ravel(), z.ravel()), quantity) for one in (sheet, again))
        assert np.abs(there - here).max() < 0.1 * np.abs(there).max()
