"""The cluster that a profile asks for, as something that a run can open."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from mms_regions.core.cluster_settings import ClusterSettings
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.workers.pool import DaskFuture, DaskPool, Future, Pool, PoolFactory, for_main_alone, local_pool

_EVERY = 2.0  # s, from one look at the workers of a foreign scheduler to the next


@contextmanager
def pool_for(cluster: ClusterSettings, folder: Path) -> Iterator[PoolFactory]:
    """What opens the workers of a run, for as long as the block lasts; to be entered before the run does anything.

    In an allocation one task of many comes into the block: the others serve it, and end their process when it leaves.
    folder: beside the run's store, which all nodes of a cluster see.
    Only what is needed is imported: dask-jobqueue costs half a second.
    """
    match cluster.kind:
        case "slurm":
            yield lambda workers: _slurm(cluster, folder)
        case "address":
            yield lambda workers: _at_address(cluster)
        case "allocation":
            with _in_allocation(cluster, folder) as pool:
                yield pool
        case _:
            yield local_pool


def _slurm(cluster: ClusterSettings, folder: Path) -> AbstractContextManager[Pool]:
    with _signal_kept():  # importing dask-jobqueue takes Ctrl-C for itself
        from mms_regions.workers.slurm import slurm_pool
    return slurm_pool(cluster, folder)


def _in_allocation(cluster: ClusterSettings, folder: Path) -> AbstractContextManager[PoolFactory]:
    with _signal_kept():
        from mms_regions.workers.allocation import in_allocation
    return in_allocation(cluster, folder)


@contextmanager
def _signal_kept() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class AtAddress(DaskPool):
    """Tasks run on the workers of a scheduler that somebody else has started, and looks after."""

    def __init__(self, client: Any, cluster: ClusterSettings):
        count = max(1, len(_workers(client)))
        super().__init__(client, {"cpu": count, "gpu": count})
        self._address, self._limit = cluster.address, cluster.start_timeout
        self._looked = self._worked = time.monotonic()

    def next_within(self, seconds: float) -> Future | None:
        """Raises EnvironmentProblem where the scheduler has gone, and all tasks with it."""
        done = super().next_within(seconds)
        if isinstance(done, DaskFuture) and done.cancelled():
            raise self._gone()
        return done

    def attend(self) -> None:
        """Raises EnvironmentProblem where there has been no worker for as long as one may take to start."""
        now = time.monotonic()
        if now - self._looked < min(_EVERY, self._limit):
            return
        self._looked = now
        try:
            workers = _workers(self._client)
        except (OSError, CancelledError):
            raise self._gone() from None
        if workers:
            self._worked = now
        elif now - self._worked > self._limit:
            raise EnvironmentProblem(
                f"The scheduler at {self._address} has had no worker for {self._limit:g} s; start some (`dask worker`)"
            )

    def _gone(self) -> EnvironmentProblem:
        return EnvironmentProblem(f"The scheduler at {self._address} has gone; run again when there is one")


def _workers(client: Any) -> Any:
    return client.scheduler_info(n_workers=-1)["workers"]


@contextmanager
def _at_address(cluster: ClusterSettings) -> Iterator[Pool]:
    """Workers of a cluster that runs already: at an address, or as a scheduler file says."""
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    with silence_logging_cmgr(logging.CRITICAL + 1):  # a scheduler that goes is told of in a sentence
        try:
            with for_main_alone():
                client = Client(_address(cluster.address), timeout=min(30.0, cluster.start_timeout))
        except (OSError, TimeoutError, ValueError) as problem:
            raise EnvironmentProblem(
                f"No scheduler answers at {cluster.address} ({problem}); start one (`dask scheduler`), or correct "
                "address in the profile"
            ) from None
        with client:
            yield AtAddress(client, cluster)


def _address(given: str) -> str:
    """The address itself, or what a scheduler file says of it."""
    if not given.endswith(".json"):
        return given
    try:
        return str(json.loads(Path(given).expanduser().read_text())["address"])
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise EnvironmentProblem(
            f"The scheduler file {given} cannot be used ({problem}); start the scheduler with --scheduler-file, or "
            "correct address in the profile"
        ) from None
