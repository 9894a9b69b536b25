"""Whether libraries can be imported and torch can use a GPU, as lines of JSON: a script that `doctor` starts.

An import can end or hang the process that does it, which must not be `doctor`. This file imports no other module of
the package.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any


def _normal(name: str) -> str:
    """The name of a distribution as package indexes compare it: netCDF4 and netcdf4 are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def module_of(package: str, installed: Mapping[str, Sequence[str]]) -> str:
    """The module of a distribution, such as netCDF4 for netcdf4 and PIL for pillow.

    installed: the distributions of each module. Without an entry there, the name itself.
    """
    modules = [module for module, owners in installed.items() if _normal(package) in map(_normal, owners)]
    same = [module for module in modules if _normal(module) == _normal(package)]
    return next(iter([*same, *sorted(modules), package.replace("-", "_")]))


def imported(package: str, module_name: str) -> dict[str, str]:
    """The version of a package, empty where it has none, and why it cannot be imported, empty where it can."""
    try:
        module = importlib.import_module(module_name)
    except BaseException as problem:  # an import may raise anything
        return {"package": package, "version": "", "problem": _first_line(problem)}
    try:
        return {"package": package, "version": version(package), "problem": ""}
    except PackageNotFoundError:
        return {"package": package, "version": str(getattr(module, "__version__", "")), "problem": ""}


def gpus() -> dict[str, Any]:
    """The GPUs that torch can compute on, why there is none, and the CUDA that it was built for, empty for none."""
    import torch

    build = torch.version.cuda or getattr(torch.version, "hip", None) or ""
    try:
        torch.ones(1, device="cuda").sum().item()  # fails for a GPU that this build has no code for
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    except Exception as problem:
        return {"gpus": [], "build": build, "why": _first_line(problem)}
    return {"gpus": names, "build": build, "why": ""}


def _first_line(problem: BaseException) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _report(fact: dict[str, Any]) -> None:
    print(json.dumps(fact), flush=True)


if __name__ == "__main__":
    distributions = packages_distributions()
    for name in sys.argv[1:]:
        _report({"begun": name})
        result = imported(name, module_of(name, distributions))
        _report(result)
        if name == "torch" and not result["problem"]:
            _report(gpus())
