"""What the tests of whole runs share: a small data set, two models, the command, and a store that is sound.

The command runs in this process where that will do (`mms_regions_here`): a new one spends seconds on importing torch.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
import typer.main
from cdf_files import PRODUCTS, Scene, constant, take_rows, truncate, write_files
from private_slurm import Slurm, private_slurm, why_not
from processes import Nursery, Started, nursery

from mms_regions.cli.main import main
from mms_regions.core.catalogue import Catalogue, read_catalogue
from mms_regions.model.card import find_model
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import save_weights
from mms_regions.synthetic.write import synthesise

ROOT = Path(__file__).parents[2]

# Two short events seen by two spacecraft, and a long one between them. In slots of whole windows, with shards of
# 1,024 samples, that is shard 0: A/mms1 A/mms2 LONG, shard 1: LONG B/mms1, shard 2: B/mms2.
EVENTS = """event,t_start,t_end,B0,n0,probes
A,2017-07-11T10:34:00,2017-07-11T10:34:06,12.0,0.2,1-2
LONG,2017-07-11T14:36:00,2017-07-11T14:36:36,12.0,0.2,1
B,2017-07-11T22:40:00,2017-07-11T22:40:07.5,20.0,0.3,1-2
"""
FILES = (("A", "10:33:58", 10.0, (1, 2)), ("LONG", "14:35:58", 40.0, (1,)), ("B", "22:39:58", 11.5, (1, 2)))
ELECTRON_OFFSET = 7_654_321  # ns: electron samples at times that no float of seconds holds


def crossing(probe: int) -> Scene:
    """Fields and flows that go through zero, other ones for each spacecraft."""

    def wave(period: float, *sizes: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda t: np.sin(2 * np.pi * t[:, None] / period + probe + np.arange(3)) * np.array(sizes)

    return Scene(
        b_gse=wave(8.0, 15.0, 3.0, 4.0),
        e_gse=wave(3.0, 4.0, 6.0, 8.0),
        v_i=wave(5.0, 500.0, 100.0, 100.0),
        v_e=wave(2.0, 3000.0, 900.0, 900.0),
        n_e=constant(0.2 + 0.01 * probe),
    )


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The events A, LONG and B as a CSV file."""
    path = tmp_path_factory.mktemp("catalogue") / "three.csv"
    path.write_text(EVENTS)
    return path


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The burst files of these events, 2 s longer on both sides; copy it before you spoil it."""
    folder = tmp_path_factory.mktemp("data")
    for _, start, seconds, probes in FILES:
        for probe in probes:
            write_files(
                folder,
                probe,
                f"2017-07-11T{start}",
                seconds,
                crossing(probe),
                products=[product for product in PRODUCTS if product != "edp_fast"],
                epoch_offset_ns={"des": ELECTRON_OFFSET},
            )
    return folder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for $MMS_REGIONS_MODEL_DIR with the models `first` and `second`: random weights, always the same."""
    folder = tmp_path_factory.mktemp("models")
    shipped = find_model("waters2025", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card
    for seed, name in enumerate(["first", "second"]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = RegionRNN()
        with torch.no_grad():
            network.fc.weight *= 10  # else all probabilities are alike
        save_weights(network, shipped.model_copy(update={"name": name}), folder / name)
    return folder


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings that make several shards of little data."""
    path = tmp_path_factory.mktemp("profile") / "small.toml"
    path.write_text('shard_samples = 1024\nmodel = "first"\ndevice = "cpu"\nworkers = 0\n')
    return path


@pytest.fixture(scope="session")
def environment(model_dir: Path) -> dict[str, str]:
    """The environment of a command: nothing of the user's own settings, the models `first` and `second`."""
    ours = ("MMS_", "SPEDAS_", "SLURM", "SBATCH_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join(filter(None, [str(ROOT / "pipeline"), plain.get("PYTHONPATH")]))
    nowhere = "http://127.0.0.1:9"  # no test may ask a server of the real world, by mistake or not
    plain |= {"XDG_CONFIG_HOME": str(model_dir / "no-profile"), "XDG_CONFIG_DIRS": str(model_dir / "no-profile")}
    return {**plain, "PYTHONPATH": path, "MMS_REGIONS_MODEL_DIR": str(model_dir), "MMS_REGIONS_ARCHIVE_URL": nowhere}


@dataclass(frozen=True)
class ManySegments:
    """A catalogue as a CSV file, and the folder of its data."""

    catalogue: Path
    data_dir: Path


@pytest.fixture(scope="session")
def many_segments(tmp_path_factory: pytest.TempPathFactory) -> ManySegments:
    """The built-in catalogue, 23 events x 4 spacecraft, 6 s of each, with synthetic files; only to be read."""
    folder = tmp_path_factory.mktemp("many")
    whole = read_catalogue("rogers2023").events
    events = tuple(event.model_copy(update={"t_end": event.t_start + np.timedelta64(6, "s")}) for event in whole)
    rows = [f"{event.name},{event.t_start},{event.t_end},{event.B0},{event.n0}" for event in events]
    (folder / "many.csv").write_text("\n".join(["event,t_start,t_end,B0,n0", *rows]) + "\n")
    synthesise(Catalogue("many", events).segments(), folder / "data", seed=7)
    return ManySegments(folder / "many.csv", folder / "data")


Command = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(scope="session")
def mms_regions(environment: dict[str, str]) -> Command:
    """The command in a process of its own: `mms_regions("status", store, env={...})`."""

    def call(*words: object, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        command = [sys.executable, "-m", "mms_regions", *map(str, words)]
        return subprocess.run(command, env={**environment, **(env or {})}, capture_output=True, text=True, check=False)

    return call


@pytest.fixture(scope="session")
def mms_regions_here(environment: dict[str, str]) -> Command:
    """The command in this process: the same words, exit code, stdout and stderr, and warnings are errors.

    What a command may be given is worked out once, and not by each call.
    """
    get_command = cache(typer.main.get_command)

    def call(*words: object, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        command = ["mms-regions", *map(str, words)]
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", command)
            patch.setattr(os, "environ", {**environment, **(env or {})})
            patch.setattr(typer.main, "get_command", get_command)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as stop:
                    code = int(stop.code or 0)
        return CompletedProcess(command, code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def run_words(catalogue: Path, data_dir: Path, profile: Path) -> Callable[..., list[object]]:
    """The words of a run of all events into a store; words given after it go before those here."""

    def words(store: Path, *more: object) -> list[object]:
        return ["run", catalogue, "--store", store, "--data-dir", data_dir, "--profile", profile, "--offline", *more]

    return words


@pytest.fixture(scope="session")
def healthy(
    tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command, run_words: Callable[..., list[object]]
) -> Path:
    """A store of all events, made in this process with the model `first`; only to be read."""
    store = tmp_path_factory.mktemp("healthy") / "all.zarr"
    done = mms_regions_here(*run_words(store))
    assert done.returncode == 0, done.stderr
    return store


@pytest.fixture
def store(healthy: Path, tmp_path: Path) -> Path:
    """A copy of the sound store, to do with what you like."""
    for path in (healthy, healthy.with_name("all.zarr.run")):
        shutil.copytree(path, tmp_path / path.name)
    return tmp_path / "all.zarr"


@pytest.fixture
def own_data(data_dir: Path, tmp_path: Path) -> Path:
    """A copy of the data set, to spoil."""
    return Path(shutil.copytree(data_dir, tmp_path / "data"))


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """One real SLURM for all tests; cancel what you submit."""
    if reason := why_not():
        pytest.skip(f"SKIPPED: {reason}")
    with private_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Nursery]:
    """Starts the command in processes of their own, in a moment; they hear signals, whoever runs the tests."""
    with nursery(tmp_path_factory.mktemp("processes"), environment) as started:
        yield started


@dataclass(frozen=True)
class SlowWrites:
    """The environment of a run that stays in the middle of a write, and the file that says that it has come there."""

    env: dict[str, str]
    begun: Path

    def wait_for(self, run: Started) -> None:
        while not self.begun.exists():
            assert run.lives, run.said
            time.sleep(0.01)


@pytest.fixture
def slow_writes(tmp_path: Path) -> Callable[[float], SlowWrites]:
    """Has worker processes write for some seconds more at each shard."""

    def made(seconds: float) -> SlowWrites:
        begun, preloaded = tmp_path / "begun", tmp_path / "slow_writes.py"
        preloaded.write_text(
            "import pathlib, time\n"
            "import mms_regions.core.files\n"
            "def dask_setup(worker):\n"
            "    def wait(operation, path):\n"
            "        if 'features/c' in str(path):\n"
            f"            pathlib.Path({str(begun)!r}).touch()\n"
            f"            time.sleep({seconds})\n"
            "    mms_regions.core.files.failpoint = wait\n"
        )
        return SlowWrites({"DASK_DISTRIBUTED__WORKER__PRELOAD": str(preloaded)}, begun)

    return made


@pytest.fixture(scope="session")
def many_complete(
    tmp_path_factory: pytest.TempPathFactory, many_segments: ManySegments, mms_regions_here: Command
) -> Path:
    """A store of these segments, made in this process with the model `first`, shards of 4,096; only to be read."""
    folder = tmp_path_factory.mktemp("complete")
    (folder / "profile.toml").write_text('shard_samples = 4096\nmodel = "first"\ndevice = "cpu"\noffline = true\n')
    where = ["--data-dir", many_segments.data_dir, "--profile", folder / "profile.toml", "--workers", 0]
    done = mms_regions_here("run", many_segments.catalogue, "--store", folder / "many.zarr", *where)
    assert done.returncode == 0, done.stderr
    return folder / "many.zarr"


# A segment of each state. Those of B and C are in shards 1 to 3. Its notes are no HTML, nor is the name of the store.
TROUBLED_EVENTS = """event,t_start,t_end,B0,n0,probes,notes
A,2017-07-11T10:34:00,2017-07-11T10:34:06,12.0,0.2,1-2,a <b>bold</b> note<script>ran=1</script>
LONG,2017-07-11T14:36:00,2017-07-11T14:36:36,12.0,0.2,1,<img src=x onerror="ran=1">
B,2017-07-11T22:40:00,2017-07-11T22:40:07.5,20.0,0.3,1-2,
C,2017-07-11T23:00:00,2017-07-11T23:00:30,20.0,0.3,1,
"""
TROUBLED_NAME = "<img src=x onerror=ran=1>.zarr"


@pytest.fixture(scope="session")
def troubled(
    tmp_path_factory: pytest.TempPathFactory, data_dir: Path, profile: Path, mms_regions_here: Command
) -> Path:
    """A store in which not all went well; only to be read.

    A/mms1 and B/mms1 are as in `healthy`, A/mms2 failed (a file is cut short), LONG/mms1 lacks ions for 3 s, of B/mms2
    a shard is damaged, and C/mms1 has no receipts, as after a kill.
    """
    folder = tmp_path_factory.mktemp("troubled")
    data = Path(shutil.copytree(data_dir, folder / "data"))
    spoil(data)
    (folder / "troubled.csv").write_text(TROUBLED_EVENTS)
    where = ["--data-dir", data, "--profile", profile, "--offline"]
    store = folder / TROUBLED_NAME
    done = mms_regions_here("run", folder / "troubled.csv", "--store", store, *where)
    assert done.returncode == 4, done.stderr
    for receipt in [*store.with_name(f"{store.name}.run").glob("receipts/*-00003.json")]:
        receipt.unlink()
    damaged = store / "b_gsm" / "c" / "2" / "0"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    return store


def spoil(data: Path) -> None:
    """Cut a file of A/mms2 short, take 3 s out of the ions of LONG/mms1, and add the files of event C."""
    (short,) = data.rglob("mms2_fgm_brst*20170711103*.cdf")
    truncate(short, 0.5)
    gap = {"dis": lambda arrays: take_rows(arrays, np.r_[0:100, 120 : len(arrays["epoch"])])}
    write_files(data, 1, "2017-07-11T14:35:58", 40.0, crossing(1), products=["dis"], edit=gap)
    burst = [product for product in PRODUCTS if product != "edp_fast"]
    write_files(data, 1, "2017-07-11T22:59:58", 34.0, crossing(1), products=burst)


@pytest.fixture(scope="session")
def troubled_report(tmp_path_factory: pytest.TempPathFactory, troubled: Path, mms_regions_here: Command) -> Path:
    """The report of that store, made in this process: its folder, only to be read."""
    out = tmp_path_factory.mktemp("report") / "troubled"
    done = mms_regions_here("report", troubled, "--out", out, "--workers", 0)
    assert done.returncode == 4, done.stderr
    return out
