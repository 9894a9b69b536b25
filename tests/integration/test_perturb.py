"""`run --perturb`: how far labels hang on B0, n0 and window phase, whole or not at all, and never with new features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from processes import Nursery
from stores import assert_absent_or_whole, assert_same_store, left_over, raw, shard_files

import mms_regions.model.label
import mms_regions.run.tasks
from mms_regions.core.files import FAILPOINT
from mms_regions.store.plan import require_plan
from mms_regions.store.read import open_segment
from mms_regions.store.verify import verify
from mms_regions.synthetic.write import read_truth

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


@pytest.fixture(scope="module")
def perturbed(tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command, run_words: Words) -> Path:
    store = tmp_path_factory.mktemp("perturbed") / "p.zarr"
    done = mms_regions_here(*run_words(store, "--perturb", "0.1"))
    assert done.returncode == 0, done.stderr
    return store


def made(done: CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


def test_labels_are_the_same_and_stability_is_beside_them(perturbed: Path, healthy: Path) -> None:
    here, there = raw(perturbed), raw(healthy)
    assert set(here.variables) - set(there.variables) == {"stability"}
    for name in ("label", "probability", "features"):
        np.testing.assert_array_equal(here[name].values, there[name].values)
    assert np.isnan(there["mean_stability"].values).all()
    label, stability = here["label"].values, here["stability"].values
    np.testing.assert_array_equal(np.isfinite(stability), label >= 0)
    assert 0 <= np.nanmin(stability) < 1 == np.nanmax(stability)
    one = open_segment(perturbed, "LONG", 1)  # which spans two shards
    assert one.attrs["mean_stability"] == pytest.approx(np.nanmean(one["stability"].values), rel=1e-6)
    assert 0 < one.attrs["share_changed"] < 1
    assert one.attrs["perturb"] == 0.1
    assert verify(perturbed).flaws == ()


def test_whatever_the_workers_and_the_way_it_came_to_be(
    perturbed: Path, mms_regions_here: Command, run_words: Words, tmp_path: Path
) -> None:
    made(mms_regions_here(*run_words(tmp_path / "two.zarr", "--perturb", "0.1", "--workers", "2")))
    assert_same_store(tmp_path / "two.zarr", perturbed)
    made(mms_regions_here(*run_words(tmp_path / "grown.zarr", "--perturb", "0.1", "--events", "A")))
    made(mms_regions_here(*run_words(tmp_path / "grown.zarr")))
    assert raw(tmp_path / "grown.zarr").attrs["perturb"] == 0.1
    assert np.isfinite(raw(tmp_path / "grown.zarr")["mean_stability"].values).all()
    assert verify(tmp_path / "grown.zarr").flaws == ()


def test_what_is_not_given_stays_and_what_is_given_is_made_without_features(
    perturbed: Path, store: Path, healthy: Path, mms_regions_here: Command, run_words: Words, profile: Path
) -> None:
    before = shard_files(store)
    made(mms_regions_here(*run_words(store, "--perturb", "0.1")))
    assert_same_store(store, perturbed)
    after = shard_files(store)
    changed = {path.partition("/")[0] for path in after if after[path] != before.get(path)}
    assert changed == {"label", "probability", "stability"}
    made(mms_regions_here(*run_words(store)))
    assert shard_files(store) == after
    made(mms_regions_here("label", store, "--model", "first", "--profile", profile, "--perturb", "0"))
    assert_same_store(store, healthy)
    assert (left_over(store), verify(store).flaws, (store / "stability").exists()) == ([], (), False)


def test_no_segment_is_prepared_and_no_window_labelled_more_than_twelve_times(
    store: Path, mms_regions_here: Command, run_words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = 0
    label_windows = mms_regions.model.label.label_windows

    def counted(model, features, *more, **given):
        nonlocal windows
        windows += len(features)
        return label_windows(model, features, *more, **given)

    def never(*words: object) -> None:
        raise AssertionError("features are made again")

    monkeypatch.setattr(mms_regions.model.label, "label_windows", counted)
    monkeypatch.setattr(mms_regions.run.tasks, "prepare_segment", never)
    made(mms_regions_here(*run_words(store, "--perturb", "0.1")))
    whole = require_plan(store).n_samples // 32
    used = int((raw(store)["label"].values.reshape(-1, 32) >= 0).any(axis=1).sum())
    assert used < whole and windows <= 12 * whole
    again = windows - whole  # those that begin later cover a few more or less of them
    assert 11 * used - 24 <= again <= 11 * used + 24, "windows without a label are labelled once"


@pytest.mark.parametrize("before", ["rename */label/c/*", "rename *.zarr/label"])
def test_a_crash_shows_old_labels_or_none_and_the_next_run_goes_on(
    before: str,
    store: Path,
    healthy: Path,
    perturbed: Path,
    processes: Nursery,
    environment: dict[str, str],
    mms_regions_here: Command,
    run_words: Words,
    tmp_path: Path,
) -> None:
    words = run_words(store, "--perturb", "0.1")
    died = processes.run(*words, env={**environment, FAILPOINT: f"1:{tmp_path / 'record'}:{before}"})
    assert died.returncode == -9, died.stderr
    assert_absent_or_whole(store, mms_regions_here, {"first": healthy})
    made(mms_regions_here(*words))
    assert_same_store(store, perturbed)
    assert (left_over(store), verify(store).flaws) == ([], ())


def test_labels_are_stable_far_from_boundaries_and_less_so_at_them(
    many_segments, mms_regions_here: Command, tmp_path: Path
) -> None:
    where = ["--data-dir", many_segments.data_dir, "--offline", "--workers", 0, "--device", "cpu", "--events", "A-F"]
    words = ["--store", tmp_path / "x.zarr", "--model", "analytic-layer", "--perturb", "0.1"]
    made(mms_regions_here("run", many_segments.catalogue, *words, *where))
    near, far = [], []
    for slot in require_plan(tmp_path / "x.zarr").slots:
        data = open_segment(tmp_path / "x.zarr", slot.segment.event.name, slot.segment.probe)
        truth = read_truth(many_segments.data_dir, slot.segment, data["time"].values.astype(np.int64))
        distance = from_boundary(truth)
        stability = data["stability"].values
        near.append(stability[distance < 8])
        far.append(stability[distance >= 48])
    near_mean, far_mean = (float(np.nanmean(np.concatenate(part))) for part in (near, far))
    assert float(np.nanmedian(np.concatenate(far))) == 1
    assert far_mean > 0.97
    assert near_mean < far_mean - 0.01


def from_boundary(region: np.ndarray) -> np.ndarray:
    """(n,) samples to the nearest change of region, a large number where there is none."""
    changes = np.flatnonzero(np.diff(region)) + 0.5
    if not changes.size:
        return np.full(len(region), np.inf)
    return np.asarray(np.abs(np.arange(len(region))[:, None] - changes).min(axis=1))
