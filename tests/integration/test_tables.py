"""Tables of the command line fit a terminal, show texts as they are, and are complete lines in a pipe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from rich.console import Console

from mms_regions.cli.main import app, catalogues, config, models
from mms_regions.cli.tables import print_table
from mms_regions.core.errors import UsageProblem
from mms_regions.store.read import open_segment

Command = Callable[..., "CompletedProcess[str]"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TERMINAL = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
COMMANDS = ("status {}", "show {}", "show {} A/mms1", "catalogue show", "model list", "model show waters2025")


@pytest.mark.parametrize("width", ["60", "80"])
@pytest.mark.parametrize("command", COMMANDS)
def test_tables_fit_a_terminal(
    command: str, width: str, healthy: Path, mms_regions_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "_environ", {**TERMINAL, "COLUMNS": width})
    done = mms_regions_here(*command.format(healthy).split())
    assert done.returncode == 0, done.stderr
    table = ESCAPES.sub("", done.stdout).partition("Shares of labels")[0].partition("\ncaution: ")[0]
    assert "\x1b" in done.stdout
    assert max(len(line.rstrip()) for line in table.splitlines()) <= int(width)


def test_show_has_shares_confidence_and_cautions_of_each_segment(healthy: Path, mms_regions_here: Command) -> None:
    done = mms_regions_here("show", healthy)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["segment", "samples", "labelled"] and lines[0].endswith("conf.  cautions")
    assert [line.split()[0] for line in lines[1:6]] == ["A/mms1", "A/mms2", "LONG/mms1", "B/mms1", "B/mms2"]
    found = json.loads(mms_regions_here("show", healthy, "--json").stdout)["segments"]
    for line in lines[1:6]:
        key, samples, _, *shares, confidence, _ = line.split()
        one = found[key]
        assert int(samples) == one["samples"] and sorted(map(int, shares)) == sorted(
            round(100 * share) for share in one["regions"].values()
        )
        assert float(confidence) == pytest.approx(one["confidence"], abs=0.006)


def test_show_reads_no_more_than_it_shows(store: Path, mms_regions_here: Command) -> None:
    said = mms_regions_here("show", store).stdout
    for name, is_shown in (("e_gsm", False), ("b_gsm", True)):
        shard = store / name / "c" / "2" / "0"  # of B/mms2; of the size that its receipt says
        shard.write_bytes(bytes(byte ^ 255 for byte in shard.read_bytes()))
        damaged = mms_regions_here("show", store).stdout
        assert (damaged == said) is not is_shown
        assert (f"B/mms2 cannot be read from {store}" in damaged) is is_shown


def test_show_of_a_segment_has_its_stretches(healthy: Path, mms_regions_here: Command) -> None:
    kept = json.loads(mms_regions_here("show", healthy, "LONG/mms1", "--min-duration", 0, "--json").stdout)
    joined = json.loads(mms_regions_here("show", healthy, "LONG/mms1", "--json").stdout)
    assert list(kept["segments"]) == ["LONG/mms1"] and len(kept["stretches"]) >= len(joined["stretches"]) > 0
    shown = mms_regions_here("show", healthy, "LONG/mms1").stdout.splitlines()
    heading = next(number for number, line in enumerate(shown) if line.startswith("start (UTC)"))
    assert len(shown) - heading - 1 == len(joined["stretches"])
    wrong = mms_regions_here("show", healthy, "LONG")
    assert wrong.returncode == 2 and "is no segment" in wrong.stderr


def test_a_spacecraft_is_named_once_in_an_error(healthy: Path, mms_regions_here: Command) -> None:
    assert open_segment(healthy, "A", "mms1").attrs["probe"] == 1
    with pytest.raises(UsageProblem, match=r"holds no Q/mms4;"):
        open_segment(healthy, "Q", "mms4")
    with pytest.raises(UsageProblem, match="'mms7' is no spacecraft"):
        open_segment(healthy, "A", "mms7")
    assert "mmsmms" not in mms_regions_here("show", healthy, "Q/mms4").stderr


def test_what_data_and_paths_are_called_is_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Square brackets in a table on a terminal are those of the data."""
    monkeypatch.setattr(Console, "_environ", {**TERMINAL, "COLUMNS": "80"})
    print_table(("[cluster]", "path"), [("[red]A/mms1", "/data/[cluster]/x")])
    said = ESCAPES.sub("", capsys.readouterr().out)
    assert "[cluster]" in said and "[red]A/mms1" in said and "/data/[cluster]/x" in said


def test_no_help_is_eaten_by_markup_and_each_names_debug(mms_regions_here: Command) -> None:
    groups = {(): app, ("model",): models, ("catalogue",): catalogues, ("config",): config}
    for words, group in groups.items():
        for entry in group.registered_commands:
            assert "--debug" in str(entry.epilog), (words, entry)
            assert "[" not in (entry.callback.__doc__ or ""), (words, entry)  # typer takes it for markup
    assert "--debug" in mms_regions_here("status", "--help").stdout


def test_a_dry_run_of_a_complete_store_says_so(
    healthy: Path, run_words: Callable[..., list[object]], mms_regions_here: Command
) -> None:
    done = mms_regions_here(*run_words(healthy, "--dry-run"))
    assert done.returncode == 0 and done.stdout == f"{healthy}: 5 segments, all complete; nothing to do\n"


def test_all_mistakes_of_a_profile_are_reported_at_once(mms_regions_here: Command, tmp_path: Path) -> None:
    profile = tmp_path / "x.toml"
    profile.write_text('margin = "wide"\nworkerz = 3\n[cluster]\nkind = "pbs"\n[cluster.cpu]\njobs = 0\n')
    for words in (["config", "show"], ["run", "--store", tmp_path / "x.zarr"], ["label", tmp_path / "x.zarr"]):
        done = mms_regions_here(*words, "--profile", profile)
        assert done.returncode == 3 and "Traceback" not in done.stderr
        assert all(name in done.stderr for name in ("margin", "workerz", "kind = 'pbs'", "cpu.jobs = 0")), done.stderr


def test_a_flag_overrides_offline_of_a_profile(mms_regions_here: Command) -> None:
    assert "--no-offline" in mms_regions_here("run", "--help").stdout
