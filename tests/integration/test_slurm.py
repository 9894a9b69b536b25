"""Runs on a real SLURM: jobs of two pools make the same store as one process, whatever becomes of the jobs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from listeners import Listener, listeners
from private_slurm import Slurm
from processes import Nursery, Started
from stores import assert_same_store, run_folder

Command = Callable[..., "CompletedProcess[str]"]

PATIENCE = 240.0  # s; a machine that others use too stalls now and then
PROFILE = """
shard_samples = 4096
model = "first"
device = "cpu"
offline = true

[cluster]
kind = "slurm"
start_timeout = 120
"""
CPU = '[cluster.cpu]\nqueue = "cpu"\nmemory = "1 GB"\n'
GPU = '[cluster.gpu]\nqueue = "gpu"\nmemory = "1 GB"\ngres = "gpu:1"\n'
SOME = ("--events", "A-F")
SMALL = PROFILE.replace("4096", "1024")  # shards: many of some segments; those of PROFILE: few of the whole catalogue


@dataclass(frozen=True)
class Site:
    """A cluster as its users know it: where to log in, and what they run there."""

    slurm: Slurm
    catalogue: Path
    data_dir: Path
    processes: Nursery
    environment: dict[str, str]
    here: Command

    def words(self, store: Path, profile: str, *more: object) -> list[object]:
        """The words of a run with this profile, which is kept beside its store."""
        path = store.with_suffix(".toml")
        path.write_text(profile)
        return ["run", self.catalogue, "--store", store, "--data-dir", self.data_dir, "--profile", path, *more]

    def start(self, store: Path, profile: str, *more: object, **env: str) -> Started:
        return self.processes.start(*self.words(store, profile, *more), env={**self.environment, **env})

    def run(self, store: Path, profile: str, *more: object) -> CompletedProcess[str]:
        return self.start(store, profile, *more).wait()

    def jobs_in_queue(self, partition: str = "") -> list[int]:
        return [job.id for job in self.slurm.squeue() if not partition or job.partition == partition]

    def until(self, predicate: Callable[[], Any], what: str) -> Any:
        return self.slurm.wait_until(predicate, PATIENCE, what)

    def until_queue_is_empty(self) -> None:
        self.until(lambda: not self.jobs_in_queue(), "an empty queue")

    def until_prepared(self, run: Started, count: int) -> None:
        """Wait until a run that goes on has prepared so many segments."""
        self.until(lambda: run.said.count("] prepared ") >= count or not run.lives, f"{count} prepared segments")
        assert run.lives, run.said


@pytest.fixture(scope="module")
def site(
    slurm: Slurm, many_segments: Any, processes: Nursery, mms_regions_here: Command, environment: dict[str, str]
) -> Site:
    there = {**environment, **slurm.environment}
    return Site(slurm, many_segments.catalogue, many_segments.data_dir, processes, there, mms_regions_here)


@pytest.fixture(scope="module")
def some(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What some of the segments are in a store that one process has made."""
    store = tmp_path_factory.mktemp("some") / "local.zarr"
    done = site.here(*site.words(store, without_cluster(SMALL), "--workers", 0, *SOME))
    assert done.returncode == 0, done.stderr
    return store


def without_cluster(profile: str) -> str:
    return profile.partition("[cluster]")[0]


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test, whatever came of it, no job of its runs is there."""
    yield
    if "site" in request.fixturenames:
        site = request.getfixturevalue("site")
        site.until_queue_is_empty()
        site.until(lambda: not site.slurm.processes(), "the end of all processes of jobs")


def tasks(store: Path) -> list[dict[str, Any]]:
    """What the trace tells of each task that ended."""
    lines = (run_folder(store) / "trace.jsonl").read_text().splitlines()
    return [told for told in map(json.loads, lines) if told["event"] == "TaskEnded"]


INTRUDER = """
import asyncio, sys
from distributed.core import rpc
from distributed.security import Security

async def knock(address, security):
    async with rpc(address, timeout=10, connection_args=security.get_connection_args("client")) as scheduler:
        return bool(await asyncio.wait_for(scheduler.identity(), 10))

async def outcome(address, security):
    try:
        return await knock(address, security)
    except (OSError, TimeoutError):
        return False

address, folder = sys.argv[1:]
files = dict(tls_ca_file="tls_ca_file", tls_client_cert="tls_worker_cert", tls_client_key="tls_worker_key")
theirs = Security(require_encryption=True, **{role: f"{folder}/{name}.pem" for role, name in files.items()})
tries = [(address.replace("tls:", "tcp:"), Security()), (address, Security.temporary()), (address, theirs)]
print(*(asyncio.run(outcome(*one)) for one in tries))
"""


@dataclass(frozen=True)
class Watched:
    """A run of the whole catalogue on two pools, and what was seen of it from outside while it went on."""

    store: Path
    done: CompletedProcess[str]
    listeners: list[Listener]
    with_tls: dict[Listener, bool]
    intruder: str
    modes: set[int]
    core_limits: set[str]


# Workers prepare nothing before there is a file `go`.
UNTIL_GO = """
import pathlib, time
import mms_regions.run.tasks

files_of = mms_regions.run.tasks.files_of

def prepare(*words):
    while not pathlib.Path("HERE/go").exists():
        time.sleep(0.1)
    return files_of(*words)

def dask_setup(worker):
    mms_regions.run.tasks.files_of = prepare
"""


@pytest.fixture(scope="module")
def watched(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("two words")  # jobs get by with a space in every path
    store, gate = folder / "cluster.zarr", folder / "gate"
    wait = f"setup = [\"until [ -e '{gate}' ]; do sleep 0.1; done; export CUDA_VISIBLE_DEVICES=\"]\n"
    profile = PROFILE.replace('"cpu"', '"auto"')
    run = site.start(store, profile + CPU + "jobs = 2\n" + GPU + wait, **in_workers(UNTIL_GO, folder))
    command = site.until(lambda: [one for one in workers(site) if "--name cpu-" in one], "a worker of the cpu pool")[0]
    scheduler, secrets = re.findall(r"tls://\S+", command)[0], next(run_folder(store).glob("credentials-*"))
    words = [sys.executable, "-c", INTRUDER, scheduler, str(secrets)]
    intruder = subprocess.run(words, env=site.environment, capture_output=True, text=True, check=False)
    modes = {path.stat().st_mode & 0o777 for path in [secrets, *secrets.iterdir()]}
    gate.touch()
    found = site.until(lambda: listeners_of_four(site, run) or not run.lives, "the ports of three workers")
    assert run.lives, run.said
    with_tls = {one: one.speaks_tls for one in found if not one.is_local}
    core_limits = {core_limit(pid) for pid, one in site.slurm.processes().items() if "dask_worker" in one}
    (folder / "go").touch()
    done = run.wait()
    return Watched(store, done, found, with_tls, intruder.stdout or intruder.stderr, modes, core_limits)


def listeners_of_four(site: Site, run: Started) -> list[Listener]:
    """Those of the driver and three workers; none where others cannot reach all four yet."""
    programs = {pid: one for pid, one in site.slurm.processes().items() if "dask" in one}
    found = listeners({run.pid: "driver", **programs})
    return found if len({one.command for one in found if not one.is_local}) == 4 else []


def core_limit(pid: int) -> str:
    limits = Path(f"/proc/{pid}/limits").read_text()
    return next(line.split()[4] for line in limits.splitlines() if line.startswith("Max core file size"))


def workers(site: Site) -> list[str]:
    return [command for command in site.slurm.processes().values() if "dask_worker" in command]


def test_two_pools_make_the_whole_catalogue_as_one_process_does(watched: Watched, many_complete: Path) -> None:
    assert watched.done.returncode == 0, watched.done.stderr
    assert_same_store(watched.store, many_complete)


def test_labels_are_made_in_the_gpu_pool_and_all_else_in_the_cpu_pool(site: Site, watched: Watched) -> None:
    partition_of = {str(job.id): job.partition for job in site.slurm.jobs()}
    ran = [(task["stage"], partition_of[task["batch_job"]]) for task in tasks(watched.store)]
    assert set(ran) == {("load", "gpu"), ("fetch", "cpu"), ("prepare", "cpu"), ("write", "cpu"), ("label", "gpu")}
    assert ran.count(("prepare", "cpu")) == 92
    assert len({(task["batch_job"], task["worker"]) for task in tasks(watched.store)}) == 3


def test_a_gpu_pool_without_a_gpu_labels_on_cpus_and_says_so(watched: Watched) -> None:
    told = "the workers of the pool gpu find no GPU that torch can use, and label on CPUs"
    assert watched.done.stderr.count(told) == 1


def test_a_worker_leaves_no_core(watched: Watched) -> None:
    assert watched.core_limits == {"0"}


def test_who_has_no_certificate_of_the_run_is_refused(watched: Watched) -> None:
    assert watched.intruder.split() == ["False", "False", "True"]  # without, with another one, with its own
    assert watched.modes == {0o700, 0o600}
    assert list(run_folder(watched.store).glob("credentials-*")) == []


def test_what_others_can_reach_speaks_tls(watched: Watched) -> None:
    assert {one.command.split()[0] for one in watched.listeners} == {"driver", sys.executable}
    open_to_others = [one for one in watched.listeners if not one.is_local]
    assert len({one.command for one in open_to_others}) == 4, "the scheduler and three workers"
    assert [one for one in open_to_others if not watched.with_tls[one]] == []


@pytest.fixture
def now_and_then(site: Site, tmp_path: Path) -> str:
    """A PATH on which every other squeue, and every third sbatch, finds no slurmctld."""
    for name, often in (("squeue", 2), ("sbatch", 3)):
        counter = tmp_path / f"{name}.count"
        lines = [
            "#!/bin/sh",
            f"echo >> '{counter}'",
            f"[ $(( $(wc -l < '{counter}') % {often} )) -ne 0 ] ||",
            f"  {{ echo '{name}: error: Unable to contact slurm controller' >&2; exit 1; }}",
            f'exec {shutil.which(name, path=site.environment["PATH"])} "$@"',
        ]
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text("\n".join(lines) + "\n")
        script.chmod(0o755)
    return f"{tmp_path / 'bin'}:{site.environment['PATH']}"


def in_workers(code: str, folder: Path) -> dict[str, str]:
    """The environment that has workers run this first; a folder for what it notes takes the place of HERE."""
    (folder / "preloaded.py").write_text(code.replace("HERE", str(folder)))
    return {"DASK_DISTRIBUTED__WORKER__PRELOAD": str(folder / "preloaded.py")}


# In the middle of tasks of these numbers, counted over all workers, a worker tells its job, and gets no further.
HELD = """
import os, pathlib, time
import mms_regions.core.files
import mms_regions.run.tasks

here = pathlib.Path("HERE")
files_of = mms_regions.run.tasks.files_of

def prepare(*words):
    hold("prepare", (4, 16))
    return files_of(*words)

def write(operation, path):
    if operation == "rename" and "label/c" in str(path):
        hold("label", (1,))

def hold(point, numbers):
    with (here / point).open("ab") as passes:
        passes.write(b".")
        passes.flush()
        count = os.fstat(passes.fileno()).st_size
    if count in numbers:
        (here / f"{point}-{count}").write_text(os.environ["SLURM_JOB_ID"])
        time.sleep(3600)

def dask_setup(worker):
    mms_regions.run.tasks.files_of, mms_regions.core.files.failpoint = prepare, write
"""


def test_lost_jobs_of_either_pool_are_replaced(site: Site, some: Path, now_and_then: str, tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    run = site.start(store, SMALL + CPU + GPU, *SOME, PATH=now_and_then, **in_workers(HELD, tmp_path))
    held_at = ("prepare-4", "label-1", "prepare-16")
    lost = [cancel_the_held(site, run, tmp_path / one) for one in held_at]
    done = run.wait()
    assert done.returncode == 0, done.stderr
    assert_same_store(store, some)
    assert len(set(lost)) == 3
    assert len({task["batch_job"] for task in tasks(store)} - set(lost)) == 2, "the last of either pool ended it"


def cancel_the_held(site: Site, run: Started, held: Path) -> str:
    """Cancel the job of a worker when it is in the middle of a task; the number of it."""
    job = site.until(lambda: (held.exists() and held.read_text()) or not run.lives, held.name)
    assert run.lives, run.said
    site.slurm.scancel(job)
    return str(job)


def test_while_a_gpu_is_waited_for_all_is_prepared_and_jobs_without_work_are_given_back(
    site: Site, some: Path, tmp_path: Path
) -> None:
    store, gate = tmp_path / "x.zarr", tmp_path / "gate"
    wait = f"setup = [\"until [ -e '{gate}' ]; do sleep 0.1; done\"]\n"
    run = site.start(store, SMALL.replace("120", "600") + CPU + "jobs = 2\n" + GPU + wait, *SOME)
    site.until(lambda: len(site.jobs_in_queue("cpu")) == 2 or not run.lives, "two jobs that prepare")
    site.until(lambda: not site.jobs_in_queue("cpu") or not run.lives, "the end of the jobs that prepare")
    assert run.lives, run.said
    assert [task for task in tasks(store) if task["stage"] in ("load", "label")] == []
    gate.touch()
    done = run.wait()
    assert done.returncode == 0, done.stderr
    assert_same_store(store, some)


@dataclass(frozen=True)
class Bad:
    """A profile that comes to nothing, and what is to be said of it."""

    tables: str
    sentence: str


BAD = {
    "no-such-queue": Bad(
        CPU + '[cluster.gpu]\nqueue = "nowhere"\n',
        r"SLURM does not take a job: invalid partition specified: nowhere; Batch job submission failed: "
        r"Invalid partition name specified\. Correct \[cluster\] in the profile",
    ),
    "more-than-there-is": Bad(
        CPU + '[cluster.gpu]\nqueue = "gpu"\ngres = "gpu:2"\n',
        r"SLURM does not take a job: Batch job submission failed: Requested node configuration is not available\.",
    ),
    "never-starts": Bad(
        CPU + '[cluster.gpu]\nqueue = "closed"\n',
        r"No worker of the gpu pool started within 8 s: job \d+ is PENDING \(PartitionDown\)\. Ask for less,",
    ),
    "dies": Bad(
        CPU + 'setup = ["load-module mms-regions"]\n',
        r"3 jobs of the cpu pool ended before their worker was up\. The last one, \d+, is FAILED \(NonZeroExitCode\); "
        r"it said: .*load-module: command not found\. Correct setup",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_jobs_that_cannot_run_end_a_run_with_a_sentence(site: Site, bad: Bad, tmp_path: Path) -> None:
    done = site.run(tmp_path / "x.zarr", SMALL.replace("120", "8") + bad.tables, "--events", "A")
    assert done.returncode == 5, done.stderr
    assert re.search(rf"^mms-regions: {bad.sentence}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr
    assert [job.state for job in site.slurm.squeue() if job.state != "COMPLETING"] == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_that_is_stopped_or_killed_leaves_no_job_and_the_next_goes_on(
    site: Site, some: Path, tmp_path: Path
) -> None:
    store, profile = tmp_path / "x.zarr", SMALL + CPU + GPU
    for number, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)):
        run = site.start(store, profile, *SOME)
        site.until_prepared(run, 6)
        os.kill(run.pid, number)
        assert run.wait().returncode == code, run.said
        site.until_queue_is_empty()  # also where nobody is left who could cancel jobs
    done = site.run(store, profile, *SOME)
    assert done.returncode == 0, done.stderr
    assert_same_store(store, some)


# From its fifth segment on, the first worker of the run is in the middle of a task until it retires.
UNTIL_IT_RETIRES = """
import pathlib, time
import mms_regions.run.tasks

first = pathlib.Path("HERE/first")

def dask_setup(worker):
    try:
        first.touch(exist_ok=False)
    except FileExistsError:
        return
    passes, files_of = [], mms_regions.run.tasks.files_of
    def wait(*words):
        passes.append(words)
        while len(passes) > 4 and worker.status.name == "running":
            time.sleep(0.1)
        return files_of(*words)
    mms_regions.run.tasks.files_of = wait
"""


def test_a_worker_retires_before_its_wall_time_and_another_goes_on(site: Site, some: Path, tmp_path: Path) -> None:
    store, minute, before = tmp_path / "x.zarr", 'walltime = "00:01:00"\n', {job.id for job in site.slurm.jobs()}
    done = site.start(store, SMALL + CPU + minute, *SOME, **in_workers(UNTIL_IT_RETIRES, tmp_path)).wait()
    assert done.returncode == 0, done.stderr
    site.until_queue_is_empty()
    states = [job.state for job in site.slurm.jobs() if job.id not in before]
    assert len(states) >= 2
    assert "TIMEOUT" not in states
    assert_same_store(store, some)


SLOW = """
import time
import mms_regions.core.files
import mms_regions.run.tasks

files_of = mms_regions.run.tasks.files_of

def prepare(*words):
    time.sleep(1.5)
    return files_of(*words)

def write(operation, path):
    if operation == "rename" and "features/c" in str(path):
        time.sleep(5.0)

def dask_setup(worker):
    mms_regions.run.tasks.files_of, mms_regions.core.files.failpoint = prepare, write
"""


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_workers_retire_again_and_again_and_none_is_ended_by_its_wall_time(
    site: Site, many_complete: Path, tmp_path: Path
) -> None:
    store, minute, before = tmp_path / "x.zarr", 'walltime = "00:01:00"\n', {job.id for job in site.slurm.jobs()}
    profile = PROFILE + CPU + "jobs = 2\n" + minute + GPU + minute
    done = site.start(store, profile, **in_workers(SLOW, tmp_path)).wait()
    assert done.returncode == 0, done.stderr
    site.until_queue_is_empty()
    states = [job.state for job in site.slurm.jobs() if job.id not in before]
    assert len(states) >= 3 + 3, "each worker has retired at least once"
    assert "TIMEOUT" not in states
    assert_same_store(store, many_complete)


@pytest.fixture
def scheduler_file(tmp_path: Path, environment: dict[str, str]) -> Iterator[Path]:
    """A scheduler with one worker, as somebody starts them by hand."""
    path = tmp_path / "scheduler.json"
    local = ("--host", "127.0.0.1", "--scheduler-file", path, "--no-dashboard")
    words = {"dask_scheduler": ("--port", 0), "dask_worker": ("--no-nanny", "--nthreads", 1)}
    started = [
        subprocess.Popen([sys.executable, "-m", f"distributed.cli.{name}", *map(str, (*more, *local))], env=environment)
        for name, more in words.items()
    ]
    yield path
    for process in started:
        process.terminate()
        process.wait()


def test_a_run_takes_the_workers_of_a_scheduler_that_runs_already(
    site: Site, some: Path, scheduler_file: Path, tmp_path: Path
) -> None:
    table = f'[cluster]\nkind = "address"\naddress = "{scheduler_file}"\n'
    done = site.run(tmp_path / "x.zarr", without_cluster(SMALL) + table, *SOME)
    assert done.returncode == 0, done.stderr
    assert_same_store(tmp_path / "x.zarr", some)
    assert {task["batch_job"] for task in tasks(tmp_path / "x.zarr")} == {""}
