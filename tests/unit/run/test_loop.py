"""How many workers label at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from plans import plan_of

from mms_regions.core.messages import ignore_messages
from mms_regions.core.settings import Settings
from mms_regions.core.stop import Stop
from mms_regions.model.card import find_model
from mms_regions.run.inputs import Inputs, Ledger
from mms_regions.run.loop import RunLoop
from mms_regions.run.todo import Outstanding
from mms_regions.store.relabel import Labelling
from mms_regions.workers.pool import Finished, InProcessPool, Where


class Slow(InProcessPool):
    """Four workers whose tasks end one by one, when asked for, and make nothing; `most`: so many waited at once."""

    workers = MappingProxyType[Where, int]({"cpu": 4, "gpu": 4})
    most = 0

    def __init__(self, apart: bool):
        super().__init__()
        self.labels_apart = apart

    def submit(
        self, function: Callable[..., Any], *arguments: Any, priority: int = 0, where: Where = "cpu"
    ) -> Finished:
        self._done.append(Finished())
        self.most = max(self.most, len(self._done))
        return self._done[-1]


def no_inputs() -> Inputs:
    raise AssertionError("labels need none")


@pytest.mark.parametrize(
    ("apart", "shards", "at_once"),
    [(True, 3, 2), (True, 20, 4), (False, 3, 1), (False, 4, 2), (False, 20, 4)],
)
def test_workers_that_do_other_things_too_label_where_a_whole_task_is_there_for_each(
    apart: bool, shards: int, at_once: int, tmp_path: Path
) -> None:
    pool, plan = Slow(apart), plan_of([30.0] * shards, 1024)
    todo = Outstanding.of_labels(plan, plan.shards)
    labelling = Labelling(find_model("analytic-layer", {}), "cpu", tmp_path, tmp_path)
    ledger = Ledger(no_inputs, pool, 1, ignore_messages)
    settings = Settings(label_windows=64)  # two shards' worth
    RunLoop(todo, settings, labelling, pool, ledger, lambda event: None, Stop()).work_off()
    assert pool.most == at_once
    assert not todo.unlabelled
