"""The folders and CSV files of the published code; samples without a label are empty here, and 0 there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mms_regions.core.events import Segment
from mms_regions.core.files import write_whole
from mms_regions.core.types import NO_LABEL
from mms_regions.physics.samples import FEATURES


def write_csv(segment: Segment, data: xr.Dataset, folder: Path) -> None:
    """Write `mms4_nndata.csv`, `mms4_labels.csv` and `mms4_probs.csv` of a segment as `open_segment` gives it."""
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
