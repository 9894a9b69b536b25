"""The table [cluster] of a profile: what it says is meant, and each thing that cannot be meant is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings, read_cluster
from mms_regions.core.errors import EnvironmentProblem, InputProblem
from mms_regions.workers.open import pool_for
from mms_regions.workers.pool import PoolRequest


def written(folder: Path, lines: str) -> Path:
    path = folder / "profile.toml"
    path.write_text(lines)
    return path


def test_without_a_table_it_is_this_machine(tmp_path: Path) -> None:
    assert read_cluster(None) == read_cluster(written(tmp_path, 'device = "cpu"\n')) == ClusterSettings()
    assert ClusterSettings().kind == "local"


def test_what_a_table_says_is_meant(tmp_path: Path) -> None:
    cpu = '[cluster.cpu]\njobs = 20\nwalltime = "1-02:03:04"\nmemory = "1.5 GiB"\nsetup = ["module load a", "b"]\n'
    gpu = '[cluster.gpu]\ngres = "gpu:1"\nconstraint = "a100&fast"\ndirectives = ["--qos=high", "--mail-type=END"]\n'
    told = read_cluster(written(tmp_path, f'[cluster]\nkind = "slurm"\ninterface = "ib0"\n{cpu}{gpu}'))
    assert (told.kind, told.interface, told.cpu.jobs, told.cpu.memory) == ("slurm", "ib0", 20, "1.5 GiB")
    assert told.cpu.seconds == ((24 + 2) * 60 + 3) * 60 + 4
    assert told.cpu.setup == ("module load a", "b")
    assert told.gpu is not None
    assert (told.gpu.gres, told.gpu.constraint, len(told.gpu.directives)) == ("gpu:1", "a100&fast", 2)


def test_home_folders_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    images = read_cluster(written(tmp_path, '[cluster]\nkind = "slurm"\n[cluster.cpu]\nimage = "~/mms.sif"\n'))
    assert images.cpu.image == "/home/someone/mms.sif"
    there = read_cluster(written(tmp_path, '[cluster]\nkind = "address"\naddress = "~/scheduler.json"\n'))
    assert there.address == "/home/someone/scheduler.json"


POOL = '[cluster]\nkind = "slurm"\n[cluster.cpu]\n'


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("cluster = 3\n", "must be a valid dictionary"),
        ('[cluster]\nkind = "pbs"\n', r"kind = 'pbs': must be 'local', 'slurm', 'allocation' or 'address'"),
        ('[cluster]\nkind = "address"\n', "kind = 'address' and an address belong together"),
        ('[cluster]\naddress = "tcp://a:1"\n', "kind = 'address' and an address belong together"),
        ("[cluster]\nworkers = 3\n", "there is no workers"),
        ("[cluster]\nstart_timeout = 0\n", "start_timeout = 0: must be greater than 0"),
        ("[cluster]\nstart_timeout = inf\n", "start_timeout = inf: must be less than or equal to 604800"),
        ("[cluster.cpu]\njobs = 2\n", r"\[cluster.cpu\] and \[cluster.gpu\] need kind = 'slurm'"),
        ('[cluster]\nkind = "allocation"\n[cluster.gpu]\n', r"\[cluster.gpu\] need kind = 'slurm'"),
        (f"{POOL}jobs = 0\n", r"cpu.jobs = 0: must be greater than or equal to 1"),
        (f'{POOL}jobs = "many"\n', r"cpu.jobs = 'many': must be a valid integer"),
        (f"{POOL}cores = 1.5\n", r"cpu.cores = 1.5: must be a valid integer"),
        (f"{POOL}nodes = 2\n", r"there is no cpu.nodes"),
        (f'{POOL}queue = "a b"\n', r"cpu.queue = 'a b': must be one word"),
        (f'{POOL}account = """a\nb"""\n', r"cpu.account = 'a\\nb': must be one word"),
        (f'{POOL}walltime = "2h"\n', r"cpu.walltime = '2h': must be a time such as 02:00:00"),
        (f'{POOL}walltime = "00:60:00"\n', r"cpu.walltime = '00:60:00': must be a time such as 02:00:00"),
        (f'{POOL}walltime = "00:00:59"\n', r"cpu.walltime = '00:00:59': .* a minute or more"),
        (f'{POOL}memory = "much"\n', r"cpu.memory = 'much': must be an amount of memory such as 4 GB"),
        (f'{POOL}memory = "0 GB"\n', r"cpu.memory = '0 GB': must be an amount of memory such as 4 GB"),
        (f'{POOL}setup = "module load a"\n', r"cpu.setup = 'module load a': must be a valid tuple"),
        (f'{POOL}setup = ["""a\nb"""]\n', r"cpu.setup.0 = 'a\\nb': must be one line"),
        (f"{POOL}jobs = 0\ncores = 0\n", r"cpu.jobs = 0: .*; cpu.cores = 0: "),
    ],
)
def test_a_bad_table_is_refused_in_a_sentence(tmp_path: Path, lines: str, complaint: str) -> None:
    path = written(tmp_path, lines)
    with pytest.raises(InputProblem, match=rf"^The table \[cluster\] of {path} cannot be used: .*{complaint}"):
        read_cluster(path)
    with pytest.raises(InputProblem, match=r" Correct it there\.$"):
        read_cluster(path)


@given(st.integers(0, 9), st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_a_worker_retires_before_its_wall_time(days: int, hours: int, minutes: int, seconds: int) -> None:
    given_seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if given_seconds >= 60:
        pool = PoolSettings(walltime=f"{days}-{hours:02}:{minutes:02}:{seconds:02}")
        assert pool.seconds == given_seconds
        assert pool.lifetime - pool.stagger > 0
        assert given_seconds * 0.7 <= pool.lifetime + pool.stagger <= given_seconds - 10


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("{tmp}/none.json", r"The scheduler file .*none.json cannot be used \(.*No such file"),
        ("{tmp}/bad.json", r"The scheduler file .*bad.json cannot be used \("),
        ("{tmp}/empty.json", r"The scheduler file .*empty.json cannot be used \('address'\)"),
        ("tcp://127.0.0.1:9", r"No scheduler answers at tcp://127.0.0.1:9 \("),
        ("gopher://here", r"No scheduler answers at gopher://here \("),
    ],
)
def test_a_scheduler_that_is_not_there_is_an_error(tmp_path: Path, address: str, complaint: str) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "empty.json").write_text("{}")
    cluster = ClusterSettings(kind="address", address=address.format(tmp=tmp_path), start_timeout=0.5)
    with (
        pytest.raises(EnvironmentProblem, match=complaint),
        pool_for(cluster, tmp_path) as factory,
        factory(PoolRequest(1)),
    ):
        pytest.fail("It was there.")
