"""What thin electrons cost: labels of synthetic crossings with real noise, averaged (robust) or masked (strict).

`python benchmarks/thin_electrons.py [SEEDS]`: the events of the demonstration from seeds 1 to SEEDS (10), at their
densities and at a quarter of them, beside the same crossings with perfect electrons. MMS_REGIONS_REFERENCE names the
folder with the published weights, which are then compared too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from measure import machine, table
from real_files import NONE, NOTHING, between, has, network_labels, prepared

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.events import Event, Segment
from mms_regions.core.messages import percent
from mms_regions.core.settings import resolve_settings
from mms_regions.core.types import NO_LABEL, Floats
from mms_regions.model.card import find_model
from mms_regions.model.coverage import lost_by_field
from mms_regions.model.network import RegionRNN
from mms_regions.model.scores import agreement, calibration
from mms_regions.model.weights import import_published, load_model
from mms_regions.physics.samples import FEATURES
from mms_regions.synthetic.demo import CATALOGUE, EVENTS, MODEL
from mms_regions.synthetic.instruments import Troubles
from mms_regions.synthetic.write import read_truth, synthesise

DENSITIES = (1.0, 0.25)
WAYS = {"perfect electrons": (True, "robust"), "robust": (False, "robust"), "strict": (False, "strict")}


@dataclass
class Tally:
    """Samples of some segments: label, largest probability, truth, and the shares that are averaged and assumed."""

    label: list[Floats] = field(default_factory=list)
    confidence: list[Floats] = field(default_factory=list)
    truth: list[Floats] = field(default_factory=list)
    averaged: list[Floats] = field(default_factory=list)
    assumed: list[Floats] = field(default_factory=list)
    bx: list[Floats] = field(default_factory=list)  # in B0

    def cells(self) -> list[str]:
        label, truth, sure = (np.concatenate(x) for x in (self.label, self.truth, self.confidence))
        known = (label != NO_LABEL) & (truth != NO_LABEL)
        if not known.any():
            return ["0.0%", "-", "-", "-", "-", "-"]
        found, right = agreement(label, truth, 6), label[known] == truth[known]
        error = calibration(sure[known], right)["expected_error"]
        shares = [np.concatenate(x)[known].mean() for x in (self.averaged, self.assumed)]
        return [f"{known.mean():.1%}", f"{found.overall:.1%}", f"{found.balanced:.1%}", f"{error:.3f}"] + [
            f"{share:.1%}" for share in shares
        ]


def results(seeds: int = 10) -> str:
    """The section of RESULTS.md."""
    tallies: dict[tuple[str, float, str], Tally] = defaultdict(Tally)
    worst: dict[tuple[str, float, str], list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        models = _models(Path(folder))
        for seed in range(1, seeds + 1):
            for density in DENSITIES:
                for way, (perfect, electrons) in WAYS.items():
                    data = Path(folder) / f"{seed}-{density}-{perfect}"
                    if not data.exists():
                        synthesise(_segments(density), data, seed, Troubles(perfect=perfect))
                    one = _of_seed(data, density, electrons, models)
                    for name, tally in one.items():
                        key = (name, density, way)
                        known = np.concatenate(tally.label) != NO_LABEL
                        right = agreement(np.concatenate(tally.label), np.concatenate(tally.truth), 6).overall
                        worst[key].append((known.mean(), right))
                        said = f"labelled {known.mean():.2%}, right {right:.2%}"
                        print(f"seed {seed}, {name}, density x {density:g}, {way}: {said}", file=sys.stderr, flush=True)
                        for part, values in vars(tallies[key]).items():
                            values += vars(tally)[part]
    rows = [
        [name, f"{density:g}", way, *tally.cells(), f"{min(x[0] for x in worst[name, density, way]):.1%}"]
        for (name, density, way), tally in sorted(tallies.items(), key=lambda item: (item[0][0], -item[0][1]))
    ]
    head = ["model", "density, times", "electrons", "labelled", "right", "balanced", "calibration error"]
    return f"""## Thin electrons: averaged (`robust`) or masked (`strict`)

`python benchmarks/thin_electrons.py`: {machine()}.
Events {EVENTS} x four spacecraft, seeds 1 to {seeds}; noise, empty accumulations and flags of electrons as measured
in the tail (docs/science.md). Shares of right labels are of those samples that have one.

{table([*head, "averaged", "assumed velocity", "labelled, least of the seeds"], rows)}

Samples without a label, by |Bx|/B0 (of those whose B is known):

{_lost(tallies)}
"""


def _lost(tallies: Mapping[tuple[str, float, str], Tally]) -> str:
    """Samples without a label by |Bx|/B0: the same for every model."""
    rows = []
    for (name, density, way), tally in sorted(tallies.items(), key=lambda item: -item[0][1]):
        if name == MODEL:
            features = np.full((sum(map(len, tally.bx)), len(FEATURES)), np.nan)
            features[:, FEATURES.index("Bx")] = np.concatenate(tally.bx)
            lost = lost_by_field(np.concatenate(tally.label).astype(np.int8), features)
            rows.append([f"{density:g}", way, *(percent(one.share) for one in lost)])
    return table(["density, times", "electrons", *map(between, lost_by_field(NONE, NOTHING))], rows)


def _segments(density: float) -> tuple[Segment, ...]:
    """The segments of the demonstration, in plasma of this many times the density."""
    found = []
    for segment in read_catalogue(CATALOGUE).segments(EVENTS):
        event = Event.model_validate(segment.event.model_dump() | {"n0": segment.event.n0 * density})
        found.append(Segment(event, segment.probe))
    return tuple(found)


def _models(folder: Path) -> dict[str, RegionRNN]:
    models = {MODEL: load_model(find_model(MODEL, os.environ))}
    if named := os.environ.get("MMS_REGIONS_REFERENCE"):
        place = {"MMS_REGIONS_MODEL_DIR": str(folder / "models")}
        models["published weights"] = load_model(import_published(Path(named) / "models" / "best_model", place))
    return models


def _of_seed(data: Path, density: float, electrons: str, models: Mapping[str, RegionRNN]) -> dict[str, Tally]:
    tallies: dict[str, Tally] = defaultdict(Tally)
    settings = resolve_settings({"data_dir": data, "offline": True, "electrons": electrons}, {})
    for segment in _segments(density):
        samples = prepared(segment, data, settings)
        truth = read_truth(data, segment, samples.time)
        for name, network in models.items():
            label, confidence = network_labels(samples, network)
            tally = tallies[name]
            tally.label.append(label)
            tally.confidence.append(confidence)
            tally.truth.append(truth)
            tally.averaged.append(has(samples, "electrons_averaged"))
            tally.assumed.append(has(samples, "electrons_assumed"))
            tally.bx.append(samples.features[:, FEATURES.index("Bx")])
    return tallies


if __name__ == "__main__":
    print(results(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
