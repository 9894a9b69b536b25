"""How right the open model is on crossings that it never saw, and how much its labels depend on what is not known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mms_regions.core.types import Floats
from mms_regions.model.familiarity import Familiarity
from mms_regions.model.label import label_windows
from mms_regions.model.network import RegionRNN
from mms_regions.model.scores import agreement, calibration
from mms_regions.model.stability import feature_factors
from mms_regions.physics.features import ION_TO_ELECTRON_MASS
from mms_regions.synthetic.layer import NONE_OF_THESE
from mms_regions.synthetic.mirrored import swapped
from mms_regions.training.crossings import KINDS, Virtual

NEAR = 0.24  # s from a boundary
DISTANCES = (0.0, 0.06, 0.12, 0.24, 0.48, 0.96, 1.92, np.inf)  # s, between parts of the table by distance
Labels = NDArray[np.int8]

# The acceptance figures, fixed before training: name -> least (True) or most (False), and the figure.
LIMITS: dict[str, tuple[bool, float]] = {
    "overall": (True, 0.88),
    "balanced": (True, 0.84),
    "least_f1": (True, 0.78),
    "calibration_error": (False, 0.03),
    "near_a_boundary": (True, 0.70),
    "far_from_boundaries": (True, 0.95),
    "unchanged_by_a_tilt_of_20_degrees": (True, 0.93),
    "unchanged_by_a_moving_x_line": (True, 0.93),
    "unchanged_by_b0": (True, 0.95),
    "none_recall": (True, 0.90),
    "mirror_swaps": (False, 0.01),
    "least_absurd_flagged": (True, 0.95),
}


def evaluated(network: RegionRNN, familiarity: Familiarity, unseen: Virtual) -> dict[str, Any]:
    """All figures of OPEN_MODEL's acceptance that follow from labels."""
    found = _labelled(network, unseen.features)
    right = found.label == unseen.region
    return {
        **against_truth(found.label, unseen, network.classes),
        "calibration_error": calibration(found.probability.max(axis=2).ravel(), right.ravel())["expected_error"],
        "first_sample_of_a_window": _share(right[:, 0]),
        "last_sample_of_a_window": _share(right[:, -1]),
        **robustness(lambda features: _labelled(network, features).label, unseen.features, found.label),
        **absurd_flagged(familiarity, unseen.features),
    }


def against_truth(label: Labels, unseen: Virtual, classes: int) -> dict[str, Any]:
    """How often labels are right: in all, by region, by the time to the nearest boundary, by the kind of crossing."""
    truth, seconds, right = unseen.region, unseen.to_boundary, label == unseen.region
    f1 = f1_scores(label, truth, classes)
    parts = {f"{low:g} to {high:g} s": (seconds >= low) & (seconds < high) for low, high in pairwise(DISTANCES)}
    return {
        **agreement(label, truth, classes).to_dict(),
        "f1": [None if value is None else round(value, 4) for value in f1],
        "least_f1": round(min(value for value in f1 if value is not None), 4),
        "near_a_boundary": _share(right, seconds < NEAR),
        "far_from_boundaries": _share(right, seconds >= NEAR),
        "by_time_to_a_boundary": {name: _share(right, inside) for name, inside in parts.items()},
        "by_kind_of_crossing": {name: _share(right[unseen.kind == kind]) for kind, name in enumerate(KINDS)},
        "none_recall": _share(right, truth == NONE_OF_THESE),
    }


def robustness(label: Callable[[Floats], Labels], features: Floats, as_they_are: Labels) -> dict[str, float]:
    """Shares of labels that stay where features are turned, moved, scaled, mirrored; and of those that a mirror swaps.

    A label is swapped where, seen in a mirror, it is that of the side which it is not on.
    """

    def same(changed: Floats) -> float:
        return float((label(changed) == as_they_are).mean())

    moved = min(same(seen_by_moving(features, speed)) for speed in (-0.15, 0.15))
    tilted = min(same(turned(features, degrees)) for degrees in (-20.0, 20.0))
    scaled = min(same(features * feature_factors(factor, 1.0)) for factor in (0.8, 1.25))
    kept, swaps = [], []
    for sides in ((True, False), (False, True)):
        seen, other = label(mirror_image(features, *sides)), swapped(*sides)[as_they_are]
        kept.append(float((seen == other).mean()))
        swaps.append(float(((seen == as_they_are) & (seen != other)).mean()))
    return {
        "unchanged_by_a_tilt_of_20_degrees": round(tilted, 4),
        "unchanged_by_a_moving_x_line": round(moved, 4),
        "unchanged_by_b0": round(scaled, 4),
        "unchanged_by_mirrors": round(min(kept), 4),
        "mirror_swaps": round(max(swaps), 4),
    }


def absurd_flagged(familiarity: Familiarity, features: Floats) -> dict[str, Any]:
    """The shares of samples that are flagged as unfamiliar: as they are, and of absurd ones."""
    flat = features.reshape(-1, features.shape[-1])[:20_000]
    kinds = {
        "zeros": flat * 0,
        "density_of_5_n0": _multiplied(flat, slice(6, 8), 0) + _only(6, 8, 5.0),
        "velocity_in_m_per_s": _multiplied(flat, slice(8, 14), 1e3),
        "density_in_m-3": _multiplied(flat, slice(6, 8), 1e6),
        "electric_field_in_uV_per_m": _multiplied(flat, slice(3, 6), 1e3),
        "magnetic_field_in_pT": _multiplied(flat, slice(0, 3), 1e3),
    }
    flagged = {name: round(float(familiarity.unfamiliar(values).mean()), 4) for name, values in kinds.items()}
    as_they_are = round(float(familiarity.unfamiliar(flat).mean()), 4)
    return {"unfamiliar": as_they_are, "absurd_flagged": flagged, "least_absurd_flagged": min(flagged.values())}


def against_limits(scores: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each figure of the acceptance beside its limit, and whether it is met."""
    return {
        name: {
            "figure": scores[name],
            "limit": f"{'>=' if least else '<='} {limit:g}",
            "met": scores[name] is not None and (scores[name] >= limit if least else scores[name] <= limit),
        }
        for name, (least, limit) in LIMITS.items()
    }


def f1_scores(label: Labels, truth: Labels, regions: int) -> list[float | None]:
    """F1 of each region, None where it occurs in neither."""
    found: list[float | None] = []
    for region in range(regions):
        both = int(((label == region) & (truth == region)).sum())
        either = int((label == region).sum() + (truth == region).sum())
        found.append(2 * both / either if either else None)
    return found


def seen_by_moving(features: Floats, speed: float) -> Floats:
    """Features of the same plasma where all of it moves along x with `speed` (v_A), as an X-line that moves does."""
    moved = features.copy()
    moved[..., 8] += speed
    moved[..., 11] += speed / np.sqrt(ION_TO_ELECTRON_MASS)
    moved[..., 4] += speed * features[..., 2]  # E' = E - V x B
    moved[..., 5] -= speed * features[..., 1]
    return moved


def turned(features: Floats, degrees: float) -> Floats:
    """Features of the same plasma where the layer is turned about x."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    found = features.copy()
    for first in (0, 3, 8, 11):
        y, z = features[..., first + 1], features[..., first + 2]
        found[..., first + 1], found[..., first + 2] = c * y + s * z, c * z - s * y
    return found


def mirror_image(features: Floats, across_x: bool, across_z: bool) -> Floats:
    """Features of the plasma in a mirror; simulation axes, where y is the normal."""
    polar = np.array([-1 if across_x else 1, -1 if across_z else 1, 1], np.float32)
    axial = polar.prod() * polar
    signs = np.concatenate([axial, polar, np.ones(2), polar, polar]).astype(np.float32)
    found: Floats = features * signs
    return found


def _labelled(network: RegionRNN, features: Floats) -> Any:
    windows = np.ascontiguousarray(features, np.float32)
    return label_windows(network, windows, np.zeros(windows.shape[:2], bool))


def _share(where: NDArray[np.bool_], among: NDArray[np.bool_] | None = None) -> float | None:
    some = where if among is None else where[among]
    return round(float(some.mean()), 4) if some.size else None


def _multiplied(features: Floats, columns: slice, factor: float) -> Floats:
    found = features.copy()
    found[:, columns] *= factor
    return found


def _only(first: int, last: int, value: float) -> Floats:
    row = np.zeros(14, np.float32)
    row[first:last] = value
    return row
