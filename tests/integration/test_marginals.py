"""Marginal probabilities in a store: where errors of B0 or n0 are known, whole or not at all, and with old features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from processes import Nursery
from stores import assert_absent_or_whole, assert_same_store, copied, left_over, raw, shard_files

import mms_regions
import mms_regions.run.tasks
from mms_regions.core.files import FAILPOINT
from mms_regions.export.netcdf import as_cf as cf
from mms_regions.model.marginals import drawn_factors
from mms_regions.store.verify import verify

Command = Callable[..., "CompletedProcess[str]"]
# B0 and n0 of A and of LONG, which spans two shards, are estimated; those of B are given.
ROWS = """A,2017-07-11T10:34:00,2017-07-11T10:34:06,,,1
LONG,2017-07-11T14:36:00,2017-07-11T14:36:36,,,1
B,2017-07-11T22:40:00,2017-07-11T22:40:07.5,20.0,0.3,1
"""
MARGINAL = {"probability_marginal", "label_marginal"}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, data_dir: Path, profile: Path) -> Callable[..., list[object]]:
    """The words of a run of these events into a store."""
    events = tmp_path_factory.mktemp("list") / "events.csv"
    events.write_text(f"event,t_start,t_end,B0,n0,probes\n{ROWS}")

    def run(store: Path, *more: object) -> list[object]:
        return ["run", events, "--store", store, "--data-dir", data_dir, "--profile", profile, "--offline", *more]

    return run


@pytest.fixture(scope="module")
def drawn(
    tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command, words: Callable[..., list[object]]
) -> Path:
    store = tmp_path_factory.mktemp("drawn") / "d.zarr"
    made(mms_regions_here(*words(store)))
    return store


def made(done: CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


def test_the_mean_over_draws_is_beside_labels_that_stay_as_they_are(drawn: Path, model_dir: Path) -> None:
    model, changed = mms_regions.load_model(model_dir / "first"), 0
    for event, probe in (("A", 1), ("LONG", 1)):
        data = mms_regions.open_segment(drawn, event, probe).load()
        about = data.attrs
        assert (about["draws"], about["seed"], about["scale_source"]) == (16, 0, "estimated")
        np.testing.assert_array_equal(data["label"], mms_regions.label(data, model=model, device="cpu")["label"])
        errors = about["b0_sigma"] / about["b0"], about["n0_sigma"] / about["n0"]
        factors = drawn_factors(f"{event}/mms{probe}", *errors, 16, 0)
        runs = [
            mms_regions.label(data.assign(features=data["features"] * f), model=model, device="cpu") for f in factors
        ]
        mean = np.mean([run["probability"] for run in runs], axis=0)
        np.testing.assert_allclose(data["probability_marginal"], mean, rtol=1e-4, atol=1e-6)
        there = data["label"].values >= 0
        np.testing.assert_array_equal(data["label_marginal"].values[there], mean[there].argmax(axis=1))
        assert (data["label_marginal"].values[~there] == -1).all()
        changed += int((data["label_marginal"] != data["label"]).sum())
        assert data["label_marginal"].attrs["flag_meanings"] == data["label"].attrs["flag_meanings"]
    assert changed, "they are not a copy of the labels"
    as_cf = cf(mms_regions.open_segment(drawn, "A", 1), "test", "made")
    assert as_cf["label_marginal"].attrs["flag_meanings"] == data["label"].attrs["flag_meanings"]
    assert "probability_marginal" in as_cf["label"].attrs["ancillary_variables"].split()
    given = mms_regions.open_segment(drawn, "B", 1)
    assert not MARGINAL & set(given.variables), "B0 and n0 of B have no errors"
    assert verify(drawn).flaws == ()


@pytest.mark.system
def test_draws_do_not_depend_on_shards_or_order(
    drawn: Path, words: Callable[..., list[object]], mms_regions_here: Command, tmp_path: Path
) -> None:
    other = {"MMS_REGIONS_SHARD_SAMPLES": "8192"}
    made(mms_regions_here(*words(tmp_path / "one.zarr", "--events", "LONG"), env=other))
    made(mms_regions_here(*words(tmp_path / "one.zarr", "--events", "A", "--probes", 1), env=other))
    for event in ("A", "LONG"):
        one, two = (mms_regions.open_segment(store, event, 1).load() for store in (drawn, tmp_path / "one.zarr"))
        for name in MARGINAL:
            np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.system
def test_other_draws_or_another_seed_make_labels_alone_and_off_stays_off(
    drawn: Path,
    words: Callable[..., list[object]],
    mms_regions_here: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "x.zarr"
    made(mms_regions_here(*words(store)))
    before = shard_files(store)
    monkeypatch.setattr(mms_regions.run.tasks, "prepare_segment", never)
    made(mms_regions_here(*words(store)))
    assert shard_files(store) == before, "nothing is made again"
    probability = raw(store)["probability_marginal"].values
    for more, env in ((["--draws", 8], {}), (["--draws", 16], {"MMS_REGIONS_SEED": "1"})):
        made(mms_regions_here(*words(store, *more), env=env))
        after = shard_files(store)
        assert {path.partition("/")[0] for path in after if after[path] != before.get(path)} == {
            "label",
            "probability",
        } | MARGINAL
        assert not np.array_equal(raw(store)["probability_marginal"].values, probability, equal_nan=True)
        assert (verify(store).flaws, left_over(store)) == ((), [])
    made(mms_regions_here(*words(store)))  # what is not given stays
    assert (raw(store).attrs["draws"], raw(store).attrs["seed"]) == (16, 1)
    made(mms_regions_here(*words(store, "--draws", 0)))
    made(mms_regions_here(*words(store)))
    assert not MARGINAL & set(raw(store).variables) and not any((store / name).exists() for name in MARGINAL)
    made(mms_regions_here(*words(store, "--draws", 16), env={"MMS_REGIONS_SEED": "0"}))
    assert_same_store(store, drawn)


def never(*words: object) -> None:
    raise AssertionError("features are made again")


@pytest.mark.system
def test_errors_that_a_list_gives_later_are_drawn_without_new_features(
    store: Path,
    healthy: Path,
    data_dir: Path,
    profile: Path,
    mms_regions_here: Command,
    run_words: Callable[..., list[object]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(mms_regions.run.tasks, "prepare_segment", never)
    list_ = tmp_path / "errors.csv"
    where = ["--store", store, "--data-dir", data_dir, "--profile", profile, "--offline"]
    seen = []
    for error in ("1.2", "2.4"):
        list_.write_text(
            f"event,t_start,t_end,B0,n0,probes,B0_sigma\nA,2017-07-11T10:34:00,2017-07-11T10:34:06,12.0,0.2,1-2,{error}\n"
        )
        made(mms_regions_here("run", list_, *where))
        data = mms_regions.open_segment(store, "A", 1).load()
        assert (data.attrs["b0_sigma"], data.attrs["scale_source"]) == (float(error), "catalogue")
        seen.append(data["probability_marginal"].values)
        assert (verify(store).flaws, left_over(store)) == ((), [])
    assert not np.array_equal(*seen, equal_nan=True)
    np.testing.assert_array_equal(raw(store)["label"].values, raw(healthy)["label"].values)
    made(mms_regions_here(*run_words(store)))  # a list without errors leaves them
    np.testing.assert_array_equal(mms_regions.open_segment(store, "A", 1)["probability_marginal"], seen[1])
    assert not MARGINAL & set(mms_regions.open_segment(store, "LONG", 1).variables)


@pytest.mark.system
@pytest.mark.parametrize("before", ["rename */label_marginal/c/*", "rename *.zarr/probability_marginal"])
def test_a_crash_shows_old_labels_or_none_and_the_next_run_goes_on(
    before: str,
    drawn: Path,
    words: Callable[..., list[object]],
    processes: Nursery,
    environment: dict[str, str],
    mms_regions_here: Command,
    tmp_path: Path,
) -> None:
    store = tmp_path / "x.zarr"
    made(mms_regions_here(*words(store, "--draws", 0)))
    before_it, again = tmp_path / "before.zarr", words(store, "--draws", 16)
    copied(store, before_it)
    died = processes.run(*again, env={**environment, FAILPOINT: f"1:{tmp_path / 'record'}:{before}"})
    assert died.returncode == -9, died.stderr
    assert_absent_or_whole(store, mms_regions_here, {"first": before_it})
    made(mms_regions_here(*again))
    assert_same_store(store, drawn)
    assert (left_over(store), verify(store).flaws) == ([], ())
