"""The cluster that a profile asks for, as something that a run can open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from mms_regions.core.cluster_settings import ClusterSettings
from mms_regions.workers.local import local_pool
from mms_regions.workers.pool import Pool, PoolFactory, PoolRequest
from mms_regions.workers.start import interrupt_kept, require_dask


@contextmanager
def pool_for(cluster: ClusterSettings, folder: Path) -> Iterator[PoolFactory]:
    """What opens the workers of a run, for as long as the block lasts; to be entered before the run does anything.

    In an allocation one task of many comes into the block: the others serve it, and end their process when it leaves.
    folder: beside the run's store, which all nodes of a cluster see.
    Only what is needed is imported: dask-jobqueue costs half a second.
    """
    if cluster.kind == "local":
        yield partial(local_pool, dashboard=cluster.has_dashboard)
        return
    require_dask()
    match cluster.kind:
        case "slurm":
            yield partial(_slurm, cluster, folder)
        case "address":
            yield partial(_at_address, cluster)
        case "allocation":
            with _in_allocation(cluster, folder) as pool:
                yield pool


def _slurm(cluster: ClusterSettings, folder: Path, request: PoolRequest) -> AbstractContextManager[Pool]:
    with interrupt_kept():
        from mms_regions.workers.slurm import slurm_pool
    return slurm_pool(cluster, folder, request)


def _at_address(cluster: ClusterSettings, request: PoolRequest) -> AbstractContextManager[Pool]:
    from mms_regions.workers.address import at_address

    return at_address(cluster)


def _in_allocation(cluster: ClusterSettings, folder: Path) -> AbstractContextManager[PoolFactory]:
    with interrupt_kept():
        from mms_regions.workers.allocation import in_allocation
    return in_allocation(cluster, folder)
