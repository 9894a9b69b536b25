"""MMS-like CDF files of crossings of an analytic layer or a simulated sheet, with the truth beside them.

Names, folders, variables, types and cadences are those of the archive; what is not simulated holds fill values, and
the files say SYNTHETIC. The truth is geometry alone: `truth/A_mms4.csv` has the region of every electron sample.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.archive.products import DES, EDP_FAST, Product
from mms_regions.core.errors import InputProblem, UsageProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.files import write_whole
from mms_regions.core.types import DAY, NO_LABEL, SECOND, Times
from mms_regions.core.version import __version__
from mms_regions.physics.resample import nearest
from mms_regions.synthetic.cdf_writer import unmeasured, write_level2
from mms_regions.synthetic.crossing import (
    FIRST_TRAINING_SEED,
    Crossing,
    LayerLike,
    draw_crossing,
    draw_simulated_crossing,
)
from mms_regions.synthetic.instruments import ACCUMULATION, BURST, Arrays, Troubles, View, measured, rows, troubled
from mms_regions.synthetic.snapshot import Sheet

DESCRIPTION = "synthetic.json"
CLEAN = Troubles()

_BEFORE, _AFTER = 8 * SECOND, 4 * SECOND  # of an event, in its files
_TRUTH = ("time", "region", "x_di", "z_di", "distance_di")


def synthesise(
    segments: Sequence[Segment],
    data_dir: Path,
    seed: int,
    troubles: Troubles = CLEAN,
    observe: Callable[[Segment], None] = lambda segment: None,
    *,
    sheets: Sequence[Sheet] = (),
) -> None:
    """Write the files of these segments below `data_dir`, and the truth; the same again for the same arguments.

    seed: 0 to 2147483647; each event has a crossing of its own. sheets: of a simulation, to cross one of them; without
    any, analytic layers are crossed. Raises UsageProblem for a seed out of range or events
    too close to each other, InputProblem where `data_dir` holds other data: it must be clear what is synthetic.
    """
    if not 0 <= seed < FIRST_TRAINING_SEED:
        raise UsageProblem(f"--seed is from 0 to {FIRST_TRAINING_SEED - 1}; those above are for training, not {seed}.")
    views = [_view(segment, seed, troubles, sheets) for segment in segments]
    _refuse_overlaps(views)
    _claim(data_dir, _description(views, seed, troubles))
    for probe in sorted({view.segment.probe for view in views}):
        days: dict[int, list[Arrays]] = defaultdict(list)
        for view in (view for view in views if view.segment.probe == probe):
            _write_burst(view, data_dir)
            write_whole(truth_path(data_dir, view.segment), _truth(view))
            for day, arrays in _by_day(measured(view, EDP_FAST)):
                days[day].append(arrays)
            observe(view.segment)
        for day, parts in days.items():
            _write(data_dir, EDP_FAST, probe, day, _joined(parts), troubles)


def truth_path(data_dir: Path, segment: Segment) -> Path:
    """Where the truth of a segment lies."""
    return data_dir / "truth" / f"{segment.folder}.csv"


def read_truth(data_dir: Path, segment: Segment, time: Times) -> NDArray[np.int8]:
    """(n,) int8: the true region at these times (ns UTC), -1 where the truth has no electron sample within 15 ms.

    Raises InputProblem where there is no truth for the segment.
    """
    path = truth_path(data_dir, segment)
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
    except FileNotFoundError:
        raise InputProblem(f"There is no {path}: {data_dir} was not made by `mms-regions synthesise`.") from None
    known = np.array([row["time"] for row in rows], "datetime64[ns]").astype(np.int64)
    region = np.array([row["region"] for row in rows], np.int8)
    found = nearest(time, known)
    near = np.abs(known[found] - time) <= ACCUMULATION[DES.key] // 2
    return np.where(near, region[found], NO_LABEL).astype(np.int8)


def _view(segment: Segment, seed: int, troubles: Troubles, sheets: Sequence[Sheet]) -> View:
    """A spacecraft in the crossing of its event, in whole seconds that reach beyond the event on both sides."""
    begin, end = segment.event.trange
    whole = begin // SECOND * SECOND - _BEFORE, -(-end // SECOND) * SECOND + _AFTER
    return View(segment, _crossing(segment.event, seed, sheets), seed, *whole, troubles)


def _crossing(event: Event, seed: int, sheets: Sequence[Sheet]) -> Crossing:
    scales = event.normalisation
    if sheets:
        return draw_simulated_crossing(seed, event.name, scales.b0, scales.n0, sheets)
    return draw_crossing(seed, event.name, scales.b0, scales.n0)


def _refuse_overlaps(views: Iterable[View]) -> None:
    last: dict[int, View] = {}
    for view in sorted(views, key=lambda view: view.begin):
        before = last.get(view.segment.probe)
        if before and before.end > view.begin:
            raise UsageProblem(
                f"{before.segment.key} and {view.segment.key} are less than {(_BEFORE + _AFTER) // SECOND} s apart, so "
                "their files would overlap; synthesise them into different folders"
            )
        last[view.segment.probe] = view


def _description(views: Sequence[View], seed: int, troubles: Troubles) -> dict[str, Any]:
    """What the folder holds, and what every crossing was."""
    crossings = {view.segment.event.name: view.crossing for view in views}
    return {
        "about": "SYNTHETIC DATA, NOT A MEASUREMENT",
        "mms_regions": __version__,
        "seed": seed,
        "troubles": asdict(troubles),
        "segments": [view.segment.key for view in views],
        "crossings": {
            name: {"b0": c.b0, "n0": c.n0, "layer": _described(c.layer), "noise": asdict(c.noise)}
            for name, c in crossings.items()
        },
    }


def _described(layer: LayerLike) -> dict[str, float]:
    """The numbers that a layer has, without the fields of a simulated one."""
    return {name: value for name, value in vars(layer).items() if isinstance(value, int | float)}


def _claim(data_dir: Path, description: Mapping[str, Any]) -> None:
    """Say what the folder is for before anything is in it; a folder that is for something else is refused."""
    path = data_dir / DESCRIPTION
    text = json.dumps(description, indent=2) + "\n"
    if path.is_file():
        if path.read_text() != text:
            raise InputProblem(
                f"{data_dir} holds other synthetic data ({DESCRIPTION} says which); name another folder."
            )
    elif any(data_dir.glob("mms[1-4]")):
        raise InputProblem(
            f"{data_dir} holds MMS files that are not synthetic, or not known to be; name another folder, so that "
            "nobody takes one for the other."
        )
    write_whole(path, text.encode())


def _write_burst(view: View, data_dir: Path) -> None:
    """The burst files of a segment, cut into pieces at whole seconds."""
    whole_seconds = (view.end - view.begin) // SECOND
    edges = view.begin + np.linspace(0, whole_seconds, view.troubles.pieces + 1).astype(np.int64) * SECOND
    contents = {product: measured(view, product) for product in BURST}
    for product, arrays in troubled(view, contents).items():
        for first, last in pairwise(edges):
            inside = (arrays["epoch"] >= first) & (arrays["epoch"] < last)
            _write(data_dir, product, view.segment.probe, int(first), rows(product, arrays, inside), view.troubles)


def _write(
    data_dir: Path, product: Product, probe: int, start: int, arrays: Arrays, troubles: Troubles = CLEAN
) -> None:
    content = arrays | unmeasured(product, arrays)
    write_level2(data_dir, product, probe, start, content, checksum=troubles.checksum)


def _by_day(arrays: Arrays) -> Iterator[tuple[int, Arrays]]:
    """The samples of each day (its midnight, ns UTC): a fast-mode file covers one."""
    days = arrays["epoch"] // DAY
    for day in np.unique(days):
        yield int(day) * DAY, rows(EDP_FAST, arrays, days == day)


def _joined(parts: Sequence[Arrays]) -> Arrays:
    """The samples of several events, in order of time."""
    parts = sorted(parts, key=lambda arrays: int(arrays["epoch"][0]))
    return {key: np.concatenate([arrays[key] for arrays in parts]) for key in parts[0]}


def _truth(view: View) -> bytes:
    """A row for each electron accumulation, at its centre, whether or not there are gaps."""
    time = view.times(DES) + ACCUMULATION[DES.key] // 2
    seconds, probe = view.seconds(time), view.segment.probe
    x, z = view.crossing.place(probe, seconds)
    distance = view.crossing.layer.distance(x, z)
    region = view.crossing.region(probe, seconds)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_TRUTH)
    written = np.datetime_as_string(time.view("datetime64[ns]"), unit="ns")
    places = (np.char.mod("%.4f", values) for values in (x, z, distance))
    writer.writerows(zip(written, region, *places, strict=True))
    return text.getvalue().encode()
