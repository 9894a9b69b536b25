"""The command line itself: help in groups, completion, colours, settings with their origins, schemas."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

from mms_regions.cli.main import app
from mms_regions.cli.schemas import catalogue_schema, profile_schema
from mms_regions.core.catalogue import builtin_catalogues, read_catalogue
from mms_regions.core.settings import shipped_profiles

Command = Callable[..., "CompletedProcess[str]"]
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")


# --- help and colours -----------------------------------------------------------------------------------------------


def test_help_groups_commands_and_options(mms_regions_here: Command) -> None:
    shown = mms_regions_here("--help").stdout
    assert all(group in shown for group in ("Runs", "Results", "Models, catalogues, settings", "Synthetic data"))
    assert "Precedence of settings: flag, environment, profile, default" in " ".join(shown.replace("│", " ").split())
    shown = mms_regions_here("run", "--help").stdout
    assert all(group in shown for group in ("Segments", "Input files", "Execution"))


def on_terminal(environment: Mapping[str, str], *words: str, **env: str) -> str:
    """What the command says on a terminal of its own."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mms_regions", *words]
    plain = {name: value for name, value in environment.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    done = subprocess.Popen(command, env={**plain, "TERM": "xterm-256color", **env}, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # nobody writes there any more
            part = b""
        if not part:
            break
        said += part
    os.close(ours)
    assert done.wait() == 0
    return said.decode()


def test_colours_are_on_a_terminal_alone_and_not_where_they_are_unwanted(
    environment: dict[str, str], mms_regions_here: Command
) -> None:
    assert COLOUR.search(on_terminal(environment, "--help"))
    assert not COLOUR.search(on_terminal(environment, "--help", NO_COLOR="1"))
    assert "\x1b" not in mms_regions_here("--help").stdout


# --- paths --------------------------------------------------------------------------------------------------------


def path_options(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each option and argument that is a path, as `command option`, with its callback."""
    for entry in group.registered_commands:
        hints = get_type_hints(entry.callback, include_extras=True)
        for option, hint in hints.items():
            if get_origin(hint) is Annotated and Path in (get_args(hint)[0], *get_args(get_args(hint)[0])):
                yield f"{name} {entry.callback.__name__} {option}".strip(), get_args(hint)[1].callback
    for below in group.registered_groups:
        yield from path_options(below.typer_instance, below.name)


PATH_OPTIONS = dict(path_options(app))


@pytest.mark.parametrize("option", PATH_OPTIONS)
def test_the_home_folder_is_expanded_in_every_option_that_is_a_path(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells leave it as it is in `--store=~/a.zarr`, and so does sbatch in quotes."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert PATH_OPTIONS[option](Path("~/a/b")) == Path("/home/someone/a/b")
    assert PATH_OPTIONS[option](Path("a/b")) == Path("a/b")


def test_the_options_that_are_paths_are_found() -> None:
    assert {"run store", "run data_dir", "export out", "serve_archive folder", "model model_import path"} <= {
        *PATH_OPTIONS
    }


def test_a_catalogue_in_the_home_folder_is_found_and_a_home_that_is_none_is_named(
    mms_regions_here: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine.csv").write_text("event,t_start,t_end,B0,n0\nA,2017-07-11T22:34:00,2017-07-11T22:34:06,12,0.2\n")
    done = mms_regions_here("catalogue", "check", "~/mine.csv", env={"HOME": str(tmp_path)})
    assert done.stdout.startswith("mine: 1 event, 4 segments, ")
    for args in (["catalogue", "check", "~nobody-here/x.csv"], ["status", "~nobody-here/x.zarr"]):
        refused = mms_regions_here(*args)
        assert refused.returncode == 2
        assert "is in a home folder that does not exist" in refused.stderr


# --- completion -----------------------------------------------------------------------------------------------------


def completed(environment: Mapping[str, str], line: str, *, imports: bool = False) -> tuple[str, ...]:
    """What bash offers after a line."""
    asks = {"_MMS_REGIONS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    code = "import sys; sys.argv = ['mms-regions']; from mms_regions.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, *(["-X", "importtime"] if imports else []), "-c", code],
        env={**environment, **asks},
        capture_output=True,
        text=True,
        check=False,
    )
    return tuple((done.stderr if imports else done.stdout).split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mms-regions ex", {"export"}),
        ("mms-regions run --off", {"--offline"}),
        ("mms-regions run ro", {"rogers2023"}),
        ("mms-regions run --model ", {"open", "waters2025", "first", "second"}),
        ("mms-regions run --profile slurm", {"slurm-cpu", "slurm-gpu"}),
        ("mms-regions export a.zarr --format c", {"csv"}),
        ("mms-regions model check op", {"open"}),
    ],
)
def test_bash_completes_names(environment: dict[str, str], line: str, offered: set[str]) -> None:
    assert offered <= set(completed(environment, line))


def test_completing_imports_next_to_nothing(environment: dict[str, str]) -> None:
    imported = set(completed(environment, "mms-regions run --model ", imports=True))
    assert "mms_regions.cli.options" in imported
    assert not imported & {"numpy", "torch", "zarr", "xarray", "dask", "mms_regions.model.card"}


def test_the_script_for_bash_is_sound(environment: dict[str, str]) -> None:
    in_bash = ["bash", "-c", f"{sys.executable} -m mms_regions --show-completion; exit $?"]
    done = subprocess.run(in_bash, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "_MMS_REGIONS_COMPLETE=complete_bash" in done.stdout
    assert "mms-regions" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


# --- settings and schemas -------------------------------------------------------------------------------------------


def test_each_setting_is_shown_with_its_value_and_origin(mms_regions_here: Command, tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('workers = 3\nmargin = 2\n[cluster]\nkind = "slurm"\n[cluster.gpu]\njobs = 7\n')
    env = {"MMS_REGIONS_WORKERS": "5", "SPEDAS_DATA_DIR": "/data"}
    done = mms_regions_here("config", "show", "--profile", profile, "--json", env=env)
    shown = json.loads(done.stdout)
    told = {
        "workers": (5, "environment MMS_REGIONS_WORKERS"),
        "data_dir": ("/data/mms", "environment SPEDAS_DATA_DIR"),
        "margin": (2.0, f"profile {profile}"),
        "bridge": (0.15, "default"),
        "cluster.kind": ("slurm", f"profile {profile}"),
        "cluster.gpu.jobs": (7, f"profile {profile}"),
        "cluster.cpu.jobs": (1, "default"),
    }
    assert {name: (shown[name]["value"], shown[name]["origin"]) for name in told} == told
    lines = mms_regions_here("config", "show", "--profile", profile, env=env).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(shown)
    assert "workers                 5                           environment MMS_REGIONS_WORKERS" in lines


def test_the_profile_of_the_user_counts_after_a_named_one_and_before_that_of_the_site(
    mms_regions_here: Command, tmp_path: Path
) -> None:
    places = {name: tmp_path / name / "mms-regions" / "profile.toml" for name in ("user", "site")}
    for workers, path in enumerate([*places.values(), tmp_path / "named.toml", tmp_path / "flag.toml"], 11):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"workers = {workers}\n[cluster]\ndashboard = false\n")
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "user"), "XDG_CONFIG_DIRS": str(tmp_path / "site")}

    def shown(*words: object, **more: str) -> list[tuple[int, str]]:
        done = mms_regions_here("config", "show", "--json", *words, env={**env, **more})
        found = json.loads(done.stdout)
        return [(found["workers"]["value"], found[name]["origin"]) for name in ("workers", "cluster.dashboard")]

    named = {"MMS_REGIONS_PROFILE": str(tmp_path / "named.toml")}
    flag = tmp_path / "flag.toml"
    assert shown("--profile", flag, **named) == [(14, f"profile {flag}")] * 2
    assert shown(**named) == [(13, f"profile {tmp_path / 'named.toml'}")] * 2
    assert shown() == [(11, f"profile {places['user']}")] * 2
    places["user"].unlink()
    assert shown() == [(12, f"profile {places['site']}")] * 2
    places["site"].unlink()
    assert [origin for _, origin in shown()] == ["default"] * 2
    done = mms_regions_here("config", "show", env={**env, "MMS_REGIONS_PROFILE": "nowhere"})
    assert done.returncode == 3 and "There is no profile nowhere" in done.stderr


def test_a_shipped_profile_is_printed_to_be_changed(mms_regions_here: Command) -> None:
    assert mms_regions_here("config", "init", "slurm-cpu").stdout == shipped_profiles()["slurm-cpu"].read_text()
    done = mms_regions_here("config", "init", "pbs")
    assert done.returncode == 2 and "those that are shipped are allocation, laptop" in done.stderr


def test_scripts_for_slurm_are_written_and_not_over_changed_ones(mms_regions_here: Command, tmp_path: Path) -> None:
    top = Path(__file__).parents[2] / "jobs"
    for _ in range(2):
        assert mms_regions_here("jobs", "init", tmp_path / "jobs").returncode == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "jobs").iterdir()}
    assert written == {path.name: path.read_bytes() for path in top.iterdir() if path.is_file()}
    assert {"catalogue.sbatch", "allocation.sbatch", "prefetch.sbatch", "README.md"} <= set(written)
    (tmp_path / "jobs" / "catalogue.sbatch").write_text("mine")
    done = mms_regions_here("jobs", "init", tmp_path / "jobs")
    assert done.returncode == 2 and "catalogue.sbatch" in done.stderr
    assert (tmp_path / "jobs" / "catalogue.sbatch").read_text() == "mine"


def keys(table: Mapping[str, object], schema: dict, below: dict) -> None:
    """Every key of a TOML table has a place in a schema that takes no others."""
    assert below["additionalProperties"] is False
    for key, value in table.items():
        about = below["properties"][key]
        if isinstance(value, dict):
            (name,) = re.findall(r'"#/\$defs/(\w+)"', json.dumps(about))
            keys(value, schema, schema["$defs"][name])


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_fit_the_schema(name: str) -> None:
    schema = profile_schema()
    keys(tomllib.loads(shipped_profiles()[name].read_text()), schema, schema)


def test_the_schema_of_event_lists_takes_what_is_taken_and_refuses_what_is_refused() -> None:
    row = catalogue_schema()["items"]
    assert row["required"] == ["t_start", "t_end"]
    columns = row["properties"]
    for event in read_catalogue(builtin_catalogues()[0]).events:
        assert re.search(columns["event"]["pattern"], event.name)
        assert re.search(columns["t_start"]["pattern"], str(event.t_start))
        assert columns["B0"]["exclusiveMinimum"] == 0
    bad = {
        "event": ["", "../x", "a."],
        "t_start": ["yesterday", "2017-05-28", "05/28/2017 03:58"],
        "probes": ["7", "1-9", ""],
    }
    times = ["2017-05-28T03:58:30.5Z", "2017-05-28/03:58", "2017-148/03:58:30"]
    good = {"probes": ["1-4", "1,3", "2;4", "1 3", "mms1-4", "all"], "t_end": times}
    assert [v for name, values in bad.items() for v in values if re.search(columns[name]["pattern"], v)] == []
    assert [v for name, values in good.items() for v in values if not re.search(columns[name]["pattern"], v)] == []


def test_schemas_are_printed(mms_regions_here: Command) -> None:
    assert json.loads(mms_regions_here("config", "schema").stdout) == profile_schema()
    assert json.loads(mms_regions_here("catalogue", "schema").stdout) == catalogue_schema()
