"""How the published weights behave: plain inputs, single samples, without electrons, and what their probabilities mean.

`MMS_REGIONS_REFERENCE=FOLDER python benchmarks/published_weights.py`: FOLDER has models/best_model. The figures of
docs/science.md; samples are synthetic crossings, for which these weights were not made.
"""

from __future__ import annotations

import os
import sys
import tempfile
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
from mms_regions.model.weights import import_published, load_model
from mms_regions.physics.samples import FEATURES
from mms_regions.synthetic.demo import CATALOGUE, EVENTS
from mms_regions.synthetic.write import read_truth, synthesise

PROBES = {"zeros": {}, "Bz_gsm = 0.15 B0": {"By": -0.15}, "Bx = 0.3 B0": {"Bx": 0.3}}
ELECTRONS = [FEATURES.index(name) for name in ("ne", "vex", "vey", "vez")]


def labels(network: RegionRNN, windows: Floats) -> tuple[NDArray[np.int8], Floats]:
    found = label_windows(network, windows.astype(np.float32), np.zeros(windows.shape[:2], bool))
    return found.label, found.probability


def results() -> str:
    card, network = _published()
    names = [region.name for region in card.regions]
    rows = []
    for title, values in PROBES.items():
        window = np.zeros((1, WINDOW, N_FEATURES), np.float32)
        for name, value in values.items():
            window[..., FEATURES.index(name)] = value
        label, probability = labels(network, window)
        rows.append([title, names[label[0, -1]], f"{probability[0, -1].max():.2f}"])
    windows, truth = _crossings()
    label, probability = labels(network, windows)
    confidence, right = probability.max(axis=2), label == truth
    alone = labels(network, windows.reshape(-1, 1, N_FEATURES))[0].reshape(label.shape)
    without = windows.copy()
    without[..., ELECTRONS] = 0
    blind = labels(network, without)[0]
    sure = confidence > 0.99
    return f"""## The published weights

`python benchmarks/published_weights.py`: {machine()}.
Events {EVENTS} x four spacecraft, synthetic, seed 1, {label.size} samples in whole windows.

{table(["all features zero but", "label of the last of 32 samples", "probability"], rows)}

The same label from a single sample: {(alone == label).mean():.1%}; with electron density and velocity zero:
{(blind == label).mean():.1%}. {sure.mean():.1%} of the samples have a probability above 0.99, and
{right[sure].mean():.1%} of these agree with the truth; of the others {right[~sure].mean():.1%}.
"""


def _published() -> tuple[ModelCard, RegionRNN]:
    if not (named := os.environ.get("MMS_REGIONS_REFERENCE")):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        model = import_published(Path(named) / "models" / "best_model", {"MMS_REGIONS_MODEL_DIR": folder})
        return model.card, load_model(model)


def _crossings() -> tuple[Floats, NDArray[np.int8]]:
    windows, truths = [], []
    with tempfile.TemporaryDirectory() as folder:
        segments = read_catalogue(CATALOGUE).segments(EVENTS)
        synthesise(segments, Path(folder), 1)
        settings = resolve_settings({"data_dir": folder, "offline": True}, {})
        for segment in segments:
            samples = prepared(segment, Path(folder), settings)
            n = len(samples) // WINDOW * WINDOW
            whole = np.isfinite(samples.features[:n]).all(axis=1).reshape(-1, WINDOW).all(axis=1)
            windows.append(samples.features[:n].reshape(-1, WINDOW, N_FEATURES)[whole])
            truths.append(read_truth(Path(folder), segment, samples.time[:n]).reshape(-1, WINDOW)[whole])
    return np.concatenate(windows), np.concatenate(truths)


if __name__ == "__main__":
    print(results())
