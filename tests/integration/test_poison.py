"""One segment among 92 that cannot be made fails alone, whatever is wrong with it; the others are as in a sound run."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import xarray as xr
from stores import raw

from mms_regions.core.catalogue import Catalogue, read_catalogue
from mms_regions.core.errors import UsageProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.settings import Settings, resolve_settings
from mms_regions.model.card import find_model
from mms_regions.physics.burst import Burst
from mms_regions.run.begin import RunRequest
from mms_regions.run.run import Summary, run
from mms_regions.store.read import open_segment
from mms_regions.store.verify import verify
from mms_regions.workers.local import local_pool

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]

BAD = "L/mms2"  # neither the first nor the last of its shard


@dataclass(frozen=True)
class Many:
    """The 92 segments, what a run of them needs, and the store that a sound one has made."""

    catalogue: Catalogue
    settings: Settings
    environment: dict[str, str]
    store: Path
    expected: xr.Dataset

    def run(self, store: Path, segments: Sequence[Segment] = ()) -> Summary:
        chosen, model = segments or self.catalogue.segments(), find_model("first", self.environment)
        return run(RunRequest(self.catalogue, chosen, store, self.settings, model), local_pool, lambda event: None)


@pytest.fixture(scope="module")
def many(
    many_segments: Any,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Many:
    catalogue = read_catalogue(many_segments.catalogue)
    store = tmp_path_factory.mktemp("sound") / "x.zarr"
    given = {"data_dir": many_segments.data_dir, "offline": True, "workers": 0, "shard_samples": 4096, "device": "cpu"}
    settings = resolve_settings(given, {})
    made = Many(catalogue, settings, environment, store, xr.Dataset())
    assert len(made.run(store).complete) == 92
    return replace(made, expected=xr.open_zarr(store, chunks=None).load())


def assert_it_alone_failed(many: Many, store: Path, bad: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason is in the index; all others are bit for bit what they are in the sound run, as people open them."""
    found = {many.store: many.expected, store: xr.open_zarr(store, chunks=None).load()}
    monkeypatch.setattr("mms_regions.store.read.open_store", found.get)  # read once, and not for each segment
    index = found[store]
    failed = index["status"].values == "failed"
    assert failed.sum() == 1 and (index["status"].values[~failed] == "complete").all()
    assert reason in index["reason"].values[failed].item()
    with pytest.raises(UsageProblem, match=re.escape(reason)):
        open_segment(store, *named(bad))
    keys = [segment.key for segment in many.catalogue.segments() if segment.key != BAD]
    assert len(keys) == 91
    for key in keys:
        one, other = open_segment(store, *named(key)), open_segment(many.store, *named(key))
        assert list(one.variables) == list(other.variables)
        assert [name for name in one.variables if one[name].values.tobytes() != other[name].values.tobytes()] == []
    assert verify(store).flaws == ()


def named(key: str) -> tuple[str, int]:
    event, _, spacecraft = key.partition("/mms")
    return event, int(spacecraft)


def test_a_field_of_nan_that_was_slipped_in_past_the_catalogue(
    many: Many, mms_regions_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "x.zarr"
    segments = list(many.catalogue.segments())
    place = [segment.key for segment in segments].index(BAD)
    sound = segments[place].event
    slipped = Event.model_construct(**{**dict(sound), "name": "BAD", "B0": float("nan"), "probes": (2,)})
    segments[place] = Segment(slipped, 2)

    for _ in range(2):  # trying again changes nothing
        summary = many.run(store, segments)
        assert list(summary.failed) == ["BAD/mms2"] and len(summary.complete) == 91
    assert_it_alone_failed(many, store, "BAD/mms2", "B0 = nan: must be a finite number above 0, in nT", monkeypatch)

    told = json.loads(mms_regions_here("status", store, "--json").stdout)
    assert (told["counts"]["complete"], told["counts"]["failed"]) == (91, 1)
    summary = many.run(store, [Segment(sound, 2)])  # the store grows all the same
    assert BAD in summary.complete and list(summary.failed) == ["BAD/mms2"]
    monkeypatch.undo()
    grown, expected = open_segment(store, *named(BAD)), open_segment(many.store, *named(BAD))
    assert all(grown[name].values.tobytes() == expected[name].values.tobytes() for name in expected.variables)


def test_a_file_that_is_no_cdf_inside(
    many: Many,
    mms_regions_here: Command,
    many_segments: Any,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, data = tmp_path / "x.zarr", tmp_path / "data"
    shutil.copytree(many_segments.data_dir, data, copy_function=os.link)
    name = spoil(many, data)
    profile = tmp_path / "profile.toml"
    profile.write_text('shard_samples = 4096\nmodel = "first"\ndevice = "cpu"\noffline = true\nworkers = 0\n')
    words = ["run", many_segments.catalogue, "--store", store, "--data-dir", data, "--profile", profile, "--json"]
    done = mms_regions_here(*words)
    assert done.returncode == 4, done.stderr
    assert list(json.loads(done.stdout)["failed"]) == [BAD]
    assert_it_alone_failed(many, store, BAD, name, monkeypatch)


def spoil(many: Many, data: Path) -> str:
    """Put noise into the middle of a file of the segment that is to fail; its name."""
    index = [segment.key for segment in many.catalogue.segments()].index(BAD)
    inputs = json.loads(many.expected["inputs"].values[index])
    name = next(file["name"] for file in inputs if "des-moms" in file["name"])
    (path,) = data.rglob(name)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = random.Random(0).randbytes(4096)
    path.unlink()  # a link: the other name stays as it is
    path.write_bytes(content)
    return name


def test_an_exception_that_nobody_thought_of(many: Many, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mms_regions.physics import conventions

    store, sound = tmp_path / "x.zarr", conventions.read_burst

    def raise_for_one(files: Any, trange: tuple[int, int], invalid: Any) -> Burst:
        begin, _ = next(s for s in many.catalogue.segments() if s.key == BAD).event.trange
        if trange[0] <= begin <= trange[1] and any(file.probe == 2 for file in files["des"]):
            raise ZeroDivisionError("nobody thought of this")
        return sound(files, trange, invalid)

    with monkeypatch.context() as patch:
        patch.setattr(conventions, "read_burst", raise_for_one)
        summary = many.run(store)
    reason = "unexpected ZeroDivisionError: nobody thought of this"
    assert summary.failed == {BAD: reason} and len(summary.complete) == 91
    assert_it_alone_failed(many, store, BAD, reason, monkeypatch)
    assert many.run(store).failed == {}
    np.testing.assert_array_equal(raw(store)["label"], raw(many.store)["label"])
