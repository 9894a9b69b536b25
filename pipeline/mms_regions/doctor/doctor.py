"""What is missing here for a profile: Python, libraries, GPU, model, SLURM, containers, room, network, time.

Each check is a function that returns what it found. All run at once, each in a thread of its own, and none is waited
for too long. What a check needs of other rooms is imported inside it, so that a broken library is a finding too.
"""

from __future__ import annotations

import email.utils
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from rich.filesize import decimal

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.core.errors import InputProblem
from mms_regions.core.settings import Settings
from mms_regions.doctor.disk import cache_place, scratch_place, store_place
from mms_regions.doctor.finding import Finding, State, Unanswered, begun, program
from mms_regions.doctor.python import gpu, packages, python
from mms_regions.doctor.slurm import slurm
from mms_regions.model.card import find_model

_LIMIT = 150.0  # s, for all checks together
_NETWORK_LIMIT = 5.0  # s
_CLOCK_DIFFERS = 60.0  # s
_YEARS = range(2020, 2100)

Check = Callable[[], Iterable[Finding]]


def diagnose(
    settings: Settings, cluster: ClusterSettings, store: Path | None, environ: Mapping[str, str]
) -> list[Finding]:
    """All findings, in an order for people. What a check writes to try out a file system, it removes again.

    store: where one is to be made, or is; None leaves it out. A check that fails is a remark, as it tells nothing about
    the profile; one that hangs is a problem, as the run would hang too.
    """
    checks: dict[str, Check] = {
        "Python": lambda: [python()],
        "packages": lambda: packages(environ),
        "GPU": lambda: gpu(settings, cluster, environ),
        "model": lambda: [model(settings, environ)],
        "SLURM": lambda: list(slurm(cluster, environ)),
        "scheduler": lambda: list(scheduler(cluster)),
        "containers": lambda: list(containers(cluster, environ)),
        "store": lambda: [store_place(store)],
        "cache": lambda: [cache_place(settings)],
        "scratch": lambda: [scratch_place(cluster, environ)],
        "network": lambda: list(network(settings)),
    }
    until = time.monotonic() + _LIMIT
    going_on = {what: begun(check) for what, check in checks.items()}
    return [finding for what, future in going_on.items() for finding in _outcome(what, future, until)]


def _outcome(what: str, future: Future[Iterable[Finding]], until: float) -> Iterable[Finding]:
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        advice = "see whether a file system or a server hangs; `df` of its folder would hang too"
        return [Finding(what, "problem", f"no answer within {_LIMIT:g} s", advice)]
    except Exception as problem:
        said = f"cannot be looked at ({type(problem).__name__}: {problem})"
        return [Finding(what, "remark", said, "see whether the packages above are sound")]


# --- The model


def model(settings: Settings, environ: Mapping[str, str]) -> Finding:
    """Whether the model that settings name is here, with its weights."""
    try:
        found = find_model(settings.model, environ)
    except InputProblem as problem:
        return Finding("model", "problem", str(problem), "correct model in the profile, or --model")
    if found.weights is None:
        return Finding("model", "problem", f"{found.card.name}, without its weights", found.card.how_to_get_weights)
    return Finding("model", "ok", f"{found.card.name}, in {found.folder}")


# --- What runs elsewhere


def scheduler(cluster: ClusterSettings) -> Iterator[Finding]:
    """Whether something listens where a profile says that a scheduler runs."""
    if cluster.kind != "address":
        return
    advice = "start the scheduler, or correct address in [cluster] of the profile"
    try:
        address = cluster.address
        if address.endswith(".json"):
            address = json.loads(Path(address).read_text())["address"]
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=_NETWORK_LIMIT).close()
    except (OSError, ValueError, KeyError, TypeError) as problem:
        yield Finding("scheduler", "problem", f"none at {cluster.address} ({problem})", advice)
    else:
        yield Finding("scheduler", "ok", f"something listens at {address}")


def containers(cluster: ClusterSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What runs containers here, and whether those that the pools name are there."""
    pools = {"cpu": cluster.cpu, "gpu": cluster.gpu} if cluster.kind == "slurm" else {}
    named = {where: pool for where, pool in pools.items() if pool is not None and pool.image}
    here = [name for name in ("apptainer", "singularity") if program(name, environ)]
    yield _runtime(here, named.values())
    for where, pool in named.items():
        if "://" not in pool.image:
            yield _image(f"{where} image", Path(pool.image))


def _runtime(here: list[str], pools: Iterable[PoolSettings]) -> Finding:
    """Jobs call `apptainer`; lines of setup may load it on the nodes."""
    found = " and ".join(here) or "neither apptainer nor singularity"
    if "apptainer" in here or not list(pools):
        return Finding("containers", "ok", found)
    advice = "load or install apptainer, or leave image out of the profile"
    state: State = "remark" if all(pool.setup for pool in pools) else "problem"
    return Finding("containers", state, f"{found} here, and jobs call apptainer", advice)


def _image(what: str, path: Path) -> Finding:
    if os.access(path, os.R_OK):
        size = f", {decimal(path.stat().st_size)}" if path.is_file() else ""
        return Finding(what, "ok", f"{path}{size}")
    said = "cannot be read" if path.exists() else "is not there"
    return Finding(what, "problem", f"{path} {said}", "build it (see jobs/README.md), or correct image in the profile")


# --- Network and time


def network(settings: Settings) -> Iterator[Finding]:
    """One request to the archive, whatever the answer, and the clock compared with its date."""
    if settings.offline:
        yield Finding("network", "ok", "not asked, as offline = true")
        yield clock(datetime.now(UTC), None)
        return
    from mms_regions.archive.servers import Source

    base = Source(settings.source, settings.archive_url).base
    try:
        said = begun(partial(_date_of, base)).result(_NETWORK_LIMIT)
        yield Finding("network", "ok", f"{base} answers")
        yield clock(datetime.now(UTC), said)
    except (TimeoutError, Unanswered) as problem:
        why = str(problem) or f"no answer within {_NETWORK_LIMIT:g} s"
        advice = "fetch on a node with a way out, then run with --offline; or set HTTPS_PROXY"
        yield Finding("network", "remark", f"{base}: {why}", advice)
        yield clock(datetime.now(UTC), None)


def _date_of(url: str) -> datetime | None:
    """What the server says that the time is, if it does. Raises Unanswered where it says nothing at all."""
    from mms_regions.archive.http import Client, Limits, RequestFailed

    limits = Limits(connect_timeout=0.9 * _NETWORK_LIMIT, read_timeout=0.9 * _NETWORK_LIMIT)
    try:
        with Client(limits).get(url) as response:
            date = response.headers.get("Date", "")
    except RequestFailed as problem:
        raise Unanswered(problem.said) from None
    try:
        said = email.utils.parsedate_to_datetime(date)
    except ValueError:
        return None
    return said.replace(tzinfo=said.tzinfo or UTC)


def clock(now: datetime, server: datetime | None) -> Finding:
    """The time of this machine, against that of a server if there is one."""
    found, advice = f"{now:%Y-%m-%d %H:%M:%S} UTC", "set the clock, or have it set (chrony or ntp)"
    if now.year not in _YEARS:
        return Finding("clock", "problem", found, advice)
    if server is None:
        return Finding("clock", "ok", f"{found}; there is no server to compare it with")
    differs = (now - server).total_seconds()
    if abs(differs) > _CLOCK_DIFFERS:
        said = f"{found}, {abs(differs):.0f} s {'after' if differs > 0 else 'before'} that of the archive"
        return Finding("clock", "remark", said, f"{advice}: certificates and munge fail where clocks differ")
    return Finding("clock", "ok", f"{found}, as at the archive")
