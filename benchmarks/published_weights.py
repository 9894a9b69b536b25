"""How the published weights behave: quiet plasma, single samples, without a feature, and what their probabilities mean.

`MMS_REGIONS_REFERENCE=FOLDER python benchmarks/published_weights.py [SEEDS]`: FOLDER has models/best_model. Synthetic
crossings of seeds 1 to SEEDS (10; a quarter of a minute of CPU time each), for which these weights were not made. The
figures of docs/science.md and of the card of `waters2025`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import machine, table
from numpy.typing import NDArray
from real_files import prepared

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.settings import resolve_settings
from mms_regions.core.types import WINDOW, Floats
from mms_regions.model.card import ModelCard
from mms_regions.model.label import label_windows
from mms_regions.model.network import N_FEATURES, RegionRNN
from mms_regions.model.stability import feature_factors
from mms_regions.model.weights import import_published, load_model
from mms_regions.physics.samples import FEATURES
from mms_regions.synthetic.demo import CATALOGUE, EVENTS
from mms_regions.synthetic.write import read_truth, synthesise

DENSE = {"ni": 1.0, "ne": 1.0}  # n0, at rest
PROBES = {
    "nothing: vacuum": {},
    "n = n0": DENSE,
    "n = n0, Bz_gsm = 0.15 B0": DENSE | {"By": -0.15},
    "n = n0, Bz_gsm = -0.15 B0": DENSE | {"By": 0.15},
    "n = n0, Bx = 0.3 B0": DENSE | {"Bx": 0.3},
    "Bx = 0.3 B0": {"Bx": 0.3},
}
ELECTRONS = ("ne", "vex", "vey", "vez")


def labels(network: RegionRNN, windows: Floats) -> tuple[NDArray[np.int8], Floats]:
    found = label_windows(network, windows.astype(np.float32), np.zeros(windows.shape[:2], bool))
    return found.label, found.probability


def results(seeds: int = 10) -> str:
    card, network = _published()
    names = [region.name for region in card.regions]
    windows, truth = _crossings(seeds)
    label, probability = labels(network, windows)
    confidence, right = probability.max(axis=2), label == truth
    alone = labels(network, windows.reshape(-1, 1, N_FEATURES))[0].reshape(label.shape)
    sure = confidence > 0.99
    title = "left out (0 in its place)"
    return f"""## The published weights

`python benchmarks/published_weights.py`: {machine()}.
Events {EVENTS} x four spacecraft, synthetic, seeds 1 to {seeds}, {label.size} samples in complete windows.

{table(["all features zero but", "label of the last of 32 samples", "probability"], _probed(network, names))}

The same label from a single sample: {(alone == label).mean():.1%}. {sure.mean():.1%} of the samples have a probability
above 0.99, and {right[sure].mean():.1%} of these agree with the truth; of the others {right[~sure].mean():.1%}.

{table([title, "labels that change"], _without(network, windows, label))}

{table(["B0, times", "labels that change", "separatrix"], _rescaled(network, windows, label, names))}
"""


def _probed(network: RegionRNN, names: Sequence[str]) -> list[list[str]]:
    rows = []
    for title, values in PROBES.items():
        window = np.zeros((1, WINDOW, N_FEATURES), np.float32)
        for name, value in values.items():
            window[..., FEATURES.index(name)] = value
        label, probability = labels(network, window)
        rows.append([title, names[label[0, -1]], f"{probability[0, -1].max():.2f}"])
    return rows


def _without(network: RegionRNN, windows: Floats, label: NDArray[np.int8]) -> list[list[str]]:
    rows = []
    for left_out in (ELECTRONS, *((name,) for name in FEATURES)):
        some = windows.copy()
        some[..., [FEATURES.index(name) for name in left_out]] = 0
        changed = (labels(network, some)[0] != label).mean()
        rows.append([", ".join(left_out), f"{changed:.1%}"])
    return rows


def _rescaled(network: RegionRNN, windows: Floats, label: NDArray[np.int8], names: Sequence[str]) -> list[list[str]]:
    separatrix = [i for i, name in enumerate(names) if name.startswith("separatrix")]
    rows = []
    for factor in (1.0, 0.8, 1.25):
        found = labels(network, windows * feature_factors(factor, 1.0))[0]
        shares = [f"{(found != label).mean():.1%}", f"{np.isin(found, separatrix).mean():.1%}"]
        rows.append([f"{factor:g}", *shares])
    return rows


def _published() -> tuple[ModelCard, RegionRNN]:
    if not (named := os.environ.get("MMS_REGIONS_REFERENCE")):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        model = import_published(Path(named) / "models" / "best_model", {"MMS_REGIONS_MODEL_DIR": folder})
        return model.card, load_model(model)


def _crossings(seeds: int) -> tuple[Floats, NDArray[np.int8]]:
    windows, truths = [], []
    segments = read_catalogue(CATALOGUE).segments(EVENTS)
    for seed in range(1, seeds + 1):
        print(f"seed {seed} of {seeds}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            synthesise(segments, Path(folder), seed)
            settings = resolve_settings({"data_dir": folder, "offline": True}, {})
            for segment in segments:
                samples = prepared(segment, Path(folder), settings)
                n = len(samples) // WINDOW * WINDOW
                whole = np.isfinite(samples.features[:n]).all(axis=1).reshape(-1, WINDOW).all(axis=1)
                windows.append(samples.features[:n].reshape(-1, WINDOW, N_FEATURES)[whole])
                truths.append(read_truth(Path(folder), segment, samples.time[:n]).reshape(-1, WINDOW)[whole])
    return np.concatenate(windows), np.concatenate(truths)


if __name__ == "__main__":
    print(results(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
