"""The cluster that a profile asks for, as something that a run can open."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from mms_regions.cluster import OnDask, Pool, PoolFactory, for_main_alone, local_pool
from mms_regions.errors import EnvironmentProblem
from mms_regions.pools import ClusterSettings


def pool_for(cluster: ClusterSettings, folder: Path) -> PoolFactory:
    """What opens the workers of a run. folder: beside its store, which all nodes of a cluster see.

    Only what is needed is imported: dask-jobqueue costs half a second.
    """
    match cluster.kind:
        case "slurm":
            return lambda workers: _slurm(cluster, folder)
        case "address":
            return lambda workers: _at_address(cluster.address)
        case _:
            return local_pool


def _slurm(cluster: ClusterSettings, folder: Path) -> AbstractContextManager[Pool]:
    with _signal_kept():  # importing dask-jobqueue takes Ctrl-C for itself
        from mms_regions.slurm import slurm_pool
    return slurm_pool(cluster, folder)


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


@contextmanager
def _at_address(address: str) -> Iterator[Pool]:
    """Workers of a cluster that runs already: at an address, or as a scheduler file says."""
    from distributed import Client

    where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    try:
        with for_main_alone():
            client = Client(**where, timeout=30)
    except (OSError, TimeoutError, ValueError) as problem:
        raise EnvironmentProblem(f"No scheduler answers at {address} ({problem}); start one, or correct it") from None
    with client:
        count = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        yield OnDask(client, {"cpu": count, "gpu": count})
