"""The job scripts of jobs/, submitted to a real SLURM as they are shipped."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from archive_faults import LoopbackArchive
from distributed import Client
from private_slurm import Slurm
from stores import assert_same_store, left_over, run_folder

Command = Callable[..., "CompletedProcess[str]"]

JOBS = Path(__file__).parents[2] / "jobs"
PROFILE = Path(__file__).parents[1] / "helpers" / "slurm.toml"
SOME = ("--events", "A-F")
FOUR_TASKS = ("--partition=all", "--nodes=2", "--ntasks-per-node=2", "--mem-per-cpu=1G")
PATIENCE = 270.0  # s

# `apptainer exec --bind WHERE IMAGE COMMAND...` without a container: notes its words, and runs the command.
APPTAINER = """#!/bin/bash
echo "$*" >>"$0.words"
shift 4
exec "$@"
"""


@dataclass(frozen=True)
class Site:
    """What a user of the cluster has: a catalogue, its data, and the command."""

    slurm: Slurm
    catalogue: Path
    data_dir: Path
    environment: dict[str, str]

    def submit(self, script: str, *options: str, words: tuple[object, ...] = (), **variables: object) -> int:
        env = {**self.environment, "CATALOGUE": str(self.catalogue), "MMS_DATA_DIR": str(self.data_dir)}
        given = {name: str(value) for name, value in variables.items()}
        return self.slurm.sbatch(JOBS / script, *options, arguments=words, env={**env, **given})

    def finish(self, job: int) -> tuple[int, str]:
        """The exit code of a job, and what it said; nothing of it is left."""
        self.slurm.finish(job, PATIENCE)
        self.slurm.wait_until(lambda: not self.slurm.squeue() and not self.slurm.processes(), PATIENCE, "an end")
        code = re.search(r" ExitCode=(\d+):", self.slurm.command("scontrol", "show", "job", job))
        assert code is not None
        return int(code[1]), self.slurm.output(job)

    def until(self, job: int, predicate: Callable[[], Any], what: str) -> None:
        """Wait for something that happens while a job runs."""
        self.slurm.wait_until(lambda: predicate() or self.slurm.job(job).ended, PATIENCE, what)
        assert not self.slurm.job(job).ended, self.slurm.output(job)

    def task(self, job: int, number: int) -> int:
        """The process that is this task of the job's only step, whose child that reads files has the same marks."""
        marks = {f"SLURM_JOB_ID={job}", f"SLURM_PROCID={number}", "SLURM_STEP_ID=0"}
        found = [pid for pid, command in self.slurm.processes().items() if "-m mms_regions" in command]
        (pid,) = [pid for pid in found if marks <= set(_environ(pid))]
        return pid


def _environ(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
    except OSError:
        return []


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, slurm: Slurm, catalogue: Path, data_dir: Path, environment: dict[str, str]
) -> Site:
    folder = tmp_path_factory.mktemp("bin")
    written = {"mms-regions": f'#!/bin/bash\nexec "{sys.executable}" -m mms_regions "$@"\n', "apptainer": APPTAINER}
    for name, text in written.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    settings = {
        "MMS_REGIONS": str(folder / "mms-regions"),
        "MMS_REGIONS_MODEL": "analytic-layer",
        "MMS_REGIONS_DEVICE": "cpu",
        "MMS_REGIONS_SHARD_SAMPLES": "1024",
    }
    return Site(slurm, catalogue, data_dir, {**environment, **settings})


@pytest.fixture(scope="module")
def more(site: Site, many_segments: Any) -> Site:
    """The same with a catalogue that takes longer."""
    return replace(site, catalogue=many_segments.catalogue, data_dir=many_segments.data_dir)


def made_here(site: Site, store: Path, command: Command, *events: object) -> Path:
    """What one process makes of the same events."""
    words = ("run", site.catalogue, "--store", store, "--data-dir", site.data_dir, "--offline", "--workers", 0, *events)
    done = command(*words, env=site.environment)
    assert done.returncode == 0, done.stderr
    return store


@pytest.fixture(scope="module")
def local(site: Site, tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command) -> Path:
    return made_here(site, tmp_path_factory.mktemp("local") / "local.zarr", mms_regions_here)


@pytest.fixture(scope="module")
def more_local(more: Site, tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command) -> Path:
    return made_here(more, tmp_path_factory.mktemp("local") / "more.zarr", mms_regions_here, *SOME)


def told(store: Path, event: str) -> list[dict[str, Any]]:
    path = run_folder(store) / "trace.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [one for one in map(json.loads, lines) if one["event"] == event]


def assert_nothing_left(store: Path) -> None:
    assert left_over(store) == []
    assert [*run_folder(store).glob("allocation-*"), *run_folder(store).glob("credentials-*")] == []


def test_one_job_fetches_a_catalogue_and_another_runs_it_with_jobs_of_its_own(
    site: Site, local: Path, tmp_path: Path
) -> None:
    store, data_dir = tmp_path / "pools.zarr", tmp_path / "mms"
    with LoopbackArchive(site.data_dir) as archive:
        where = {"MMS_DATA_DIR": data_dir, "MMS_REGIONS_ARCHIVE_URL": archive.sdc_url}
        code, said = site.finish(site.submit("prefetch.sbatch", PROFILE=PROFILE, **where))
    assert code == 0, said
    assert "5 segments complete, 0 failed" in said
    before = len(site.slurm.jobs())
    running = site.submit("catalogue.sbatch", PROFILE=PROFILE, STORE=store, MMS_DATA_DIR=data_dir)
    code, said = site.finish(running)
    assert code == 0, said
    assert_same_store(store, local)
    assert_nothing_left(store)
    assert len(site.slurm.jobs()) - before >= 1 + 3  # the run, and its workers


def test_an_allocation_with_a_container_makes_what_one_process_does(site: Site, local: Path, tmp_path: Path) -> None:
    store = tmp_path / "in {one} allocation.zarr"
    programs = Path(site.environment["MMS_REGIONS"]).parent
    path = f"--export=ALL,PATH={programs}:{os.environ['PATH']}"  # apptainer, and what is in the image
    image = {"IMAGE": "image.sif", "BINDS": "/projects,/scratch"}
    job = site.submit("allocation.sbatch", *FOUR_TASKS, path, STORE=store, **image)
    code, said = site.finish(job)
    assert code == 0, said
    assert said.count("5 segments complete, 0 failed") == 1
    words = (programs / "apptainer.words").read_text().splitlines()
    asked = f"exec --bind {tmp_path},{site.data_dir},/projects,/scratch image.sif mms-regions run {site.catalogue}"
    assert words == [f"{asked} --store {store} --data-dir {site.data_dir} --profile allocation"] * 4
    assert_same_store(store, local)
    assert_nothing_left(store)
    assert len({task["worker"] for task in told(store, "TaskEnded")}) == 2


@pytest.mark.long
def test_an_allocation_whose_time_is_nearly_up_ends_in_order_and_goes_on_when_submitted_again(
    more: Site, more_local: Path, tmp_path: Path
) -> None:
    store = tmp_path / "stopped.zarr"
    job = more.submit("allocation.sbatch", *FOUR_TASKS, words=SOME, STORE=store)
    more.until(job, lambda: told(store, "SegmentDone"), "a segment")
    refuses_strangers(*run_folder(store).glob("allocation-*"))
    more.slurm.scancel("--signal=USR1", "--batch", job)
    code, said = more.finish(job)
    assert code == 75, said
    assert "interrupted (SIGUSR1); run the same command again to go on" in said
    assert_nothing_left(store)
    code, said = more.finish(more.submit("allocation.sbatch", *FOUR_TASKS, words=SOME, STORE=store))
    assert code == 0, said
    assert_same_store(store, more_local)
    assert_nothing_left(store)


def refuses_strangers(folder: Path) -> None:
    """Only its owner can read the credentials, and without them the scheduler does not answer."""
    secrets = [*folder.glob("*.pem")]
    assert secrets and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    address = json.loads((folder / "scheduler.json").read_text())["address"]
    assert address.startswith("tls://")
    for stranger in (address, address.replace("tls://", "tcp://")):
        with pytest.raises((OSError, TypeError)):  # TypeError: tls:// without credentials
            Client(stranger, timeout=3)


@pytest.mark.long
def test_what_is_wrong_with_the_words_is_said_once_and_ends_all_tasks(site: Site, tmp_path: Path) -> None:
    store = tmp_path / "none.zarr"
    job = site.submit("allocation.sbatch", *FOUR_TASKS, words=("--events", "NONE"), STORE=store)
    code, said = site.finish(job)
    assert code == 2, said
    assert said.count("--events names 'NONE'") == 1
    assert not store.exists() and not list(run_folder(store).glob("**/*.pem"))


STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "3"}
TASK = {**STEP, "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    ("variables", "profile", "sentence"),
    [
        ({}, "", "works under srun alone"),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "", "works under srun alone"),
        ({**TASK, "SLURM_STEP_NUM_TASKS": "2"}, "", "srun started 2 of 3 tasks or more"),
        (TASK, 'interface = "none0"', "cannot listen at the interface 'none0'"),
        (TASK, "start_timeout = 0.1", "Task 0 of srun did not become the scheduler within 0.1 s"),
    ],
    ids=["no srun", "in the job's script", "too few tasks", "no such interface", "no scheduler"],
)
def test_an_allocation_that_cannot_be_is_refused_with_a_sentence(
    variables: dict[str, str], profile: str, sentence: str, tmp_path: Path, mms_regions_here: Command
) -> None:
    path = tmp_path / "allocation.toml"
    path.write_text(f'[cluster]\nkind = "allocation"\n{profile}\n')
    done = mms_regions_here("run", "--store", tmp_path / "a.zarr", "--profile", path, env=variables)
    assert done.returncode == 5, done.stderr
    assert sentence in done.stderr


@pytest.mark.long
def test_an_allocation_that_loses_a_worker_makes_the_same(more: Site, more_local: Path, tmp_path: Path) -> None:
    store = tmp_path / "lost.zarr"
    job = more.submit("allocation.sbatch", *FOUR_TASKS, words=SOME, STORE=store)
    more.until(job, lambda: len(told(store, "SegmentDone")) > 2, "segments")
    os.kill(more.task(job, 3), signal.SIGKILL)
    _, said = more.finish(job)  # srun's exit code is that of the lost worker
    assert said.count("24 segments complete, 0 failed") == 1, said
    assert_same_store(store, more_local)
    assert_nothing_left(store)


@pytest.mark.long
@pytest.mark.parametrize("task", [0, 1], ids=["scheduler", "run"])
def test_an_allocation_that_loses_its_head_ends_and_goes_on_when_submitted_again(
    task: int, more: Site, more_local: Path, tmp_path: Path
) -> None:
    store = tmp_path / "beheaded.zarr"
    job = more.submit("allocation.sbatch", *FOUR_TASKS, words=SOME, STORE=store)
    more.until(job, lambda: len(told(store, "SegmentDone")) > 2, "segments")
    os.kill(more.task(job, task), signal.SIGKILL)
    code, said = more.finish(job)
    assert code != 0
    assert ("task 0 of srun, is gone; run again to go on" in said) == (task == 0), said
    code, said = more.finish(more.submit("allocation.sbatch", *FOUR_TASKS, words=SOME, STORE=store))
    assert code == 0, said
    assert_same_store(store, more_local)
    assert_nothing_left(store)
