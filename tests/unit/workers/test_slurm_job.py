"""The script of a job: memory can be left out, names are quoted, the working folder is off the module search path."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import dask
import pytest

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.workers.slurm_job import Job, inherited_options, job_options, shipped_settings
from mms_regions.workers.tls import temporary_credentials


def script(folder: Path, interface: str = "", dashboard: bool = True, **pool: Any) -> str:
    """The script of a job of the pool cpu with these settings."""
    settings = ClusterSettings(kind="slurm", interface=interface, dashboard=dashboard, cpu=PoolSettings(**pool))

    class Cluster:
        _job_kwargs: dict[str, Any]

    with temporary_credentials(folder) as security:
        Cluster._job_kwargs = {"protocol": "tls://", "interface": interface or None, "security": security}
        options = job_options(settings, "cpu", settings.cpu, "name", folder / "jobs")
        return str(Job("tls://here:1", name="cpu-0", **inherited_options(Cluster), **options).job_script())


@pytest.mark.parametrize(
    ("pool", "asked"),
    [
        ({"memory": "3 GB"}, ["#SBATCH --mem=3G"]),
        ({"memory": ""}, []),
        ({"memory": "3 GB", "directives": ("--mem-per-cpu=1G",)}, ["#SBATCH --mem-per-cpu=1G"]),
        ({"memory": "", "directives": ("--mem-per-gpu=1G",)}, ["#SBATCH --mem-per-gpu=1G"]),
    ],
)
def test_memory_is_asked_for_once_or_left_to_the_cluster(
    pool: dict[str, Any], asked: list[str], tmp_path: Path
) -> None:
    lines = script(tmp_path, **pool).splitlines()
    assert [line for line in lines if "--mem" in line and line.startswith("#SBATCH")] == asked


def test_without_memory_in_the_profile_a_worker_has_no_limit_of_its_own(tmp_path: Path) -> None:
    assert "--memory-limit 0.0B " in script(tmp_path, memory="")


def test_a_queue_of_dasks_own_settings_does_not_count_and_its_shebang_does(tmp_path: Path) -> None:
    own = {"queue": "elsewhere", "account": "theirs", "job-extra-directives": ["--qos=theirs"], "shebang": "#!/bin/sh"}
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in own.items()}):
        assert "elsewhere" in script(tmp_path)
        with dask.config.set(shipped_settings()):
            alone = script(tmp_path)
    assert alone.startswith("#!/bin/sh\n") and not any(word in alone for word in ("elsewhere", "theirs"))


def test_an_interface_is_data_and_no_code(tmp_path: Path) -> None:
    assert "--interface 'ib0;touch${IFS}x' " in script(tmp_path, interface="ib0;touch${IFS}x") + " "


def test_what_the_user_has_dask_load_is_loaded_in_jobs_too(tmp_path: Path) -> None:
    with dask.config.set({"distributed.worker.preload": ["/their own/setup.py"]}):
        assert "--preload '/their own/setup.py' --preload mms_regions.workers.start " in script(tmp_path)
    with dask.config.set({"distributed.worker.preload": "theirs"}):
        assert "--preload theirs --preload mms_regions.workers.start " in script(tmp_path)


def test_workers_start_without_the_working_folder_and_close_their_pages_where_asked(tmp_path: Path) -> None:
    assert " -P -m distributed.cli.dask_worker " in script(tmp_path)
    assert "--preload mms_regions.workers.start" in script(tmp_path, dashboard=False)
    assert "DASHBOARD=False" in script(tmp_path, dashboard=False)


@pytest.mark.parametrize(
    ("given", "kept"), [(None, ""), ("/a:/b", "/a:/b"), (":/a::sub:/b c:", "/a:/b c"), (".", ""), ("/*", "/*")]
)
def test_in_a_job_pythonpath_has_no_empty_or_relative_entry(given: str | None, kept: str, tmp_path: Path) -> None:
    prologue = script(tmp_path).partition("exec ")[0]
    show = 'printf "%s\\n" "$PYTHONSAFEPATH" "$PYTHONPATH" "$SCRATCH"'
    environment = {
        "PATH": os.defpath,
        "TMPDIR": str(tmp_path / "gone"),
        **({} if given is None else {"PYTHONPATH": given}),
    }
    done = subprocess.run(
        ["bash", "-c", prologue + show], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["1", kept, "/tmp"]  # noqa: S108
