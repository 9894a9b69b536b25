"""The pool of this process, and how many workers a request asks for."""

from __future__ import annotations

import pytest

from mms_regions.workers.pool import InProcessPool, PoolRequest


def test_in_one_process_results_of_tasks_are_arguments_too() -> None:
    pool = InProcessPool()
    first = pool.submit(max, 1, 2)
    assert pool.submit(sum, [first, first]).result() == 4


@pytest.mark.parametrize(
    ("tasks", "workers"), [({"cpu": 1}, 1), ({"cpu": 5}, 5), ({"cpu": 99}, 16), ({"cpu": 0}, 1), ({}, 16)]
)
def test_there_are_never_more_workers_than_tasks_for_them(tasks: dict, workers: int) -> None:
    assert PoolRequest(4, tasks).limit(16, "cpu") == workers
