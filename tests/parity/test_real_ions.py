"""A real file of ion moments is read as cdflib reads it, and loses its background by the formulas of the mission."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mms_regions.archive.products import parse_name
from mms_regions.core.types import SECOND
from mms_regions.physics.burst import read_ions
from mms_regions.physics.screening import species_of

NAME = "mms1_fpi_brst_l2_dis-moms_20151016130524_v3.3.0.cdf"
M_P, NPA = 1.6726e-27, 1e9


def test_real_ion_moments_are_those_of_cdflib_without_their_background(reference: Path) -> None:
    cdflib = pytest.importorskip("cdflib")
    file = parse_name(reference / "real" / NAME)
    assert file is not None
    ions, _ = read_ions([file], (file.start - 60 * SECOND, file.start + 600 * SECOND))
    theirs = cdflib.CDF(file.path)

    def raw(name: str) -> np.ndarray:
        return np.asarray(theirs.varget(f"mms1_dis_{name}_brst"), float)

    tt2000 = theirs.varget("Epoch")
    assert len(ions.time) == len(tt2000) and (np.diff(ions.time) == np.diff(tt2000)).all()
    np.testing.assert_array_equal(ions.n, raw("numberdensity"))
    np.testing.assert_array_equal(ions.v_gse, raw("bulkv_gse"))
    np.testing.assert_array_equal(ions.p_gse, raw("prestensor_gse"))
    n, v, p, n_bg, p_bg = (
        raw(name) for name in ("numberdensity", "bulkv_gse", "prestensor_gse", "numberdensity_bg", "pres_bg")
    )
    found = species_of("dis", ions)
    used = np.isfinite(found.n)
    assert used.mean() > 0.95
    left, speed = n - n_bg, (n / (n - n_bg))[:, None] * v
    ram = M_P * 1e12 * NPA * (np.einsum("n,ni,nj->nij", n, v, v) - np.einsum("n,ni,nj->nij", left, speed, speed))
    pressure = p + ram - p_bg[:, None, None] * np.eye(3)
    np.testing.assert_allclose(found.n[used], left[used], rtol=1e-12)
    np.testing.assert_allclose(found.v_gse[used], speed[used], rtol=1e-12)
    np.testing.assert_allclose(found.p_gse[used], pressure[used], rtol=1e-9, atol=1e-9)
