"""Slots never overlap, shards know their slots, plans survive the disk, and only grow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import DECIDING, START, plan_of, seconds, shard_sizes

from mms_regions.core.catalogue import Catalogue
from mms_regions.core.errors import EnvironmentProblem, UsageProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.types import WINDOW
from mms_regions.store.paths import run_folder
from mms_regions.store.plan import Plan, Versions, make_plan, read_plan, slot_length, write_plan


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
    back = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert back == plan
    assert [shard.made_from for shard in back.shards] == [shard.made_from for shard in plan.shards]


def test_a_plan_is_read_from_beside_its_store_though_one_of_its_copies_is_lost(tmp_path: Path) -> None:
    store, plan = tmp_path / "x.zarr", plan_of([6.0])
    assert read_plan(store) is None
    write_plan(store, plan)
    path, copy = run_folder(store) / "plan.json", run_folder(store) / "plan.copy.json"
    assert read_plan(store) == plan
    path.write_bytes(path.read_bytes().replace(b"E0", b"E1"))
    assert read_plan(store) == plan
    copy.unlink()
    with pytest.raises(EnvironmentProblem, match=r"plan\.json was changed"):
        read_plan(store)
    path.unlink()
    assert read_plan(store) is None


@pytest.mark.parametrize("field", [2, 3], ids=["first", "length"])
def test_a_plan_whose_slots_collide_is_refused(field: int) -> None:
    data = plan_of([6.0, 6.0]).to_json()
    data["slots"][0][field] += WINDOW
    with pytest.raises(ValueError, match="overlaps"):
        Plan.from_json(data)


def test_what_decides_a_shard_changes_with_its_segments_and_settings_alone() -> None:
    one, other = plan_of([6.0, 40.0]), plan_of([6.0, 41.0])
    assert one.uuid != other.uuid
    assert one.shards[0].made_from == plan_of([6.0, 40.0]).shards[0].made_from
    assert one.shards[0].made_from != other.shards[0].made_from
    catalogue = Catalogue("made-up", tuple(slot.segment.event for slot in one.slots))
    wider = make_plan(catalogue, catalogue.segments(), 1024, {**DECIDING, "margin": 2.0})
    assert one.shards[0].made_from != wider.shards[0].made_from


@given(lengths=st.lists(seconds, min_size=1, max_size=8), more=st.lists(seconds, min_size=1, max_size=8))
def test_a_plan_only_grows_and_what_is_added_begins_a_new_shard(lengths: list[float], more: list[float]) -> None:
    plan = plan_of(lengths)
    catalogue = Catalogue("more", plan_of([*lengths, *more]).events)
    grown = plan.grown(catalogue, catalogue.segments())
    assert grown.uuid == plan.uuid and grown.slots[: len(plan.slots)] == plan.slots
    assert [shard.made_from for shard in grown.shards[: plan.n_shards]] == [shard.made_from for shard in plan.shards]
    assert grown.slots[len(plan.slots)].first == plan.n_samples
    assert [slot.segment for slot in grown.slots] == list(catalogue.segments())
    assert [listed.name for listed in grown.catalogues] == ["made-up", "more"]
    assert grown.grown(catalogue, catalogue.segments()) == grown
    assert Plan.from_json(json.loads(json.dumps(grown.to_json()))) == grown


@pytest.mark.parametrize("change", [{"B0": 21}, {"n0": 0.3}, {"t_start": START - 1}, {"name": "e0"}])
def test_an_event_of_the_same_name_that_is_another_one_is_refused(change: dict[str, object]) -> None:
    plan = plan_of([6.0])
    other = Catalogue("other", (Event(**{**plan.events[0].model_dump(), **change}),))
    with pytest.raises(UsageProblem, match=r"is another one in this store \(E0: 2017.* than in other"):
        plan.grown(other, other.segments())


def test_an_event_that_was_slipped_in_past_the_checks_survives_json() -> None:
    bad = plan_of([6.0]).events[0].model_copy(update={"B0": float("nan")})
    plan = make_plan(Catalogue("bad", (bad,)), [Segment(bad, 1)], 1024, DECIDING)
    back = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert np.isnan(back.events[0].B0)
    assert back.shards[0].made_from == plan.shards[0].made_from
    assert back.grown(Catalogue("bad", (bad,)), [Segment(bad, 1)]) == back


def test_errors_of_scales_that_are_given_later_leave_features_as_they_are() -> None:
    plan, errors = plan_of([6.0, 6.0]), {"B0_sigma": 1.5, "n0_sigma": 0.03}
    first = plan.slots[0].segment
    known = Segment(first.event.model_copy(update=errors), first.probe)
    grown = plan.grown(Catalogue("later", (known.event,)), [known])
    assert [slot.segment.event.B0_sigma for slot in grown.slots] == [1.5, None]
    assert [shard.made_from for shard in grown.shards] == [shard.made_from for shard in plan.shards]
    assert (plan.has_scale_errors, grown.has_scale_errors) == (False, True)
    assert grown.grown(Catalogue("without", (first.event,)), [first]) == grown, "a list without errors leaves them"
    older = replace(plan, versions=Versions(3, 1))
    changed = older.grown(Catalogue("later", (known.event,)), [known])
    assert changed.shards[0].made_from != older.shards[0].made_from, "as stores of format 3 have it in their receipts"
