"""Whether libraries can be imported and torch can use a GPU, as lines of JSON; a process that `doctor` starts.

An import can end or hang the process that does it, and must not take `doctor` along. This file imports no other room.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_MODULES = {"pillow": "PIL"}  # of packages whose module has another name


def imported(package: str) -> dict[str, str]:
    """Its version, empty where it does not say, and why it cannot be imported, empty where it can."""
    try:
        module = importlib.import_module(_MODULES.get(package, package.replace("-", "_")))
    except BaseException as problem:  # what an import of others' code raises may be anything
        return {"package": package, "version": "", "problem": _words(problem)}
    try:
        return {"package": package, "version": version(package), "problem": ""}
    except PackageNotFoundError:
        return {"package": package, "version": str(getattr(module, "__version__", "")), "problem": ""}


def gpus() -> dict[str, Any]:
    """The GPUs that torch computes on, why there is none, and for which CUDA it was built, empty for none."""
    import torch

    build = torch.version.cuda or getattr(torch.version, "hip", None) or ""
    try:
        torch.ones(1, device="cuda").sum().item()  # a GPU that this build has no code for is found, and fails here
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    except Exception as problem:
        return {"gpus": [], "build": build, "why": _words(problem)}
    return {"gpus": names, "build": build, "why": ""}


def _words(problem: BaseException) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _tell(fact: dict[str, Any]) -> None:
    print(json.dumps(fact), flush=True)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        _tell({"begun": name})
        told = imported(name)
        _tell(told)
        if name == "torch" and not told["problem"]:
            _tell(gpus())
