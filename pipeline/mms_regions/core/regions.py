"""The regions that a model distinguishes: index, name, colour and kind, all from the names on the model's card.

No other module knows how many regions there are or what they are called. A name begins with its kind and may go on
with a side, such as `separatrix_north`; a region of any other name is of the kind `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from mms_regions.core.types import NO_LABEL

Kind = Literal["inflow", "outflow", "separatrix", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Okabe and Ito's colours, which readers with any colour vision can distinguish; two sides of a kind are a pair.
_COLOURS: Mapping[str, str] = {
    "inflow_north": "#0072B2",
    "outflow_earthward": "#009E73",
    "inflow_south": "#56B4E9",
    "separatrix_north": "#D55E00",
    "outflow_tailward": "#CC79A7",
    "separatrix_south": "#E69F00",
}
_FURTHER = ("#585858", "#332288")  # as far from those above as these are from each other


@dataclass(frozen=True)
class Region:
    """One region of a model: `index` is its label; `colour` is "#RRGGBB"."""

    index: int
    name: str
    colour: str
    kind: Kind

    @property
    def side(self) -> str:
        """What the name says besides the kind: north, south, earthward, tailward; may be empty."""
        return self.name.removeprefix(self.kind).removeprefix("_")

    @property
    def title(self) -> str:
        """The name for people to read."""
        return self.name.replace("_", " ")


def regions_named(names: Iterable[str]) -> tuple[Region, ...]:
    """The regions of these names, by index. Raises ValueError where a name comes twice or colours run out."""
    names = tuple(names)
    if len(set(names)) < len(names):
        raise ValueError(f"regions must have names that differ; these are {', '.join(names)}")
    unusual = [name for name in names if name not in _COLOURS]
    if len(unusual) > len(_FURTHER):
        usual, most = ", ".join(_COLOURS), len(_FURTHER)
        raise ValueError(f"there are colours for {most} regions besides {usual}, and these are {', '.join(unusual)}")
    colours = {**_COLOURS, **dict(zip(unusual, _FURTHER, strict=False))}
    return tuple(Region(i, name, colours[name], _kind(name)) for i, name in enumerate(names))


def regions_of(attributes: Mapping[Any, Any]) -> tuple[Region, ...]:
    """The regions of labels, from the attributes of `label`. Raises ValueError where these do not name them."""
    names = str(attributes.get("flag_meanings", "")).split()
    values = list(attributes.get("flag_values", range(len(names))))
    names = [name for name, value in zip(names, values, strict=True) if value >= 0]  # one below is no region
    if not names:
        raise ValueError("flag_meanings of `label` should name the regions: label the store again")
    return regions_named(names)


def with_no_label(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """What the attributes of labels are to say of their values as CF wants it: of the regions, and of no label too."""
    names = [region.name for region in regions_of(attributes)]
    values = np.arange(NO_LABEL, len(names), dtype=np.int8)
    return {"flag_values": values, "flag_meanings": " ".join(["no_label", *names])}


def by_kind(regions: Iterable[Region]) -> Sequence[Region]:
    """In the order in which regions are listed for people: both sides of a kind beside each other, others last."""
    return sorted(regions, key=lambda region: (KINDS.index(region.kind), region.name))


def _kind(name: str) -> Kind:
    return next((kind for kind in KINDS if name.partition("_")[0] == kind), "other")
