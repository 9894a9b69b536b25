"""A store as an object, for notebooks: segments by key, tables as DataFrames, and what it is shown as."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mms_regions.api import open_segment, open_store
from mms_regions.core.events import parse_key

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_COLUMNS = (
    *("event", "probe", "t_start", "t_end", "b0", "n0", "status", "reason", "cause", "n_samples", "coverage"),
    *("origin", "scale_caution"),
)
_TEXTS = ("event", "spacecraft", "region")


class Store:
    """A store that `mms-regions run` or `run_segments` made.

    `store["A/mms4"]` is a segment, iterating gives the keys of complete ones. What a run adds meanwhile is seen: only
    the path is kept.

    Parameters
    ----------
    path : path
        The folder of the store.

    Raises
    ------
    UsageProblem
        There is no store; for a key: the store does not hold the segment, or it is not complete.

    Examples
    --------
    >>> store = Store("a.zarr")
    >>> list(store)[0], store["A/mms1"]["label"].dims
    ('A/mms1', ('time',))
    """

    def __init__(self, path: Path | str):
        self.path = Path(path).expanduser()
        open_store(self.path)

    def __getitem__(self, key: str) -> xr.Dataset:
        """A segment as `open_segment` gives it."""
        return open_segment(self.path, *parse_key(key))

    def __iter__(self) -> Iterator[str]:
        table = self.segments
        return iter(table.index[table["status"] == "complete"].tolist())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in list(self)

    @property
    def segments(self) -> pd.DataFrame:
        """A row for each segment, complete or not, by key: t_start, t_end (UTC), b0 (nT), n0 (cm^-3), status..."""
        whole = open_store(self.path).drop_dims("sample")
        table = whole[[name for name in _COLUMNS if name in whole]].reset_coords(drop=True).to_dataframe()
        table.index = [f"{event}/mms{probe}" for event, probe in zip(table["event"], table["probe"], strict=True)]
        table.index.name = "segment"
        return table

    def stretches(self, min_duration: float | None = None) -> pd.DataFrame:
        """A row for each stretch of equal labels of the complete segments; `attrs["units"]` has the units.

        min_duration: s; shorter stretches are joined to their neighbours, as `export --format segments` does, by whose
        default too.
        """
        import pandas as pd

        from mms_regions.store.stretches import column_units, shortest_of, stretch_rows

        rows, units = list[dict[str, object]](), dict[str, str]()
        for key in self:
            data = open_segment(self.path, *parse_key(key)).load()
            rows += stretch_rows(data, shortest_of(min_duration))
            units |= column_units([data])
        table = pd.DataFrame(rows, columns=list(units))
        for name in table.columns.difference(list(_TEXTS)):
            convert = pd.to_datetime if name in ("start", "stop") else pd.to_numeric
            table[name] = convert(table[name])
        table.attrs["units"] = {name: unit for name, unit in units.items() if unit}
        return table

    def samples(self) -> xr.Dataset:
        """All samples of all segments, one segment after another, without the padding of the store; lazily."""
        import numpy as np

        whole = open_store(self.path)
        return whole.isel(sample=np.flatnonzero(whole["segment_id"].values >= 0))

    @property
    def cautions(self) -> tuple[str, ...]:
        """What to be careful about: sentences of the model's card, then of the scales of segments."""
        from mms_regions.store.read import card_of

        table = self.segments
        found = table["scale_caution"].items() if "scale_caution" in table else ()
        doubts = (f"{key}: {text}" for key, text in found if text)
        return (*card_of(open_store(self.path)).get("cautions", ()), *doubts)

    def _facts(self) -> dict[str, str]:
        """What is shown of it, as texts."""
        from mms_regions.core.messages import counted, percent
        from mms_regions.store.read import card_of, settings_of

        whole, table = open_store(self.path), self.segments
        done = table[table["status"] == "complete"]
        counts = ", ".join(
            f"{n} {str(status).replace('_', ' ')}" for status, n in table["status"].value_counts().items()
        )
        known = [share for share in done.get("coverage", ()) if share == share]  # NaN: not known
        return {
            "store": str(self.path),
            "segments": counts,
            "events": f"{counted(table['event'].nunique(), 'event')}: {', '.join(table['event'].unique()[:12])}",
            "spacecraft": ", ".join(f"mms{probe}" for probe in sorted(set(table["probe"]))),
            "model": card_of(whole).get("name", "none yet"),
            "convention": str(settings_of(whole)["convention"]),
            "labelled": percent(sum(known) / len(known)) if known else "-",
            "cautions": str(len(self.cautions)),
        }

    def __repr__(self) -> str:
        rows = "\n".join(f"  {name:<12}{text}" for name, text in self._facts().items())
        return f"<mms_regions.Store>\n{rows}"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in self._facts().items()
        )
        cautions = "".join(f"<li>{escape(text)}</li>" for text in self.cautions)
        return f"<table>{rows}</table><details><summary>cautions</summary><ul>{cautions}</ul></details>"
