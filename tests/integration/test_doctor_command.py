"""The command `doctor`: what it prints, its exit codes, on a machine without anything and on a real SLURM."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import fakes
import pytest
from private_slurm import Slurm

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.doctor.slurm import slurm as look_at_slurm

ROOT = Path(__file__).parents[2]
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
    import mms_regions
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps([modules, mms_regions.__file__]), file=sys.stderr)
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


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The Python of a virtual environment with a wheel of this project; libraries are borrowed from this one."""
    wheel, env = tmp_path / "wheel", tmp_path / "env"
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheel)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    venv.create(env, with_pip=False, symlinks=True)
    (site,) = env.glob("lib/python*/site-packages")
    (built,) = wheel.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(site)
    assert (site / "mms_regions" / "jobs" / "catalogue.sbatch").is_file()  # of `jobs init`
    (site / "borrowed.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return env / "bin" / "python"


def test_a_wheel_on_a_machine_without_slurm_gpu_and_network_works_and_nothing_is_left(
    environment: dict[str, str], installed: Path, silent_server: str, tmp_path: Path
) -> None:
    home, data, place = (tmp_path / name for name in ("home", "data", "place"))
    for folder in (home, data, place):
        folder.mkdir()
    nowhere = {"HOME": str(home), "TMPDIR": str(home), "PATH": str(tmp_path / "no-programs"), "PYTHONPATH": ""}
    command = [installed, "-c", REPORT, "doctor", "--store", place / "x.zarr", "--data-dir", data, "--json"]
    done = subprocess.run(
        [*map(str, command)],
        env={**environment, **nowhere, "MMS_REGIONS_ARCHIVE_URL": silent_server, "MMS_REGIONS_MODEL": "first"},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["works"], report["cluster"], report["profile"]) == (True, "local", None)
    findings = {finding["what"]: finding for finding in report["findings"]}
    assert set(findings) == set(
        "Python packages torch GPU model SLURM containers store cache scratch network clock".split()
    )
    packages = re.fullmatch(r"(\d+) of (\d+) are installed and new enough", findings["packages"]["found"])
    assert packages and packages[1] == packages[2] and int(packages[2]) > 15
    assert findings["network"]["state"] == "warning"
    assert [*home.rglob("*"), *data.rglob("*"), *place.rglob("*")] == []
    modules, where = json.loads(done.stderr.splitlines()[-1])
    assert set(modules) & HEAVY == set()
    assert where.startswith(str(tmp_path))


@pytest.fixture
def profile(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a profile of two pools of SLURM; given: the second, whose partition the fakes may not know."""

    def write(gpu: str) -> Path:
        path = tmp_path / "cluster.toml"
        pools = f'[cluster]\nkind = "slurm"\n[cluster.cpu]\nqueue = "cpu"\n[cluster.gpu]\n{gpu}\n'
        path.write_text(f"offline = true\n{pools}")
        return path

    return write


REFUSES = 'for arg; do [ "$arg" = --partition=fast ] && { echo invalid partition: fast >&2; exit 1; }; done; exit 0'
FAKE = {"sbatch": REFUSES, "squeue": "", "scancel": ""}


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
    assert any(line.startswith("gpu pool: correct [cluster.gpu] of the profile") for line in lines)
    (found,) = (line for line in lines if line.split()[:3] == ["gpu", "pool", "problem"])
    assert "invalid partition: fast" in found
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
    assert findings["SLURM"]["state"] == "warning"
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
    refused = {
        "invalid partition specified: nope": {"queue": "nope"},
        "Requested node configuration is not available": {"queue": "cpu", "gres": "gpu:1"},
        "walltime 01:00:00 exceeds the limit of partition short (1:00)": {"queue": "short"},
        "partition closed is down": {"queue": "closed"},
    }
    for reason, pool in refused.items():
        state, said = found(**pool)
        assert (state, reason in said) == ("problem", True), said
    assert slurm.squeue() == []
