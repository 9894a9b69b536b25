"""The environment of child processes that run Python: they import nothing from the folder a command was started in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def safe_path(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep the working folder off the module search path of a child.

    A file there, such as the user's own random.py, would be imported in place of a library. PYTHONPATH keeps its
    absolute entries; an empty or a relative one is the working folder, or in it.
    """
    entries = environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in entries if Path(entry).is_absolute()]
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(kept)}
