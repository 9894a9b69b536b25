"""Slots never overlap, shards know their slots, plans survive the disk, and a receipt is whole or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.arrays import WINDOW
from mms_regions.catalogue import Catalogue, Event
from mms_regions.errors import EnvironmentProblem
from mms_regions.plan import (
    InputFile,
    Plan,
    Receipt,
    Record,
    make_plan,
    read_plan,
    receipt_path,
    receipts,
    run_folder,
    slot_length,
)

DECIDING = {"convention": "corrected", "margin": 1.0, "bridge": 0.15}
START = np.datetime64("2017-07-11T22:34:00", "ns")

# Around a quarter of the smallest shard (256 samples: 7.6 s), around a whole one (30.6 s), and much longer ones.
seconds = st.one_of(st.floats(0.01, 10), st.floats(7.5, 7.8), st.floats(29, 31), st.floats(31, 900))
shard_sizes = st.sampled_from([1024, 4096, 65536])


def plan_of(lengths: Sequence[float], shard_samples: int = 1024, probes: tuple[int, ...] = (1,)) -> Plan:
    events = [
        Event(
            name=f"E{i}",
            t_start=START,
            t_end=START + np.timedelta64(round(s * 1e9), "ns"),
            B0=20,
            n0=0.2,
            probes=probes,
        )
        for i, s in enumerate(lengths)
    ]
    catalogue = Catalogue("made-up", tuple(events))
    return make_plan(catalogue, catalogue.segments(), shard_samples, DECIDING)


def test_an_interval_of_24_s_can_hold_801_samples() -> None:
    assert slot_length(24.0) == 832
    assert slot_length(23.0) == 800


@given(length=st.floats(0.001, 7200), first=st.floats(0, 1))
def test_a_slot_holds_all_samples_of_a_clock_that_is_a_thousandth_fast(length: float, first: float) -> None:
    period = 0.03 / 1.001
    samples = int((length - first * period) / period) + 1  # both ends included
    assert samples <= slot_length(length)
    assert slot_length(length) % WINDOW == 0
    assert slot_length(length) < 1.001 * length / 0.03 + 2 + WINDOW


@given(lengths=st.lists(seconds, min_size=1, max_size=30), size=shard_sizes)
def test_slots_are_whole_windows_in_order_and_do_not_overlap(lengths: list[float], size: int) -> None:
    plan = plan_of(lengths, size)
    assert [slot.segment.event.name for slot in plan.slots] == [f"E{i}" for i in range(len(lengths))]
    assert [slot.index for slot in plan.slots] == list(range(len(lengths)))
    assert all(slot.first % WINDOW == 0 for slot in plan.slots)
    assert all(slot.length == slot_length(slot.segment.event.seconds) for slot in plan.slots)
    assert all(one.end <= next_.first for one, next_ in zip(plan.slots, plan.slots[1:], strict=False))
    assert plan.n_samples % size == 0
    assert plan.slots[-1].end <= plan.n_samples < plan.slots[-1].end + size


@given(lengths=st.lists(seconds, min_size=1, max_size=30), size=shard_sizes)
def test_only_slots_longer_than_a_quarter_shard_span_shards(lengths: list[float], size: int) -> None:
    plan = plan_of(lengths, size)
    spanning = [slot for slot in plan.slots if slot.first // size != (slot.end - 1) // size]
    assert all(slot.length > size // 4 for slot in spanning)
    free = sum(next_.first - one.end for one, next_ in zip(plan.slots, plan.slots[1:], strict=False))
    assert free < plan.n_shards * (size // 4)  # no more is left empty than that rule asks for


@given(lengths=st.lists(seconds, min_size=1, max_size=20), size=shard_sizes)
def test_a_shard_knows_the_slots_that_reach_into_it(lengths: list[float], size: int) -> None:
    plan = plan_of(lengths, size)
    assert [(s.number, s.begin, s.end) for s in plan.shards] == [
        (i, i * size, (i + 1) * size) for i in range(plan.n_shards)
    ]
    for shard in plan.shards:
        touching = [slot for slot in plan.slots if slot.first < shard.end and slot.end > shard.begin]
        assert list(shard.slots) == touching
        assert touching


@given(lengths=st.lists(seconds, min_size=1, max_size=8), size=shard_sizes)
def test_a_plan_survives_json(lengths: list[float], size: int) -> None:
    plan = plan_of(lengths, size, probes=(1, 3))
    back = Plan.from_json(plan.to_json())
    assert back == plan
    assert [shard.decides for shard in back.shards] == [shard.decides for shard in plan.shards]


def test_a_plan_is_read_from_beside_its_store(tmp_path: Path) -> None:
    assert read_plan(tmp_path / "x.zarr") is None
    plan = plan_of([6.0])
    path = tmp_path / "x.zarr.run" / "plan.json"
    path.parent.mkdir()
    path.write_text(plan.to_json())
    assert read_plan(tmp_path / "x.zarr") == plan
    path.write_text(plan.to_json()[:100])
    with pytest.raises(EnvironmentProblem, match=r"plan\.json"):
        read_plan(tmp_path / "x.zarr")


@pytest.mark.parametrize("field", ["first", "length"])
def test_a_plan_whose_slots_collide_is_refused(field: str) -> None:
    data = json.loads(plan_of([6.0, 6.0]).to_json())
    data["slots"][0][field] += WINDOW
    with pytest.raises(ValueError, match="overlaps"):
        Plan.from_json(json.dumps(data))


def test_what_decides_a_shard_changes_with_its_segments_and_settings_alone() -> None:
    one, other = plan_of([6.0, 40.0]), plan_of([6.0, 41.0])
    assert one.uuid != other.uuid
    assert one.shards[0].decides == plan_of([6.0, 40.0]).shards[0].decides
    assert one.shards[0].decides != other.shards[0].decides
    catalogue = Catalogue("made-up", tuple(slot.segment.event for slot in one.slots))
    wider = make_plan(catalogue, catalogue.segments(), 1024, {**DECIDING, "margin": 2.0})
    assert one.shards[0].decides != wider.shards[0].decides


FILE = InputFile("mms1_fgm_brst_l2_20170711223358_v5.96.0.cdf", "5.96.0", 1234, "ab" * 32)
RECORDS = (
    Record("E0/mms1", "complete", n_samples=201, position_gse=(-14e4, 2e4, 3e4), inputs=(FILE,)),
    Record("E1/mms1", "failed", "E1/mms1: no file"),
)


def receipt(plan: Plan, records: tuple[Record, ...] = RECORDS) -> Receipt:
    return Receipt("features", plan.uuid, 0, plan.shards[0].decides, {"time/c/0": "cd" * 32}, records)


def test_a_receipt_matches_its_store_and_what_decides() -> None:
    plan, other = plan_of([6.0, 7.0]), plan_of([6.0, 8.0])
    assert receipt(plan).matches(plan.uuid, plan.shards[0].decides)
    assert not receipt(plan).matches(other.uuid, plan.shards[0].decides)
    assert not receipt(plan).matches(plan.uuid, other.shards[0].decides)
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
    ],
    ids=["cut off", "empty", "a list", "without fields", "an unknown field", "an unknown field of a record"],
)
def test_a_receipt_that_cannot_be_read_is_none(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "features-00000.json"
    assert Receipt.read(path) is None
    receipt(plan_of([6.0, 7.0])).write(path)
    path.write_text(spoil(path.read_text()))  # type: ignore[operator]
    assert Receipt.read(path) is None
