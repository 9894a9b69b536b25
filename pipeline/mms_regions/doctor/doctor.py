"""The list of checks: Python, libraries, GPU, model, SLURM, containers, disk space, network, clock.

Each check is a function that returns findings. All run at the same time, each in a thread, and the time for them is
limited. They import what they need inside, so that a broken library is a finding too.
"""

from __future__ import annotations

import email.utils
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from mms_regions.core.cluster_settings import ClusterSettings, scheduler_address
from mms_regions.core.errors import InputProblem
from mms_regions.core.settings import Settings
from mms_regions.doctor.disk import cache_place, scratch_place, store_place
from mms_regions.doctor.finding import Finding, State, Unanswered, program, start
from mms_regions.doctor.python import libraries, python, torch_and_gpu
from mms_regions.doctor.slurm import slurm
from mms_regions.model.card import find_model, wanted_name

_LIMIT = 150.0  # s, for all checks together
_NETWORK_LIMIT = 5.0  # s
_CLOCK_DIFFERS = 60.0  # s
_YEARS = range(2020, 2100)

Check = Callable[[], Iterable[Finding]]


def diagnose(
    settings: Settings, cluster: ClusterSettings, store: Path | None, environ: Mapping[str, str]
) -> list[Finding]:
    """All findings, in the order in which they are shown. Files that a check writes are removed again.

    store: the path of a store, existing or not; None leaves it out. A check that fails itself is a warning, as it says
    nothing about the profile; one that hangs is a problem, as the run would hang too.
    """
    checks: dict[str, Check] = {
        "Python": lambda: [python()],
        "packages": lambda: libraries(environ),
        "torch": lambda: torch_and_gpu(settings, cluster, environ),
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
    started = {what: start(check) for what, check in checks.items()}
    return [finding for what, future in started.items() for finding in _outcome(what, future, until)]


def _outcome(what: str, future: Future[Iterable[Finding]], until: float) -> Iterable[Finding]:
    try:
        return future.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        advice = "check whether a file system or a server hangs; `df` of its folder would hang too"
        return [Finding(what, "problem", f"no answer within {_LIMIT:g} s", advice)]
    except Exception as problem:
        found = f"cannot be checked ({type(problem).__name__}: {problem})"
        return [Finding(what, "warning", found, "check the packages above")]


def model(settings: Settings, environ: Mapping[str, str]) -> Finding:
    """Whether the model of these settings is installed, with its weights."""
    try:
        found = find_model(wanted_name(settings.model, settings.convention), environ)
    except InputProblem as problem:
        return Finding("model", "problem", str(problem), "correct model in the profile, or --model")
    if found.weights is None:
        return Finding("model", "problem", f"{found.card.name}, without its weights", found.card.how_to_get_weights)
    return Finding("model", "ok", f"{found.card.name}, in {found.folder}")


def scheduler(cluster: ClusterSettings) -> Iterator[Finding]:
    """Whether a program listens at the address of the scheduler that a profile names."""
    if cluster.kind != "address":
        return
    try:
        address = scheduler_address(cluster)
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=_NETWORK_LIMIT).close()
    except (OSError, ValueError, KeyError, TypeError) as problem:
        advice = "start the scheduler, or correct address in [cluster] of the profile"
        yield Finding("scheduler", "problem", f"none at {cluster.address} ({problem})", advice)
    else:
        yield Finding("scheduler", "ok", f"a program listens at {address}")


def containers(cluster: ClusterSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether apptainer, which jobs call, and the images that the pools name are here."""
    pools = {"cpu": cluster.cpu, "gpu": cluster.gpu} if cluster.kind == "slurm" else {}
    with_image = {where: pool for where, pool in pools.items() if pool is not None and pool.image}
    here = [name for name in ("apptainer", "singularity") if program(name, environ)]
    found = " and ".join(here) or "neither apptainer nor singularity"
    if "apptainer" in here or not with_image:
        yield Finding("containers", "ok", found)
    else:
        state: State = "warning" if all(pool.setup for pool in with_image.values()) else "problem"  # may load it
        advice = "load or install apptainer, or remove image from the profile"
        yield Finding("containers", state, f"{found} here, and jobs call apptainer", advice)
    for where, pool in with_image.items():
        if "://" not in pool.image:
            yield _image(f"{where} image", Path(pool.image))


def _image(what: str, path: Path) -> Finding:
    if os.access(path, os.R_OK):
        return Finding(what, "ok", str(path))
    found = f"{path} {'is not readable' if path.exists() else 'does not exist'}"
    return Finding(what, "problem", found, "build it (see jobs/README.md), or correct image in the profile")


def network(settings: Settings) -> Iterator[Finding]:
    """One request to the archive, whatever the answer, and the clock compared with its date."""
    if settings.offline:
        yield Finding("network", "ok", "not tested, as offline = true")
        yield clock(datetime.now(UTC), None)
        return
    from mms_regions.archive.servers import Source

    base = Source(settings.source, settings.archive_url).base
    date = None
    try:
        date = start(partial(_date_of, base)).result(_NETWORK_LIMIT)
        yield Finding("network", "ok", f"{base} answers")
    except (TimeoutError, Unanswered) as problem:
        why = str(problem) or f"no answer within {_NETWORK_LIMIT:g} s"
        advice = "fetch on a node with internet access, then run with --offline; or set HTTPS_PROXY"
        yield Finding("network", "warning", f"{base}: {why}", advice)
    yield clock(datetime.now(UTC), date)


def _date_of(url: str) -> datetime | None:
    """The server's time, None where it does not say. Raises Unanswered where it does not answer."""
    from mms_regions.archive.http import Client, Limits, RequestFailed

    limits = Limits(connect_timeout=0.9 * _NETWORK_LIMIT, read_timeout=0.9 * _NETWORK_LIMIT)
    try:
        with Client(limits).get(url) as response:
            date = response.headers.get("Date", "")
    except RequestFailed as problem:
        raise Unanswered(problem.said) from None
    try:
        parsed = email.utils.parsedate_to_datetime(date)
    except ValueError:
        return None
    return parsed.replace(tzinfo=parsed.tzinfo or UTC)


def clock(now: datetime, server: datetime | None) -> Finding:
    """The time of this machine, compared with that of a server if there is one."""
    found, advice = f"{now:%Y-%m-%d %H:%M:%S} UTC", "set the clock (chrony or ntp)"
    if now.year not in _YEARS:
        return Finding("clock", "problem", found, advice)
    if server is None:
        return Finding("clock", "ok", f"{found}; no server to compare with")
    differs = (now - server).total_seconds()
    if abs(differs) > _CLOCK_DIFFERS:
        found = f"{found}, {abs(differs):.0f} s {'ahead of' if differs > 0 else 'behind'} the archive"
        return Finding("clock", "warning", found, f"{advice}: certificates and munge fail where clocks differ")
    return Finding("clock", "ok", f"{found}, as at the archive")
