"""Workers on this machine: how many start, what they are given, and what is said where they cannot."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import dask
import distributed  # before its settings are changed
import pytest

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.workers.local import local_pool
from mms_regions.workers.pool import PoolRequest


def test_workers_that_cannot_start_are_an_answer_and_not_waited_for() -> None:
    broken = dask.config.set({"distributed.worker.preload": ["no_such_module"]})
    problem = pytest.raises(EnvironmentProblem, match=r"No module named 'no_such_module'.*--workers 0")
    with broken, problem, local_pool(PoolRequest(1)):
        pass


def test_a_setting_of_dask_that_makes_no_sense_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise KeyError("Invalid time unit: soon")  # as dask does, for DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT=soon

    monkeypatch.setattr(distributed, "LocalCluster", refuse)
    problem = pytest.raises(EnvironmentProblem, match=r"Invalid time unit: soon.*DASK_\.\.\., ~/\.config/dask")
    with problem, local_pool(PoolRequest(1)):
        pass


def test_a_file_of_dasks_own_settings_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "dask.yaml").write_text("distributed: {comm: [\n")
    code = "from mms_regions.workers.start import require_dask; require_dask()"
    environ = {**os.environ, "DASK_CONFIG": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    said = done.stderr.splitlines()[-1]
    assert "EnvironmentProblem: Dask's own settings cannot be read" in said and f"{tmp_path / 'dask.yaml'}" in said


OF_A_WORKER = "__import__('sys').flags.safe_path, __import__('os').environ['PYTHONPATH'], __import__('os').getpid()"


def test_there_is_one_worker_for_one_task_and_it_searches_no_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f":/somewhere:{os.environ.get('PYTHONPATH', '')}:here")
    with local_pool(PoolRequest(3, {"cpu": 1, "gpu": 0})) as pool:
        assert pool.workers == {"cpu": 1, "gpu": 1}
        tasks = [pool.submit(eval, OF_A_WORKER) for _ in range(4)]
        answers = {task.result() for task in tasks}
    assert len(answers) == 1, "of one process"
    safe, path, _ = answers.pop()
    assert safe
    assert path.startswith("/somewhere") and not {"here", ""} & set(path.split(":"))


def test_a_task_runs_on_the_worker_of_the_one_that_it_is_near() -> None:
    # Else an idle worker may take a task that the other one is slow to begin.
    with dask.config.set({"distributed.scheduler.work-stealing": False}), local_pool(PoolRequest(2)) as pool:
        loaded = pool.submit(eval, OF_A_WORKER)
        near = {pool.submit(eval, OF_A_WORKER, near=loaded).result() for _ in range(8)}  # one after another
        assert near == {loaded.result()}


def test_too_little_address_space_is_named_with_the_limit_that_is_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (700 * 2**20, resource.RLIM_INFINITY))
    problem = pytest.raises(EnvironmentProblem, match=r"limits a process to 700 MiB of address space \(`ulimit -v`\)")
    with problem, local_pool(PoolRequest(1)):
        pass
