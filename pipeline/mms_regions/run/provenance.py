"""What ran: versions of everything that computes, the commit or the container it was, the machine, the settings."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mms_regions.core.settings import Settings
from mms_regions.core.version import __version__
from mms_regions.model.card import ModelCard

_LIBRARIES = ("dask", "distributed", "numpy", "pycdfpp", "torch", "xarray", "zarr")
_CONTAINERS = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER", "MMS_REGIONS_IMAGE")
_REVISION = "MMS_REGIONS_REVISION"  # set when a container is built, which has no .git


def this_run(settings: Settings, card: ModelCard, command: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """A run as it is recorded in its store; `ended` and `outcome` are added when it ends."""
    return {
        "command": command,
        "mms_regions": __version__,
        "revision": environ.get(_REVISION) or _commit(),
        "container": next((environ[name] for name in _CONTAINERS if environ.get(name)), ""),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "host": platform.node(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "started": now(),
        "model": {"name": card.name, "weights_sha256": card.weights_sha256},
        "settings": settings.model_dump(mode="json", exclude={"origin"}),
        "origins": dict(settings.origin),
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str:
    """The git commit of a checkout that is run as it stands, marked where it was changed; else nothing."""
    here = Path(__file__).parent
    if not any((folder / ".git").exists() for folder in here.parents):
        return ""
    try:
        words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
