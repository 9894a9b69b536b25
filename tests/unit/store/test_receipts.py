"""A receipt is whole or absent, and stands only where its files do; records tell what is complete."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from plans import plan_of

from mms_regions.store.paths import receipt_path, run_folder
from mms_regions.store.plan import Plan
from mms_regions.store.receipts import (
    InputFile,
    Receipt,
    Record,
    Written,
    receipts,
    records_of,
    shown_records,
    torn,
    written_shards,
)

FILE = InputFile("mms1_fgm_brst_l2_20170711223358_v5.96.0.cdf", "5.96.0", 1234, "ab" * 32)
RECORDS = (
    Record("E0/mms1", "complete", n_samples=201, position_gse=(-14e4, 2e4, 3e4), inputs=(FILE,)),
    Record("E1/mms1", "failed", "no file"),
)


def receipt(plan: Plan, records: tuple[Record, ...] = RECORDS) -> Receipt:
    return Receipt("features", plan.uuid, 0, plan.shards[0].made_from, {"time/c/0": Written(4, "cd" * 32)}, records)


def test_a_receipt_matches_its_store_and_what_decides() -> None:
    plan, other = plan_of([6.0, 7.0]), plan_of([6.0, 8.0])
    assert receipt(plan).matches(plan.uuid, plan.shards[0].made_from)
    assert not receipt(plan).matches(other.uuid, plan.shards[0].made_from)
    assert not receipt(plan).matches(plan.uuid, other.shards[0].made_from)
    assert receipt(plan).has_failures
    assert not receipt(plan, RECORDS[:1]).has_failures


def test_a_receipt_survives_the_disk_and_leaves_nothing_else(tmp_path: Path) -> None:
    store, plan = tmp_path / "x.zarr", plan_of([6.0, 7.0])
    path = receipt_path(store, "features", 0)
    receipt(plan, RECORDS[:1]).write(path)
    receipt(plan).write(path)
    assert Receipt.read(path) == receipt(plan)
    assert [p for p in run_folder(store).rglob("*") if p.is_file()] == [path]
    assert list(receipts(store, plan, "features")) == [receipt(plan)]
    assert list(receipts(store, plan_of([6.0, 7.0]), "features")) == []  # of another store
    assert list(receipts(store, plan, "labels", "ef" * 32)) == []


def test_the_reason_of_an_older_receipt_has_its_key_taken_off(tmp_path: Path) -> None:
    path = receipt_path(tmp_path / "x.zarr", "features", 0)
    older = replace(RECORDS[1], reason="E1/mms1: no file")
    replace(receipt(plan_of([6.0, 7.0])), records=(older,)).write(path)
    found = Receipt.read(path)
    assert found is not None and found.records[0].reason == "no file"


def test_a_write_that_fails_leaves_the_receipt_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of([6.0, 7.0])
    path = receipt_path(tmp_path / "x.zarr", "features", 0)
    receipt(plan).write(path)

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        receipt(plan, RECORDS[:1]).write(path)
    assert Receipt.read(path) == receipt(plan)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"uuid"', '"uid"'),
        lambda text: text.replace('"key"', '"kex"'),
        lambda text: text.replace("201", "202"),
        lambda text: text + " ",
    ],
    ids=["cut off", "empty", "a list", "without fields", "an unknown field", "one of a record", "a number", "a blank"],
)
def test_a_receipt_that_cannot_be_read_is_none(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "features-00000.json"
    assert Receipt.read(path) is None
    receipt(plan_of([6.0, 7.0])).write(path)
    path.write_text(spoil(path.read_text()))  # type: ignore[operator]
    assert Receipt.read(path) is None


def on_disk(store: Path, plan: Plan, shard: int, records: Sequence[Record]) -> Receipt:
    """A receipt whose one file is there."""
    path = store / "time" / "c" / str(shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"four")
    decides = plan.shards[shard].made_from
    made = Receipt("features", plan.uuid, shard, decides, {f"time/c/{shard}": Written.of(path)}, tuple(records))
    made.write(receipt_path(store, "features", shard))
    return made


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"five!")], ids=["gone", "longer"])
def test_a_receipt_stands_only_where_its_files_are_there_in_full(tmp_path: Path, spoil: object) -> None:
    store, plan = tmp_path / "x.zarr", plan_of([6.0, 7.0])
    made = on_disk(store, plan, 0, RECORDS)
    assert written_shards(store, plan) == {0: made}
    spoil(store / "time" / "c" / "0")  # type: ignore[operator]
    assert written_shards(store, plan) == {}
    assert Receipt.read(receipt_path(store, "features", 0)) == made


LONG = Record("E0/mms1", "complete", n_samples=1300, position_gse=(1.0, 2.0, 3.0), inputs=(FILE,))


def test_a_segment_is_known_when_all_its_shards_are_and_made_from_the_same(tmp_path: Path) -> None:
    """E0 spans the shards 0 and 1."""
    plan = plan_of([40.0, 6.0])
    one = on_disk(tmp_path / "x.zarr", plan, 0, [LONG])
    two = on_disk(tmp_path / "x.zarr", plan, 1, [LONG, RECORDS[1]])
    assert records_of(plan, {0: one}) == {}
    assert records_of(plan, {0: one, 1: two}) == {"E0/mms1": LONG, "E1/mms1": RECORDS[1]}
    failed = replace(LONG, status="failed", reason="no file")
    assert records_of(plan, {0: replace(one, records=(failed,)), 1: two})["E0/mms1"] == failed
    newer = replace(LONG, inputs=(replace(FILE, version="5.97.0"),))
    assert torn({0: replace(one, records=(newer,)), 1: two}) == {"E0/mms1"}
    assert set(records_of(plan, {0: replace(one, records=(newer,)), 1: two})) == {"E1/mms1"}


def test_what_lies_in_a_shard_without_labels_is_prepared(tmp_path: Path) -> None:
    plan = plan_of([40.0, 6.0])
    both = {i: on_disk(tmp_path / "x.zarr", plan, i, [LONG, RECORDS[1]][: i + 1]) for i in (0, 1)}
    assert [r.status for r in shown_records(plan, both, {0, 1}).values()] == ["complete", "failed"]
    assert [r.status for r in shown_records(plan, both, {0}).values()] == ["prepared", "failed"]
