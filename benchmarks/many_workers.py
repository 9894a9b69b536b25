"""How many workers one driver can keep busy, without as many cores: `make bench-workers` writes it into RESULTS.md.

The driver, its loop, scheduler and store are real, as are what is written and labelled. Workers of Dask share a few
processes; preparing a segment is a sleep as long as the real task takes, and gives a real segment of 10 s.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "tests" / "helpers"))

import scale  # noqa: E402
from measure import machine, table, write_sections  # noqa: E402

from mms_regions.core.catalogue import read_catalogue  # noqa: E402
from mms_regions.core.messages import FilesChecked, Notify, TaskEnded, peak_memory  # noqa: E402
from mms_regions.core.settings import Settings, resolve_settings  # noqa: E402
from mms_regions.model.card import find_model  # noqa: E402
from mms_regions.run import loop  # noqa: E402
from mms_regions.run.begin import RunRequest  # noqa: E402
from mms_regions.run.inputs import Inputs, obtain_files  # noqa: E402
from mms_regions.run.run import run  # noqa: E402
from mms_regions.run.tasks import Task, prepare_segment, run_task  # noqa: E402
from mms_regions.store.plan import Slot  # noqa: E402
from mms_regions.store.receipts import Prepared  # noqa: E402
from mms_regions.workers.dask import DaskPool, Sentences  # noqa: E402
from mms_regions.workers.pool import Pool, PoolRequest  # noqa: E402

PROCESSES = 2  # that share the workers
EVENTS, COUNTS = 1250, (16, 64)  # times four spacecraft
PREPARE = 0.5  # s, a segment of 45 s on one core, its files being there
PROMISED = 50  # segments a second


@dataclass(frozen=True)
class Measured:
    """One run. ideal: segments a second if workers did nothing but sleep; cpu: s, of driver and scheduler."""

    workers: int
    segments: int
    seconds: float
    cpu: float
    memory: int

    @property
    def ideal(self) -> float:
        return self.workers / PREPARE

    @property
    def rate(self) -> float:
        return self.segments / self.seconds

    @property
    def most(self) -> float:
        """Segments a second at which the driver would compute all the time."""
        return self.segments / self.cpu


def main() -> None:
    text = results()
    write_sections(text)
    print(text)


def results(quick: bool = False) -> str:
    """The section of RESULTS.md; each number of workers in a process of its own, whose memory is looked at."""
    counts, events = ((4,), 10) if quick else (COUNTS, EVENTS)
    with tempfile.TemporaryDirectory() as folder:
        scale.write_files(Path(folder), 1, str(scale.START), 20.0, products=scale.PRODUCTS)
        for probe in range(2, 5):
            scale.write_files(Path(folder), probe, str(scale.START), 20.0, products=scale.PRODUCTS)
        found = [Measured(**json.loads(_alone("drive", folder, count, events))) for count in counts]
    return section(found)


def _alone(function: str, *arguments: object) -> str:
    """What a function of this module prints in a process of its own."""
    code = f"import many_workers; many_workers.{function}(*{arguments!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}


def drive(folder: str, count: int, events: int) -> None:
    """A run with so many simulated workers; prints what it took as JSON."""
    loop.check_and_prepare = simulated
    tasks: list[TaskEnded] = []
    with tempfile.TemporaryDirectory() as here:
        catalogue = read_catalogue(_catalogue(Path(here) / "events.csv", events))
        settings = resolve_settings({"data_dir": folder, "offline": True, "workers": count, "device": "cpu"}, {})
        store, model = Path(here) / "x.zarr", find_model("analytic-layer", os.environ)
        cpu: list[float] = []

        @contextmanager
        def pool(request: PoolRequest) -> Iterator[Pool]:
            with simulated_pool(request, count) as opened:
                cpu.append(time.process_time())
                yield opened
                cpu.append(time.process_time())

        request = RunRequest(catalogue, catalogue.segments(), store, settings, model)
        summary = run(request, pool, lambda event: tasks.append(event) if isinstance(event, TaskEnded) else None)
    assert len(summary.complete) == 4 * events, summary
    prepared = [task for task in tasks if task.stage == "prepare"]
    seconds = max(task.ended for task in prepared) - min(task.started for task in prepared)
    found = Measured(count, len(prepared), seconds, cpu[1] - cpu[0], peak_memory())
    print(json.dumps(vars(found)))


def _catalogue(path: Path, events: int) -> Path:
    """So many overlapping intervals of 10 s in one file."""
    begins = (scale.START + scale.np.timedelta64(2_000 + i, "ms") for i in range(events))
    rows = [f"e{i},{begin},{begin + scale.np.timedelta64(10, 's')},12.0,0.2" for i, begin in enumerate(begins)]
    path.write_text("\n".join(["event,t_start,t_end,B0,n0", *rows]) + "\n")
    return path


# --- Workers that sleep


def simulated(check: Task, preparing: Task, notify: Notify, slot: Slot, inputs: Inputs, settings: Settings) -> Prepared:
    """What `check_and_prepare` reports and gives, after a sleep instead of its work."""
    template, pins = _template(slot, inputs, settings)
    run_task(check, notify, lambda made: 0, time.sleep, 0)
    notify(FilesChecked(pins))
    run_task(preparing, notify, lambda made: 0, time.sleep, PREPARE)
    return replace(template, key=slot.segment.key)


_made: list[tuple[Prepared, tuple[dict[str, Any], ...]]] = []


def _template(slot: Slot, inputs: Inputs, settings: Settings) -> tuple[Prepared, tuple[dict[str, Any], ...]]:
    """The first segment of this process, prepared as it is in a run."""
    if not _made:
        pins = obtain_files(slot.segment, inputs)
        made = prepare_segment(slot, pins, inputs.data_dir, settings)
        _made.append((made, tuple(pin.model_dump() for pin in pins)))
    return _made[0]


@contextmanager
def simulated_pool(request: PoolRequest, count: int) -> Iterator[Pool]:
    """A scheduler in this process, as in every run, and workers that share some others."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    security = Security.temporary()
    quiet = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "200ms"}
    with (
        dask.config.set(quiet),
        LocalCluster(n_workers=0, host="127.0.0.1", security=security, dashboard_address=None) as cluster,
        Client(cluster) as client,
        _farms(cluster.scheduler_address, security, count),
    ):
        client.wait_for_workers(count)
        yield DaskPool(client, {"cpu": count, "gpu": count}, Sentences(60.0, "the simulated workers are gone"))


@contextmanager
def _farms(address: str, security: Any, count: int) -> Iterator[None]:
    keys = json.dumps(security.get_tls_config_for_role("worker"))
    shares = [len(range(i, count, PROCESSES)) for i in range(PROCESSES)]
    farms = []
    try:
        for share in shares:
            command = [sys.executable, "-c", f"import many_workers; many_workers.farm({address!r}, {share})"]
            farms.append(subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=_environment()))
            pipe = farms[-1].stdin
            assert pipe
            pipe.write(keys)
            pipe.close()
        yield
    finally:
        for process in farms:
            process.terminate()
            process.wait()


def farm(address: str, count: int) -> None:
    """So many workers of one thread each, in this process, until it is ended."""
    import dask
    from distributed import Worker
    from distributed.security import Security

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # where workers are ended, in the middle of all
    keys = json.load(sys.stdin)
    security = Security(
        require_encryption=True, tls_ca_file=keys["ca_file"], tls_worker_cert=keys["cert"], tls_worker_key=keys["key"]
    )

    async def live() -> None:
        scratch = tempfile.mkdtemp()
        workers = [
            Worker(address, nthreads=1, security=security, dashboard=False, local_directory=scratch)
            for _ in range(count)
        ]
        await asyncio.gather(*workers)
        await asyncio.gather(*(worker.finished() for worker in workers))

    with dask.config.set({"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "200ms"}):
        asyncio.run(live())


# --- The section


def section(found: list[Measured]) -> str:
    head = ["workers", "segments", "a second", "workers alone would do", "CPU of driver and scheduler, per segment"]
    head += ["at most, a second", "driver, most memory"]
    rows = [
        [
            str(one.workers),
            str(one.segments),
            f"{one.rate:.0f}",
            f"{one.ideal:.0f}",
            f"{1e3 * one.cpu / one.segments:.1f} ms",
            f"{one.most:.0f}",
            f"{one.memory / 2**20:.0f} MiB",
        ]
        for one in found
    ]
    last = found[-1]
    return f"""## Many workers, simulated

{machine()}, for driver, scheduler and workers together.
`make bench-workers`. Preparing takes {PREPARE:g} s and no CPU. Promised: {PROMISED} segments a second.

{table(head, rows)}

At {last.most:.0f} segments a second driver and scheduler compute all the time: that many keep {last.most * PREPARE:.0f}
workers busy whose segments take {PREPARE:g} s each, and 256 workers where one takes {256 / last.most:.1f} s or more.
"""


if __name__ == "__main__":
    main()
