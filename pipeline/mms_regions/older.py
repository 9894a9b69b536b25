"""What `mms_regions.open` gives: the interface before `open_segment` and its like, kept for one more version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mms_regions.api import open_segment, open_store, open_tree, plot_segment
from mms_regions.export.tplot import put_into_pyspedas

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Store:
    """What `mms_regions.open` gives, the older interface; it holds nothing but the path."""

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
        """As `open_segment`."""
        return open_segment(self.path, event, probe)

    def tree(self) -> xr.DataTree:
        """As `open_tree`."""
        return open_tree(self.path)

    def to_tplot(self, event: str, probe: int, names: Sequence[str] | None = None) -> list[str]:
        """As `put_into_pyspedas`."""
        return put_into_pyspedas(self.segment(event, probe), names)

    def plot(self, event: str, probe: int, title: str = "", data_dir: Path | str | None = None) -> Figure:
        """As `plot_segment`."""
        return plot_segment(self.segment(event, probe), title=title, data_dir=data_dir)


def open_older(store: Path | str) -> Store:
    """Raises UsageProblem where there is no store."""
    open_store(store)
    return Store(Path(store).expanduser())
