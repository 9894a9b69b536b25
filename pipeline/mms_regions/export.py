"""What people use outside: for now the folders and CSV files of the published code."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mms_regions.arrays import NO_LABEL
from mms_regions.catalogue import Segment
from mms_regions.files import write_whole
from mms_regions.reading import open_segment
from mms_regions.samples import FEATURES


def export_csv(store: Path, segments: Iterable[Segment], out: Path) -> list[Path]:
    """Write `A_mms4/mms4_nndata.csv`, `mms4_labels.csv` and `mms4_probs.csv` for each segment; returns the folders.

    The files are those of the published code, but for samples without a label: they are empty here, and 0 there.
    Raises UsageProblem for a segment that is not complete in the store.
    """
    return [_export_one(open_segment(store, s.event.name, s.probe), s, out) for s in segments]


def _export_one(data: xr.Dataset, segment: Segment, out: Path) -> Path:
    folder = out / segment.folder
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
    return folder


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
