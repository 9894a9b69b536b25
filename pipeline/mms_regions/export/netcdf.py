"""A segment as a NetCDF file that follows the CF conventions 1.11, for tools that know nothing of this one.

Two things differ from a store: names of components, features and regions are auxiliary coordinates (CF has numbers
alone in a coordinate variable), and samples without a label have a flag value of their own, `no_label`.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import xarray as xr

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.files import made_whole
from mms_regions.core.origin import MIXED, SYNTHETIC, Origin, origin_of
from mms_regions.core.regions import with_no_label
from mms_regions.core.types import NO_LABEL
from mms_regions.model.card import names_are_inferred
from mms_regions.model.cautions import MEANING, cautions
from mms_regions.store.read import attributes_of, card_of

CONVENTIONS = "CF-1.11"
_NAMED = {"feature": "feature_name", "region": "region_name", "xyz": "component_name"}
_FLAGS = ("label", "label_marginal", "unfamiliar", "quality", "caution")
_BESIDE_LABELS = ("probability", "probability_marginal", "quality", "caution", "stability", "unfamiliar")
_REFERENCES = "https://doi.org/10.1029/2025JA034383 (method), https://doi.org/10.1029/2022JA030577 (event list)"


def write_netcdf(data: xr.Dataset, path: Path, software: str, history: str) -> None:
    """Write a segment, as `open_segment` gives it; the file is complete or not there.

    software: name and version of what writes. history: what was done, with its time.
    Raises OSError or EnvironmentProblem where that cannot be done.
    """
    prepared = as_cf(data, software, history)
    try:
        with made_whole(path) as staging:
            prepared.to_netcdf(staging, mode="w", engine="netcdf4", format="NETCDF4", encoding=_encoding(prepared))
    except RuntimeError as problem:  # the C library could not write, and does not say why
        _raise_refusal(path, prepared.nbytes)
        raise EnvironmentProblem(f"{path} cannot be written: the NetCDF library says {problem}") from problem


def _raise_refusal(path: Path, size: int) -> None:
    """Raise OSError, as the system says it, where it refuses a file of so many bytes there."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        with TemporaryFile(dir=path.parent) as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(path)) from problem


def as_cf(data: xr.Dataset, software: str, history: str) -> xr.Dataset:
    """The same numbers in CF terms; on `time` where times increase, else on `sample` with `time` beside it."""
    found = data.load().drop_encoding().assign(caution=_caution(data))  # zarr's encoding means nothing here
    if not (np.diff(data["time"].values) > np.timedelta64(0, "ns")).all():
        found = found.swap_dims(time="sample")
    named = {name: new for name, new in _NAMED.items() if name in found.coords}
    found = found.reset_index(list(named)).rename_vars(named)
    beside = [name for name in ("electron_energy",) if name in found]
    found = found.set_coords(beside)
    _describe(found, names_are_inferred(card_of(data)))
    found.attrs = _attributes(data, software, history)
    return found.assign_coords(time=_seconds(found["time"]))


def _seconds(time: xr.DataArray) -> xr.DataArray:
    """Seconds of the day in float64, exact to 0.02 ns: the libraries of CF know no nanoseconds."""
    day = time.values[0].astype("datetime64[D]")
    seconds = time.copy(data=(time.values - day) / np.timedelta64(1, "s"))
    seconds.attrs = {
        "long_name": "time (UTC)",
        "standard_name": "time",
        "units": f"seconds since {day} 00:00:00",
        "calendar": "standard",
        "units_metadata": "leap_seconds: none",
        **({"axis": "T"} if time.dims == ("time",) else {}),
    }
    return seconds


def _caution(data: xr.Dataset) -> xr.DataArray:
    """(time,) flags of samples whose label is to be taken with care."""
    found = cautions(data)
    attributes = {
        "long_name": "what to be careful about in the label",
        "flag_masks": np.array([1 << i for i in range(len(MEANING))], np.uint16),
        "flag_meanings": " ".join(MEANING),
        "comment": "; ".join(f"{name}: {text}" for name, text in MEANING.items()),
    }
    flags = sum((np.uint16(1 << i) * found[name] for i, name in enumerate(MEANING)), np.zeros(len(found.labelled)))
    return xr.DataArray(flags.astype(np.uint16), dims="time", attrs=attributes)


def _describe(found: xr.Dataset, inferred: bool) -> None:
    """Flags, what belongs to what, and no attribute that means something else in CF."""
    label, quality = found["label"], found["quality"]
    label.attrs = {
        "long_name": "region of magnetic reconnection",
        **with_no_label(label.attrs),
        "comment": f"no_label: an input is missing.{' What regions are called is inferred.' if inferred else ''}",
        "ancillary_variables": " ".join(name for name in _BESIDE_LABELS if name in found),
    }
    if "label_marginal" in found:
        found["label_marginal"].attrs = {
            **label.attrs,
            "long_name": "region of the largest marginal probability",
            "ancillary_variables": "probability_marginal quality",
        }
    if "unfamiliar" in found:
        found["unfamiliar"].attrs = {
            "long_name": str(found["unfamiliar"].attrs["long_name"]),
            "flag_values": np.array([NO_LABEL, 0, 1], found["unfamiliar"].dtype),
            "flag_meanings": "no_label familiar unfamiliar",
        }
    quality.attrs = {**quality.attrs, "standard_name": "quality_flag"}
    quality.attrs["flag_masks"] = np.array(quality.attrs["flag_masks"], quality.dtype)
    for name in found.data_vars:
        if name not in _FLAGS:
            found[name].attrs["ancillary_variables"] = "quality"


def _attributes(data: xr.Dataset, software: str, history: str) -> dict[str, Any]:
    """Of the file: those of CF, and the row of the index; what has parts is JSON."""
    parts = attributes_of(data)
    model, settings, origin = parts["model"], parts["deciding"], origin_of(parts["inputs"])
    return {
        "Conventions": CONVENTIONS,
        "title": origin.titled(
            f"Regions of magnetic reconnection, event {data.attrs['event']}, MMS {data.attrs['probe']}"
        ),
        "institution": _institution(origin),
        "source": f"{_source(origin)}; {software}, model {model['name']}, convention {settings['convention']}",
        "history": history,
        "references": f"{_REFERENCES}; model: {model['citation']}",
        "comment": " ".join(filter(None, [f"Segment {_key(data)}.", origin.sentence(), *model["cautions"]])),
        **data.attrs,
        "origin": origin.word,
        "convention": settings["convention"],
        "model_weights_sha256": model["weights_sha256"] or "",
    }


def _key(data: xr.Dataset) -> str:
    return f"{data.attrs['event']}/mms{data.attrs['probe']}"


def _institution(origin: Origin) -> str:
    """Where the data were produced: those that were measured come from one place."""
    if origin.word == SYNTHETIC:
        return "none: synthetic data, not measured"
    which = {MIXED: "measured input files", "unknown": "origin of the input files not recorded"}
    return f"MMS Science Data Center, LASP ({which.get(origin.word, 'measurements')})"


def _source(origin: Origin) -> str:
    products = "MMS burst data, level 2 (FPI, FGM, EDP)"
    if origin.word == SYNTHETIC:
        return f"synthetic files that imitate {products}"
    more = {MIXED: ", partly synthetic", "unknown": ", origin not recorded"}
    return f"{products}{more.get(origin.word, '')}"


def _encoding(found: xr.Dataset) -> dict[Any, dict[str, Any]]:
    """Compressed where long; integers without a fill value, for they would be read as floats."""
    packed = {"zlib": True, "complevel": 4, "shuffle": True}
    encoding: dict[Any, dict[str, Any]] = {}
    for name, array in found.variables.items():
        if name == "time":
            encoding[name] = {"_FillValue": None, **packed}
        elif array.dtype.kind == "f":
            encoding[name] = {"_FillValue": array.dtype.type(np.nan), **packed}
        elif array.dtype.kind in "iu":
            encoding[name] = {"_FillValue": None, **packed}
    return encoding
