"""Whether the Python, the libraries and the GPU that a profile needs are here and can be used."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from mms_regions.core.cluster_settings import ClusterSettings
from mms_regions.core.isolated import safe_path
from mms_regions.core.settings import Settings
from mms_regions.doctor.finding import Finding, Unanswered, ask

_LIMIT = 120.0  # s; importing torch from the file system of a cluster can take a minute
_NO_FILES_AT_HOME = {"DASK_CONFIG": os.devnull, "MPLCONFIGDIR": os.devnull}


def python() -> Finding:
    """The version of the Python that runs."""
    found = f"{platform.python_version()}, {sys.executable}"
    least = metadata("mms-regions")["Requires-Python"].removeprefix(">=")
    if _numbers(platform.python_version()) < _numbers(least):
        return Finding("Python", "problem", found, f"use Python {least} or newer")
    return Finding("Python", "ok", found)


def libraries(environ: Mapping[str, str]) -> list[Finding]:
    """Whether the libraries that the project declares are here and new enough, all but torch, which takes longest."""
    least = minimal_versions()
    names = [name for name in least if name != "torch"]
    bad = list(_unfit(imports(names, environ), least))
    return [*bad, Finding("packages", "ok", f"{len(names) - len(bad)} of {len(names)} are installed and new enough")]


def minimal_versions() -> dict[str, str]:
    """The libraries that the installed project declares and the lowest version of each, empty for any."""
    declared = [line for line in metadata("mms-regions").get_all("Requires-Dist") or [] if "extra ==" not in line]
    found = [re.match(r"([\w.-]+)\s*(?:\[.*?\])?\s*(?:[>=~]=\s*([\w.]+))?", line) for line in declared]
    return {match[1]: match[2] or "" for match in found if match}


def _unfit(facts: Iterable[Mapping[str, Any]], least: Mapping[str, str]) -> Iterator[Finding]:
    for fact in facts:
        if name := fact.get("package"):
            advice = f"pip install '{name}{'>=' if least[name] else ''}{least[name]}'"
            if fact["problem"]:
                yield Finding(name, "problem", f"cannot be imported: {fact['problem']}", advice)
            elif fact["version"] and _numbers(fact["version"]) < _numbers(least[name]):
                yield Finding(name, "problem", f"{fact['version']} is older than {least[name]}", advice)


def _numbers(version: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", version.partition("+")[0])]


def imports(names: Sequence[str], environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """The facts that probe.py reports about these packages, also of one that ends or hangs the importing process."""
    args = [sys.executable, "-B", "-P", str(Path(__file__).with_name("probe.py")), *names]
    env = {**environ, **safe_path(environ), **_NO_FILES_AT_HOME}
    try:
        done = subprocess.run(args, env=env, capture_output=True, timeout=_LIMIT, check=False)
        facts = _completed(_facts(done.stdout), f"ends the process with code {done.returncode}")
    except subprocess.TimeoutExpired as late:
        facts = _completed(_facts(late.stdout or b""), f"takes longer than {_LIMIT:g} s")
    seen = [fact["package"] for fact in facts if "package" in fact]
    left = [name for name in names if name not in seen]
    return [*facts, *(imports(left, environ) if seen and left else [])]


def _facts(lines: bytes) -> list[dict[str, Any]]:
    """Libraries may print lines of their own between those of probe.py."""
    return [json.loads(line) for line in lines.decode(errors="replace").splitlines() if line.startswith('{"')]


def _completed(facts: list[dict[str, Any]], ended: str) -> list[dict[str, Any]]:
    """An import that ended the process has begun, and has no result."""
    if facts and "begun" in facts[-1]:
        return [*facts, {"package": facts[-1]["begun"], "version": "", "problem": f"importing it {ended}"}]
    return facts


def torch_and_gpu(settings: Settings, cluster: ClusterSettings, environ: Mapping[str, str]) -> list[Finding]:
    """Whether torch is here and new enough, and the GPU that settings ask for."""
    facts = imports(["torch"], environ)
    bad = list(_unfit(facts, minimal_versions()))
    version = next((fact["version"] for fact in facts if "package" in fact), "")
    tested = next((fact for fact in facts if "gpus" in fact), None)
    if bad or tested is None:
        return bad or [Finding("torch", "problem", "import test failed", "pip install --force-reinstall torch")]
    build = f"built for CUDA {tested['build']}" if tested["build"] else "built without CUDA"
    return [Finding("torch", "ok", f"{version}, {build}"), _device(settings.device, cluster, tested, _listed(environ))]


def _listed(environ: Mapping[str, str]) -> str:
    """The GPUs that the driver lists, whether torch can use them or not."""
    try:
        return ", ".join(ask(environ, "nvidia-smi", "--query-gpu=name", "--format=csv,noheader").split("\n")).strip(
            ", "
        )
    except Unanswered:
        return ""


def _device(device: str, cluster: ClusterSettings, torch: Mapping[str, Any], listed: str) -> Finding:
    """A local run needs the GPU here; jobs have theirs elsewhere, but share this torch unless they run in an image."""
    unusable = f"nvidia-smi lists {listed}, but torch cannot use it: {torch['why']}" if listed else "none here"
    found = ", ".join(torch["gpus"]) or unusable
    if device == "cpu":
        return Finding("GPU", "ok", f"{found}; not requested")
    advice = "install a build of torch for the CUDA version that `nvidia-smi` shows, or set device = 'cpu'"
    if cluster.kind != "local":
        pool = cluster.gpu or cluster.cpu
        if device == "cuda" and cluster.kind != "address" and not torch["build"] and not pool.image:
            return Finding("GPU", "problem", f"{found}; jobs use this torch, which is built without CUDA", advice)
        return Finding("GPU", "ok", f"{found}; labelling runs on the workers of the cluster")
    if torch["gpus"]:
        return Finding("GPU", "ok", found)
    if device == "cuda":
        return Finding("GPU", "problem", found, advice)
    return Finding(
        "GPU", "warning" if listed else "ok", f"{found}; labelling runs on the CPU", advice if listed else ""
    )
