"""Virtual crossings: repeatable, in whole windows inside the sheet, and features that mean what they should."""

from __future__ import annotations

import numpy as np
import pytest
from snapshots import snapshot

from mms_regions.core.types import WINDOW
from mms_regions.synthetic.layer import NONE_OF_THESE
from mms_regions.synthetic.snapshot import sheets_of
from mms_regions.training.crossings import Sheets, Virtual, virtual_windows


@pytest.fixture(scope="module")
def sheets() -> Sheets:
    return Sheets(active=sheets_of(snapshot(1.4)), before=sheets_of(snapshot(0.2)))


def windows(sheets: Sheets, shares: tuple[float, float, float], count: int = 8, first: int = 2**31) -> Virtual:
    return virtual_windows(sheets, range(first, first + count), 12.0, shares)


def test_crossings_of_the_simulation_are_repeatable_and_whole(sheets: Sheets) -> None:
    found, again = windows(sheets, (1, 0, 0)), windows(sheets, (1, 0, 0))
    assert found.features.shape == (*found.region.shape, 14) and found.region.shape[1] == WINDOW
    assert len(found.crossing) == len(found.features) > 8
    assert np.isfinite(found.features).all()
    assert len(set(np.unique(found.region))) > 3 and found.region.max() < NONE_OF_THESE
    np.testing.assert_array_equal(found.features, again.features)
    assert not np.array_equal(found.features[:8], windows(sheets, (1, 0, 0), first=2**31 + 50).features[:8])


def test_sheets_without_reconnection_have_the_seventh_region_alone(sheets: Sheets) -> None:
    assert set(np.unique(windows(sheets, (0, 1, 0)).region)) == {NONE_OF_THESE}
    assert NONE_OF_THESE not in windows(sheets, (0, 0, 1)).region


def test_features_mean_what_they_should(sheets: Sheets) -> None:
    """In the inflow |Bx| is nearly 1 with the sign of its side; the outflow goes away from the X-line; density is that
    of the sheet as it is, which is half of what it was. At the edge of this sheet |B| is 1.2, for it has B_z.
    """
    found = windows(sheets, (1, 0, 0), count=30)
    b_x, v_x = found.features[..., 0], found.features[..., 8]
    assert np.median(b_x[found.region == 0]) == pytest.approx(0.85, abs=0.3)
    assert np.median(b_x[found.region == 2]) == pytest.approx(-0.85, abs=0.3)
    assert np.median(v_x[found.region == 1]) > 0.2 > -0.2 > np.median(v_x[found.region == 4])
    assert np.median(found.features[..., 6:8]) == pytest.approx(1, rel=0.3)


def test_boundaries_are_where_regions_change(sheets: Sheets) -> None:
    found = windows(sheets, (1, 0, 0))
    change = found.region[:, 1:] != found.region[:, :-1]
    assert change.any()
    np.testing.assert_allclose(found.to_boundary[:, 1:][change], 0.015)
    assert (found.to_boundary[~np.pad(change, ((0, 0), (1, 0)))] > 0.01).all()


def test_runs_that_have_not_reconnected_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = tmp_path_factory.mktemp("run")
    np.savez(run / "snapshot-000000.npz", **snapshot(0.2))
    with pytest.raises(ValueError, match=r"no snapshot in .* has reconnected 1\.2 to 2\.6 B0 d_i"):
        Sheets.of_runs([run])
    np.savez(run / "snapshot-000125.npz", **snapshot(1.4))
    found = Sheets.of_runs([run])
    assert (len(found.active), len(found.before)) == (2, 2)
