"""The workers of a scheduler that somebody else has started, and looks after."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mms_regions.core.cluster_settings import ClusterSettings, scheduler_address
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.workers.dask import DaskPool, Sentences
from mms_regions.workers.pool import Pool
from mms_regions.workers.start import protected_start


@contextmanager
def at_address(cluster: ClusterSettings) -> Iterator[Pool]:
    """A pool of the workers at an address, or where a scheduler file says they are.

    What this connection needs of TLS is in Dask's own settings, as it is for all that connect to that scheduler.
    Raises EnvironmentProblem where no scheduler answers.
    """
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    with silence_logging_cmgr(logging.CRITICAL + 1):  # a scheduler that goes is reported in a sentence
        try:
            with protected_start():
                client = Client(_address(cluster), timeout=min(30.0, cluster.start_timeout))
        except (OSError, TimeoutError, ValueError, TypeError) as problem:  # TypeError: no TLS in Dask's settings
            raise EnvironmentProblem(
                f"No scheduler answers at {cluster.address} ({problem}); start one (`dask scheduler`), or correct "
                "address in the profile"
            ) from None
        with client:
            workers = max(1, len(client.processing()))
            yield DaskPool(client, {"cpu": workers, "gpu": workers}, _sentences(cluster))


def _sentences(cluster: ClusterSettings) -> Sentences:
    address, limit = cluster.address, cluster.start_timeout
    return Sentences(
        limit=limit,
        no_worker=f"The scheduler at {address} has had no worker for {limit:g} s; start some (`dask worker`)",
        no_scheduler=f"The scheduler at {address} is gone; run again when there is one",
    )


def _address(cluster: ClusterSettings) -> str:
    try:
        return scheduler_address(cluster)
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise EnvironmentProblem(
            f"The scheduler file {cluster.address} cannot be used ({problem}); start the scheduler with "
            "--scheduler-file, or correct address in the profile"
        ) from None
