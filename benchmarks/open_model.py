"""The figures of docs/model-open.md: `python benchmarks/open_model.py WORK [--real FOLDER]`.

WORK: the folder of `mms-regions train --recipe open --work WORK`, whose run of the acceptance is crossed again, for the
scale estimator and, where $MMS_REGIONS_REFERENCE/models/best_model is, for the published weights. All else is from the
card. FOLDER: real files with an events.csv, labelled by both models.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine, table
from scales import Score, samples_of

import mms_regions
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Event
from mms_regions.model.card import ModelCard, find_model
from mms_regions.model.label import label_windows
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import import_published, load_model
from mms_regions.physics.estimated_scales import estimate_scales
from mms_regions.synthetic.crossing import draw_simulated_crossing, scales_now
from mms_regions.training.crossings import Sheets, Virtual
from mms_regions.training.evaluate import against_truth
from mms_regions.training.open_model import ACCEPTANCE, CLASSES, scoring_windows

_CASES, _SECONDS, _SEED = 60, 45, 31_000
_START = np.datetime64("2017-07-11T10:34:00", "ns")
Scores = Mapping[str, Any]


def results(work: Path, real: Path | None) -> str:
    """Tables in Markdown, in the order of the page."""
    card = find_model("open", {}).card
    published = _published()
    parts = {
        "Acceptance": _acceptance(card.scores),
        "Simulations": _simulations(card.scores),
        "Scores": _scores(card, scoring_windows(work), published),
        "How labels depend on what a separatrix region is": _edges(card.scores),
        "B0 and n0 estimated": _scales(work),
    }
    if real:
        parts["Real files"] = _real(real, published)
    return f"{machine()}.\n\n" + "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items())


def _acceptance(scores: Scores) -> str:
    other = scores["comparison_on_the_calibration_run"]
    here = scores["calibration_run"]["overall"]
    runs = scores["simulations"].values()
    rows = [
        [name.replace("_", " "), line["limit"], f"{line['figure']}", _met(line["met"])]
        for name, line in scores["acceptance"].items()
    ]
    apart = abs(here - other["other_seed"]["overall"])
    energy = max(run["energy_change"] for run in runs)
    rates = [rate for run in runs for rate in run["largest_rate_of_the_inflow"]]
    rows += [
        ["two training seeds differ by (calibration run)", "< 0.02", f"{apart:.4f}", _met(apart < 0.02)],
        ["energy of the simulations changes by", "< 0.002", f"{energy:.4f}", _met(energy < 0.002)],
        [
            "rate of reconnection, in B0 times the Alfven speed of the inflow",
            "0.1 to 0.3",
            f"{min(rates):.2f} to {max(rates):.2f}",
            _met(min(rates) >= 0.1 and max(rates) <= 0.3),
        ],
    ]
    simulated = [run["by_kind_of_crossing"]["simulated"] for run in (scores["calibration_run"], *other.values())]
    return (
        f"{table(['figure', 'limit', 'measured', ''], rows)}\n\nOf samples of simulated crossings of the "
        f"calibration run {simulated[0]:.1%} are right; with another seed of training "
        f"{simulated[1]:.1%}, trained without analytic layers {simulated[2]:.1%}."
    )


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _simulations(scores: Scores) -> str:
    rows = [
        [
            name,
            f"{run['background']:g}",
            f"{run['guide']:g}",
            f"{run['seed']}",
            f"{run['energy_change']:.1e}",
            " / ".join(f"{rate:.2f}" for rate in run["largest_rate"]),
            " / ".join(f"{rate:.2f}" for rate in run["largest_rate_of_the_inflow"]),
            run["fields_sha256"][:12],
        ]
        for name, run in scores["simulations"].items()
    ]
    head = ["run", "n_b/n0", "guide field/B0", "seed", "change of energy", "rate, B0 v_A", "rate, inflow's", "sha256"]
    return table(head, rows)


def _scores(card: ModelCard, unseen: Virtual, published: RegionRNN | None) -> str:
    scores: Any = card.scores
    found = {"open": scores["acceptance_run"], **scores["baselines_on_the_acceptance_run"]}
    if published:
        features = np.ascontiguousarray(unseen.features, np.float32)
        label = label_windows(published, features, np.zeros(features.shape[:2], bool)).label
        found["published weights"] = against_truth(label, unseen, CLASSES)
    names = [region.name for region in card.regions]
    title = {name: name.replace("_", " ") for name in found}
    overall = [
        [
            title[name],
            *(_percent(one[key]) for key in ("overall", "balanced", "near_a_boundary", "far_from_boundaries")),
        ]
        for name, one in found.items()
    ]
    regions = [[title[name], *map(_percent, one["regions"])] for name, one in found.items()]
    distances = [[title[name], *map(_percent, one["by_time_to_a_boundary"].values())] for name, one in found.items()]
    kinds = [[title[name], *map(_percent, one["by_kind_of_crossing"].values())] for name, one in found.items()]
    head = ["", "right", "balanced", "within 0.24 s of a boundary", "elsewhere"]
    return "\n\n".join(
        [
            f"{found['open']['samples']:,} samples of crossings of the run of the acceptance.",
            table(head, overall),
            table(["recall of", *names], regions),
            table(["crossings", *(name.replace("_", " ") for name in found["open"]["by_kind_of_crossing"])], kinds),
            table(["time to a boundary", *found["open"]["by_time_to_a_boundary"]], distances),
        ]
    )


def _edges(scores: Scores) -> str:
    return table(
        ["instead", "places of another region"], [[n, _percent(v)] for n, v in scores["regions_moved_by_edges"].items()]
    )


def _scales(work: Path) -> str:
    """How B0 and n0 are estimated on crossings of the run of the acceptance, from what its own plasma does.

    Beside those of the sheet before it reconnected are those of now: the field at the edge of its regions, and the
    density in its middle along the way.
    """
    sheets, found = Sheets.of_runs([work / ACCEPTANCE.name]).active, []
    for number in range(_CASES):
        rng = np.random.default_rng([_SEED, number])
        b0, n0 = float(np.exp(rng.uniform(np.log(9), np.log(30)))), float(np.exp(rng.uniform(np.log(0.1), np.log(1.0))))
        crossing = draw_simulated_crossing(_SEED + number, "scales", b0, n0, sheets)
        event = Event(
            name=f"X{number}",
            t_start=_START,
            t_end=_START + np.timedelta64(_SECONDS, "s"),
            B0=crossing.b0,
            n0=crossing.n0,
        )
        try:
            found.append(
                (crossing, scales_now(crossing, _SECONDS), estimate_scales(samples_of(crossing, event).physics))
            )
        except SegmentProblem:
            continue
    with_n0 = [(c, now, e, e.n0, e.n0_sigma) for c, now, e in found if e.n0 and e.n0_sigma]
    groups = {
        "B0, before": [(e.b0 / c.b0, e.b0_sigma / e.b0) for c, _, e in found],
        "B0, now": [(e.b0 / now[0], e.b0_sigma / e.b0) for _, now, e in found],
        "n0, before": [(n0 / c.n0, sigma / n0) for c, _, _, n0, sigma in with_n0],
        "n0, now": [(n0 / now[1], sigma / n0) for _, now, _, n0, sigma in with_n0],
        "now / before, B0": [(now[0] / c.b0, 0.0) for c, now, _ in found],
        "now / before, n0": [(now[1] / c.n0, 0.0) for c, now, _ in found],
    }
    rows = [[name, *Score(*np.array(pairs).reshape(-1, 2).T).cells()] for name, pairs in groups.items()]
    head = ["quantity", "cases", "bias", "68 % within", "95 % within", "one sigma covers"]
    return f"{_CASES} crossings of {_SECONDS} s.\n\n{table(head, rows)}"


def _real(folder: Path, published: RegionRNN | None) -> str:
    """Shares of regions of all segments of a folder, by both models."""
    rows = []
    with tempfile.TemporaryDirectory() as here:
        store = Path(here) / "real.zarr"
        done = mms_regions.run_segments(
            str(folder / "events.csv"), store, data_dir=folder, offline=True, model="open", workers=0
        )
        for key in done.complete:
            segment = mms_regions.open_segment(store, *key.split("/mms"))
            rows.append([key, "open", *_shares(segment["label"].values), _percent(float(segment["unfamiliar"].mean()))])
            if published:
                model = mms_regions.Model(find_model("waters2025", {}).card, published)
                again = mms_regions.label(segment, model=model)
                rows.append([key, "published weights", *_shares(again["label"].values), ""])
    names = [region.name for region in find_model("open", {}).card.regions]
    return table(["segment", "model", "labelled", *names, "unfamiliar"], rows)


def _shares(label: Any) -> list[str]:
    there = label[label >= 0]
    return [
        _percent(len(there) / len(label)),
        *(_percent(float((there == region).mean())) for region in range(CLASSES)),
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _published() -> RegionRNN | None:
    reference = os.environ.get("MMS_REGIONS_REFERENCE")
    if not reference:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return load_model(import_published(Path(reference) / "models/best_model", {"MMS_REGIONS_MODEL_DIR": folder}))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--real", type=Path)
    args = parser.parse_args(argv)
    print(results(args.work, args.real))


if __name__ == "__main__":
    main()
