"""Workers on this machine: processes of one thread each, which nobody but this run can connect to."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from textwrap import shorten
from typing import Any

from mms_regions.core.errors import EnvironmentProblem, sentence
from mms_regions.workers.dask import DaskPool, Sentences
from mms_regions.workers.pool import InProcessPool, Pool, PoolRequest
from mms_regions.workers.ports import ON_LOCALHOST, close_pages, port_settings, refused_noted
from mms_regions.workers.scratch import scratch_folder
from mms_regions.workers.start import IMPORTS, preloads, protected_start, require_dask

_LEAST_ADDRESS_SPACE = 900 * 2**20  # bytes
_ABSENT = 120.0  # s that all workers may be gone; new ones start within seconds
# Of workers, whose arrays are for one core. Memory that is given back to the system at once, as Dask would have it, and
# arenas of each thread that comes and goes, cost a fifth more time. The last two are set by `protected_start`.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
    "MALLOC_ARENA_MAX": 1,
    "PYTHONSAFEPATH": 1,
    "PYTHONPATH": "",
}
_SENTENCES = Sentences(
    limit=_ABSENT,
    no_worker=f"All workers on this machine have died, and none has come back for {_ABSENT:g} s; give them more memory "
    "or choose fewer with --workers, then run again to go on",
)


@contextmanager
def local_pool(request: PoolRequest, *, dashboard: bool = False) -> Iterator[Pool]:
    """A pool of processes on this machine, listening on localhost with TLS; this process where none is asked for.

    dashboard: whether pages of Dask on the state of the workers are served on localhost, without TLS.
    Raises EnvironmentProblem where they cannot start.
    """
    if request.workers == 0:
        yield InProcessPool()
        return
    require_dask()
    _require_address_space()
    import dask
    from distributed import Client

    count = max(request.limit(request.workers, "cpu"), request.limit(request.workers, "gpu"))
    with ExitStack() as until_end, protected_start():
        scratch = until_end.enter_context(scratch_folder())
        settings = {**_worker_settings(request.imports), **port_settings(request.log, dashboard)}
        settings["temporary-directory"] = str(scratch)  # of the scheduler too, or else Dask makes one that stays
        until_end.enter_context(dask.config.set(settings))
        until_end.enter_context(refused_noted(request.log))
        with _failure_explained():
            cluster = until_end.enter_context(_local_cluster(count, str(scratch), dashboard))
            if not dashboard:
                close_pages(cluster)
            client = until_end.enter_context(Client(cluster))
        opened = until_end.pop_all()
    with opened:
        pool = DaskPool(client, {"cpu": count, "gpu": count}, _SENTENCES)
        pool.about = f"dashboard: {client.dashboard_link}" if dashboard else ""
        yield pool


def _require_address_space() -> None:
    """A worker that has less dies, or stays half alive, when it imports its libraries."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESS_SPACE:
        raise EnvironmentProblem(
            f"Workers cannot start: this shell limits a process to {limit / 2**20:.0f} MiB of address space "
            f"(`ulimit -v`), and each needs {_LEAST_ADDRESS_SPACE / 2**20:.0f} MiB or more; raise the limit"
        )


def _worker_settings(imports: tuple[str, ...]) -> dict[str, Any]:
    """The configuration of Dask for workers on this machine, beside what its user has set."""
    return {
        "distributed.worker.preload": preloads(),
        IMPORTS: list(imports),
        "distributed.nanny.pre-spawn-environ": _ENVIRONMENT,
        # A profiler that nobody looks at keeps what it saw each second: workers would grow as long as they live.
        "distributed.worker.profile.enabled": False,
        # A hundredth of all time goes to finding out 50 times a second, in each process, that nothing is late; more
        # seldom than this, and they take as long to end.
        "distributed.admin.tick.interval": "200ms",
    }


def _local_cluster(workers: int, scratch: str, dashboard: bool) -> Any:
    from distributed import LocalCluster
    from distributed.security import Security

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        security=Security.temporary(),  # else anyone on this machine could run code as this user
        dashboard_address=ON_LOCALHOST,
        scheduler_kwargs={"dashboard": dashboard},  # where it is closed, bokeh need not be imported
        worker_dashboard_address=None,  # which would cost each a second; /health stays, on `host`
        local_directory=scratch,
        silence_logs=logging.CRITICAL + 1,  # a task that fails is an outcome, which the loop reports
    )


@contextmanager
def _failure_explained() -> Iterator[None]:
    """Raise EnvironmentProblem for whatever Dask raises where it cannot start, also for values of its own settings."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError, ValueError, KeyError, TypeError) as problem:
        why = problem.__cause__ or problem  # of a nanny, what its worker died of, where that is known
        reason = sentence(why) if isinstance(why, MemoryError | OSError) else shorten(str(why), 200)
        raise EnvironmentProblem(
            f"Workers cannot start on this machine: {reason}. Look at its free memory and at Dask's own settings "
            "(DASK_..., ~/.config/dask), or choose --workers 0, which needs none"
        ) from problem
