"""`demo`, `synthesise` and `train` as a user types them: what they print, leave behind, and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from mms_regions.store.read import open_tree

Command = Callable[..., "CompletedProcess[str]"]

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
]  # the demonstration itself takes half a minute, more where others work too


@pytest.fixture(scope="module")
def demo(mms_regions: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a demonstration, and what it said as JSON."""
    folder = tmp_path_factory.mktemp("demo") / "results"
    done = mms_regions("demo", "--out", folder, "--workers", 2, "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_labels_agree_with_the_truth_better_than_a_logistic_regression(demo: tuple[Path, dict[str, Any]]) -> None:
    _, said = demo
    assert said["model"]["overall"] >= 0.90
    assert said["model"]["balanced"] >= 0.85
    assert said["model"]["overall"] > said["logistic_regression"]["overall"]
    assert said["model"]["samples"] > 10_000


def test_all_six_regions_occur_in_twelve_segments(demo: tuple[Path, dict[str, Any]]) -> None:
    _, said = demo
    assert [row["segment"] for row in said["segments"]] == [f"{e}/mms{n}" for e in "AJO" for n in (1, 2, 3, 4)]
    assert all(any(row["shares"][region] > 0 for row in said["segments"]) for region in range(6))


def test_it_leaves_a_store_tables_and_a_picture_of_each_event(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, said = demo
    assert set(open_tree(Path(said["store"])).children) == {"A", "J", "O"}
    assert len(list((folder / "csv").glob("*_mms?/mms?_labels.csv"))) == 12
    pictures = sorted((folder / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["A.png", "J.png", "O.png"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_again_in_the_same_folder_it_makes_nothing_anew_and_says_where_all_is(
    demo: tuple[Path, dict[str, Any]], mms_regions_here: Command
) -> None:
    folder, said = demo
    receipts = {path: path.stat().st_mtime_ns for path in folder.glob("demo.zarr.run/**/*.json")}
    done = mms_regions_here("demo", "--out", folder, "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("demo.zarr.run/**/*.json")} == receipts
    assert "not validated on MMS data" in done.stdout
    for place in (said["store"], folder / "pictures", folder / "csv"):
        assert str(place) in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith(("A/mms", "J/mms", "O/mms"))]
    assert len(rows) == 12


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["synthesise", "--events", "A", "--data-dir", "DATA", "--seed", 2**31], 2, "--seed is from 0"),
        (["synthesise", "--events", "A", "--data-dir", "DATA", "--seed", "-1"], 2, "--seed is from 0"),
        (["synthesise", "--events", "NONE", "--data-dir", "DATA"], 2, "NONE"),
        (["synthesise", "--events", "A", "--data-dir", "DATA", "--pieces", 0], 2, "--pieces is from 1"),
        (["synthesise", "--events", "A", "--data-dir", "FOREIGN"], 3, "not synthetic"),
        (["train", "--out", "MODEL", "--epochs", 0], 2, "at least one epoch"),
        (["train", "--out", "MODEL", "--crossings", 1], 2, "do not fill one batch"),
        (["demo", "--out", "FILE"], 5, "FILE"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_bad_input_is_refused_with_a_sentence(
    mms_regions_here: Command, tmp_path: Path, words: list[object], code: int, sentence: str
) -> None:
    (tmp_path / "FOREIGN" / "mms1").mkdir(parents=True)
    (tmp_path / "FILE").write_text("not a folder")
    places = {"DATA", "FOREIGN", "MODEL", "FILE"}
    done = mms_regions_here(*(tmp_path / word if word in places else word for word in map(str, words)))
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "DATA").exists()
    assert not (tmp_path / "MODEL").exists()
    assert list((tmp_path / "FOREIGN").rglob("*")) == [tmp_path / "FOREIGN" / "mms1"]


def test_train_writes_a_model_that_labels(
    mms_regions_here: Command, demo: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    done = mms_regions_here("train", "--out", out, "--crossings", 8, "--epochs", 1, "--seed", 5)
    assert done.returncode == 0, done.stderr
    assert "on unseen crossings" in done.stdout
    assert "epoch 1/1" in done.stderr
    assert mms_regions_here("model", "check", out).returncode == 0
