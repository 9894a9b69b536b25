"""Whether the Python, the libraries and the GPU that a profile needs are there and can be used."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from mms_regions.core.cluster_settings import ClusterSettings
from mms_regions.core.settings import Settings
from mms_regions.doctor.finding import Finding, Unanswered, ask

_LIMIT = 120.0  # s; importing torch from the file system of a cluster can take a minute
_NOT_HERE = {"DASK_CONFIG": os.devnull, "MPLCONFIGDIR": os.devnull}  # else importing them would leave files at home


def python() -> Finding:
    """The version of the Python that runs."""
    found, least = f"{platform.python_version()}, {sys.executable}", _declared()[0].removeprefix(">=")
    if _numbers(platform.python_version()) < _numbers(least):
        return Finding("Python", "problem", found, f"use Python {least} or newer")
    return Finding("Python", "ok", found)


def packages(environ: Mapping[str, str]) -> list[Finding]:
    """Those that the project declares: whether they are new enough, and can be imported; torch is looked at apart."""
    least = minimal_versions()
    names = [name for name in least if name != "torch"]
    bad = list(_unfit(imports(names, environ), least))
    fit = len(names) - len(bad)
    return [*bad, Finding("packages", "ok", f"{fit} of {len(names)} can be imported and are new enough")]


def minimal_versions() -> dict[str, str]:
    """The libraries that the project declares and the lowest version of each, empty for any."""
    declared = [line for line in _declared()[1] if "extra ==" not in line]
    found = [re.match(r"([\w.-]+)\s*(?:\[.*?\])?\s*(?:[>=~]=\s*([\w.]+))?", line) for line in declared]
    return {match[1]: match[2] or "" for match in found if match}


def _declared() -> tuple[str, list[str]]:
    """Python and libraries, as a checkout says, or where this is none, what was installed."""
    project = Path(__file__).parents[3] / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text())["project"]
        return table["requires-python"], table["dependencies"]
    about = metadata("mms-regions")
    return about["Requires-Python"], about.get_all("Requires-Dist") or []


def _unfit(told: Iterable[Mapping[str, Any]], least: Mapping[str, str]) -> Iterator[Finding]:
    for fact in told:
        if name := fact.get("package"):
            advice = f"pip install '{name}{'>=' if least[name] else ''}{least[name]}'"
            if fact["problem"]:
                yield Finding(name, "problem", f"cannot be imported: {fact['problem']}", advice)
            elif fact["version"] and _numbers(fact["version"]) < _numbers(least[name]):
                yield Finding(name, "problem", f"{fact['version']} is older than {least[name]}", advice)


def _numbers(version: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", version.partition("+")[0])]


def imports(names: Sequence[str], environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """What probe.py tells of importing these; also of one that ends or hangs the process that imports it."""
    words = [sys.executable, "-B", "-P", str(Path(__file__).with_name("probe.py")), *names]
    try:
        done = subprocess.run(words, env={**environ, **_NOT_HERE}, capture_output=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired as late:
        return _completed(_facts(late.stdout or b""), f"takes longer than {_LIMIT:g} s")
    told = _completed(_facts(done.stdout), f"ends the process with code {done.returncode}")
    begun = [fact["package"] for fact in told if "package" in fact]
    left = [name for name in names if name not in begun]
    return [*told, *(imports(left, environ) if begun and left else [])]


def _facts(lines: bytes) -> list[dict[str, Any]]:
    """Libraries may print lines of their own among them."""
    return [json.loads(line) for line in lines.decode(errors="replace").splitlines() if line.startswith('{"')]


def _completed(told: list[dict[str, Any]], ended: str) -> list[dict[str, Any]]:
    """The last import has no end where it took the process with it."""
    if told and "begun" in told[-1]:
        return [*told, {"package": told[-1]["begun"], "version": "", "problem": f"importing it {ended}"}]
    return told


def gpu(settings: Settings, cluster: ClusterSettings, environ: Mapping[str, str]) -> list[Finding]:
    """torch, and whether the device that settings name can be had."""
    told = imports(["torch"], environ)
    bad = list(_unfit(told, minimal_versions()))
    version = next((fact["version"] for fact in told if "package" in fact), "")
    tried = next((fact for fact in told if "gpus" in fact), None)
    if bad or tried is None:
        return bad or [Finding("torch", "problem", "tried out in vain", "pip install --force-reinstall torch")]
    build = f"built for CUDA {tried['build']}" if tried["build"] else "built without CUDA"
    return [Finding("torch", "ok", f"{version}, {build}"), _device(settings.device, cluster, tried, _listed(environ))]


def _listed(environ: Mapping[str, str]) -> list[str]:
    """The GPUs that the driver names, whatever torch can use."""
    try:
        said = ask(environ, "nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    except Unanswered:
        return []
    return [line.strip() for line in said.splitlines() if line.strip()]


def _device(device: str, cluster: ClusterSettings, tried: Mapping[str, Any], listed: list[str]) -> Finding:
    """Where jobs label, they have the GPUs, not this machine."""
    found = ", ".join(tried["gpus"])
    if not found and listed:
        found = f"nvidia-smi lists {', '.join(listed)}, which torch cannot use: {tried['why']}"
    found = found or "none here"
    if device == "cpu":
        return Finding("GPU", "ok", f"{found}; not asked for")
    if cluster.kind == "address":
        return Finding("GPU", "ok", f"{found}; the workers of that scheduler label")
    if cluster.kind == "local":
        return _device_here(device, found, bool(tried["gpus"]), bool(listed))
    return _device_of_jobs(device, cluster, found, bool(tried["build"]))


def _device_here(device: str, found: str, usable: bool, listed: bool) -> Finding:
    """listed: the driver names one."""
    if usable:
        return Finding("GPU", "ok", found)
    advice = "install a build of torch for the CUDA of the driver that `nvidia-smi` shows"
    if device == "cuda":
        return Finding("GPU", "problem", found, f"{advice}, or set device = 'cpu' or 'auto'")
    if listed:
        return Finding("GPU", "remark", f"{found}; labels are made on the CPU", advice)
    return Finding("GPU", "ok", f"{found}; labels are made on the CPU")


def _device_of_jobs(device: str, cluster: ClusterSettings, found: str, built: bool) -> Finding:
    """built: whether the torch that is here, which jobs without a container use too, is built for GPUs."""
    pool = cluster.gpu or cluster.cpu
    asks = "gpu" in " ".join([pool.gres, *pool.directives])
    if not built and not (cluster.kind == "slurm" and pool.image):
        if device == "cuda":
            return Finding("GPU", "problem", f"{found}; jobs use this torch too", "install a build of torch with CUDA")
        if asks:
            advice = "install a build of torch with CUDA, or ask for no GPU"
            return Finding("GPU", "remark", f"{found}; jobs that ask for a GPU would label on the CPU", advice)
    if device == "cuda" and cluster.kind == "slurm" and not asks:
        advice = "set gres = 'gpu:1' in [cluster.gpu] of the profile, unless its partition gives one anyway"
        return Finding("GPU", "remark", f"{found}; the jobs that label ask for none", advice)
    return Finding("GPU", "ok", f"{found}; it is the jobs that label")
