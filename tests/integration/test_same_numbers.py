"""The numbers of a store are the same bit for bit, whatever the workers and the order in which tasks run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from subprocess import CompletedProcess
from types import MappingProxyType
from typing import Any

import pytest
from stores import assert_same_store

from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.messages import Event, RunStarted, TaskEnded
from mms_regions.core.settings import Settings, resolve_settings
from mms_regions.model.card import InstalledModel, find_model
from mms_regions.run.begin import RunRequest
from mms_regions.run.run import run
from mms_regions.workers.pool import Finished, InProcessPool, Where

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


class Promised(Finished):
    """A task that has not run yet, until `done` is set."""

    done: Finished

    def result(self) -> Any:
        return self.done.result()

    def exception(self) -> BaseException | None:
        return self.done.exception()


class Shuffled(InProcessPool):
    """Tasks run here, in any order; it pretends to have so many workers that all segments may wait at once.

    With one to label, shards wait for it, and are labelled by one task.
    """

    workers = MappingProxyType[Where, int]({"cpu": 4, "gpu": 1})

    def __init__(self, chance: random.Random):
        super().__init__()
        self._chance = chance
        self._waiting: list[tuple[float, Promised, Callable[..., Any], tuple[Any, ...]]] = []

    def submit(
        self, function: Callable[..., Any], *arguments: Any, priority: int = 0, where: Where = "cpu", near: Any = None
    ) -> Promised:
        promised = Promised()
        turn = self._chance.random() + (where == "gpu")  # labelling is slow
        self._waiting.append((turn, promised, function, arguments))
        return promised

    def next_done(self) -> Promised:
        self._waiting.sort(key=lambda waiting: waiting[0])
        _, promised, function, arguments = self._waiting.pop(0)
        promised.done = super().submit(function, *arguments)
        return promised

    def next_within(self, seconds: float) -> Promised | None:
        return self.next_done() if self._waiting else None


@pytest.fixture(scope="module")
def settings(profile: Path, data_dir: Path) -> Settings:
    return resolve_settings({"data_dir": data_dir, "offline": True}, {}, profile)


@pytest.fixture(scope="module")
def model(model_dir: Path) -> InstalledModel:
    return find_model("first", {"MMS_REGIONS_MODEL_DIR": str(model_dir)})


def shuffled_run(
    chance: random.Random, catalogue: Path, store: Path, settings: Settings, model: InstalledModel
) -> list[str]:
    """Make a store with a shuffled pool; what its tasks were for, in order."""
    done: list[str] = []

    @contextmanager
    def pool(workers: int) -> Iterator[Shuffled]:
        yield Shuffled(chance)

    def observe(event: Event) -> None:
        if isinstance(event, TaskEnded):
            done.append(event.subject)

    chosen = read_catalogue(str(catalogue))
    run(RunRequest(chosen, chosen.segments(), store, settings, model), pool, observe)
    return done


class Queued(InProcessPool):
    """Its worker is in a queue until it was looked for three times."""

    looks = 0

    def next_within(self, seconds: float) -> Finished | None:
        self.looks += 1
        return super().next_within(seconds) if self.looks > 3 else None


def test_a_run_has_started_when_it_has_a_worker(
    catalogue: Path, settings: Settings, model: InstalledModel, tmp_path: Path
) -> None:
    """Rate and time left count from there."""
    pool, looks = Queued(), []

    def observe(event: Event) -> None:
        if isinstance(event, RunStarted):
            looks.append(pool.looks)

    chosen = read_catalogue(str(catalogue))
    request = RunRequest(chosen, chosen.segments("A", "1"), tmp_path / "x.zarr", settings, model)
    run(request, lambda _: nullcontext(pool), observe)
    assert looks == [4]


def test_any_order_of_tasks_makes_the_same_store(
    catalogue: Path, settings: Settings, model: InstalledModel, healthy: Path, tmp_path: Path
) -> None:
    """With label tasks of one shard, or of several at once."""
    orders = set()
    for seed in range(4):
        label_windows = 65536 if seed % 2 else 32
        store = tmp_path / f"{seed}.zarr"
        told = settings.model_copy(update={"label_windows": label_windows})
        orders.add(tuple(shuffled_run(random.Random(seed), catalogue, store, told, model)))
        assert_same_store(store, healthy)
    assert len(orders) == 4
    assert any(subject.startswith("shards ") for order in orders for subject in order)


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_makes_the_same_store(
    mms_regions_here: Command, run_words: Words, healthy: Path, tmp_path: Path, workers: int
) -> None:
    """0 and 2 are compared in test_run.py."""
    done = mms_regions_here(*run_words(tmp_path / "x.zarr", "--workers", workers))
    assert done.returncode == 0, done.stderr
    assert_same_store(tmp_path / "x.zarr", healthy)
