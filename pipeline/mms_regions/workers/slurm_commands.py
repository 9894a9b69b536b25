"""What SLURM's commands say, asked in a way that variables of the user cannot change."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.isolated import safe_path

# Of the variables that are options of sbatch, these may be a user's or a site's way to say who pays and where. All
# others go: they change what a job of ours is, or what we read (SBATCH_EXPORT, SBATCH_WAIT, SQUEUE_FORMAT).
KEPT = tuple(f"SBATCH_{name}" for name in ("ACCOUNT", "CLUSTERS", "CONSTRAINT", "PARTITION", "QOS", "RESERVATION"))
_OPTIONS = ("SBATCH_", "SCANCEL_", "SQUEUE_")
_OF_THIS_JOB = (
    "SLURM_BITSTR_LEN",
    "SLURM_TIME_FORMAT",
    "SLURM_TMPDIR",
)  # how to print; a folder of this job alone
_ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)


class Refusal(EnvironmentProblem):
    """What SLURM said no to, or did not answer; it may do so a moment later."""


@dataclass(frozen=True)
class Queued:
    """A job as squeue shows it."""

    state: str
    reason: str

    @property
    def ended(self) -> bool:
        """Whether it has ended, or ends now: its worker is gone."""
        return self.state in _ENDED

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})"


def command_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of SLURM's commands, which sbatch hands on to jobs."""
    plain = {
        name: value
        for name, value in environ.items()
        if name in KEPT or not (name.startswith(_OPTIONS) or name in _OF_THIS_JOB)
    }
    return {**plain, **safe_path(environ)}


def kept_options(environ: Mapping[str, str]) -> str:
    """The options of sbatch that the environment sets, such as `SBATCH_QOS=debug`; they go before a profile."""
    return ", ".join(f"{name}={environ[name]}" for name in KEPT if environ.get(name))


def refusal(problem: Exception) -> Refusal:
    """What sbatch said against a job, in a sentence that names the variables that may be the reason."""
    said = re.findall(r"sbatch: (?:error|fatal): (.*)", str(problem)) or [str(problem)]
    options = kept_options(os.environ)
    cure = f"The environment sets {options}, which goes before the profile: correct or unset it. " if options else ""
    return Refusal(f"SLURM does not take a job: {'; '.join(said)}. {cure}Correct [cluster] in the profile")


def squeue(job_name: str) -> dict[str, Queued]:
    """The jobs of a name that wait or run, by number. Raises Refusal where SLURM does not answer."""
    return {number: job for number, job in _squeue("--name", job_name).items() if not job.ended}


def squeue_of(number: str) -> Queued | None:
    """A job by its number, also one that ended some minutes ago; None where SLURM knows none.

    Raises Refusal where SLURM does not answer.
    """
    try:
        return _squeue("--states", "all", "--jobs", number).get(number)
    except Refusal as problem:
        if "Invalid job id" in str(problem):
            return None
        raise


def _squeue(*args: str) -> dict[str, Queued]:
    command = ["squeue", "--noheader", "--format", "%i|%T|%r", *args]
    environment = command_environment(os.environ)
    try:
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as problem:
        said = str(getattr(problem, "stderr", "") or problem).strip()
        raise Refusal(
            f"squeue does not answer ({said}); run where SLURM's commands are, or with another profile"
        ) from problem
    rows = (line.split("|", 2) for line in answer.splitlines() if line.count("|") >= 2)
    return {number: Queued(state, reason) for number, state, reason in rows}
