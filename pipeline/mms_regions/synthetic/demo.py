"""The whole line on synthetic events: files, store, labels, tables, pictures, and how labels compare with the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.errors import InputProblem, SegmentProblem
from mms_regions.core.events import Segment
from mms_regions.core.messages import Observer
from mms_regions.core.regions import Region, regions_of
from mms_regions.core.settings import resolve_settings
from mms_regions.core.types import NO_LABEL
from mms_regions.export.export import export
from mms_regions.model.card import OPEN, InstalledModel
from mms_regions.model.linear import LinearRegions
from mms_regions.model.scores import Agreement, agreement
from mms_regions.report.segment_plot import event_picture, save_picture
from mms_regions.run.begin import RunRequest
from mms_regions.run.run import run
from mms_regions.run.status import complete_segments
from mms_regions.store.read import open_segment
from mms_regions.synthetic.snapshot import Sheet, read_sheets
from mms_regions.synthetic.write import read_truth, synthesise
from mms_regions.workers.local import local_pool

CATALOGUE, EVENTS = "rogers2023", "A,J,O"  # 30 to 45 s each
MODEL = OPEN


@dataclass(frozen=True)
class Compared:
    """One segment beside its truth: labels of the model, of the logistic regression, and what is true; (n,) each."""

    segment: Segment
    label: NDArray[np.int8]
    linear: NDArray[np.int8]
    truth: NDArray[np.int8]
    regions: tuple[Region, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each region among all samples."""
        return tuple(float((self.label == region).mean()) for region in range(len(self.regions)))


@dataclass(frozen=True)
class Folder:
    """Where a demonstration leaves what it makes."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def store(self) -> Path:
        return self.path / "demo.zarr"

    @property
    def tables(self) -> Path:
        return self.path / "csv"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"


def demonstrate(
    folder: Folder,
    seed: int,
    workers: int | None,
    model: InstalledModel,
    made: Callable[[Segment], None],
    observe: Observer,
) -> list[Compared]:
    """Make three events x four spacecraft that cross simulated sheets, label them, and compare with the truth.

    workers: None for the default. made: is called with each segment whose files are there; observe: gets
    the messages of the run.
    Raises SegmentProblem where a segment failed, and what `synthesise` and `run` raise.
    """
    segments = read_catalogue(CATALOGUE).segments(EVENTS)
    label_synthetic(folder, segments, seed, workers, model, made, observe, sheets=read_sheets())
    export(folder.store, segments, folder.tables, "csv")
    compared = compare(folder.store, folder.data, model)
    draw_events(folder, compared)
    return compared


def label_synthetic(
    folder: Folder,
    segments: Sequence[Segment],
    seed: int,
    workers: int | None,
    model: InstalledModel,
    made: Callable[[Segment], None],
    observe: Observer,
    *,
    sheets: Sequence[Sheet] = (),
) -> None:
    """Make the files of these segments of the catalogue, and a store of them; arguments as for `demonstrate`.

    sheets: as for `synthesise`.
    """
    synthesise(segments, folder.data, seed, observe=made, sheets=sheets)
    flags = {"data_dir": folder.data, "offline": True, "workers": workers, "model": model.card.name}
    settings = resolve_settings(flags, {})
    request = RunRequest(read_catalogue(CATALOGUE), segments, folder.store, settings, model)
    summary = run(request, local_pool, observe)
    if problems := {**summary.failed, **summary.no_data}:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in problems.items())
        raise SegmentProblem(f"{folder.store}: some segments failed: {reasons}")


def compare(store: Path, data_dir: Path, model: InstalledModel) -> list[Compared]:
    """The segments of a store that was made from synthetic files, each beside its truth.

    model: the one whose card has the logistic regression to compare with. Raises InputProblem without a truth.
    """
    linear = LinearRegions.from_card(model.card)
    if linear is None:
        raise InputProblem(f"The card of {model.card.name} has no logistic regression to compare with; train it again.")
    compared = []
    for segment in complete_segments(store, None, None):
        data = open_segment(store, segment.event.name, segment.probe)
        truth = read_truth(data_dir, segment, data["time"].values.astype(np.int64))
        regions = regions_of(data["label"].attrs)
        compared.append(Compared(segment, data["label"].values, _linear_labels(linear, data), truth, regions))
    return compared


def total(compared: Sequence[Compared]) -> tuple[Agreement, Agreement]:
    """Agreement with the truth over all segments: of the model, and of the logistic regression."""
    truth = np.concatenate([one.truth for one in compared])
    label, linear = (np.concatenate([getattr(one, name) for one in compared]) for name in ("label", "linear"))
    regions = len(compared[0].regions)
    return agreement(label, truth, regions), agreement(linear, truth, regions)


def draw_events(folder: Folder, compared: Sequence[Compared]) -> None:
    """One picture per event: fields and moments of the first spacecraft, regions and truth of all."""
    for event in dict.fromkeys(one.segment.event for one in compared):
        data, truth = {}, {}
        for one in compared:
            if one.segment.event == event:
                seen = open_segment(folder.store, event.name, one.segment.probe)
                data[one.segment.spacecraft] = seen
                truth[one.segment.spacecraft] = seen["label"].copy(data=one.truth)
        title = f"Event {event.name}: a synthetic crossing, labelled by {MODEL} (not validated on MMS data)"
        save_picture(event_picture(data, truth, title), folder.pictures / f"{event.name}.png")


def _linear_labels(linear: LinearRegions, data: xr.Dataset) -> NDArray[np.int8]:
    """Labels of each sample by itself, -1 where the network gives none either."""
    label = linear.label(np.nan_to_num(data["features"].values))
    return np.where(data["label"].values == NO_LABEL, NO_LABEL, label).astype(np.int8)
