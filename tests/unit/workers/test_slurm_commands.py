"""Variables of the user change neither what SLURM's commands mean nor what is read; those that stay are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import programs

from mms_regions.workers.slurm_commands import (
    Queued,
    Refusal,
    command_environment,
    kept_options,
    refusal,
    squeue,
    squeue_of,
)

OPTIONS = "SQUEUE_FORMAT SQUEUE_STATES SBATCH_EXPORT SBATCH_WAIT SBATCH_ARRAY_INX SBATCH_OUTPUT SCANCEL_STATE".split()
STAY = {"SBATCH_ACCOUNT": "me", "SBATCH_PARTITION": "long", "SBATCH_QOS": "q", "https_proxy": "p", "SSL_CERT_FILE": "c"}


def test_options_of_commands_go_and_who_pays_where_stays() -> None:
    given = {**dict.fromkeys(OPTIONS, "x"), **STAY, "SLURM_TMPDIR": "/mine", "SLURM_CONF": "/etc/slurm.conf"}
    there = command_environment(given)
    assert {*STAY, "SLURM_CONF"} <= set(there)
    assert not {*OPTIONS, "SLURM_TMPDIR"} & set(there)
    assert there["PYTHONSAFEPATH"] == "1"


def test_options_that_stay_are_shown() -> None:
    assert kept_options(STAY) == "SBATCH_ACCOUNT=me, SBATCH_PARTITION=long, SBATCH_QOS=q"


@pytest.mark.parametrize("kind", ["error", "fatal"])
def test_what_sbatch_refuses_is_said_with_the_variable_that_may_be_the_reason(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_QOS", "nowhere")
    said = str(refusal(RuntimeError(f"Command exited\nstderr:\nsbatch: {kind}: Invalid qos\n")))
    assert said.startswith("SLURM does not take a job: Invalid qos. The environment sets SBATCH_QOS=nowhere")
    monkeypatch.delenv("SBATCH_QOS")
    assert "environment" not in str(refusal(RuntimeError("sbatch: error: x")))


def squeue_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", squeue=script)["PATH"])


def test_a_job_that_ends_is_not_in_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue_that(tmp_path, monkeypatch, "echo '7|PENDING|Priority'; echo '8|COMPLETING|None'")
    assert squeue("name") == {"7": Queued("PENDING", "Priority")}


def test_a_job_can_be_asked_for_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue_that(tmp_path, monkeypatch, "echo '7|RUNNING|None'")
    assert squeue_of("7") == Queued("RUNNING", "None")
    squeue_that(tmp_path, monkeypatch, "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert squeue_of("7") is None


def test_a_queue_that_does_not_answer_is_not_a_queue_without_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue_that(tmp_path, monkeypatch, "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(Refusal, match="Unable to contact"):
        squeue_of("7")
