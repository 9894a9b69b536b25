"""Benchmark on synthetic events, whose truth is known: the demonstration on other seeds."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.settings import Settings
from mms_regions.model.card import InstalledModel, find_model
from mms_regions.model.scores import Agreement
from mms_regions.model.weights import import_published
from mms_regions.run.run import relabel
from mms_regions.synthetic.demo import CATALOGUE, EVENTS, MODEL, Folder, compare, label_synthetic, total
from mms_regions.synthetic.snapshot import read_sheets
from mms_regions.workers.local import local_pool

SEEDS = range(1, 11)  # the demonstration itself takes 0


def results() -> str:
    """The section of RESULTS.md on synthetic events."""
    with tempfile.TemporaryDirectory() as folder:
        published = _published(Path(folder) / "models")
        return _seeds(Path(folder), published)


def _published(folder: Path) -> InstalledModel | None:
    """The published model, where its file is at hand."""
    named = os.environ.get("MMS_REGIONS_REFERENCE")
    if not named:
        return None
    return import_published(Path(named) / "models" / "best_model", {"MMS_REGIONS_MODEL_DIR": str(folder)})


def _seeds(folder: Path, published: InstalledModel | None) -> str:
    """The events of the demonstration from ten other seeds."""
    rows = []
    for seed in SEEDS:
        here = Folder(folder / f"seed-{seed}")
        model = find_model(MODEL, {})
        label_synthetic(
            here, read_catalogue(CATALOGUE).segments(EVENTS), seed, 0, model, _quiet, _quiet, sheets=read_sheets()
        )
        network, linear = total(compare(here.store, here.data, model))
        theirs = _with_other_model(here, model, published) if published else None
        rows.append(f"| {seed} | {_cells(network)} | {_cells(linear)} | {_cells(theirs) if theirs else '- | -'} |")
    lines = "\n".join(rows)
    return f"""## Agreement with the truth on ten other seeds

Events {EVENTS} x four spacecraft, `mms-regions demo --seed N`; all samples / balanced over regions. The published
weights were made for another scene, so their figures say how far the two differ, not how good they are.

| seed | `{MODEL}` | balanced | logistic regression | balanced | published weights | balanced |
|---|---|---|---|---|---|---|
{lines}
"""


def _with_other_model(here: Folder, model: InstalledModel, other: InstalledModel) -> Agreement:
    relabel(here.store, other, Settings(workers=0), local_pool, _quiet)
    return total(compare(here.store, here.data, model))[0]


def _cells(scores: Agreement) -> str:
    return f"{scores.overall:.1%} | {scores.balanced:.1%}"


def _quiet(event: object) -> None:
    """Nobody listens."""


if __name__ == "__main__":
    print(results())
