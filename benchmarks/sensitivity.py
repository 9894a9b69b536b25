"""How far labels hang on B0, n0 and window phase, and what `--perturb` costs: the figures of docs/limits.md.

Events A, J and O x four spacecraft, synthetic, seed 1. `python benchmarks/sensitivity.py [MODEL]`; a model that is
fetched or shipped, by name. With `analytic-layer`, whose scene this is, also stability by distance from the truth's
boundaries.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mms_regions.arrays import NO_LABEL
from mms_regions.card import find_model
from mms_regions.catalogue import read_catalogue
from mms_regions.cluster import local_pool
from mms_regions.label import label_windows
from mms_regions.model import load_model
from mms_regions.plan import require_plan
from mms_regions.reading import open_segment
from mms_regions.run import run
from mms_regions.sensitivity import feature_factors, sensitivity_of
from mms_regions.settings import resolve_settings
from mms_regions.store import read_windows
from mms_regions.synthetic import read_truth, synthesise

MODEL = sys.argv[1] if len(sys.argv) > 1 else "analytic-layer"
SEPARATRIX = (3, 5)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        store = make_store(here)
        scales_and_cost(store)
        by_distance(store, here / "data")


def make_store(here: Path) -> Path:
    catalogue = read_catalogue("rogers2023")
    segments = catalogue.segments("A,J,O")
    synthesise(segments, here / "data", 1)
    flags = {"data_dir": here / "data", "offline": True, "workers": 0, "model": MODEL, "perturb": 0.1, "device": "cpu"}
    model = find_model(MODEL, os.environ)
    run(catalogue, segments, here / "x.zarr", resolve_settings(flags, {}), model, local_pool, lambda event: None)
    return here / "x.zarr"


def scales_and_cost(store: Path) -> None:
    network, (shard,) = load_model(find_model(MODEL, os.environ)), require_plan(store).shards
    windows, withheld = read_windows(store, shard)

    def label(windows, withheld):
        return label_windows(network, windows, withheld, "cpu").label

    times = [time.process_time()]
    base = label(windows, withheld)
    times.append(time.process_time())
    found = sensitivity_of(base, windows, withheld, [slot.first for slot in shard.slots], 0.1, label)
    times.append(time.process_time())
    known = base != NO_LABEL
    print(f"{MODEL}: all of --perturb costs {(times[2] - times[0]) / (times[1] - times[0]):.1f} labellings (<= 12)")
    print(f"mean stability {np.nanmean(found.stability):.3f}, changed {found.changes[known.reshape(-1)].mean():.1%}")
    for b0, n0 in ((1, 1), (0.8, 1), (0.9, 1), (1.1, 1), (1.25, 1), (1, 0.9), (1, 1.1)):
        other = label(windows * feature_factors(b0, n0), withheld)[known]
        separatrix, changed = np.isin(other, SEPARATRIX).mean(), (other != base[known]).mean()
        print(f"B0 x {b0:g}, n0 x {n0:g}: {changed:.1%} changed, {separatrix:.1%} separatrix")


def by_distance(store: Path, data: Path) -> None:
    """Distances in samples from the nearest change of the true region."""
    distances, stabilities = [], []
    for slot in require_plan(store).slots:
        seen = open_segment(store, slot.segment.event.name, slot.segment.probe)
        truth = read_truth(data, slot.segment, seen["time"].values.astype(np.int64))
        edges = np.flatnonzero(np.diff(truth)) + 0.5
        far = np.abs(np.arange(len(truth))[:, None] - edges).min(axis=1, initial=np.inf)
        distances.append(far)
        stabilities.append(seen["stability"].values)
    distance, stability = np.concatenate(distances), np.concatenate(stabilities)
    for low, high in ((0, 8), (8, 48), (48, np.inf)):
        some = stability[(distance >= low) & (distance < high) & np.isfinite(stability)]
        print(f"{low} to {high} samples from a boundary: mean {some.mean():.3f}, {(some == 1).mean():.1%} are 1")


if __name__ == "__main__":
    main()
