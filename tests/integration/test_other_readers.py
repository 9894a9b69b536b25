"""Fetched files hold for cdflib and for pyspedas what they hold for our reader: the same values at the same times."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cdflib
import numpy as np
import pytest
from archive_faults import LoopbackArchive
from numpy.typing import NDArray

from mms_regions.archive.fetch import FetchOptions, fetch_segment
from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, PRODUCTS, CdfFile, find_files
from mms_regions.archive.servers import Source
from mms_regions.core.events import Event, Segment
from mms_regions.core.types import SECOND, Floats, Times
from mms_regions.physics.burst import Burst, ElectricField, Moments, read_burst
from mms_regions.synthetic.instruments import Troubles
from mms_regions.synthetic.write import synthesise

EVENT = Event(name="A", t_start="2017-07-11T10:34:00", t_end="2017-07-11T10:34:06", B0=12.0, n0=0.2)
SEGMENT = Segment(EVENT, 4)
TROUBLES = Troubles(gaps=2, flags=6, background=True, pieces=2)  # all that files may hold, the field flagged too
SEED = 3
MARGIN = 20.0  # s, more than files reach beyond the event

MOMENTS = {
    "numberdensity": "n",
    "bulkv_gse": "v_gse",
    "prestensor_gse": "p_gse",
    "heatq_gse": "q_gse",
    "temppara": "t_par",
    "tempperp": "t_perp",
    "errorflags": "error_flags",
}

# Run in a process of its own: pyspedas takes seconds to import and keeps all data in one place.
PYSPEDAS = """
import socket, sys

def no_network(*anything):
    raise AssertionError("pyspedas asked for the network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network

import numpy as np
from pyspedas import get_data
from pyspedas.projects import mms

common = dict(trange=["2017-07-11/10:33:52", "2017-07-11/10:34:10"], probe="4", level="l2", no_update=True)
loaded = [
    *mms.fpi(datatype=["dis-moms", "des-moms"], data_rate="brst", get_support_data=True, **common),
    *mms.fgm(data_rate="brst", get_support_data=True, **common),
    *mms.edp(data_rate="brst", get_support_data=True, **common),
    *mms.edp(data_rate="fast", get_support_data=True, **common),
]
found = {}
for name in set(loaded):
    data = get_data(name)
    if data is not None and hasattr(data, "y"):
        found[name], found[name + " time"] = data.y, data.times
np.savez(sys.argv[1], **found)
"""


@dataclass(frozen=True)
class Read:
    """One variable as our reader has it, under its name in the files."""

    name: str
    epoch: str
    files: tuple[CdfFile, ...]
    time: Times
    values: NDArray[np.generic]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache as a fetch leaves it: synthetic files of one spacecraft, with all troubles, that a server has given."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthesise([SEGMENT], folder / "served", SEED, TROUBLES)
    with LoopbackArchive(folder / "served") as archive:
        source = Source("sdc", archive.sdc_url)
        fetched = fetch_segment(SEGMENT, source, FetchOptions(PRODUCTS, MARGIN, folder / "cache"))
    assert {pin.source for pin in fetched} == {"sdc"}
    assert len(fetched) == len(list((folder / "served").rglob("*.cdf")))
    return folder / "cache"


@pytest.fixture(scope="module")
def burst(data_dir: Path) -> Burst:
    """All that our reader finds in them."""
    begin, end = EVENT.trange
    beyond = round(MARGIN * SECOND)
    files = find_files(SEGMENT, [DIS, DES, FGM, EDP_BURST, EDP_FAST], data_dir, MARGIN)
    return read_burst(files, (begin - beyond, end + beyond))


@pytest.fixture(scope="module")
def read(burst: Burst) -> dict[str, Read]:
    """Every variable that our reader uses."""
    assert burst.electric_fast
    parts = [
        *_moments("dis", burst.ions),
        *_moments("des", burst.electrons),
        *_electric("brst", burst.electric),
        *_electric("fast", burst.electric_fast),
    ]
    b = burst.magnetic
    field = np.column_stack([b.b_gse, b.b_mag])
    parts.append(Read("mms4_fgm_b_gse_brst_l2", "Epoch", b.files, b.time, field))
    return {part.name: part for part in parts}


def _moments(short: str, moments: Moments) -> Iterator[Read]:
    values = {name: getattr(moments, field) for name, field in MOMENTS.items()}
    values |= {f"energyspectr_{way}": spectrum for way, spectrum in moments.spectra.items()}
    if moments.n_bg is not None and moments.p_bg is not None:
        values |= {"numberdensity_bg": moments.n_bg, "pres_bg": moments.p_bg}
    for name, array in (values | {"energy": moments.energy}).items():
        yield Read(f"mms4_{short}_{name}_brst", "Epoch", moments.files, moments.time, array)


def _electric(mode: str, field: ElectricField) -> Iterator[Read]:
    for name, values in (("dce_gse", field.e_gse), ("quality", field.quality)):
        yield Read(f"mms4_edp_{name}_{mode}_l2", f"mms4_edp_epoch_{mode}_l2", field.files, field.time, values)


# cdflib


def test_cdflib_reads_the_same_values_and_times(read: dict[str, Read]) -> None:
    assert len(read) == (8 + 1 + 2) + (8 + 4) + 4 + 1  # ions with spectrum and background, electrons, E twice, B
    for name, ours in read.items():
        files = [cdflib.CDF(file.path) for file in ours.files]
        times = [cdflib.cdfepoch.to_datetime(file.varget(ours.epoch)).astype(np.int64) for file in files]
        assert np.concatenate(times).tolist() == ours.time.tolist(), name
        values = np.concatenate([file.varget(name) for file in files])
        np.testing.assert_array_equal(_masked(values, files, name), ours.values, err_msg=name)


def _masked(values: Floats, files: list[cdflib.CDF], name: str) -> Floats:
    """Fill values as NaN; the field also where its flag is set, as our reader does."""
    if values.dtype.kind == "f":
        values = np.where(values == files[0].varattsget(name)["FILLVAL"], np.nan, values)
    if name == "mms4_fgm_b_gse_brst_l2":
        flag = np.concatenate([file.varget("mms4_fgm_flag_brst_l2") for file in files])
        assert flag.any()
        values[flag != 0] = np.nan
    return values


def test_cdflib_reads_the_accumulation_and_the_position(burst: Burst) -> None:
    for moments, seconds in ((burst.ions, 0.15), (burst.electrons, 0.03)):
        assert cdflib.CDF(moments.files[0].path).varget("Epoch_plus_var") == pytest.approx(seconds)
        assert moments.accumulation == round(seconds * SECOND)
    r_gse = cdflib.CDF(burst.magnetic.files[0].path).varget("mms4_fgm_r_gse_brst_l2")
    assert burst.position_gse == pytest.approx(r_gse[0, :3], abs=100.0)  # km, of 140,000
    assert np.linalg.norm(r_gse[0, :3]) == pytest.approx(r_gse[0, 3])


# pyspedas


@pytest.fixture(scope="module")
def pyspedas(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.generic]]:
    """What the loaders of pyspedas find in these files, with downloads off and no network to be had."""
    scratch = tmp_path_factory.mktemp("pyspedas")
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MMS_", "SPEDAS_"))}
    folders = {"MMS_DATA_DIR": str(data_dir), "SPEDAS_DATA_DIR": str(scratch), "HOME": str(scratch)}
    command = [sys.executable, "-c", PYSPEDAS, str(scratch / "found.npz")]
    done = subprocess.run(
        command, env=plain | folders | {"MPLBACKEND": "agg"}, cwd=scratch, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "asked for the network" not in done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == before
    with np.load(scratch / "found.npz") as found:
        return dict(found)


def test_pyspedas_loads_the_same_values_and_times(
    read: dict[str, Read], pyspedas: dict[str, NDArray[np.generic]]
) -> None:
    for name, ours in read.items():
        theirs = f"{name}_moms" if "errorflags" in name else name  # renamed by its loader
        assert np.abs(pyspedas[f"{theirs} time"] - ours.time / SECOND).max() < 1e-6, name
        np.testing.assert_array_equal(pyspedas[theirs], ours.values, err_msg=name)


def test_both_mask_the_flagged_field(read: dict[str, Read], pyspedas: dict[str, NDArray[np.generic]]) -> None:
    name = "mms4_fgm_b_gse_brst_l2"
    missing = np.isnan(read[name].values).any(axis=1)
    assert missing.any() and not missing.all()
    assert np.array_equal(np.isnan(pyspedas[name]).all(axis=1), missing)
