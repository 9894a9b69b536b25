"""mms-regions: which region of magnetic reconnection a spacecraft is in, sample by sample.

The names in `__all__` are the public interface, which `api` documents. They are imported when they are first used.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mms_regions.core.version import __version__

if TYPE_CHECKING:
    from mms_regions.api import (
        Model,
        label,
        load_model,
        open_segment,
        open_store,
        open_tree,
        plot_segment,
        read_catalogue,
        run_segments,
    )
    from mms_regions.core.catalogue import Catalogue
    from mms_regions.core.events import Event, Segment
    from mms_regions.export.tplot import put_into_pyspedas
    from mms_regions.notebook import Store
    from mms_regions.physics.estimated_scales import ScaleEstimate, estimate_scales
    from mms_regions.run.run import Summary

__all__ = [
    "Catalogue",
    "Event",
    "Model",
    "ScaleEstimate",
    "Segment",
    "Store",
    "Summary",
    "__version__",
    "estimate_scales",
    "label",
    "load_model",
    "open_segment",
    "open_store",
    "open_tree",
    "plot_segment",
    "put_into_pyspedas",
    "read_catalogue",
    "run_segments",
]

_ELSEWHERE = {
    **dict.fromkeys(("ScaleEstimate", "estimate_scales"), "physics.estimated_scales"),
    "Store": "notebook",
    "Summary": "run.run",
    "put_into_pyspedas": "export.tplot",
    "Catalogue": "core.catalogue",
    **dict.fromkeys(("Event", "Segment"), "core.events"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used; `open` is the older interface, for one more version."""
    if name in __all__:
        value = globals()[name] = getattr(import_module(f"mms_regions.{_ELSEWHERE.get(name, 'api')}"), name)
        return value
    if name == "open":
        _warn("mms_regions.open", "mms_regions.open_segment, open_tree and plot_segment")
        return import_module("mms_regions.older").open_older
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} will be removed in the next version: use {new}", DeprecationWarning, stacklevel=3)


class _Reading(ModuleType):
    """`mms_regions.reading`, where functions were that are in `mms_regions` now."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _warn(f"mms_regions.reading.{name}", f"mms_regions.{name}")
        return getattr(import_module("mms_regions.store.read"), name)


reading = sys.modules[f"{__name__}.reading"] = _Reading(f"{__name__}.reading")
