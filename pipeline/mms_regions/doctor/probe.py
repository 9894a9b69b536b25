"""Whether libraries can be imported and torch can use a GPU, as lines of JSON: a script that `doctor` starts.

An import can end or hang the process that does it, which must not be `doctor`. This file imports no other module of
the package.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

_MODULES = {"netcdf4": "netCDF4", "pillow": "PIL"}  # those not named as their distribution
# Importing these takes seconds of CPU and finds little more: it is enough that they are there. All others have compiled
# parts that this system may not be able to load, or cost nothing.
_LOOKED_UP = {
    *("bokeh", "dask", "dask-jobqueue", "distributed", "jinja2", "matplotlib", "pandas", "requests", "stamina"),
    *("xarray", "zarr"),
}


def module_of(package: str) -> str:
    """The module of a distribution, such as netCDF4 for netcdf4 and PIL for pillow."""
    name = package.lower()
    return _MODULES.get(name, name.replace("-", "_"))


def found(package: str) -> dict[str, str]:
    """The version of a package, empty where it has none, and why it cannot be used, empty where it can."""
    name = module_of(package)
    module: ModuleType | None = None
    try:
        if package in _LOOKED_UP:
            _require(name)
        else:
            module = importlib.import_module(name)
    except BaseException as problem:  # an import may raise anything
        return {"package": package, "version": "", "problem": _first_line(problem)}
    try:
        return {"package": package, "version": version(package), "problem": ""}
    except PackageNotFoundError:
        return {"package": package, "version": str(getattr(module, "__version__", "")), "problem": ""}


def _require(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(f"No module named {name!r}")


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
    gc.disable()  # importing torch takes a third less; nothing here has cycles to find
    for name in sys.argv[1:]:
        _report({"begun": name})
        result = found(name)
        _report(result)
        if name == "torch" and not result["problem"]:
            _report(gpus())
    gc.freeze()  # nor is all of torch searched at the end
