"""Settings: who wins, where each value is from, and what is refused with which words."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mms_regions.core.errors import InputProblem, UsageProblem
from mms_regions.core.settings import PROFILE_VARIABLE, Settings, known_variables, resolve_settings


@pytest.fixture
def profile(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "laptop.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults() -> None:
    settings = resolve_settings({}, {})
    assert settings.data_dir is None
    assert (settings.convention, settings.model, settings.device) == ("corrected", "auto", "auto")
    assert (settings.margin, settings.bridge, settings.offline) == (1.0, 0.15, False)
    assert 1 <= settings.workers <= 4
    assert settings.shard_samples == 65536
    assert (settings.segments_in_flight, settings.label_windows) == (3, 65536)
    assert set(settings.origin.values()) == {"default"}


@given(st.none() | st.integers(0, 99), st.none() | st.integers(0, 99))
def test_a_flag_beats_the_environment_that_beats_the_default(flag: int | None, variable: int | None) -> None:
    environ = {} if variable is None else {"MMS_REGIONS_WORKERS": str(variable)}
    settings = resolve_settings({"workers": flag, "margin": None}, environ)
    origins = ["flag --workers", "environment MMS_REGIONS_WORKERS", "default"]
    expected = next(k for k, value in enumerate([flag, variable, 0]) if value is not None)
    assert settings.origin["workers"] == origins[expected]
    assert settings.workers == [flag, variable, Settings().workers][expected]


@pytest.mark.parametrize(
    ("flags", "environ", "tasks", "processes"),
    [
        ({}, {}, 1, 0),
        ({"workers": 2}, {}, 1, 2),
        ({}, {"MMS_REGIONS_WORKERS": "3"}, 1, 3),
        ({"workers": 0}, {}, 5, 0),
        ({"workers": 2}, {}, 5, 2),
    ],
)
def test_a_single_task_needs_no_process_unless_somebody_chose_them(
    flags: dict[str, object], environ: dict[str, str], tasks: int, processes: int
) -> None:
    assert resolve_settings(flags, environ).processes(tasks) == processes


def test_each_value_knows_its_origin(profile) -> None:
    path = profile('workers = 7\nbridge = 0.3\ndevice = "cpu"\noffline = true\n[cluster]\nkind = "slurm"\n')
    settings = resolve_settings(
        {"workers": 2, "device": None}, {"MMS_REGIONS_WORKERS": "3", "MMS_REGIONS_BRIDGE": "0.6"}, path
    )
    assert (settings.workers, settings.bridge, settings.device, settings.offline) == (2, 0.6, "cpu", True)
    assert settings.origin["workers"] == "flag --workers"
    assert settings.origin["bridge"] == "environment MMS_REGIONS_BRIDGE"
    assert settings.origin["device"] == f"profile {path}"
    assert settings.origin["margin"] == "default"
    assert set(settings.origin) == set(Settings.model_fields) - {"origin"}


@pytest.mark.parametrize(
    ("flags", "environ", "data_dir", "origin"),
    [
        ({}, {"SPEDAS_DATA_DIR": "/s"}, "/s/mms", "environment SPEDAS_DATA_DIR"),
        ({}, {"SPEDAS_DATA_DIR": "/s", "MMS_DATA_DIR": "/m"}, "/m", "environment MMS_DATA_DIR"),
        ({}, {"MMS_REGIONS_DATA_DIR": "/r", "MMS_DATA_DIR": "/m"}, "/r", "environment MMS_REGIONS_DATA_DIR"),
        ({}, {"MMS_REGIONS_DATA_DIR": "", "MMS_DATA_DIR": "/m"}, "/m", "environment MMS_DATA_DIR"),
        ({"data_dir": Path("/f")}, {"MMS_DATA_DIR": "/m"}, "/f", "flag --data-dir"),
    ],
)
def test_where_the_data_folder_is_from(
    flags: dict[str, object], environ: dict[str, str], data_dir: str, origin: str
) -> None:
    settings = resolve_settings(flags, environ)
    assert (settings.data_dir, settings.origin["data_dir"]) == (Path(data_dir), origin)


def test_data_folders_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolve_settings({"data_dir": "cdf"}, {}).data_dir == tmp_path / "cdf"
    assert resolve_settings({"data_dir": "~/cdf"}, {}).data_dir == Path("/home/someone/cdf")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("no", False), ("0", False)])
def test_switches_in_the_environment(text: str, value: bool) -> None:
    assert resolve_settings({}, {"MMS_REGIONS_OFFLINE": text}).offline is value


@pytest.mark.parametrize("samples", [1024, 4096, 1056, 8192, 16384, 131072])
def test_shards_of_whole_windows_and_chunks(samples: int) -> None:
    assert Settings(shard_samples=samples).shard_samples == samples


BAD = [
    ("data_dir", ""),
    ("data_dir", "a\0b"),
    ("data_dir", "~nobody-of-this-name/x"),
    ("offline", "perhaps"),
    ("convention", "Published"),
    ("model", ""),
    ("workers", -1),
    ("workers", 1.5),
    ("workers", True),
    ("device", "gpu"),
    ("shard_samples", 1000),
    ("shard_samples", 992),
    ("shard_samples", 1025),
    ("shard_samples", 8224),
    ("shard_samples", 0),
    ("shard_samples", -8192),
    ("margin", -0.1),
    ("margin", float("nan")),
    ("margin", 3601),
    ("bridge", float("inf")),
    ("bridge", "long"),
    ("bridge", False),
    ("segments_in_flight", 0),
    ("label_windows", 0),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_values_that_cannot_be_are_refused(name: str, value: object) -> None:
    with pytest.raises(UsageProblem) as problem:
        resolve_settings({name: value}, {})
    flag = "--" + name.replace("_", "-")
    allowed = Settings.model_fields[name].description
    assert f"flag {flag}: {name} = {value!r}: must be {allowed}." in str(problem.value)


def test_everything_wrong_is_said_at_once_with_its_origin(profile) -> None:
    path = profile('margin = -1\nworker = 3\norigin = "x"\n[pools]\ncpu = 1\n')
    with pytest.raises(UsageProblem) as problem:
        resolve_settings({"workers": -2, "colour": "red"}, {"MMS_REGIONS_DEVICE": "tpu"}, path)
    said = str(problem.value)
    for words in [
        "flag --workers: workers = -2",
        "flag --colour: there is no setting 'colour'",
        "environment MMS_REGIONS_DEVICE: device = 'tpu': must be auto, cpu or cuda",
        f"profile {path}: margin = -1",
        f"profile {path}: there is no setting 'worker'; settings are data_dir,",
        "no setting 'origin'",
        "no setting 'pools'",
    ]:
        assert words in said
    assert len(said.splitlines()) == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = -1", "workers = -1"),
        ("wrokers = 1", "no setting 'wrokers'"),
        ("workers: 1", "is not TOML"),
        ("data_dir = 5", "data_dir = 5"),
        ("workers = 1\nworkers = 2", "is not TOML"),
    ],
)
def test_a_bad_profile_is_an_input_problem(profile, text: str, words: str) -> None:
    path = profile(text)
    with pytest.raises(InputProblem) as problem:
        resolve_settings({}, {}, path)
    assert str(path) in str(problem.value)
    assert words in str(problem.value)


def test_a_profile_that_cannot_be_read_is_an_input_problem(tmp_path: Path) -> None:
    with pytest.raises(InputProblem, match="There is no profile"):
        resolve_settings({}, {}, tmp_path / "none.toml")
    with pytest.raises(InputProblem, match="cannot be read"):
        resolve_settings({}, {}, tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b'model = "\xff"')
    with pytest.raises(InputProblem, match="is not TOML"):
        resolve_settings({}, {}, tmp_path / "bytes.toml")


def test_only_what_changes_numbers_decides() -> None:
    settings = resolve_settings({"margin": 2, "workers": 0, "shard_samples": 4096, "data_dir": "/m"}, {})
    changing = json.loads(json.dumps(settings.result_settings()))
    published = {"convention": "published", "margin": 1.0, "bridge": 0.15}
    assert changing == {
        **{"convention": "corrected", "margin": 2.0, "bridge": 0.15},
        **{"electrons": "robust", "electron_average": 0.3, "edp_quality": 2},
    }
    assert resolve_settings({"convention": "published"}, {}).result_settings() == published


def test_settings_are_frozen_and_travel() -> None:
    settings = resolve_settings({"data_dir": "/m"}, {})
    with pytest.raises(ValidationError):
        settings.workers = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("MMS_REGIONS_WORKER", "MMS_REGIONS_WORKERS"),
        ("MMS_REGIONS_DATADIR", "MMS_REGIONS_DATA_DIR"),
        ("MMS_REGIONS_MODELDIR", "MMS_REGIONS_MODEL_DIR"),
        ("MMS_REGIONS_ORIGIN", "MMS_REGIONS_"),
    ],
)
def test_a_variable_that_does_not_exist_is_an_error_with_the_nearest_name(variable: str, nearest: str) -> None:
    with pytest.raises(
        UsageProblem, match=rf"environment {variable}: there is no such variable; did you mean {nearest}"
    ):
        resolve_settings({}, {variable: "3"})
    resolve_settings({}, {variable: "", "MMS_REGIONS": "3", "MMS_OTHER": "3"})


def test_every_variable_that_exists_is_taken() -> None:
    for variable in set(known_variables()) - {f"MMS_REGIONS_{name.upper()}" for name in Settings.model_fields}:
        resolve_settings({}, {variable: "laptop" if variable == PROFILE_VARIABLE else "x"})


def test_the_documentation_lists_the_variables_that_exist() -> None:
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text()
    listed = re.findall(r"^\| `(MMS_REGIONS_\w+)` \|", page, flags=re.MULTILINE)
    assert sorted(listed) == sorted(known_variables())


def test_home_folders_are_expanded_wherever_a_setting_is_from(profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    path = profile('data_dir = "~/cdf"\nmanifest = "~/m.json"\n')
    for settings in (
        resolve_settings({}, {}, path),
        resolve_settings({}, {"MMS_REGIONS_DATA_DIR": "~/cdf", "MMS_REGIONS_MANIFEST": "~/m.json"}),
        resolve_settings({"data_dir": "~/cdf", "manifest": "~/m.json"}, {}),
    ):
        assert settings.data_dir == Path("/home/someone/cdf")
        assert settings.manifest == Path("/home/someone/m.json")
    assert resolve_settings({}, {"SPEDAS_DATA_DIR": "~/s"}).data_dir == Path("/home/someone/s/mms")
