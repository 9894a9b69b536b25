"""A worker that was held to be lost writes on beside the one in its place: nothing that is done comes to harm."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from stores import assert_same_store, raw, run_folder, shard_files

import mms_regions.run.run as run_module
from mms_regions.core.catalogue import read_catalogue
from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.messages import Event, ShardLabelled
from mms_regions.core.settings import Settings, resolve_settings
from mms_regions.model.card import find_model
from mms_regions.run.begin import RunRequest
from mms_regions.run.tasks import label_shards
from mms_regions.store.plan import require_plan
from mms_regions.store.relabel import start_labelling
from mms_regions.workers.local import local_pool

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


@contextmanager
def seen_missing(files: list[Path]) -> Iterator[set[Path]]:
    """Which of these files were not there at some moment while the block ran."""
    missing, done = set[Path](), threading.Event()

    def look() -> None:
        while not done.is_set():
            missing.update(path for path in files if not path.exists())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield missing
    finally:
        done.set()
        looking.join()


def test_while_a_shard_is_written_again_each_of_its_files_is_there(
    mms_regions_here: Command, run_words: Words, store: Path, healthy: Path
) -> None:
    before = shard_files(store)
    with seen_missing([store / name for name in before]) as missing:
        done = mms_regions_here(*run_words(store, "--redo", "all"))
    assert done.returncode == 0, done.stderr
    after = shard_files(store)
    assert sum(after[name] != before[name] for name in before) > 40 * 3, "it was written again"
    assert missing == set()
    assert_same_store(store, healthy)


def test_labels_that_are_there_are_not_written_twice(store: Path, environment: dict[str, str]) -> None:
    plan, before = require_plan(store), shard_files(store)
    labelling = start_labelling(store, plan, find_model("first", environment), Settings(device="cpu"))
    receipts = label_shards(labelling, plan.shards)
    assert [receipt.shard for receipt in receipts] == [0, 1, 2]
    assert shard_files(store) == before


def test_a_run_that_finds_less_than_was_written_says_so(
    catalogue: Path, data_dir: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, chosen = tmp_path / "x.zarr", read_catalogue(str(catalogue))

    def lose_labels(event: Event) -> None:
        if event == ShardLabelled(2):
            for receipt in (run_folder(store) / "receipts").glob("labels-*-00001.json"):
                receipt.unlink()

    flags = {"data_dir": data_dir, "offline": True, "model": "first", "device": "cpu", "workers": 0}
    settings = resolve_settings({**flags, "shard_samples": 1024}, {})
    request = RunRequest(chosen, chosen.segments(), store, settings, find_model("first", environment))
    monkeypatch.setattr(run_module, "_SHOWN_WITHIN", 1.0)
    with pytest.raises(EnvironmentProblem, match=r"shards 1 were written, but are not there; run again"):
        run_module.run(request, local_pool, lose_labels)
    assert "complete" in raw(store)["status"].values
    run_module.run(request, local_pool, lambda event: None)
    assert set(raw(store)["status"].values) == {"complete"}
