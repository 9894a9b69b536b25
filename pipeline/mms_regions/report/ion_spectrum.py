"""The ion energy spectrogram of a segment, which is in no store: from the CDF files that the segment was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mms_regions.archive.products import DIS
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Event
from mms_regions.core.types import SECOND
from mms_regions.physics.burst import read_ions
from mms_regions.physics.corrected import rows_of
from mms_regions.physics.samples import SPECTRUM_UNITS
from mms_regions.physics.screening import in_time_order
from mms_regions.store.cdf_inputs import recorded_files

_AROUND = SECOND  # an accumulation begins before its centre


def ion_spectrum(data: xr.Dataset, data_dir: Path | str) -> xr.DataArray:
    """(time, energy) ion energy flux of all directions, `samples.SPECTRUM_UNITS`; `energy` (time, energy) is in eV.

    data: as `open_segment` gives it. data_dir: the folder of the CDF files that it was made from. Times are
    centres of accumulations (150 ms) within the segment's interval, UTC; a value that is fill or out of range is NaN,
    and missing time is kept as rows of NaN with the energies of the last sample.
    Raises SegmentProblem where a file is not there any more as it was, or has no ion sample in the interval.
    """
    about = data.attrs
    event = Event(name=about["event"], t_start=about["t_start"], t_end=about["t_end"], B0=about["b0"], n0=about["n0"])
    files = recorded_files(data, Path(data_dir).expanduser(), "the ion spectrogram is made", [DIS])[DIS.key]
    if not files:
        raise SegmentProblem(f"{event.name}/mms{about['probe']}: its store names no file of {DIS.name}; run it again")
    begin, end = event.trange
    ions, clock = read_ions(files, (begin - _AROUND, end + _AROUND))
    order, _ = in_time_order(ions.time, ions.source, ions.files)
    centre = ions.time[order] + ions.accumulation // 2
    time, source = rows_of("ion", centre, ions.accumulation, event, clock)
    flux = ions.spectra["omni"][order][source]
    flux[source < 0] = np.nan
    energy = ions.energy[order][_last(source)]
    return xr.DataArray(
        flux,
        dims=("time", "energy"),
        coords={
            "time": clock.utc(time).astype("datetime64[ns]"),
            "energy": (("time", "energy"), energy, {"units": "eV", "long_name": "energies of the ion spectra"}),
        },
        attrs={"units": SPECTRUM_UNITS, "long_name": "ion energy flux, all directions"},
        name="ion_spectrum_omni",
    )


def _last(source: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each row the sample that it is, or else the last before it; the first for what comes before all."""
    first = source[source >= 0][0]
    last: NDArray[np.intp] = np.maximum.accumulate(np.where(source < 0, first, source))
    return last
