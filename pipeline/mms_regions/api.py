"""What `mms_regions.open` gives: a store as people use it in a notebook."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from mms_regions.core.errors import SegmentProblem
from mms_regions.core.settings import resolve_settings
from mms_regions.store.read import open_segment, open_store, open_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Store:
    """A store that is there, to read from; it holds nothing but the path, so that a run may go on meanwhile."""

    path: Path

    @property
    def index(self) -> xr.Dataset:
        """One row per segment on `segment`: event, probe, t_start, t_end, b0, n0, status, reason..."""
        return open_store(self.path).drop_dims(["sample"])

    @property
    def segments(self) -> tuple[str, ...]:
        """The keys of the complete segments, such as A/mms4."""
        index = self.index
        rows = zip(index["event"].values, index["probe"].values, index["status"].values, strict=True)
        return tuple(f"{event}/mms{probe}" for event, probe, status in rows if status == "complete")

    def segment(self, event: str, probe: int) -> xr.Dataset:
        """One event seen by one spacecraft, on `time`. Raises UsageProblem where it is not there, or not complete."""
        return open_segment(self.path, event, probe)

    def tree(self) -> xr.DataTree:
        """All complete segments, lazily: tree()["A/mms4"]."""
        return open_tree(self.path)

    def to_tplot(self, event: str, probe: int, names: Sequence[str] | None = None) -> list[str]:
        """Put quantities of a segment, probabilities and a strip of its regions into pyspedas; gives their names there.

        names: quantities of the store, such as b_gsm; None: all that are one series, vector or spectrum per sample.
        A variable of the same name that is in pyspedas is replaced. Raises UsageProblem as `segment`, and for a
        quantity that the store does not have; EnvironmentProblem where there is no pyspedas.
        """
        from mms_regions.export.tplot import put_into_pyspedas

        return put_into_pyspedas(self.segment(event, probe), names)

    def plot(self, event: str, probe: int, title: str = "", data_dir: Path | str | None = None) -> Figure:
        """A picture of a segment: fields, moments, spectra, probabilities and regions on one time axis.

        data_dir: the folder of the CDF files, for the ion spectrogram, which is in them alone; None: as the command
        line has it ($MMS_DATA_DIR). Where it cannot be made, a warning says why, and the picture is without it.
        """
        from mms_regions.report.segment_plot import segment_picture

        data = self.segment(event, probe)
        return segment_picture(data, title, _ions(data, data_dir))


def _ions(data: xr.Dataset, data_dir: Path | str | None) -> xr.DataArray | None:
    from mms_regions.report.ion_spectrum import ion_spectrum

    folder = resolve_settings({"data_dir": data_dir}, os.environ).data_dir
    if folder is None:
        return None
    try:
        return ion_spectrum(data, folder)
    except SegmentProblem as problem:
        warnings.warn(f"The picture is without ions. {problem}", stacklevel=3)
        return None


def open_for_people(store: Path | str) -> Store:
    """Raises UsageProblem where there is no store."""
    open_store(store)
    return Store(Path(store))
