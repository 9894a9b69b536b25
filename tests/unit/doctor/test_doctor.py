"""What doctor finds, check by check, with fakes on the PATH for what this machine does not have."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import fakes
import pytest
from archive_faults import LoopbackArchive
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings
from mms_regions.core.settings import Settings
from mms_regions.doctor.disk import cache_place, inspect, scratch_place, store_place
from mms_regions.doctor.doctor import clock, containers, model, network, scheduler
from mms_regions.doctor.finding import Finding, Unanswered, ask
from mms_regions.doctor.probe import module_of
from mms_regions.doctor.python import imports, libraries, minimal_versions, python, torch_and_gpu
from mms_regions.doctor.slurm import request, slurm

LOCAL = ClusterSettings()
ANY = {"sbatch": "echo Job 1 to start at once >&2", "squeue": "", "scancel": ""}


def on_slurm(gpu: PoolSettings | None = None, **cpu: object) -> ClusterSettings:
    return ClusterSettings(kind="slurm", cpu=PoolSettings(**cpu), gpu=gpu)  # type: ignore[arg-type]


def states(findings: object) -> dict[str, str]:
    return {finding.what: finding.state for finding in findings}  # type: ignore[attr-defined]


def test_a_problem_has_advice_and_what_is_well_has_none() -> None:
    with pytest.raises(ValueError, match="advice"):
        Finding("x", "problem", "it is broken")
    with pytest.raises(ValueError, match="advice"):
        Finding("x", "ok", "it is well", "mend it")
    assert Finding("x", "ok", "two\n  lines").found == "two lines"


# --- Programs


def test_a_program_that_fails_hangs_or_is_missing_says_so(tmp_path: Path) -> None:
    bad, slow = "echo no such thing >&2; exit 3", "while :; do :; done"
    environ = fakes.programs(tmp_path, good="echo fine", bad=bad, slow=slow)
    assert ask(environ, "good") == "fine\n"
    for name, said in {"bad": "no such thing", "slow": "within 0.2 s", "none": "no none on the PATH"}.items():
        with pytest.raises(Unanswered, match=said):
            ask(environ, name, limit=0.2)


# --- SLURM


def test_sbatch_is_asked_about_each_pool_and_what_it_says_against_one_is_reported(tmp_path: Path) -> None:
    refuses = (
        'for arg; do case "$arg" in --account=them) echo Invalid account >&2; exit 1;; '
        "--partition=nope) echo invalid partition specified: nope >&2; exit 1;; esac; done; exit 0"
    )
    environ = fakes.programs(tmp_path, **{**ANY, "sbatch": refuses})
    assert states(slurm(on_slurm(account="us"), environ)) == {"SLURM": "ok", "cpu pool": "ok"}
    *_, refused = slurm(on_slurm(account="them"), environ)
    assert refused.state == "problem"
    assert "Invalid account" in refused.found
    *_, cpu, gpu = slurm(on_slurm(PoolSettings(queue="nope")), environ)
    assert (cpu.state, gpu.what, gpu.state) == ("ok", "gpu pool", "problem")
    assert "invalid partition specified: nope" in gpu.found
    assert "[cluster.gpu]" in gpu.advice


SINFO = "echo 'cpu*|up|1-00:00:00'; echo 'gpu|up|infinite'; echo 'short|up|1:00'; echo 'closed|down|1:00:00'"


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({}, ""),
        ({"queue": "cpu", "walltime": "1-00:00:00"}, ""),
        ({"queue": "gpu", "walltime": "9-00:00:00"}, ""),
        ({"walltime": "1-00:00:01"}, r"walltime 1-00:00:01 exceeds .* cpu\* \(1-00:00:00\)"),
        ({"queue": "short", "walltime": "00:01:00"}, ""),
        ({"queue": "short", "walltime": "00:01:01"}, r"exceeds .* short \(1:00\)"),
        ({"queue": "closed"}, "closed is down"),
    ],
)
def test_a_partition_that_would_never_start_its_jobs_is_a_problem(
    tmp_path: Path, pool: dict[str, object], said: str
) -> None:
    *_, found = slurm(on_slurm(**pool), fakes.programs(tmp_path, **ANY, sinfo=SINFO))
    assert found.state == ("problem" if said else "ok")
    assert re.search(said, found.found)


def test_slurm_that_is_missing_or_silent_is_a_problem_of_profiles_that_need_it(tmp_path: Path) -> None:
    nothing = fakes.programs(tmp_path / "nothing")
    unable = {"sbatch": "echo Unable to contact slurm controller >&2; exit 1"}
    silent = fakes.programs(tmp_path / "silent", **{**ANY, **unable})
    assert states(slurm(LOCAL, nothing)) == {"SLURM": "ok"}
    (missing,) = slurm(on_slurm(), nothing)
    assert missing.state == "problem"
    assert "sbatch, squeue, scancel" in missing.found
    *_, pool = slurm(on_slurm(), silent)
    assert pool.state == "problem"
    assert "Unable to contact slurm controller" in pool.found


def test_an_allocation_needs_srun_or_to_be_inside_a_job(tmp_path: Path) -> None:
    cluster, nothing = ClusterSettings(kind="allocation"), fakes.programs(tmp_path / "nothing")
    assert states(slurm(cluster, nothing)) == {"SLURM": "problem"}
    assert states(slurm(cluster, {**nothing, "SLURM_JOB_ID": "7"})) == {"SLURM": "ok"}
    assert states(slurm(cluster, fakes.programs(tmp_path / "srun", srun=""))) == {"SLURM": "ok"}


@given(st.integers(1, 9999), st.sampled_from(["MB", "MiB", "GB", "GiB", "TB", "mib"]))
def test_jobs_ask_for_as_much_memory_as_the_profile_says(amount: int, unit: str) -> None:
    from dask.utils import parse_bytes

    (arg,) = (arg for arg in request(PoolSettings(memory=f"{amount} {unit}")) if arg.startswith("--mem="))
    assert arg.endswith("M")
    wanted = parse_bytes(f"{amount} {unit}")
    assert wanted <= int(arg[6:-1]) * 2**20 < wanted + 2**20


def test_further_directives_are_arguments_of_the_request() -> None:
    args = request(PoolSettings(directives=("--qos debug", "--comment='two words'"), gres="gpu:1", cores=3))
    assert {"--qos", "debug", "--comment=two words", "--gres=gpu:1", "--cpus-per-task=3"} <= set(args)


# --- Libraries


def test_libraries_that_fail_or_end_the_process_are_named_and_the_others_looked_at(tmp_path: Path) -> None:
    sources = {
        "good": "__version__ = '1.2'; print('hello')",
        "bad": "raise ImportError('libgood.so.1: cannot open shared object file')",
        "deadly": "import os; os._exit(9)",
        "last_one": "",
    }
    environ = fakes.libraries(tmp_path, sources)
    facts = imports(["good", "bad", "absent", "deadly", "last-one"], environ)
    found = {fact["package"]: (fact["version"], fact["problem"]) for fact in facts if "package" in fact}
    assert found["good"] == ("1.2", "")
    assert found["last-one"] == ("", "")
    assert "libgood.so.1" in found["bad"][1]
    assert "No module named 'absent'" in found["absent"][1]
    assert found["deadly"][1] == "importing it ends the process with code 9"


@pytest.mark.parametrize(
    ("package", "module"),
    [("netcdf4", "netCDF4"), ("Pillow", "PIL"), ("dask-jobqueue", "dask_jobqueue"), ("torch", "torch"), ("x-y", "x_y")],
)
def test_a_package_is_imported_by_the_name_of_its_module(package: str, module: str) -> None:
    assert module_of(package) == module


def test_all_libraries_of_the_project_are_known_by_their_modules() -> None:
    assert [name for name in minimal_versions() if find_spec(module_of(name)) is None] == []


NOTED = """
import os, pathlib
with open({path!r}, "a") as file: file.write(f"{{os.getpid()}} {{__name__}}\\n")
"""


def test_each_library_is_imported_once_beside_torch_and_those_that_take_long_are_looked_for(tmp_path: Path) -> None:
    modules = [module_of(name) for name in minimal_versions()]
    note = NOTED.format(path=str(tmp_path / "noted"))
    sources = {name: note + (fakes.torch() if name == "torch" else "") for name in modules}
    environ = {**fakes.programs(tmp_path / "bin"), **fakes.libraries(tmp_path / "lib", sources)}
    found = [*libraries(environ), *torch_and_gpu(Settings(), LOCAL, environ)]
    assert states(found) == {"packages": "ok", "torch": "ok", "GPU": "ok"}
    pids, names = zip(*(line.split() for line in (tmp_path / "noted").read_text().splitlines()), strict=True)
    assert len(set(pids)) == 2 and len(names) == len(set(names))
    assert {"numpy", "pycdfpp", "torch"} <= set(names) and not {"pandas", "xarray", "distributed"} & set(names)
    (tmp_path / "lib" / "safetensors.py").write_text("raise ImportError('libz.so.1: cannot open shared object file')")
    assert states(libraries(environ))["safetensors"] == "problem"


def test_a_library_that_is_only_looked_for_may_be_missing(tmp_path: Path) -> None:
    hidden = "import importlib.util; importlib.util.find_spec = lambda name: None"
    (fact, _) = imports(["pandas", "good"], fakes.libraries(tmp_path, {"sitecustomize": hidden, "good": ""}))[1::2]
    assert fact["problem"] == "No module named 'pandas'"


def test_the_libraries_of_the_project_are_read_from_its_declaration() -> None:
    least = minimal_versions()
    assert {"torch", "zarr", "dask-jobqueue", "numpy"} <= set(least)
    assert "pytest" not in least
    assert least["torch"] == "2.10"
    assert python().state == "ok"


def test_a_library_that_is_too_old_is_a_problem(tmp_path: Path) -> None:
    environ = fakes.programs(tmp_path / "bin") | fakes.libraries(tmp_path, {"torch": fakes.torch()})
    (tmp_path / "torch-2.9.1.dist-info").mkdir()
    (tmp_path / "torch-2.9.1.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.9.1\n")
    (found,) = torch_and_gpu(Settings(), LOCAL, environ)
    assert (found.what, found.state, found.found) == ("torch", "problem", "2.9.1 is older than 2.10")
    assert found.advice == "pip install 'torch>=2.10'"


NEW = fakes.torch(build="12.8")
H200 = fakes.torch(build="12.8", gpus=("NVIDIA H200",))
SMI = {"nvidia_smi": "echo NVIDIA H200"}


@pytest.mark.parametrize(
    ("device", "cluster", "source", "tools", "state", "said"),
    [
        ("auto", LOCAL, fakes.torch(), {}, "ok", "none here; labelling runs on the CPU"),
        (
            "auto",
            LOCAL,
            NEW,
            SMI,
            "warning",
            "nvidia-smi lists NVIDIA H200, but torch cannot use it: there is no driver",
        ),
        ("auto", LOCAL, H200, SMI, "ok", "NVIDIA H200"),
        ("cpu", LOCAL, fakes.torch(), SMI, "ok", "not requested"),
        ("cuda", LOCAL, fakes.torch(), {}, "problem", "none here"),
        ("cuda", LOCAL, H200, {"nvidia_smi": "echo failed; exit 9"}, "ok", "NVIDIA H200"),
        ("cuda", on_slurm(PoolSettings(gres="gpu:1")), NEW, {}, "ok", "on the workers of the cluster"),
        ("cuda", on_slurm(PoolSettings(gres="gpu:1")), fakes.torch(), {}, "problem", "jobs use this torch"),
        ("cuda", on_slurm(PoolSettings(gres="gpu:1", image="a.sif")), fakes.torch(), {}, "ok", "on the workers"),
        ("cuda", ClusterSettings(kind="allocation"), fakes.torch(), {}, "problem", "jobs use this torch"),
        ("cuda", ClusterSettings(kind="address", address="tcp://a:1"), fakes.torch(), {}, "ok", "on the workers"),
    ],
)
def test_whether_the_device_that_is_asked_for_can_be_had(
    tmp_path: Path, device: str, cluster: ClusterSettings, source: str, tools: dict[str, str], state: str, said: str
) -> None:
    environ = fakes.programs(tmp_path / "bin", **tools) | fakes.libraries(tmp_path / "lib", {"torch": source})
    sound, found = torch_and_gpu(Settings(device=device), cluster, environ)  # type: ignore[arg-type]
    assert (sound.what, sound.state) == ("torch", "ok")
    assert (found.what, found.state) == ("GPU", state)
    assert said in found.found


# --- Containers


def test_a_model_that_is_unknown_or_without_its_weights_is_a_problem_and_how_to_get_them_is_said(
    tmp_path: Path,
) -> None:
    only_shipped = {"MMS_REGIONS_MODEL_DIR": str(tmp_path)}
    found = model(Settings(model="waters2025"), only_shipped)
    assert (found.state, "without its weights" in found.found) == ("problem", True)
    assert "mms-regions model fetch" in found.advice
    unknown = model(Settings(model="nobody"), only_shipped)
    assert (unknown.state, "'nobody'" in unknown.found) == ("problem", True)
    assert model(Settings(model="analytic-layer"), only_shipped).state == "ok"


def test_an_image_needs_apptainer_and_to_be_there(tmp_path: Path) -> None:
    image = tmp_path / "mms.sif"
    nothing = fakes.programs(tmp_path / "nothing")
    apptainer = fakes.programs(tmp_path / "bin", apptainer="")
    assert states(containers(LOCAL, nothing)) == {"containers": "ok"}
    assert states(containers(on_slurm(image=str(image)), apptainer)) == {"containers": "ok", "cpu image": "problem"}
    image.touch()
    assert states(containers(on_slurm(image=str(image)), apptainer)) == {"containers": "ok", "cpu image": "ok"}
    assert states(containers(on_slurm(image=str(image)), nothing))["containers"] == "problem"
    loaded = on_slurm(image=str(image), setup=("module load apptainer",))
    assert states(containers(loaded, nothing))["containers"] == "warning"
    assert states(containers(on_slurm(image="docker://x/y"), apptainer)) == {"containers": "ok"}


# --- Places


def test_a_place_is_inspected_and_left_as_it_was(tmp_path: Path) -> None:
    place = inspect(tmp_path / "not" / "yet" / "x.zarr")
    assert place.folder == tmp_path
    assert (place.links, place.locks) == (True, True)
    assert place.bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_there_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert store_place(None).state == "warning"
    assert cache_place(Settings()).state == "warning"
    for nowhere in (tmp_path / "file" / "x.zarr", Path("/proc/x.zarr")):
        assert store_place(nowhere).state == "problem"
        assert cache_place(Settings(data_dir=nowhere)).state == "problem"
        assert str(nowhere) in cache_place(Settings(data_dir=nowhere)).found
        assert scratch_place(LOCAL, {"TMPDIR": str(nowhere)}).state == "problem"
        assert scratch_place(on_slurm(), {"TMPDIR": str(nowhere)}).state == "warning"


def test_scratch_is_where_slurm_says_before_tmpdir(tmp_path: Path) -> None:
    found = scratch_place(LOCAL, {"SLURM_TMPDIR": str(tmp_path), "TMPDIR": "/proc"})
    assert found.found.startswith(f"{tmp_path}: ")


def test_a_cache_that_is_only_read_need_not_be_writable_but_there(tmp_path: Path) -> None:
    assert cache_place(Settings(data_dir=Path("/proc"), offline=True)).state == "ok"
    assert cache_place(Settings(data_dir=tmp_path / "none", offline=True)).state == "problem"


ON_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from mms_regions.doctor.disk import store_place
for options in ("size=50m", "size=4g,nr_inodes=100", "size=300m", "size=4g"):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", sys.argv[1]], check=True)
    print(store_place(Path(sys.argv[1]) / "x.zarr").state)
"""


def test_a_disk_with_little_room_or_few_files_left(tmp_path: Path) -> None:
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "none", tmp_path], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    words = [*alone, sys.executable, "-c", ON_SMALL_DISK, str(tmp_path)]
    package = Path(__file__).parents[3] / "pipeline"
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(package)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["problem", "problem", "warning", "ok"], done.stderr


# --- What is elsewhere


def test_a_scheduler_listens_at_the_address_or_not(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        file.write_text(f'{{"address": "{address}"}}')
        for named in (address, str(file)):
            assert states(scheduler(ClusterSettings(kind="address", address=named))) == {"scheduler": "ok"}
    for named in (address, str(file), str(tmp_path / "none.json"), "nonsense"):
        assert states(scheduler(ClusterSettings(kind="address", address=named))) == {"scheduler": "problem"}
    assert list(scheduler(LOCAL)) == []


def test_an_archive_that_answers_tells_the_time_and_one_that_does_not_is_a_warning(tmp_path: Path) -> None:
    with LoopbackArchive(tmp_path) as archive:
        found = list(network(Settings(archive_url=archive.sdc_url)))
        assert states(found) == {"network": "ok", "clock": "ok"}
        assert found[1].found.endswith("as at the archive")
        until = time.monotonic() + 10
        while not archive.requests and time.monotonic() < until:  # it is noted after it was answered
            time.sleep(0.01)
        assert len(archive.requests) == 1
        assert states(network(Settings(archive_url=archive.sdc_url, offline=True))) == {"network": "ok", "clock": "ok"}
        assert len(archive.requests) == 1
    silent, _ = network(Settings(archive_url=archive.sdc_url))
    assert (silent.state, bool(silent.advice)) == ("warning", True)


@pytest.mark.parametrize(
    ("year", "ahead", "state"),
    [(2027, None, "ok"), (1970, None, "problem"), (2027, 2, "ok"), (2027, 400, "warning"), (2027, -400, "warning")],
)
def test_the_clock_is_sane_and_that_of_the_server(year: int, ahead: int | None, state: str) -> None:
    now = datetime(year, 1, 2, tzinfo=UTC)
    found = clock(now, None if ahead is None else now - timedelta(seconds=ahead))
    assert found.state == state
    assert ("400 s ahead" in found.found) == (ahead == 400)
