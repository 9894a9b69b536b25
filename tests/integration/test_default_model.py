"""`run` works out of the box: the open model labels where published weights are not, and a store keeps its model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from mms_regions.api import run_segments
from mms_regions.core.messages import Remark
from mms_regions.model.card import find_model
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import save_weights

Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command) -> Path:
    """A folder with the list of one short event, and its files, in which a spacecraft crosses a simulated sheet."""
    folder = tmp_path_factory.mktemp("crossed")
    (folder / "one.csv").write_text("event,t_start,t_end,B0,n0\nX,2017-07-11T22:34:00,2017-07-11T22:34:12,15,0.2\n")
    words = ("--probes", "1", "--data-dir", folder / "data", "--layer", "simulated")
    done = mms_regions_here("synthesise", folder / "one.csv", *words)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_default_is_open_until_a_store_has_another_model(
    crossed: Path, tmp_path: Path, mms_regions_here: Command
) -> None:
    models = tmp_path / "models"
    words = ("run", crossed / "one.csv", "--probes", "1", "--data-dir", crossed / "data", "--offline", "--workers", "0")

    def labelled_by(*more: object) -> str:
        done = mms_regions_here(*words, *more, env={"MMS_REGIONS_MODEL_DIR": str(models)})
        assert done.returncode == 0, done.stderr
        lines.append(done.stderr)
        state = json.loads((Path(f"{more[1]}.run") / "labelled.json").read_text())
        return str(state["card"]["name"])

    lines: list[str] = []
    assert labelled_by("--store", tmp_path / "a.zarr") == "open"
    assert "labels are made with the model open" in lines[0]
    published = find_model("waters2025", {}).card
    save_weights(RegionRNN(), published, models / "waters2025")
    assert labelled_by("--store", tmp_path / "a.zarr") == "open", "a store keeps its model"
    assert labelled_by("--store", tmp_path / "b.zarr") == "waters2025"
    assert "the model open" not in lines[2]


def test_from_python_an_observer_hears_it_too(crossed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMS_REGIONS_MODEL_DIR", str(tmp_path))
    heard: list[object] = []
    run_segments(
        crossed / "one.csv",
        tmp_path / "x.zarr",
        probes=1,
        data_dir=crossed / "data",
        offline=True,
        workers=0,
        observe=heard.append,
    )
    (remark, *_) = [event.text for event in heard if isinstance(event, Remark)]
    assert remark.startswith("labels are made with the model open")


def test_a_model_of_the_other_convention_is_a_warning(crossed: Path, tmp_path: Path, mms_regions_here: Command) -> None:
    words = ("run", crossed / "one.csv", "--probes", "1", "--data-dir", crossed / "data", "--offline", "--workers", "0")
    more = ("--convention", "published", "--model", "open", "--store", tmp_path / "x.zarr")
    done = mms_regions_here(*words, *more, env={"MMS_REGIONS_MODEL_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "trained on features of the convention corrected, and this run uses published" in done.stderr
