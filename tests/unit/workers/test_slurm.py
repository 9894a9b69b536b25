"""A SLURM pool gives jobs back that there is no work for any more, and none that has a task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mms_regions.workers.slurm
from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.workers.pool import PoolRequest
from mms_regions.workers.slurm import SlurmPool
from mms_regions.workers.slurm_commands import Queued


class Cluster:
    """A cluster of which each job that is wanted is in the queue at once; workers come when a test says so."""

    def __init__(self) -> None:
        paths = dict.fromkeys(("ca_file", "cert", "key"), "x.pem")
        security = SimpleNamespace(get_tls_config_for_role=lambda role: paths)
        self._job_kwargs = {"protocol": "tls://", "interface": None, "security": security}
        self.worker_spec: dict[str, Any] = {}
        self.workers: dict[str, Any] = {}
        self.scheduler_info: dict[str, dict[str, Any]] = {"workers": {}}

    def sync(self, function: Any) -> None:
        function()

    def _correct_state(self) -> None:
        self.workers = {name: SimpleNamespace(job_id=name) for name in self.worker_spec}
        alive = self.scheduler_info["workers"].items()
        self.scheduler_info["workers"] = {at: one for at, one in alive if one["name"] in self.worker_spec}


class Client:
    """A client of a cluster whose workers hand on what they hold, unless they are `stuck`; `busy`: with a task."""

    status, dashboard_link = "running", ""

    def __init__(self, cluster: Cluster, busy: set[str], stuck: set[str]):
        self.cluster, self.busy, self.stuck, self.retired = cluster, busy, stuck, list[str]()

    def submit(self, function: Any, *arguments: Any, **how: Any) -> Any:
        return SimpleNamespace(done=lambda: False, cancelled=lambda: False, add_done_callback=lambda function: None)

    def processing(self) -> dict[str, list[str]]:
        return {at: ["task"] * (at in self.busy) for at in self.cluster.scheduler_info["workers"]}

    def retire_workers(self, workers: list[str], **how: Any) -> dict[str, Any]:
        self.retired += workers
        return {at: {} for at in workers if at not in self.stuck}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pool_of(clock: Clock, monkeypatch: pytest.MonkeyPatch, *, up: int, busy: int = 0, stuck: int = 0) -> SlurmPool:
    """Four jobs of the cpu pool: the workers of the first `up` are there, the first of these are busy, or stuck."""
    settings = ClusterSettings(kind="slurm", dashboard=False, cpu=PoolSettings(jobs=4))
    cluster = Cluster()
    first = [{f"at-{i}" for i in range(n)} for n in (busy, stuck)]
    queued = Queued("RUNNING", "None")
    monkeypatch.setattr(mms_regions.workers.slurm, "squeue", lambda name: dict.fromkeys(cluster.workers, queued))
    client: Any = Client(cluster, *first)
    pool = SlurmPool(client, cluster, settings, PoolRequest(4, {"cpu": 9, "gpu": 9}), "name", Path("logs"), clock)
    assert list(cluster.worker_spec) == [f"cpu-{i}" for i in range(4)]
    cluster.scheduler_info["workers"] = {f"at-{i}": {"name": f"cpu-{i}"} for i in range(up)}
    for number in range(busy):
        pool.submit(print, number)
    return pool


def jobs_later(pool: SlurmPool, clock: Clock) -> list[str]:
    """The names of the jobs that are left after a while."""
    for _ in range(12):
        clock.now += 3.0
        pool.attend()
    return list(pool._cluster.worker_spec)


def test_jobs_stay_while_there_is_work_for_them(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(clock, monkeypatch, up=4)
    assert len(jobs_later(pool, clock)) == 4, "nothing is known of the work"
    pool.expect({"cpu": 2, "gpu": 4})  # one pool does both
    assert len(jobs_later(pool, clock)) == 4


@pytest.mark.parametrize(
    ("up", "busy", "left", "kept", "retired"),
    [
        (4, 1, 1, ["cpu-0"], ["at-1", "at-2", "at-3"]),  # those that do nothing
        (2, 0, 2, ["cpu-0", "cpu-1"], []),  # those that wait in the queue, first
        (3, 0, 1, ["cpu-2"], ["at-0", "at-1"]),
        (4, 3, 1, ["cpu-0", "cpu-1", "cpu-2"], ["at-3"]),  # none that has a task
        (4, 0, 0, [], ["at-0", "at-1", "at-2", "at-3"]),
    ],
)
def test_jobs_without_work_are_given_back(
    up: int, busy: int, left: int, kept: list[str], retired: list[str], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(clock, monkeypatch, up=up, busy=busy)
    pool.expect({"cpu": left, "gpu": 0})
    assert jobs_later(pool, clock) == kept
    assert pool._client.retired == retired


def test_a_worker_that_cannot_hand_on_what_it_holds_stays(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(clock, monkeypatch, up=2, stuck=2)
    pool.expect({"cpu": 1, "gpu": 1})
    assert jobs_later(pool, clock) == ["cpu-0", "cpu-1"]


def test_jobs_come_back_with_the_work(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as segments that are made once more."""
    pool = pool_of(clock, monkeypatch, up=4)
    pool.expect({"cpu": 1, "gpu": 1})
    assert len(jobs_later(pool, clock)) == 1
    pool.expect({"cpu": 3, "gpu": 1})
    for number in range(3):
        pool.submit(print, number)
    assert len(jobs_later(pool, clock)) == 3
