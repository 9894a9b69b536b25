"""GSE to GSM on a real burst magnetometer file, against the instrument team's own GSM field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycdfpp
import pytest

from mms_regions.core.types import Floats, Times
from mms_regions.physics.frames import gse_to_gsm

NAME = "mms1_fgm_brst_l2_20151016130524_v4.18.1.cdf"


@dataclass(frozen=True)
class Field:
    time: Times
    b_gse: Floats
    b_gsm: Floats


@pytest.fixture(scope="module")
def field(reference: Path) -> Field:
    """2 min 19 s at the dayside magnetopause, 2015-10-16, nT, rows with a raised flag left out."""
    cdf = pycdfpp.load(str(reference / "real" / NAME))
    good = np.asarray(cdf["mms1_fgm_flag_brst_l2"].values) == 0
    time = np.asarray(pycdfpp.to_datetime64(cdf["Epoch"])).astype("datetime64[ns]").astype(np.int64)
    gse, gsm = (np.asarray(cdf[f"mms1_fgm_b_{frame}_brst_l2"].values)[:, :3] for frame in ("gse", "gsm"))
    return Field(time[good], gse[good].astype(np.float64), gsm[good].astype(np.float64))


def test_within_a_hundredth_of_a_nanotesla(field: Field) -> None:
    assert len(field.time) > 17_000
    off = gse_to_gsm(field.time, field.b_gse) - field.b_gsm
    assert np.sqrt((off**2).sum(axis=1).mean()) < 0.01


def test_within_a_fiftieth_of_a_degree(field: Field) -> None:
    """Angles are taken about x, where the field is not small; the frames are 29 degrees apart then."""
    found = gse_to_gsm(field.time, field.b_gse)
    strong = np.hypot(field.b_gsm[:, 1], field.b_gsm[:, 2]) > 5.0
    assert strong.mean() > 0.5
    assert np.degrees(turn(found, field.b_gsm)[strong]).max() < 0.02
    assert np.degrees(turn(field.b_gse, field.b_gsm)[strong]).min() > 29


def turn(a: Floats, b: Floats) -> Floats:
    """(n,) rad, 0 to pi: the angle about x between two sets of vectors."""
    along, across = a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2], a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    return np.abs(np.arctan2(across, along))
