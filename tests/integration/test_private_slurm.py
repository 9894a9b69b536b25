"""The private SLURM of the tests: it runs jobs as a cluster does, and leaves nothing behind."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import private_slurm as module
import pytest
from private_slurm import Slurm, SlurmMissing, SlurmRefused, SlurmTrouble, private_slurm

OTHER_USER = "nobody"


def states(slurm: Slurm, *jobs: int) -> set[str]:
    return {slurm.job(job).state for job in jobs}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may write, with this helper in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "private_slurm.py").write_bytes(Path(module.__file__).read_bytes())
        yield folder


def test_a_job_runs_on_the_node_of_its_partition(slurm: Slurm) -> None:
    nodes = {"cpu": "cpu1", "gpu": "gpu1", "short": "cpu1"}
    jobs = {slurm.sbatch("echo $SLURMD_NODENAME", "--partition", partition): node for partition, node in nodes.items()}
    for job, node in jobs.items():
        assert slurm.finish(job).state == "COMPLETED"
        assert (slurm.job(job).node, slurm.output(job)) == (node, f"{node}\n")


def test_a_job_runs_the_python_of_the_tests_with_the_environment_it_is_given(slurm: Slurm) -> None:
    code = "import os, sys; print(sys.executable, os.environ['WORD'])"
    job = slurm.sbatch(f'python -c "{code}"', env={"WORD": "given"})
    assert slurm.finish(job).state == "COMPLETED"
    executable, word = slurm.output(job).split()
    assert (Path(executable).parent, word) == (Path(sys.executable).parent, "given")


def test_a_script_file_is_given_its_arguments(slurm: Slurm, tmp_path: Path) -> None:
    script = tmp_path / "two words.sbatch"
    script.write_text('#!/bin/sh\n#SBATCH --partition=gpu\necho "$SLURM_JOB_PARTITION: $*"\n')
    job = slurm.sbatch(script, arguments=["a", 2])
    assert slurm.finish(job).state == "COMPLETED"
    assert slurm.output(job) == "gpu: a 2\n"


def test_two_jobs_run_at_the_same_time_on_either_node(slurm: Slurm, tmp_path: Path) -> None:
    meet = "touch {0}; until [ -e {1} ]; do sleep 0.1; done"  # neither ends without the other
    files = {"a": "b", "b": "c", "c": "a"}
    jobs = [
        slurm.sbatch(meet.format(tmp_path / mine, tmp_path / other), "--partition", partition)
        for (mine, other), partition in zip(files.items(), ["cpu", "cpu", "gpu"], strict=True)
    ]
    for job in jobs:
        assert slurm.finish(job).state == "COMPLETED"


def test_one_job_runs_on_both_nodes(slurm: Slurm) -> None:
    job = slurm.sbatch("srun printenv SLURMD_NODENAME", "--partition=all", "--nodes=2", "--ntasks-per-node=1")
    slurm.wait_until(lambda: sorted(slurm.output(job).split()) == ["cpu1", "gpu1"])


def test_a_job_that_asks_for_a_gpu_is_told_which(slurm: Slurm) -> None:
    job = slurm.sbatch("echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_GPUS", "--partition=gpu", "--gres=gpu:1")
    assert slurm.finish(job).state == "COMPLETED"
    assert slurm.output(job) == "0 0\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--partition=nowhere"], "invalid partition specified: nowhere"),
        (["--partition=gpu", "--gres=gpu:2"], "Requested node configuration is not available"),
    ],
)
def test_what_cannot_be_had_is_refused_in_the_words_of_sbatch(slurm: Slurm, words: list[str], reason: str) -> None:
    with pytest.raises(SlurmRefused, match=reason):
        slurm.sbatch("true", *words)


def test_a_job_in_a_closed_partition_waits_and_squeue_says_why(slurm: Slurm) -> None:
    job = slurm.sbatch("true", "--partition=closed", "--job-name=in|vain")
    slurm.wait_until(lambda: slurm.job(job).reason == "PartitionDown")
    (waiting,) = [one for one in slurm.squeue() if one.id == job]
    assert (waiting.state, waiting.node, waiting.name) == ("PENDING", "", "in|vain")
    slurm.scancel(job)
    assert slurm.finish(job).state == "CANCELLED"


def test_a_failed_job_says_so(slurm: Slurm) -> None:
    assert slurm.finish(slurm.sbatch("exit 3")).state == "FAILED"


def test_a_cancelled_job_ends_with_its_processes(slurm: Slurm) -> None:
    job = slurm.sbatch("exec sleep 1234.5")
    slurm.wait_until(lambda: "sleep 1234.5" in slurm.processes().values())
    slurm.scancel(job)
    assert slurm.finish(job).state == "CANCELLED"
    assert job not in [one.id for one in slurm.squeue()]
    assert "sleep 1234.5" not in slurm.processes().values()


def test_a_wait_in_vain_shows_the_jobs_and_the_logs(slurm: Slurm) -> None:
    with pytest.raises(SlurmTrouble, match=r"(?s)0 s in vain for rain.*== jobs.*slurmctld\.log\n.*slurmd-gpu1\.log\n"):
        slurm.wait_until(lambda: False, seconds=0, what="rain")


def test_two_live_side_by_side_and_the_end_of_one_leaves_no_process(slurm: Slurm, tmp_path: Path) -> None:
    with private_slurm(tmp_path / "other") as other:
        running = (
            other.sbatch("exec sleep 1234.5", "--partition=gpu"),
            slurm.sbatch("exec sleep 1234.5", "--partition=gpu"),
        )
        waiting = other.sbatch("true", "--partition=closed", "--job-name=theirs")
        other.wait_until(lambda: states(other, running[0]) | states(slurm, running[1]) == {"RUNNING"})
        assert {job.name for job in other.jobs()} >= {"theirs"} > {job.name for job in slurm.jobs()} & {"theirs"}
        assert states(other, waiting) == {"PENDING"}
        daemons = [int(path.read_text()) for path in other.folder.glob("*.pid")]
        assert len(daemons) == 4 and all(Path(f"/proc/{pid}").exists() for pid in daemons)
    assert not other.processes()
    assert not any(Path(f"/proc/{pid}").exists() for pid in daemons)
    assert states(slurm, running[1]) == {"RUNNING"}
    slurm.scancel(running[1])
    slurm.finish(running[1])


def leave_a_process_behind(slurm: Slurm) -> None:
    """Run a job to its end whose child is in a session of its own, where SLURM does not look."""
    child = "setsid sh -c 'touch there; exec sleep 1234.5' > /dev/null 2>&1 &"
    job = slurm.sbatch(f"{child}\nuntil [ -e there ]; do sleep 0.1; done")
    assert slurm.finish(job).state == "COMPLETED"
    assert "sleep 1234.5" in slurm.processes().values()


def test_a_process_that_outlives_its_job_is_ended_and_complained_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 1.0)
    complaint = pytest.raises(SlurmTrouble, match=r"outlived their jobs(?s:.*)\d+: sleep 1234\.5")
    with complaint, private_slurm(tmp_path / "own") as own:
        leave_a_process_behind(own)
    assert not own.processes()


def test_a_slurm_that_cannot_start_says_what_its_daemon_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLURM_CONF", module.SLURM_CONF + "Nonsense=1\n")
    with pytest.raises(SlurmTrouble, match=r"(?s)slurmctld did not start.*Nonsense"), private_slurm(tmp_path / "own"):
        pytest.fail("It started.")


def test_without_the_commands_the_reason_is_in_capitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DAEMONS", ("no-such-daemon",))
    with (
        pytest.raises(SlurmMissing, match=r"SLURM IS NOT INSTALLED \(MISSING: no-such-daemon\)"),
        private_slurm(tmp_path),
    ):
        pytest.fail("It started.")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_can_have_one_too(slurm: Slurm, open_folder: Path) -> None:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    if not python:
        pytest.skip("no Python that every user may run")
    code = """
from pathlib import Path
from private_slurm import private_slurm
with private_slurm(Path("own").absolute()) as own:
    job = own.sbatch("id -u")
    print(own.finish(job).state, own.output(job))
"""
    user = pwd.getpwnam(OTHER_USER)
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    done = subprocess.run(
        [python, "-B", "-c", code],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd=open_folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["COMPLETED", str(user.pw_uid)], done.stderr
