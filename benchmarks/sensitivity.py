"""How far labels hang on B0, n0 and window phase, and what `--perturb` costs: the figures of docs/limits.md.

`python benchmarks/sensitivity.py [MODEL]`: a model that is fetched or shipped, by name. Crossings are of simulated
sheets; distances from the truth mean something for `open` alone, whose regions these are.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import cpu_seconds, machine, table
from numpy.typing import NDArray

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.settings import resolve_settings
from mms_regions.core.types import NO_LABEL, WINDOW, Flags, Floats
from mms_regions.model.card import find_model
from mms_regions.model.label import label_windows
from mms_regions.model.network import N_FEATURES
from mms_regions.model.stability import SHIFTS, Label, feature_factors, sensitivity_of
from mms_regions.model.weights import load_model
from mms_regions.physics.samples import bridged_in
from mms_regions.run.begin import RunRequest
from mms_regions.run.run import run
from mms_regions.store.plan import Slot, require_plan
from mms_regions.store.read import open_segment
from mms_regions.store.shards import read_windows
from mms_regions.synthetic.snapshot import read_sheets
from mms_regions.synthetic.write import read_truth, synthesise
from mms_regions.workers.local import local_pool

SEPARATRIX = (3, 5)
MOVED = ((1, 1), (0.8, 1), (0.9, 1), (1.1, 1), (1.25, 1), (1, 0.9), (1, 1.1))  # B0 and n0, times


def results(quick: bool = False, model: str = "open") -> str:
    """The section of RESULTS.md on `--perturb`, and on how far labels hang on B0 and n0."""
    events = "A" if quick else "A,J,O"
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        store = make_store(here, events, model)
        return f"""## How far labels hang on B0, n0 and window phase

`make bench`: {machine()}.
`{model}`, events {events} x four spacecraft, simulated sheets, seed 1; CPU time, in labellings of the same windows.

{scales_and_cost(store, model)}

{by_distance(store, here / "data")}
"""


def make_store(here: Path, events: str, name: str) -> Path:
    catalogue = read_catalogue("rogers2023")
    segments = catalogue.segments(events)
    synthesise(segments, here / "data", 1, sheets=read_sheets())
    flags = {"data_dir": here / "data", "offline": True, "workers": 0, "model": name, "perturb": 0.1, "device": "cpu"}
    model = find_model(name, os.environ)
    request = RunRequest(catalogue, segments, here / "x.zarr", resolve_settings(flags, {}), model)
    run(request, local_pool, lambda event: None)
    return here / "x.zarr"


def scales_and_cost(store: Path, model: str) -> str:
    network, (shard,) = load_model(find_model(model, os.environ)), require_plan(store).shards
    windows, quality = read_windows(store, shard)
    withheld = bridged_in(quality)

    def label(windows: Floats, withheld: Flags) -> NDArray[np.int8]:
        return label_windows(network, windows, withheld, "cpu").label

    base, firsts = label(windows, withheld), [slot.first for slot in shard.slots]
    found = sensitivity_of(base, windows, withheld, firsts, 0.1, label)
    taken = cpu_seconds(
        {
            "labels": lambda: [label(windows, withheld) for _ in range(12)],
            "perturb": lambda: sensitivity_of(label(windows, withheld), windows, withheld, firsts, 0.1, label),
        },
        5,
    )
    cost = 12 * taken["perturb"] / taken["labels"]
    known = base != NO_LABEL
    rows = []
    for b0, n0 in MOVED:
        other = label(windows * feature_factors(b0, n0), withheld)[known]
        changed, separatrix = (other != base[known]).mean(), np.isin(other, SEPARATRIX).mean()
        rows.append([f"{b0:g}", f"{n0:g}", f"{changed:.1%}", f"{separatrix:.1%}"])
    shifts = [[f"{shift}", f"{_shifted(label, windows, withheld, shard.slots, shift):.1%}"] for shift in SHIFTS]
    return f"""All of `--perturb 0.1`, the labels themselves included, costs {cost:.1f} labellings (promised: 12).
Mean stability {np.nanmean(found.stability):.3f}; {found.changes[known.reshape(-1)].mean():.1%} of labels change
in one run or more.

{table(["B0, times", "n0, times", "labels that change", "separatrix"], rows)}

{table(["windows later by, samples", "labels that change"], shifts)}"""


def _shifted(label: Label, windows: Floats, withheld: Flags, slots: Sequence[Slot], shift: int) -> float:
    """The share of labels that change where windows begin `shift` samples later."""
    changed = known = 0
    base = label(windows, withheld).reshape(-1)
    for slot in slots:
        some = slice(slot.first + shift, slot.end - WINDOW + shift)
        moved = windows.reshape(-1, N_FEATURES)[some].reshape(-1, WINDOW, N_FEATURES)
        other = label(moved, withheld.reshape(-1)[some].reshape(-1, WINDOW)).reshape(-1)
        both = (base[some] != NO_LABEL) & (other != NO_LABEL)
        known, changed = known + both.sum(), changed + (other != base[some])[both].sum()
    return float(changed / known)


def by_distance(store: Path, data: Path) -> str:
    """Stability by distance in samples from the nearest change of the true region."""
    distances, stabilities = [], []
    for slot in require_plan(store).slots:
        seen = open_segment(store, slot.segment.event.name, slot.segment.probe)
        truth = read_truth(data, slot.segment, seen["time"].values.astype(np.int64))
        edges = np.flatnonzero(np.diff(truth)) + 0.5
        distances.append(np.abs(np.arange(len(truth))[:, None] - edges).min(axis=1, initial=np.inf))
        stabilities.append(seen["stability"].values)
    distance, stability = np.concatenate(distances), np.concatenate(stabilities)
    rows = []
    for low, high in ((0, 8), (8, 48), (48, np.inf)):
        some = stability[(distance >= low) & (distance < high) & np.isfinite(stability)]
        if len(some):
            rows.append([f"{low} to {high}", f"{some.mean():.3f}", f"{(some == 1).mean():.1%}"])
    return table(["samples from a boundary of the truth", "mean stability", "samples with 1"], rows)


if __name__ == "__main__":
    print(results(model=sys.argv[1] if len(sys.argv) > 1 else "open"))
