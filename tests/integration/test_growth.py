"""A store that grows, and is labelled by another model, keeps what it has; and does so when each step is killed."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import xarray as xr
from processes import Nursery, Started, nursery
from stores import (
    assert_absent_or_whole,
    assert_same_numbers,
    assert_same_store,
    copied,
    left_over,
    raw,
    receipt_files,
    run_folder,
    shard_files,
)

from mms_regions.core.catalogue import Catalogue, read_catalogue
from mms_regions.store.read import open_segment
from mms_regions.store.verify import verify
from mms_regions.synthetic.write import synthesise

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]

# Lines that tell of progress: what there is to do, segments prepared, shards written, shards labelled.
OF_A_RUN, OF_LABELLING = 1 + 6 + 2 + 2, 1 + 4


@dataclass(frozen=True)
class Growth:
    """Undisturbed stores: of A to C, and of A to F by the name of their model; and what makes them."""

    folder: Path
    catalogue: Path
    old: Path
    whole: dict[str, Path]
    processes: Nursery
    here: Command
    environment: dict[str, str]

    def run(self, store: Path, events: str, *more: object) -> list[object]:
        where = ["--store", store, "--data-dir", self.folder / "data", "--profile", self.folder / "profile.toml"]
        return ["run", self.catalogue, *where, "--events", events, *more]

    def label(self, store: Path, model: str) -> list[object]:
        return ["label", store, "--model", model, "--profile", self.folder / "profile.toml"]

    def complete(self, *words: object) -> None:
        done = self.here(*words)
        assert done.returncode == 0, done.stderr

    def kill_amid(self, chance: random.Random, most: int, *words: object) -> None:
        """Kill the process of these words after one of its lines of progress, of which there are `most`."""
        run = self.processes.start(*words, env=self.environment)
        wait_for_lines(run, chance.randint(2, most))
        time.sleep(chance.uniform(0, 0.1))
        with suppress(ProcessLookupError):
            os.kill(run.pid, signal.SIGKILL)
        ended = run.wait()
        assert ended.returncode == -signal.SIGKILL, f"it came to its end: {ended.stderr}"


def wait_for_lines(run: Started, count: int) -> None:
    while run.lives and run.said.count("\n") < count:
        time.sleep(0.005)


@pytest.fixture(scope="module")
def growth(
    tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command, environment: dict[str, str]
) -> Iterator[Growth]:
    folder = tmp_path_factory.mktemp("growth")
    rows = read_catalogue("rogers2023").events[:6]
    events = tuple(row.model_copy(update={"t_end": row.t_start + np.timedelta64(6, "s")}) for row in rows)
    assert [event.name for event in events] == list("ABCDEF")
    synthesise(Catalogue("six", events).segments(None, "1-2"), folder / "data", seed=7)
    lines = [f"{event.name},{event.t_start},{event.t_end},{event.B0},{event.n0},1-2" for event in events]
    (folder / "six.csv").write_text("\n".join(["event,t_start,t_end,B0,n0,probes", *lines]) + "\n")
    told = ["shard_samples = 1024", "workers = 0", 'model = "first"', 'device = "cpu"', "offline = true"]
    (folder / "profile.toml").write_text("\n".join([*told, "label_windows = 32"]))  # a task for each shard

    old, first, second = (folder / f"{name}.zarr" for name in ("old", "first", "second"))
    with nursery(folder, environment) as processes:
        whole = {"first": first, "second": second}
        made = Growth(folder, folder / "six.csv", old, whole, processes, mms_regions_here, environment)
        made.complete(*made.run(old, "A-C"))
        made.complete(*made.run(copied(old, first), "D-F"))
        made.complete(*made.label(copied(first, second), "second"))
        yield made


def test_what_is_added_is_as_if_made_alone_and_what_was_there_stays(growth: Growth, tmp_path: Path) -> None:
    before, after = shard_files(growth.old), shard_files(growth.whole["first"])
    assert {path.split("/")[2] for path in before} == {"0", "1"}
    assert {path.split("/")[2] for path in after} == {"0", "1", "2", "3"}
    growth.complete(*growth.run(tmp_path / "alone.zarr", "E", "--probes", "2"))
    for store, event in ((growth.old, "A"), (growth.old, "C"), (tmp_path / "alone.zarr", "E")):
        assert_same_numbers(open_segment(store, event, 2), open_segment(growth.whole["first"], event, 2))


def test_a_store_labelled_anew_is_as_if_made_with_that_model(growth: Growth, tmp_path: Path) -> None:
    growth.complete(*growth.run(tmp_path / "x.zarr", "A-C", "--model", "second"))
    growth.complete(*growth.run(tmp_path / "x.zarr", "D-F", "--model", "second"))
    assert_same_store(tmp_path / "x.zarr", growth.whole["second"])
    first, second = (raw(store)["label"].values for store in growth.whole.values())
    assert (first != second).any()


def shards_and_receipts(store: Path) -> dict[str, int]:
    """When the files of shards, and what vouches for them, were written."""
    receipts = receipt_files(store)
    return shard_files(store) | {name: receipts[name] for name in receipts if re.search(r"-\d{5}\.json$", name)}


def without_labels(files: dict[str, int]) -> dict[str, int]:
    return {path: written for path, written in files.items() if not path.startswith(("label", "probability"))}


def killed_at_each_step(growth: Growth, chance: random.Random, store: Path) -> None:
    """A to C, then D to F, then another model: each killed once and gone on with."""
    growth.kill_amid(chance, OF_A_RUN, *growth.run(store, "A-C"))
    assert_absent_or_whole(store, growth.here, growth.whole)
    growth.complete(*growth.run(store, "A-C"))
    assert_same_store(store, growth.old)

    old = shards_and_receipts(store)
    growth.kill_amid(chance, OF_A_RUN, *growth.run(store, "D-F"))
    left = assert_absent_or_whole(store, growth.here, growth.whole)
    assert {status for key, status in left.items() if key[0] in "ABC"} == {"complete"}
    growth.complete(*growth.run(store, "D-F"))
    assert_same_store(store, growth.whole["first"])
    now = shards_and_receipts(store)
    assert {path: now[path] for path in old} == old

    features = without_labels(shards_and_receipts(store))
    words = chance.choice([growth.label(store, "second"), growth.run(store, "A-F", "--model", "second")])
    growth.kill_amid(chance, OF_LABELLING, *words)
    assert_absent_or_whole(store, growth.here, growth.whole)
    growth.complete(*words)
    assert_same_store(store, growth.whole["second"])
    assert without_labels(shards_and_receipts(store)) == features
    assert (verify(store).flaws, left_over(store)) == ((), [])


def test_growth_and_another_model_are_gone_on_with_after_a_kill(growth: Growth, tmp_path: Path) -> None:
    killed_at_each_step(growth, random.Random(0), tmp_path / "x.zarr")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 21))
def test_growth_and_another_model_are_gone_on_with_after_other_kills(growth: Growth, seed: int, tmp_path: Path) -> None:
    killed_at_each_step(growth, random.Random(seed), tmp_path / "x.zarr")


def test_who_reads_while_labels_are_replaced_sees_one_model(growth: Growth, tmp_path: Path) -> None:
    """Whose metadata did not change while it read has the labels of one model, all of them, or none."""
    store = copied(growth.whole["first"], tmp_path / "x.zarr")
    sound = {name: raw(whole).load() for name, whole in growth.whole.items()}
    seen: Counter[str] = Counter()
    for model in ("second", "first"):
        run = growth.processes.start(*growth.label(store, model), env=growth.environment)
        while run.lives:
            seen[model_read(store, sound)] += 1
        assert run.wait().returncode == 0
        assert model_read(store, sound) == model
    assert seen["first"] and seen["second"], seen


def model_read(store: Path, sound: dict[str, xr.Dataset]) -> str:
    """Of which model the labels are that are read now; empty where there are none, or they are being replaced."""
    before = (store / "zarr.json").read_bytes()
    data = raw(store)
    read = {name: data[name].values for name in ("label", "probability", "status") if name in data}
    if (store / "zarr.json").read_bytes() != before or "label" not in read:
        return ""
    model = str(data.attrs["model"]["name"])
    if set(read["status"].tolist()) != {"complete"}:
        return ""
    for name, values in read.items():
        np.testing.assert_array_equal(values, sound[model][name].values, err_msg=f"{name} of {model}")
    return model


def all_files(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for folder in (store, run_folder(store)) for path in folder.rglob("*")}


def test_another_event_of_a_name_that_is_there_is_refused(growth: Growth, tmp_path: Path) -> None:
    store, other = copied(growth.old, tmp_path / "x.zarr"), tmp_path / "other.csv"
    lines = growth.catalogue.read_text().splitlines()
    name, start, end, b0, n0, probes = lines[1].split(",")
    other.write_text("\n".join([lines[0], f"{name},{start},{end},{float(b0) + 1},{n0},{probes}", *lines[2:]]))
    before = all_files(store)
    done = growth.here(*["run", other, *growth.run(store, "A-F")[2:]])
    assert done.returncode == 2
    assert f"Event A is another one in this store (A: {start[:19]}" in done.stderr
    assert f"B0 = {float(b0):g} nT" in done.stderr and f"B0 = {float(b0) + 1:g} nT" in done.stderr
    assert "give it another name, or choose another --store" in done.stderr
    assert all_files(store) == before


def test_a_part_of_what_is_there_brings_nothing_new(growth: Growth, tmp_path: Path) -> None:
    store = copied(growth.old, tmp_path / "x.zarr")
    before = shard_files(store), receipt_files(store)
    growth.complete(*growth.run(store, "B", "--probes", "2"))
    assert (shard_files(store), receipt_files(store)) == before
    assert_same_store(store, growth.old)
