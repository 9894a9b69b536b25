"""The images, built and run for real by tests/containers.sh; what it says is shown at the end of the run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from private_slurm import Slurm
from stores import assert_same_store, left_over

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Made:
    """What the script did: its exit code, what it said on both channels, and where it leaves a .sif if it makes one."""

    code: int
    said: str
    sif: Path

    def skip_without_images(self) -> None:
        for line in self.said.splitlines():
            if line.startswith("SKIPPED: CONTAINER IMAGES"):
                pytest.skip(line)


def containers(word: str, sif: Path) -> Made:
    """Call tests/containers.sh with this word."""
    script = subprocess.Popen(
        [ROOT / "tests" / "containers.sh", word],
        env={**os.environ, "PYTHON": sys.executable, "SIF": str(sif)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = script.communicate()
    except BaseException:  # out of time, or Ctrl-C: its builds end too, and it tidies up
        os.killpg(script.pid, signal.SIGTERM)
        script.communicate()
        raise
    return Made(script.returncode, said, sif)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The Dockerfile's image, which is gone again, and the .sif made of it, which goes at the end."""
    sif = tmp_path_factory.mktemp("sif") / "mms-regions.sif"
    yield containers("image", sif)
    sif.unlink(missing_ok=True)


def test_the_image_and_its_sif_are_built_and_run(made: Made, record_property: Callable[[str, object], None]) -> None:
    record_property("containers", made.said)
    assert made.code == 0, made.said
    made.skip_without_images()


def test_the_sif_in_an_allocation_makes_what_one_process_does(
    made: Made,
    slurm: Slurm,
    catalogue: Path,
    data_dir: Path,
    model_dir: Path,
    healthy: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """One job on two nodes: scheduler, run and two workers, each in a container of its own."""
    made.skip_without_images()
    if not made.sif.exists():
        pytest.skip("SKIPPED: THE .sif IN AN ALLOCATION: no .sif was built")
    settings = {
        "MMS_REGIONS_MODEL": "first",
        "MMS_REGIONS_MODEL_DIR": str(model_dir),
        "MMS_REGIONS_DEVICE": "cpu",
        "MMS_REGIONS_SHARD_SAMPLES": "1024",
    }
    places = {
        "IMAGE": str(made.sif),
        "APPTAINER": str(shutil.which("apptainer")),
        "BINDS": f"{model_dir},{catalogue.parent}",
        "CATALOGUE": str(catalogue),
        "MMS_DATA_DIR": str(data_dir),
        "STORE": str(tmp_path / "all.zarr"),
    }
    plain = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    tasks = ("--partition=all", "--nodes=2", "--ntasks-per-node=2", "--mem-per-cpu=1G")
    job = slurm.sbatch(ROOT / "jobs" / "allocation.sbatch", *tasks, env={**plain, **settings, **places})
    ended = slurm.finish(job, 600)
    assert ended.state == "COMPLETED", slurm.output(job)
    assert_same_store(tmp_path / "all.zarr", healthy)
    assert left_over(tmp_path / "all.zarr") == []


@pytest.mark.long
def test_the_sif_is_built_from_the_base_too(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    built = containers("base", tmp_path / "mms-regions.sif")
    built.sif.unlink(missing_ok=True)
    record_property("containers", built.said)
    assert built.code == 0, built.said
    built.skip_without_images()


def test_a_word_that_the_script_does_not_know_is_refused(tmp_path: Path) -> None:
    refused = containers("everything", tmp_path / "none.sif")
    assert refused.code == 2
    assert "'everything'" in refused.said
