"""The shipped profiles and dask.yaml: all of what they say can be said, is explained, and is all there is to say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask
import dask_jobqueue  # noqa: F401  (adds its settings to Dask's)
import distributed  # noqa: F401  (the same)
import pytest
import yaml

from mms_regions.core.cluster_settings import ClusterSettings, PoolSettings, read_cluster
from mms_regions.core.settings import Settings, find_profile, resolve_settings, shipped_profiles

ROOT = Path(__file__).parents[3]
PROFILES = shipped_profiles()
EXAMPLES = {"data_dir", "manifest", "perturb", "draws", "seed"}  # settings without a default that could be shown

each_profile = pytest.mark.parametrize("name", PROFILES)


def in_full(path: Path) -> str:
    """A profile with the keys that are commented out."""
    return re.sub(r"^# (\w+ = )", r"\1", path.read_text(), flags=re.MULTILINE)


def keys(table: Mapping[str, Any]) -> set[str]:
    """Its keys, without those of tables in it."""
    return {key for key, value in table.items() if not isinstance(value, dict)}


def test_the_profiles_that_are_shipped() -> None:
    assert set(PROFILES) == {"allocation", "laptop", "slurm-cpu", "slurm-gpu"}


@each_profile
def test_a_profile_can_be_used_as_it_is_and_with_all_that_is_commented_out(name: str, tmp_path: Path) -> None:
    full = tmp_path / "full.toml"
    full.write_text(in_full(PROFILES[name]))
    for path in (PROFILES[name], full):
        resolve_settings({}, {}, path)
        read_cluster(path)


@each_profile
def test_every_key_of_a_profile_is_explained(name: str) -> None:
    """By a comment above it, or above the keys that it stands among."""
    for paragraph in re.split(r"\n\n|^\[.*\]\n", PROFILES[name].read_text(), flags=re.MULTILINE):
        lines = paragraph.strip().splitlines()
        if any(re.match(r"(# )?\w+ = ", line) for line in lines):
            assert re.match(r"# (?!\w+ = )", lines[0]), f"{name}: nothing explains {lines[0]!r}"


def test_a_laptop_shows_every_setting_with_its_default() -> None:
    shown = tomllib.loads(in_full(PROFILES["laptop"]))
    assert keys(shown) == set(Settings.model_fields) - {"origin"}
    commented = keys(shown) - keys(tomllib.loads(PROFILES["laptop"].read_text())) - EXAMPLES
    defaults = Settings().model_dump(mode="json")
    assert {key: shown[key] for key in commented} == {key: defaults[key] for key in commented}


def test_a_cluster_with_gpus_shows_every_key_of_a_cluster() -> None:
    shown = tomllib.loads(in_full(PROFILES["slurm-gpu"]))["cluster"]
    assert keys(shown) == set(ClusterSettings.model_fields) - {"address", "cpu", "gpu"}
    assert keys(shown["cpu"]) | keys(shown["gpu"]) == set(PoolSettings.model_fields)


def test_kinds_of_clusters() -> None:
    kinds = {name: read_cluster(path).kind for name, path in PROFILES.items()}
    assert kinds == {
        "allocation": "allocation",
        "laptop": "local",
        "slurm-cpu": "slurm",
        "slurm-gpu": "slurm",
    }
    assert [name for name, path in PROFILES.items() if read_cluster(path).gpu] == ["slurm-gpu"]


def test_a_name_is_a_shipped_profile_and_all_else_is_a_path() -> None:
    assert find_profile(Path("laptop")) == PROFILES["laptop"]
    for path in (Path("./laptop.toml"), Path("elsewhere/laptop"), Path("mine.toml")):
        assert find_profile(path) == path


def leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree, each with the keys that lead to it."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def test_every_key_of_dask_yaml_is_one_of_the_installed_dask_with_its_default() -> None:
    ours = dict(leaves(yaml.safe_load((ROOT / "jobs" / "dask.yaml").read_text())))
    theirs = dask.config.merge(*dask.config.defaults)
    assert ours
    assert {key: dask.config.get(key, "no such key", config=theirs) for key in ours} == ours
