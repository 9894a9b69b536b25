"""CSV files have the names, headers and layout of the published ones, and hold what the store holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
from cdf_files import truncate

from mms_regions.core.events import Segment
from mms_regions.core.files import FAILPOINT
from mms_regions.export.export import export
from mms_regions.physics.samples import FEATURES
from mms_regions.run.status import complete_segments
from mms_regions.store.read import open_segment

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


@pytest.fixture(scope="module")
def exported(healthy: Path, mms_regions_here: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "made" / "by-it"
    done = mms_regions_here("export", healthy, "--format", "csv", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(out / f) for f in ("A_mms1", "A_mms2", "LONG_mms1", "B_mms1", "B_mms2")]
    return out


def test_folders_and_files_have_the_published_names(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {"A_mms1", "A_mms2", "LONG_mms1", "B_mms1", "B_mms2"}
    for folder in exported.iterdir():
        probe = folder.name[-4:]
        assert {path.name for path in folder.iterdir()} == {
            f"{probe}_nndata.csv",
            f"{probe}_labels.csv",
            f"{probe}_probs.csv",
        }


def test_headers_are_the_published_ones(exported: Path) -> None:
    first = {path.name[5:]: path.read_text().splitlines()[0] for path in (exported / "A_mms2").iterdir()}
    assert first == {
        "nndata.csv": ",Bx,By,Bz,Ex,Ey,Ez,ni,ne,vix,viy,viz,vex,vey,vez",
        "labels.csv": "Predicted",
        "probs.csv": "Predicted,Confidence",
    }


@pytest.mark.parametrize(("event", "probe"), [("A", 2), ("LONG", 1)])
def test_pandas_reads_back_the_numbers_of_the_store(healthy: Path, exported: Path, event: str, probe: int) -> None:
    data, folder = open_segment(healthy, event, probe), exported / f"{event}_mms{probe}"
    features = pd.read_csv(folder / f"mms{probe}_nndata.csv", index_col=0, parse_dates=True)
    labels = pd.read_csv(folder / f"mms{probe}_labels.csv")
    probs = pd.read_csv(folder / f"mms{probe}_probs.csv")
    np.testing.assert_array_equal(features.index.values.astype("datetime64[ns]"), data["time"].values)
    assert tuple(features.columns) == FEATURES
    np.testing.assert_array_equal(features.to_numpy(np.float32), data["features"].values)  # every digit is there
    np.testing.assert_array_equal(labels["Predicted"], data["label"].values)
    np.testing.assert_array_equal(probs["Predicted"], data["label"].values)
    np.testing.assert_array_equal(probs["Confidence"].astype(np.float32), data["probability"].values.max(axis=1))


def test_a_selection_is_exported_alone(healthy: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    assert mms_regions_here("export", healthy, "--out", tmp_path, "--events", "A,B", "--probes", "2").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"A_mms2", "B_mms2"}


def test_only_complete_segments_are_exported(
    mms_regions_here: Command, run_words: Words, own_data: Path, tmp_path: Path
) -> None:
    (path,) = own_data.rglob("mms2_fgm_brst_l2_20170711103358*")
    truncate(path, 0.5)
    words = run_words(tmp_path / "x.zarr", "--data-dir", own_data, "--events", "A")
    assert mms_regions_here(*words).returncode == 4
    assert mms_regions_here("export", tmp_path / "x.zarr", "--out", tmp_path / "csv").returncode == 0
    assert {path.name for path in (tmp_path / "csv").iterdir()} == {"A_mms1"}
    done = mms_regions_here("export", tmp_path / "x.zarr", "--out", tmp_path / "none", "--probes", "2")
    assert done.returncode == 2
    assert "none of the segments asked for is complete" in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "xlsx"], "no export format 'xlsx'"),
        (["--events", "Z"], "no event of"),
        (["--events", "LONG", "--probes", "2"], "No segment is left"),
    ],
)
def test_words_that_name_nothing_are_refused(
    healthy: Path, mms_regions_here: Command, tmp_path: Path, words: list[str], message: str
) -> None:
    done = mms_regions_here("export", healthy, "--out", tmp_path / "csv", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "csv").exists()


FORMS = ("csv", "netcdf", "segments")


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_store_is_one_sentence_that_names_verify_and_other_segments_are_exported(
    store: Path, mms_regions_here: Command, tmp_path: Path, form: str
) -> None:
    damaged = store / "b_gsm" / "c" / "2" / "0"  # shard 2: of B/mms2 alone
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    done = mms_regions_here("export", store, "--format", form, "--out", tmp_path / "out")
    assert done.returncode == 4 and "Traceback" not in done.stderr
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"mms-regions: B/mms2 cannot be read from {store} (")
    assert said.endswith(f"`mms-regions verify {store}` names the files that are damaged")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert "B_mms2" not in {name.partition(".")[0] for name in written} and written
    if form == "segments":
        assert set(pd.read_csv(tmp_path / "out" / "segments.csv", comment="#")["event"]) == {"A", "LONG", "B"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["../../x", "/x/y", "a/b", "..", "a\nb"])
def test_nothing_is_written_outside_the_folder_whatever_a_store_calls_an_event(
    healthy: Path, tmp_path: Path, form: str, name: str
) -> None:
    (good, *_) = complete_segments(healthy, "A", "1")
    bad = Segment(good.event.model_copy(update={"name": name}), 1)
    out = tmp_path / "deep" / "deeper" / "out"
    done = export(healthy, [bad, good], out, form)
    assert list(done.failed) == [bad.key] and "can be no file name" in done.failed[bad.key]
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert files and all(out in path.parents for path in files)
    assert {path.relative_to(out).parts[0] for path in files} <= {"A_mms1", "A_mms1.nc", "segments.csv"}


def test_what_a_killed_export_left_goes_with_the_next_one(
    healthy: Path, mms_regions_here: Command, tmp_path: Path
) -> None:
    out, record = tmp_path / "out", tmp_path / "record"
    words = ["export", healthy, "--format", "csv", "--out", out]
    die = {FAILPOINT: f"1:{record}:rename {out}/A_mms2/mms2_labels.csv"}
    code = "from mms_regions.cli.main import main; main()"
    command = [sys.executable, "-c", code, *map(str, words)]
    assert subprocess.run(command, env={**os.environ, **die}, check=False).returncode == -signal.SIGKILL
    left = {path for path in out.iterdir() if path.name.startswith(".")}
    assert len(left) == 1 and not list((out / "A_mms2").glob(".*")), "nothing half-written is beside what is done"
    done = mms_regions_here(*words)
    assert done.returncode == 0, done.stderr
    assert not {path.name for path in out.iterdir() if path.name.startswith(".")}
    assert (out / "A_mms2" / "mms2_labels.csv").exists()
