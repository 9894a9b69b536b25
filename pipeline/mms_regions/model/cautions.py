"""What to be careful about in the labels of a segment: from fields, moments and flags, not from the network itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mms_regions.core.regions import Region, regions_of
from mms_regions.core.types import NO_LABEL, Flags, Floats
from mms_regions.physics.formulas import alfven_speed
from mms_regions.physics.samples import QUALITY_BITS

if TYPE_CHECKING:  # a run does without it
    import xarray as xr

LOW_CONFIDENCE = 0.7  # of a model whose card says nothing else
SLOW = 0.1  # of v_A: an ion velocity below it is no evidence of outflow
DENSE, BETA = 0.7, 1.0  # of n0; plasma over magnetic pressure: the inflow is thinner and colder
MISMATCH = 2.0  # n_i and n_e agree within this factor, as quasi-neutrality asks for

# Not a magnetotail: nearer to the Earth than x = -8 R_E, or denser, colder or in a stronger field than the tail.
TAIL_X = -8 * 6371.2  # km, GSE
TAIL_DENSITY, SHEATH_DENSITY, SHEATH_TEMPERATURE, TAIL_FIELD = 5.0, 1.0, 300.0, 80.0  # cm^-3, cm^-3, eV, nT

# By name what each says, for tables and pages.
MEANING: Mapping[str, str] = MappingProxyType(
    {
        "slow_outflow": f"outflow with |v_ix| below {SLOW:g} v_A",
        "wrong_side": "separatrix against the sign of Bx",
        "against_flow": "outflow against the sign of v_ix",
        "dense_inflow": f"inflow with n above {DENSE:g} n0 or beta above {BETA:g}",
        "density_mismatch": f"ion and electron density differ by more than a factor {MISMATCH:g}",
        "background_large": "penetrating radiation is more than half of the ion density",
        "penetrating_radiation": "flag of FPI: at least 20 % penetrating radiation",
        "unfamiliar": "unlike all that the model was trained on, where the model can say",
        "electrons_assumed": "too few electrons: their velocity is that of the ions",
        "outside_tail": "position, density, temperature or field are not those of the magnetotail",
    }
)
_FROM_QUALITY = {
    "background_large": "ion_background_large",
    "penetrating_radiation": "penetrating_radiation",
    "electrons_assumed": "electrons_assumed",
}
_PRESSURE, _FIELD_PRESSURE = 1.602176634e-4, 3.978874e-4  # nPa of 1 eV cm^-3; of (1 nT)^2 / (2 mu_0)


@dataclass(frozen=True)
class Cautions:
    """Samples of a segment to be careful about: (n,) for each name of `MEANING`, and those with any label."""

    found: Mapping[str, Flags]
    labelled: Flags

    def __getitem__(self, name: str) -> Flags:
        return self.found[name]

    @property
    def shares(self) -> dict[str, float]:
        """The share of each caution among the samples with a label; 0 where there are none."""
        n = max(int(self.labelled.sum()), 1)
        return {name: float(where.sum() / n) for name, where in self.found.items()}


class SampleValues(Protocol):
    """An array of a segment: its values and attributes."""

    @property
    def values(self) -> Any: ...
    @property
    def attrs(self) -> Any: ...


class SegmentData(Protocol):
    """What is asked of a segment here: an xarray.Dataset has it, and so have the arrays of a store without xarray."""

    @property
    def attrs(self) -> Mapping[Any, Any]: ...
    @property
    def sizes(self) -> Mapping[Any, int]: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __getitem__(self, name: str, /) -> SampleValues: ...


def cautions(data: SegmentData) -> Cautions:
    """Cautions of a segment as `open_segment` gives it, with b0, n0 and position_gse among its attributes.

    A quantity that is missing speaks against nothing. Raises ValueError where `label` does not name its regions.
    """
    label = data["label"].values
    regions = regions_of(data["label"].attrs)
    v_x = _values(data, "vi_gsm", 3)[:, 0]
    b = _values(data, "b_gsm", 3)
    outflow = _labelled(label, regions, "outflow")
    with np.errstate(invalid="ignore", divide="ignore"):
        slow = np.abs(v_x) < SLOW * alfven_speed(data.attrs["b0"], data.attrs["n0"])
        earthward, tailward = (_labelled(label, regions, "outflow", side) for side in ("earthward", "tailward"))
        north, south = (_labelled(label, regions, "separatrix", side) for side in ("north", "south"))
        dense = _values(data, "ni") > DENSE * data.attrs["n0"]
        hot = _beta(data, b) > BETA
        found = {
            "slow_outflow": outflow & slow,
            "wrong_side": (north & (b[:, 0] < 0)) | (south & (b[:, 0] > 0)),
            "against_flow": (earthward & (v_x < 0)) | (tailward & (v_x > 0)),
            "dense_inflow": _labelled(label, regions, "inflow") & (dense | hot),
            "density_mismatch": _mismatch(_values(data, "ni"), _values(data, "ne")),
            "outside_tail": _outside_tail(data, b),
        }
    quality = data["quality"].values.astype(np.uint32) if "quality" in data else np.zeros(len(label), np.uint32)
    found |= {name: (quality & QUALITY_BITS[bit]) != 0 for name, bit in _FROM_QUALITY.items()}
    found["unfamiliar"] = data["unfamiliar"].values == 1 if "unfamiliar" in data else np.zeros(len(label), bool)
    known = label != NO_LABEL
    return Cautions({name: found[name] & known for name in MEANING}, known)


def probability_of(data: xr.Dataset) -> xr.DataArray:
    """What to show of a segment: marginal probabilities, which hold the errors of B0 and n0, where it has them."""
    return data[probability_name(data)]


def probability_name(data: SegmentData) -> str:
    """Under which name a segment has what `probability_of` gives."""
    return "probability_marginal" if "probability_marginal" in data else "probability"


def low_confidence_of(data: SegmentData) -> float:
    """The probability below which a label of the segment's model is uncertain, as the model's card says."""
    card = data.attrs.get("model", {})
    card = json.loads(card) if isinstance(card, str) else card
    return float(card.get("low_confidence", LOW_CONFIDENCE))


def _labelled(label: Floats, regions: Iterable[Region], kind: str, side: str | None = None) -> Flags:
    """(n,): labels of this kind, and side where one is given."""
    indices = [one.index for one in regions if one.kind == kind and side in (None, one.side)]
    return np.isin(label, indices)


def _values(data: SegmentData, name: str, width: int = 0) -> Floats:
    """A quantity of each sample, NaN where the segment has none."""
    n = data.sizes["time"]
    missing = np.full((n, width) if width else n, np.nan)
    values: Floats = data[name].values if name in data else missing
    return values


def _temperature(data: SegmentData, species: str) -> Floats:
    mean: Floats = (_values(data, f"t{species}_par") + 2 * _values(data, f"t{species}_perp")) / 3
    return mean


def _beta(data: SegmentData, b: Floats) -> Floats:
    """(n,): plasma over magnetic pressure, of the species that are known."""
    pressures = [_PRESSURE * _values(data, f"n{species}") * _temperature(data, species) for species in "ie"]
    beta: Floats = np.nansum(pressures, axis=0) / (_FIELD_PRESSURE * (b**2).sum(axis=1))
    return beta


def _mismatch(n_i: Floats, n_e: Floats) -> Flags:
    flags: Flags = (n_i > MISMATCH * n_e) | (n_e > MISMATCH * n_i)
    return flags


def _outside_tail(data: SegmentData, b: Floats) -> Flags:
    """(n,): by the mean position of the segment, and by plasma and field of each sample."""
    x = float(np.ravel(data.attrs.get("position_gse", np.nan))[0])
    n_i, t_i = _values(data, "ni"), _temperature(data, "i")
    plasma = (n_i > TAIL_DENSITY) | ((n_i > SHEATH_DENSITY) & (t_i < SHEATH_TEMPERATURE))
    flags: Flags = (x > TAIL_X) | plasma | (np.linalg.norm(b, axis=1) > TAIL_FIELD)
    return flags
