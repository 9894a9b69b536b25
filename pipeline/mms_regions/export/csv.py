"""What people use outside: the folders and files of the published code, NetCDF files, and a table of stretches."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mms_regions.core.catalogue import Segment
from mms_regions.core.errors import SegmentProblem, UsageProblem
from mms_regions.core.files import write_whole
from mms_regions.core.types import NO_LABEL
from mms_regions.core.version import SOFTWARE
from mms_regions.physics.samples import FEATURES
from mms_regions.store.read import open_segment

FORMATS = ("csv", "tplot", "netcdf", "segments")


@dataclass(frozen=True)
class Exported:
    """What was written: a folder for each segment, or one file; and why a segment could not be, by its key."""

    written: tuple[Path, ...]
    failed: Mapping[str, str] = field(default_factory=dict)


def check_format(form: str, min_duration: float | None) -> None:
    """Raises UsageProblem for a format that there is not, and for a shortest stretch that means nothing there."""
    if form not in FORMATS:
        raise UsageProblem(f"There is no export format {form!r}: choose {', '.join(FORMATS)}")
    if min_duration is not None and form != "segments":
        raise UsageProblem(f"--min-duration is for --format segments; {form} has every sample as it is")
    if min_duration is not None and not (0 <= min_duration < float("inf")):
        raise UsageProblem(f"--min-duration {min_duration} is not a number of seconds; give 0 or more, such as 0.3")


def export_csv(store: Path, segments: Iterable[Segment], out: Path) -> Exported:
    """Write `A_mms4/mms4_nndata.csv`, `mms4_labels.csv` and `mms4_probs.csv` for each segment.

    The files are those of the published code, but for samples without a label: they are empty here, and 0 there.
    Raises UsageProblem for a segment that is not complete in the store.
    """
    return _each(store, segments, out, _write_csv)


def export_tplot(store: Path, segments: Iterable[Segment], out: Path, data_dir: Path) -> Exported:
    """Write `A_mms4/mms4_vars` and `mms4_vars_norm` for each segment; see `tplot.write_tplot`.

    data_dir: the CDF files that the store was made from. Segments whose files are gone fail, the others are written.
    """
    from mms_regions.export.tplot import require_pyspedas, write_tplot

    require_pyspedas()

    def write(segment: Segment, data: xr.Dataset, folder: Path) -> None:
        write_tplot(segment, data, data_dir, folder)

    return _each(store, segments, out, write)


def export_netcdf(store: Path, segments: Iterable[Segment], out: Path) -> Exported:
    """Write `A_mms4.nc` for each segment; see `netcdf.write_netcdf`."""
    from mms_regions.export.netcdf import write_netcdf

    history = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} exported by {SOFTWARE}"
    written = []
    for segment in segments:
        path = out / f"{segment.folder}.nc"
        write_netcdf(open_segment(store, segment.event.name, segment.probe), path, SOFTWARE, history)
        written.append(path)
    return Exported(tuple(written))


def export_segments(store: Path, segments: Iterable[Segment], out: Path, min_duration: float = 0.0) -> Exported:
    """Write `segments.csv`, one row per stretch of equal labels; see `stretches.stretches_table`."""
    from mms_regions.store.stretches import stretches_table

    opened = [open_segment(store, segment.event.name, segment.probe) for segment in segments]
    path = out / "segments.csv"
    write_whole(path, stretches_table(opened, SOFTWARE, min_duration))
    return Exported((path,))


def _each(
    store: Path, segments: Iterable[Segment], out: Path, write: Callable[[Segment, xr.Dataset, Path], None]
) -> Exported:
    """A folder for each segment, as the published code has them."""
    written, failed = [], {}
    for segment in segments:
        folder = out / segment.folder
        try:
            write(segment, open_segment(store, segment.event.name, segment.probe), folder)
            written.append(folder)
        except SegmentProblem as problem:
            failed[segment.key] = str(problem)
    return Exported(tuple(written), failed)


def _write_csv(segment: Segment, data: xr.Dataset, folder: Path) -> None:
    label, confidence = data["label"].values, data["probability"].values.max(axis=1)
    times = [text.replace("T", " ") for text in np.datetime_as_string(data["time"].values, unit="ns")]
    predicted = ["" if value == NO_LABEL else str(value) for value in label]
    rows = zip(times, data["features"].values, strict=True)
    _write(
        folder / f"{segment.spacecraft}_nndata.csv",
        ("", *FEATURES),
        ([time, *("" if np.isnan(x) else str(x) for x in row)] for time, row in rows),
    )
    _write(folder / f"{segment.spacecraft}_labels.csv", ("Predicted",), ([p] for p in predicted))
    _write(
        folder / f"{segment.spacecraft}_probs.csv",
        ("Predicted", "Confidence"),
        ([p, "" if not p else str(c)] for p, c in zip(predicted, confidence, strict=True)),
    )


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
