"""A picture of how a run went: a row for each worker process, and its tasks as bars along time in colours of stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mms_regions.report.efficiency import TaskSpan
from mms_regions.report.strips import SMALL, WIDTH, boxes

_COLOURS = ("#4477AA", "#CCBB44", "#228833", "#AA3377")  # of stages, in the order in which they came; then again
_FAILED = "#CC0000"
_ROW, _MOST_ROWS = 0.22, 10.0  # inches, of a worker and of all
_ABOVE, _BELOW = 0.45, 0.45


def timeline_picture(spans: Sequence[TaskSpan]) -> Figure:
    """The tasks of a run; those that overlap in one process share its row, the later one on top. A red edge: failed.

    Raises ValueError where there are none.
    """
    if not spans:
        raise ValueError("there are no tasks to draw")
    begin = min(one.started for one in spans)
    workers = {worker: row for row, worker in enumerate(dict.fromkeys(one.worker for one in spans))}
    stages = list(dict.fromkeys(one.stage for one in spans))
    colours = {stage: _COLOURS[i % len(_COLOURS)] for i, stage in enumerate(stages)}
    inner = min(max(len(workers), 2) * _ROW, _MOST_ROWS)
    tall = _ABOVE + inner + _BELOW
    figure = Figure(figsize=(WIDTH, tall))
    axes = figure.add_axes((0.13, _BELOW / tall, 0.84, inner / tall))
    rows = np.array([workers[one.worker] for one in spans], float)
    low, high = (np.array([getattr(one, end) for one in spans]) - begin for end in ("started", "ended"))
    corners = boxes(low, high, 0.1, 0.9)
    corners[:, :, 1] += rows[:, None]
    edges = [_FAILED if one.failed else "white" for one in spans]
    widths = [1.2 if one.failed else 0.3 for one in spans]
    faces = [colours[one.stage] for one in spans]
    axes.add_collection(PolyCollection(list(corners), facecolors=faces, edgecolors=edges, linewidths=widths))
    axes.set_xlim(0, max(float(high.max()), 1e-3))
    axes.set_ylim(len(workers), 0)
    step = -(-len(workers) // 40)  # names stay apart
    axes.set_yticks([row + 0.5 for row in list(workers.values())[::step]], list(workers)[::step], fontsize=SMALL - 1)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.set_xlabel("s since the first task began", fontsize=SMALL)
    patches = [Patch(facecolor=colour, label=stage) for stage, colour in colours.items()]
    if any(one.failed for one in spans):
        patches.append(Patch(facecolor="white", edgecolor=_FAILED, label="failed"))
    figure.legend(handles=patches, loc="upper center", ncols=len(patches), frameon=False, fontsize=SMALL)
    return figure
