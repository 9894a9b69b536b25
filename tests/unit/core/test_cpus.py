"""How many CPUs a process may use, by its batch job and its container."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from mms_regions.core.settings import usable_cpus

MANY = 64


@pytest.fixture(autouse=True)
def _large_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(MANY)), raising=False)


def test_without_limits_it_is_what_the_process_is_bound_to(tmp_path: Path) -> None:
    assert usable_cpus({}, tmp_path) == MANY
    assert 1 <= usable_cpus({}) <= MANY  # whatever limits this machine has can be read


@pytest.mark.parametrize(
    ("value", "cpus"), [("3", 3), ("128", MANY), ("0", 1), ("", MANY), ("two", MANY), ("-3", MANY), ("²", MANY)]
)
def test_a_batch_job_grants_cpus_for_each_task(value: str, cpus: int, tmp_path: Path) -> None:
    assert usable_cpus({"SLURM_CPUS_PER_TASK": value}, tmp_path) == cpus


V2, V1 = "0::/job/step\n", "4:memory:/job/step\n3:cpu,cpuacct:/job/step\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        (V2, {"job/step/cpu.max": "200000 100000\n"}, 2),
        (V2, {"job/cpu.max": "350000 100000\n", "job/step/cpu.max": "max 100000\n"}, 3),
        (V2, {"cpu.max": "50000 100000\n"}, 1),
        (V2, {"job/step/cpu.max": "max 100000\n"}, MANY),
        (V2, {"job/step/cpu.max": "7\n", "job/cpu.max": "no numbers\n", "cpu.max": "100000 0\n"}, MANY),
        (V2, {"other/cpu.max": "100000 100000\n"}, MANY),
        (V1, {"cpu/job/step/cpu.cfs_quota_us": "500000\n", "cpu/job/step/cpu.cfs_period_us": "100000\n"}, 5),
        (V1, {"cpu/job/step/cpu.cfs_quota_us": "-1\n", "cpu/job/step/cpu.cfs_period_us": "100000\n"}, MANY),
        ("", {"cpu.max": "100000 100000\n"}, MANY),
    ],
)
def test_control_groups_have_quotas(groups: str, files: Mapping[str, str], cpus: int, tmp_path: Path) -> None:
    for path, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{name}": files[name] for name in files}}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert usable_cpus({}, tmp_path) == cpus
    assert usable_cpus({"SLURM_CPUS_PER_TASK": "1"}, tmp_path) == 1
