"""What to be careful about in the labels of a segment: from fields and moments, never from the network itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from mms_regions.core.regions import regions_of
from mms_regions.core.types import NO_LABEL, Flags
from mms_regions.physics.formulas import alfven_speed

LOW_CONFIDENCE = 0.7  # below it the network hardly decides
QUIET = 0.1  # of v_A: an ion velocity below it is no evidence of outflow


@dataclass(frozen=True)
class Cautions:
    """Samples of a segment to be careful about, (n,) each.

    quiet: labelled outflow, though |v_i| < 0.1 v_A. wrong_side: labelled as the separatrix of one side, though the
    sign of Bx is that of the other. labelled: with any label, of which shares are taken.
    """

    quiet: Flags
    wrong_side: Flags
    labelled: Flags

    @property
    def shares(self) -> dict[str, float]:
        """The share of each caution among the samples with a label; 0 where there are none."""
        n = max(int(self.labelled.sum()), 1)
        return {"quiet": float(self.quiet.sum() / n), "wrong_side": float(self.wrong_side.sum() / n)}


def cautions(data: xr.Dataset) -> Cautions:
    """Cautions of a segment as `open_segment` gives it: label, vi_gsm, b_gsm, and b0 and n0 of its attributes.

    Raises ValueError where `label` does not name its regions.
    """
    label = data["label"].values
    speed = np.linalg.norm(data["vi_gsm"].values, axis=1)
    slow = speed < QUIET * alfven_speed(data.attrs["b0"], data.attrs["n0"])
    b_x = data["b_gsm"].values[:, 0]
    regions = regions_of(data["label"].attrs)
    outflow = np.isin(label, [region.index for region in regions if region.kind == "outflow"])
    separatrices = [region for region in regions if region.kind == "separatrix"]
    north, south = (
        np.isin(label, [region.index for region in separatrices if region.side == side]) for side in ("north", "south")
    )
    return Cautions(outflow & slow, (north & (b_x < 0)) | (south & (b_x > 0)), label != NO_LABEL)
