"""JSON schemas of the files that people write: profiles (TOML) and event lists (CSV), for editors that check them."""

from __future__ import annotations

import re
from typing import Any

from mms_regions.core.catalogue import REQUIRED
from mms_regions.core.cluster_settings import ClusterSettings
from mms_regions.core.events import NAME, TIME
from mms_regions.core.settings import Settings

_NUMBER = {"type": "number", "exclusiveMinimum": 0}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TIME = {
    "type": "string",
    "pattern": f"^{re.sub('[?]P<[a-z]+>', '', TIME.pattern)}$",
    "description": "UTC, such as 2017-05-28T03:58:30",
}
_RANGE = r"(mms)?[1-4](\s*-\s*(mms)?[1-4])?"
_PROBES = {
    "type": ["string", "integer"],
    "pattern": rf"^\s*(all|{_RANGE}([,;\s]+{_RANGE})*)\s*$",
    "description": "spacecraft that have data, such as 1-4 or 1,3; all four where it is left out",
}


def catalogue_schema() -> dict[str, Any]:
    """The JSON schema of an event list: an array of rows by column, as a CSV file with these columns holds them."""
    columns = {
        "event": {"type": "string", "pattern": f"^{NAME.pattern}$"},
        "t_start": _TIME,
        "t_end": _TIME,
        **{name: {**_NUMBER, "description": "field of the lobe, in nT"} for name in ("B0", "B0_sigma")},
        **{name: {**_NUMBER, "description": "density of the current sheet, in cm^-3"} for name in ("n0", "n0_sigma")},
        "probes": _PROBES,
        "notes": {"type": "string"},
    }
    row = {"type": "object", "properties": columns, "required": list(REQUIRED)}
    return {"$schema": _DIALECT, "title": "An event list of mms-regions", "type": "array", "minItems": 1, "items": row}


def profile_schema() -> dict[str, Any]:
    """The JSON schema of a profile: the settings, and the table [cluster]."""
    schema = Settings.model_json_schema()
    cluster = ClusterSettings.model_json_schema()
    schema["properties"].pop("origin")  # is made, not given
    schema["$defs"] = {**schema.get("$defs", {}), **cluster.pop("$defs"), "ClusterSettings": cluster}
    schema["properties"]["cluster"] = {"$ref": "#/$defs/ClusterSettings"}
    about = {"title": "A profile of mms-regions", "description": "The settings of a run, and where its tasks run."}
    return {"$schema": _DIALECT, **schema, **about}
