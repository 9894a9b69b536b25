"""The command `doctor`: what it prints, its exit codes, on a machine without anything and on a real SLURM."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import fakes
import pytest
from private_slurm import Slurm

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.doctor.slurm import slurm as look_at_slurm

Command = Callable[..., "CompletedProcess[str]"]

# Importing the real ones takes seconds, and is tested once.
LIGHT = "cryptography dask dask_jobqueue distributed matplotlib pycdfpp safetensors xarray zarr".split()
HEAVY = {"torch", "dask", "distributed", "zarr", "xarray", "matplotlib"}

REPORT = """
import json, sys
from mms_regions.cli.main import main
try:
    main()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.fixture
def bare(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with no programs at all, and light libraries."""
    lib = fakes.libraries(tmp_path / "lib", {**dict.fromkeys(LIGHT, ""), "torch": fakes.torch()})["PYTHONPATH"]
    places = {"PATH": str(tmp_path / "bin"), "TMPDIR": str(tmp_path), "PYTHONPATH": lib}
    return {**environment, **places, "MMS_REGIONS_MODEL": "first"}


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_on_a_machine_without_slurm_gpu_and_network_it_is_quick_and_leaves_nothing(
    environment: dict[str, str], silent_server: str, tmp_path: Path
) -> None:
    home, data, place = (tmp_path / name for name in ("home", "data", "place"))
    for folder in (home, data, place):
        folder.mkdir()
    nowhere = {"HOME": str(home), "TMPDIR": str(home), "PATH": str(tmp_path / "no-programs")}
    command = [sys.executable, "-c", REPORT, "doctor", "--store", place / "x.zarr", "--data-dir", data, "--json"]
    begun = time.monotonic()
    done = subprocess.run(
        [*map(str, command)],
        env={**environment, **nowhere, "MMS_REGIONS_ARCHIVE_URL": silent_server, "MMS_REGIONS_MODEL": "first"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - begun < 60
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["works"], told["cluster"], told["profile"]) == (True, "local", None)
    states = {finding["what"]: finding["state"] for finding in told["findings"]}
    assert set(states) == set(
        "Python packages torch GPU model SLURM containers store cache scratch network clock".split()
    )
    assert states["network"] == "remark"
    assert [*home.rglob("*"), *data.rglob("*"), *place.rglob("*")] == []
    assert set(json.loads(done.stderr.splitlines()[-1])) & HEAVY == set()


@pytest.fixture
def profile(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a profile of two pools of SLURM; given: the second, whose partition the fakes may not know."""

    def write(gpu: str) -> Path:
        path = tmp_path / "cluster.toml"
        pools = f'[cluster]\nkind = "slurm"\n[cluster.cpu]\nqueue = "cpu"\n[cluster.gpu]\n{gpu}\n'
        path.write_text(f"offline = true\n{pools}")
        return path

    return write


FAKE = {"sinfo": "echo 'cpu*|up|infinite'", "sbatch": "", "squeue": "", "scancel": ""}


def test_a_profile_that_cannot_work_is_exit_5_with_a_line_of_advice_for_each_problem(
    mms_regions_here: Command, bare: dict[str, str], profile: Callable[[str], Path]
) -> None:
    words = ("doctor", "--data-dir", bare["TMPDIR"], "--profile", profile('queue = "fast"'))
    done = mms_regions_here(*words, env=bare)
    assert done.returncode == 5
    assert done.stderr == f"mms-regions: The profile {words[-1]} cannot work here: SLURM\n"
    fakes.programs(Path(bare["PATH"]), **FAKE)
    done = mms_regions_here(*words, env=bare)
    assert done.returncode == 5
    assert done.stderr.endswith("cannot work here: gpu pool\n")
    lines = done.stdout.splitlines()
    assert "gpu pool: set queue in [cluster.gpu] of the profile to a partition; there are: cpu" in lines
    assert ["gpu", "pool", "problem"] in [line.split()[:3] for line in lines]
    profile('queue = "cpu"')
    done = mms_regions_here(*words, env=bare)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_model_without_weights_is_exit_5_and_another_can_be_named(
    mms_regions_here: Command, bare: dict[str, str]
) -> None:
    done = mms_regions_here("doctor", "--model", "waters2025", env=bare)
    assert done.returncode == 5
    assert done.stderr == "mms-regions: A run without a profile cannot work here: model\n"
    assert "then run `mms-regions model import best_model`" in done.stdout
    assert mms_regions_here("doctor", "--model", "second", env=bare).returncode == 0


def test_a_gpu_that_is_asked_for_and_missing_is_exit_5(mms_regions_here: Command, bare: dict[str, str]) -> None:
    done = mms_regions_here("doctor", "--json", env={**bare, "MMS_REGIONS_DEVICE": "cuda"})
    assert done.returncode == 5
    told = json.loads(done.stdout)
    assert told["works"] is False
    assert [finding["what"] for finding in told["findings"] if finding["state"] == "problem"] == ["GPU"]


def test_a_check_that_fails_is_a_finding_and_a_bad_profile_a_sentence(
    mms_regions_here: Command, bare: dict[str, str], profile: Callable[[str], Path]
) -> None:
    refused = mms_regions_here("doctor", "--profile", profile("queues = 1"), env=bare)
    assert (refused.returncode, refused.stdout) == (3, "")
    fakes.programs(Path(bare["PATH"]), **FAKE)
    torn = profile('directives = ["--comment=\'half"]')
    done = mms_regions_here("doctor", "--profile", torn, "--json", env=bare)
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert findings["SLURM"]["state"] == "remark"
    assert "No closing quotation" in findings["SLURM"]["found"]


def test_on_a_terminal_it_is_a_table_in_colours(
    mms_regions: Command, mms_regions_here: Command, bare: dict[str, str], environment: dict[str, str]
) -> None:
    # The command itself needs the real package; only what it imports to try out is light.
    here = {**bare, "MMS_REGIONS_OFFLINE": "true", "MMS_REGIONS_DATA_DIR": bare["TMPDIR"]}
    here["PYTHONPATH"] = os.pathsep.join([bare["PYTHONPATH"], environment["PYTHONPATH"]])
    done = mms_regions("doctor", env={**here, "FORCE_COLOR": "1", "COLUMNS": "60"})
    assert done.returncode == 0, done.stderr
    assert "\x1b[" in done.stdout
    plain = mms_regions_here("doctor", env=here).stdout
    assert "\x1b[" not in plain
    assert plain.splitlines()[-1].startswith("store: give --store")


def test_a_real_slurm_says_which_pools_can_be_had(slurm: Slurm) -> None:
    def found(**words: object) -> tuple[str, str]:
        cluster = ClusterSettings(kind="slurm", cpu=PoolSettings(**words))  # type: ignore[arg-type]
        *_, pool = look_at_slurm(cluster, {**os.environ, **slurm.environment})
        return pool.state, pool.found

    assert found()[0] == "ok"
    assert found(queue="gpu", gres="gpu:1", memory="900 MB", cores=4)[0] == "ok"
    assert found(queue="nope") == ("problem", "there is no partition 'nope'")
    assert found(queue="closed") == ("problem", "partition closed is down")
    assert found(queue="short") == ("problem", "walltime 01:00:00 is more than partition short allows (1:00)")
    state, said = found(queue="cpu", gres="gpu:1")
    assert state == "problem"
    assert "Requested node configuration is not available" in said
    assert slurm.squeue() == []
