"""What the corrected convention makes of a folder of real MMS files: `python benchmarks/real_files.py FOLDER [EVENTS]`.

FOLDER has the files in the archive's layout; EVENTS is a catalogue, by default FOLDER/events.csv. Every event and
spacecraft with files is prepared and labelled with the default settings and with `electrons = "strict"`. Exit code 1
where less than 95 % of the samples have a label, more than 8 % of those an assumed velocity, a masked sample has
electron temperatures, pressures or spectra, or an electron velocity is above 110,000 km/s.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import table
from numpy.typing import NDArray

from mms_regions.archive.products import find_files
from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.errors import MMSRegionsError
from mms_regions.core.events import Segment
from mms_regions.core.messages import percent
from mms_regions.core.settings import Settings, resolve_settings
from mms_regions.core.types import NO_LABEL, WINDOW, Flags, Floats
from mms_regions.model.card import find_model
from mms_regions.model.coverage import Lost, lost_by_field
from mms_regions.model.label import label_windows
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import load_model
from mms_regions.physics.conventions import convention
from mms_regions.physics.samples import FEATURES, QUALITY_BITS, Samples
from mms_regions.physics.thin_electrons import FASTEST, WIDTHS

NONE, NOTHING = np.zeros(0, np.int8), np.zeros((0, len(FEATURES)))  # of no samples
MASKED = ("te_par", "te_perp", "pe_gsm", "qe_gsm", "electron_spectrum_omni", "electron_spectrum_par", "je_gsm", "j_gsm")
LEAST_LABELLED, MOST_ASSUMED = 0.95, 0.08


@dataclass(frozen=True)
class Found:
    """Figures of one segment."""

    samples: int
    labelled: float
    averaged: float  # of those with a label, as the next two
    assumed: float
    longest: int  # accumulations
    fastest: float  # km/s
    unmasked: tuple[str, ...]  # quantities that are finite in a sample without electrons
    missing: dict[str, float]
    lost: tuple[Lost, ...]

    @property
    def good(self) -> bool:
        enough = self.labelled >= LEAST_LABELLED and self.assumed <= MOST_ASSUMED
        return enough and not self.unmasked and self.fastest <= FASTEST


def between(one: Lost) -> str:
    """A range of |Bx|/B0, as a heading."""
    return f"{one.low:g} to {one.high:g}" if np.isfinite(one.high) else f"{one.low:g} and more"


def figures(samples: Samples, label: NDArray[np.int8]) -> Found:
    """The figures of a segment."""
    label_of = label != NO_LABEL
    labelled = max(int(label_of.sum()), 1)

    def share(bit: str) -> float:
        return float((has(samples, bit) & label_of).sum() / labelled)

    masked = has(samples, "electrons_missing")
    speed = np.linalg.norm(samples.physics["ve_gsm"], axis=1)
    return Found(
        samples=len(samples),
        labelled=float(label_of.mean()),
        averaged=share("electrons_averaged"),
        assumed=share("electrons_assumed"),
        longest=max((width for width in WIDTHS if has(samples, f"mean_of_{width}").any()), default=1),
        fastest=float(np.nanmax(speed, initial=0)),
        unmasked=tuple(name for name in MASKED if np.isfinite(samples.physics[name][masked]).any()),
        missing={bit: float(has(samples, bit).mean()) for bit in QUALITY_BITS if has(samples, bit).any()},
        lost=lost_by_field(label, samples.features),
    )


def has(samples: Samples, bit: str) -> Flags:
    flags: Flags = (samples.quality & QUALITY_BITS[bit]) != 0
    return flags


def network_labels(samples: Samples, network: RegionRNN) -> tuple[NDArray[np.int8], Floats]:
    """Labels of a segment, -1 for none, and their probabilities."""
    rows = -(-len(samples) // WINDOW) * WINDOW
    windows = np.full((rows, len(FEATURES)), np.nan, np.float32)
    windows[: len(samples)] = samples.features
    withheld = np.zeros(rows, bool)
    withheld[: len(samples)] = samples.bridged
    found = label_windows(network, windows.reshape(-1, WINDOW, len(FEATURES)), withheld.reshape(-1, WINDOW))
    n = len(samples)
    return found.label.reshape(-1)[:n], found.probability.max(axis=2).reshape(-1)[:n]


def prepared(segment: Segment, folder: Path, settings: Settings) -> Samples:
    how = convention(settings)
    files = find_files(segment, how.products, folder, how.margin)
    return how.samples(how.read(files, segment.event), segment.event)


def main(folder: Path, events: Path, model: str = "analytic-layer") -> int:
    rows, lost, good, notes = [], [], True, []
    network = load_model(find_model(model, os.environ))
    for segment in read_catalogue(str(events)).segments():
        if not (folder / segment.spacecraft).is_dir():
            continue
        for electrons in ("robust", "strict"):
            settings = resolve_settings({"data_dir": folder, "offline": True, "electrons": electrons}, {})
            try:
                samples = prepared(segment, folder, settings)
            except MMSRegionsError as problem:
                notes.append(f"{segment.key} {electrons}: {problem}")
                good &= electrons == "strict"
                continue
            found = figures(samples, network_labels(samples, network)[0])
            good &= electrons == "strict" or found.good
            rows.append([segment.key, electrons, *_cells(found)])
            lost.append([segment.key, electrons, *(percent(one.share) for one in found.lost)])
            reasons = ", ".join(f"{name} {share:.1%}" for name, share in found.missing.items())
            notes.append(f"{segment.key} {electrons}: quality bits, of all samples: {reasons or 'none'}")
    titles = ["segment", "electrons", "samples", "labelled", "averaged", "assumed velocity", "most accumulations"]
    print(table([*titles, "largest v_e, km/s", "not masked"], rows))
    print("\nSamples without a label, by |Bx|/B0:\n")
    print(table(["segment", "electrons", *map(between, lost_by_field(NONE, NOTHING))], lost))
    print("\n" + "\n".join(notes))
    return 0 if good and rows else 1


def _cells(found: Found) -> list[str]:
    shares = [f"{share:.1%}" for share in (found.labelled, found.averaged, found.assumed)]
    unmasked = ", ".join(found.unmasked) or "nothing"
    return [str(found.samples), *shares, str(found.longest), f"{found.fastest:,.0f}", unmasked]


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    root = Path(sys.argv[1])
    sys.exit(main(root, Path(sys.argv[2]) if len(sys.argv) == 3 else root / "events.csv"))
