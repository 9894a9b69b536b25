"""Stretches of equal labels, as a table for a paper: one row per run, with what was measured in it.

The table is an ECSV file: CSV after a header of lines that begin with `# ` and are YAML, with the unit of each column
and what the table was made from. astropy reads both (`format="ascii.ecsv"`), pandas the table (`comment="#"`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mms_regions.core.origin import origin_of
from mms_regions.core.regions import regions_of
from mms_regions.core.types import NO_LABEL, SECOND, Floats, Times
from mms_regions.model.card import names_are_inferred
from mms_regions.model.cautions import MEANING, cautions
from mms_regions.physics.frames import gse_to_gsm
from mms_regions.store.plan import CADENCE_NS
from mms_regions.store.read import attributes_of, card_of, settings_of

TITLE = "stretches of equal labels"
DEFAULT_SHORTEST = 0.3  # s, two ion samples: shorter stretches are flicker of labels rather than regions
_EARTH = 6371.2  # km
_POSITION = ("x_gsm", "y_gsm", "z_gsm")
_TEXTS, _WHOLE = ("event", "spacecraft", "start", "stop", "region"), ("samples", "joined")

# What is averaged over a stretch: its column, the quantity of the store, the component; None: a vector's magnitude.
_MEANS: Mapping[str, tuple[str, int | None]] = {
    "b_mag": ("b_gsm", None),
    **{f"b_{axis}": ("b_gsm", i) for i, axis in enumerate("xyz")},
    "ne": ("ne", None),
    "ni": ("ni", None),
    "vi_mag": ("vi_gsm", None),
    **{f"vi_{axis}": ("vi_gsm", i) for i, axis in enumerate("xyz")},
    "ve_mag": ("ve_gsm", None),
    **{f"ve_{axis}": ("ve_gsm", i) for i, axis in enumerate("xyz")},
    "ti_par": ("ti_par", None),
    "ti_perp": ("ti_perp", None),
    "te_par": ("te_par", None),
    "te_perp": ("te_perp", None),
    "j_mag": ("j_mag", None),
    "e_prime_par": ("e_prime_par", None),
    "j_dot_e": ("j_dot_e", None),
    "j_dot_e_prime": ("j_dot_e_prime", None),
}


@dataclass(frozen=True)
class Stretch:
    """Samples first to last (included) of a segment, all taken to be in one region; begin, end: ns UTC."""

    region: int
    first: int
    last: int
    begin: int
    end: int

    def __post_init__(self) -> None:
        if self.region == NO_LABEL or self.last < self.first or self.end <= self.begin:
            raise ValueError(f"{self} is no stretch")

    @property
    def length(self) -> int:
        """ns."""
        return self.end - self.begin

    @property
    def samples(self) -> int:
        return self.last - self.first + 1


def shortest_of(min_duration: float | None) -> float:
    """The length in s below which stretches are merged: what somebody chose, or the default."""
    return DEFAULT_SHORTEST if min_duration is None else min_duration


def stretches(time: Times, label: np.ndarray[Any, Any], shortest: float = 0.0) -> list[Stretch]:
    """Runs of equal labels, in order; a sample covers 30 ms around its time.

    time: (n,) ns UTC; label: (n,) regions or -1. A run ends where the label changes, where there is no label, and
    where samples do not follow each other (steps of more than 45 ms, or backwards).
    shortest: seconds. Of the runs between two such breaks the shortest one that is shorter (the first of equals) is
    joined to its neighbours: to both if they are of one region, else to the longer one (the earlier of equals); again
    and again, until none is shorter or only one is left.
    """
    return [one for block in _blocks(time, label) for one in _merged(block, round(shortest * SECOND))]


def _blocks(time: Times, label: np.ndarray[Any, Any]) -> Iterator[list[Stretch]]:
    """Runs that follow each other without a break."""
    if not len(label):
        return
    steps = np.diff(time)
    apart = (steps > 1.5 * CADENCE_NS) | (steps <= 0)
    begins = np.flatnonzero(np.concatenate([[True], apart | (np.diff(label) != 0)]))
    ends = np.append(begins[1:], len(label)) - 1
    block: list[Stretch] = []
    for first, last in zip(begins.tolist(), ends.tolist(), strict=True):
        if block and (label[first] == NO_LABEL or apart[first - 1]):
            yield block
            block = []
        if label[first] != NO_LABEL:
            begin, end = int(time[first]) - CADENCE_NS // 2, int(time[last]) + CADENCE_NS // 2
            block.append(Stretch(int(label[first]), first, last, begin, end))
    if block:
        yield block


def _merged(block: list[Stretch], shortest: int) -> list[Stretch]:
    while len(block) > 1:
        at = min(range(len(block)), key=lambda i: block[i].length)
        if block[at].length >= shortest:
            break
        before, after = block[at - 1 : at], block[at + 1 : at + 2]
        if before and after and before[0].region != after[0].region:
            before, after = (before, []) if before[0].length >= after[0].length else ([], after)
        region = (before or after)[0].region
        joined = [*before, block[at], *after]
        whole = replace(joined[0], region=region, last=joined[-1].last, end=joined[-1].end)
        block = [*block[: at - len(before)], whole, *block[at + len(after) + 1 :]]
    return block


def stretches_table(segments: Iterable[xr.Dataset], software: str, shortest: float = 0.0) -> bytes:
    """The CSV file: a header for machines, and a row for each stretch of each segment.

    segments: as `open_segment` gives them. software: name and version of what makes it.
    """
    rows: list[dict[str, Any]] = []
    about, seen = {}, list[xr.Dataset]()
    for data in segments:  # one at a time: all of them may not fit into memory
        rows += stretch_rows(data, shortest)
        about[f"{data.attrs['event']}/mms{data.attrs['probe']}"] = _about(data)
        seen.append(data.isel(time=slice(0)))
    header = {**_header(seen, software, shortest), "segments": about}
    text = io.StringIO(newline="")
    text.writelines(f"# {line}\n" for line in _ecsv(column_units(seen), header))
    writer = csv.DictWriter(text, list(column_units(seen)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _ecsv(units: Mapping[str, str], meta: Mapping[str, Any]) -> Iterator[str]:
    """The header of ECSV 1.0; each value is JSON, which is YAML too."""
    yield from ("%ECSV 1.0", "---", 'delimiter: ","', "datatype:")
    for name, unit in units.items():
        kind = "string" if name in _TEXTS else "int64" if name in _WHOLE else "float64"
        yield f"- {json.dumps({'name': name, **({'unit': unit} if unit else {}), 'datatype': kind})}"
    yield "meta:"
    yield from (f"  {key}: {json.dumps(value)}" for key, value in meta.items())
    yield "schema: astropy-2.0"


def read_header(path: Path | str) -> dict[str, Any]:
    """What stands before the table of a file that `stretches_table` made, also of one that an earlier version made."""
    lines = [line[2:] for line in Path(path).read_text().splitlines() if line.startswith("# ")]
    inside = lines[lines.index("meta:") + 1 : -1] if "meta:" in lines else lines
    return {key.strip(): json.loads(value) for key, _, value in (line.partition(": ") for line in inside)}


def _header(segments: Sequence[xr.Dataset], software: str, shortest: float) -> dict[str, Any]:
    model, deciding = card_of(segments[0]), settings_of(segments[0])
    origin = origin_of(file for data in segments for file in attributes_of(data)["inputs"])
    merging = (
        f"runs shorter than {shortest:g} s are joined to what is next to them: to both neighbours where these are of "
        "one region, else to the longer one, the shortest run first; never across a gap or samples without a label"
        if shortest
        else "none"
    )
    return {
        "title": origin.titled(TITLE),
        "software": software,
        "store": segments[0].attrs["uuid"],
        "convention": deciding["convention"],
        "deciding": deciding,
        "model": model["name"],
        "model_weights_sha256": model["weights_sha256"],
        "model_source_sha256": model["source_sha256"],
        "model_citation": model["citation"],
        "min_duration": shortest,
        "merging": merging,
        "confidence": "probability of the row's region; mean and smallest over its samples; mean_marginal: mean of the "
        "marginal probability, which holds the errors of B0 and n0",
        **{name: f"share of samples: {text}" for name, text in MEANING.items()},
        "origin": origin.sentence() or f"input files: {origin.word}",
        "names_of_regions": "inferred, not the authors'" if names_are_inferred(model) else "the model's own",
        "times": "UTC, ISO 8601; a sample covers 30 ms around its time",
        "position": f"x_gsm, y_gsm, z_gsm: mean of the segment, GSM, in Earth radii of {_EARTH:g} km",
        "cautions": model["cautions"],
        "units": column_units(segments),
    }


def _about(data: xr.Dataset) -> dict[str, Any]:
    names = (
        *("t_start", "t_end", "b0", "n0", "b0_sigma", "n0_sigma", "scale_source", "scale_caution"),
        *("draws", "seed", "mean_stability", "share_changed"),
    )
    there = {name: data.attrs[name] for name in names if name in data.attrs}
    found = {name: value for name, value in there.items() if value == value}  # NaN is not known, and no JSON
    origin = origin_of(attributes_of(data)["inputs"]).word
    return {
        **found,
        "origin": origin,
        "samples": data.sizes["time"],
        "labelled": int((data["label"] != NO_LABEL).sum()),
    }


def column_units(segments: Sequence[xr.Dataset]) -> dict[str, str]:
    """The columns, each with its unit; empty for words and times."""
    data = segments[0]
    marginal = {"mean_marginal": "1"} if any("probability_marginal" in one for one in segments) else {}
    stability = {"mean_stability": "1"} if any("stability" in one for one in segments) else {}
    return {
        **dict.fromkeys(_TEXTS, ""),
        **{"duration": "s", "samples": "1", "joined": "1", "mean_confidence": "1", "min_confidence": "1"},
        **marginal,
        **dict.fromkeys(MEANING, "1"),
        **stability,
        **{column: data[name].attrs["units"] for column, (name, _) in _MEANS.items()},
        **dict.fromkeys(_POSITION, "R_earth"),
    }


def stretch_rows(data: xr.Dataset, shortest: float = 0.0) -> Iterator[dict[str, Any]]:
    """The rows of the table of one segment, as `open_segment` gives it: texts and numbers by column."""
    label, probability = data["label"].values, data["probability"].values
    time = data["time"].values.astype("datetime64[ns]").astype(np.int64)
    regions = regions_of(data["label"].attrs)
    columns = {column: _column(data[name].values, part) for column, (name, part) in _MEANS.items()}
    position = _position(data)
    found = cautions(data)
    careful = found.found
    marginal = data.get("probability_marginal")
    if "stability" in data:
        columns = {"mean_stability": data["stability"].values, **columns}
    for one in stretches(time, label, shortest):
        inside = slice(one.first, one.last + 1)
        confidence = probability[inside, one.region].astype(np.float64)
        yield {
            "event": data.attrs["event"],
            "spacecraft": f"mms{data.attrs['probe']}",
            "start": _utc(one.begin),
            "stop": _utc(one.end),
            "region": regions[one.region].name,
            "duration": f"{one.length / SECOND:.3f}",
            "samples": one.samples,
            "joined": int((label[inside] != one.region).sum()),
            "mean_confidence": f"{confidence.mean():.4f}",
            "min_confidence": f"{confidence.min():.4f}",
            **({} if marginal is None else {"mean_marginal": _mean(marginal.values[inside, one.region])}),
            **{column: f"{where[inside].mean():.4f}" for column, where in careful.items()},
            **{column: _mean(values[inside]) for column, values in columns.items()},
            **position,
        }


def _position(data: xr.Dataset) -> dict[str, str]:
    """The mean position of a segment in Earth radii, GSM; empty texts where it is not known."""
    gse = np.ravel(data.attrs.get("position_gse", np.nan)).astype(np.float64)
    if gse.size != 3 or not np.isfinite(gse).all() or not data.sizes["time"]:
        return dict.fromkeys(_POSITION, "")
    middle = data["time"].values[data.sizes["time"] // 2].astype("datetime64[ns]").astype(np.int64)
    gsm = gse_to_gsm(np.array([middle]), gse[None])[0] / _EARTH
    return {name: f"{value:.2f}" for name, value in zip(_POSITION, gsm, strict=True)}


def _column(values: Floats, part: int | None) -> Floats:
    if values.ndim == 1:
        return values
    column: Floats = np.linalg.norm(values, axis=1) if part is None else values[:, part]
    return column


def _mean(values: Floats) -> str:
    """Of the samples that have a value; empty where none has."""
    there = values[np.isfinite(values)].astype(np.float64)
    return f"{there.mean():.6g}" if there.size else ""


def _utc(time: int) -> str:
    return str(np.datetime_as_string(np.datetime64(time, "ns"), unit="ms"))
