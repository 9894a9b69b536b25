"""Every command and every piece of Python in the documentation, and in the command's own help, is run or checked."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import typer.main
from archive_faults import LoopbackArchive
from documented import PAGES, ROOT, Line, blocks, commands, examples, inline, unknown_words

from mms_regions.cli.main import app

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
ROOT_COMMAND = typer.main.get_command(app)
HELP = dict(examples(ROOT_COMMAND))

# What is not run here, by how the line begins: why, and the test that does run it.
NOT_RUN: dict[str, tuple[str, str]] = {
    r"make (demo|test|venv|test-all|test-system|coverage|docs|dist)": ("minutes; a part of them is this", ".ci/run"),
    r"\.venv/bin/pre-commit": ("changes the clone", ".pre-commit-config.yaml"),
    r"(\S*/)?mms-regions model fetch": ("the authors' repository", "tests/integration/test_model_fetch.py"),
    r"mms-regions model import": ("the authors' file", "tests/parity/test_published_weights.py"),
    r"mms-regions demo": ("half a minute", "tests/integration/test_demo.py"),
    r"mms-regions train": ("five minutes", "tests/unit/training/test_train.py"),
    r"mms-regions simulate": ("half an hour", "tests/integration/test_simulate.py"),
    r"mms-regions doctor": ("seconds of imports", "tests/integration/test_doctor_command.py"),
    r"mms-regions --show-completion": ("asks which shell it is in", "tests/integration/test_command_line.py"),
    r"mms-regions serve-archive": ("serves until Ctrl-C", "tests/unit/synthetic/test_archive_server.py"),
    r"(docker|apptainer) ": ("container tools, minutes", "tests/containers.sh"),
    r"python3 -m venv|\S+/bin/pip": ("an installation, minutes", ".ci/run"),
    r"scancel ": ("a cluster", "tests/integration/test_jobs.py"),
    r"(IMAGE=\S+ BINDS=\S+ |PROFILE=\S+ |for i in .*)?sbatch": ("a cluster", "tests/integration/test_jobs.py"),
}
# Blocks without a language that are what a command says, not what is typed, by how they begin.
SAID = ("SLURM         ok",)
# Events of the docs that would take longer than they tell, and what those names of places mean here.
SMALLER = {"A,J,O": "A", "A,C-F": "A", "A-F": "A", "/scratch/$USER": ".", "/project/me": ".", "/data/mms": "mms"}
SERVED_AT = "http://127.0.0.1:8181/mms/sdc/public/files/api/v1"


def is_run(line: Line) -> bool:
    return line.is_ours and not any(re.match(start, line.text) for start in NOT_RUN)


@dataclass(frozen=True)
class Scratch:
    """A folder in which the lines of the docs are typed, one after another."""

    folder: Path
    url: str
    command: Command

    def begin(self) -> None:
        """Each page writes the synthetic files that it needs."""
        shutil.rmtree(self.folder / "synthetic", ignore_errors=True)

    def type(self, line: Line) -> None:
        words = [self._meant(word) for word in line.words[1:]]
        into = words.index(">") if ">" in words else len(words)  # a file that the shell would write
        words, files = words[:into], words[into + 1 :]
        if "--workers" in words:
            words[words.index("--workers") + 1] = "0"
        if words[0] in ("run", "fetch", "estimate", "synthesise") and "--probes" not in words:
            words += ["--probes", "4"]  # one is enough to tell whether a line works
        env = {
            "HOME": str(self.folder),
            "MMS_REGIONS_ARCHIVE_URL": self.url,
            "MMS_REGIONS_MODEL": "analytic-layer",
            "MMS_REGIONS_WORKERS": "0",
            "MMS_REGIONS_DEVICE": "cpu",
        }
        with contextlib.chdir(self.folder):
            done = self.command(*words, env=env)
        assert done.returncode == 0, f"{line.where}: {line.text}\n{done.stderr}"
        for file in files:
            (self.folder / file).write_text(done.stdout)

    def _meant(self, word: str) -> str:
        word = re.sub(r"^~(?=/|$)", str(self.folder), word).replace(SERVED_AT, self.url)
        for told, meant in SMALLER.items():
            word = word.replace(told, meant)
        return word


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command) -> Iterator[Scratch]:
    """The synthetic files of event A behind a loopback archive, and the store a.zarr made from them."""
    folder = tmp_path_factory.mktemp("docs")
    done = mms_regions_here(
        "synthesise", "--events", "A", "--probes", "4", "--data-dir", folder / "archive", "--seed", 7
    )
    assert done.returncode == 0, done.stderr
    (folder / "my-events.csv").write_text(
        "event,t_start,t_end,B0,n0\nX,2017-07-11T22:34:00,2017-07-11T22:34:06,12,0.2\n"
    )
    for name in ("cluster.toml", "my-cluster.toml"):
        (folder / name).write_text("workers = 0\n")
    with LoopbackArchive(folder / "archive") as archive:
        made = Scratch(folder, archive.sdc_url, mms_regions_here)
        run = ("mms-regions", "run", "--events", "A", "--data-dir", "~/mms", "--store")
        made.type(Line("fixture", "a.zarr", (*run, "a.zarr")))
        for store, end in product(("all.zarr", "catalogue.zarr"), ("", ".run")):
            shutil.copytree(folder / f"a.zarr{end}", folder / f"{store}{end}")
        yield made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_line_is_known_and_what_can_be_run_here_works(page: Path, scratch: Scratch) -> None:
    scratch.begin()
    for line in commands(page):
        if line.text.startswith(SAID):
            break
        if line.words[0] == "export":
            continue
        known = line.is_ours or any(re.match(start, line.text) for start in NOT_RUN)
        assert known, f"{line.where}: what is `{line.text}`? Have it run here, or list it in NOT_RUN or SAID"
        if line.is_ours:
            assert unknown_words(line, ROOT_COMMAND) == [], f"{line.where}: {line.text}"
        if is_run(line):
            scratch.type(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_words_in_running_text_are_those_of_the_command(page: Path) -> None:
    for line in inline(page):
        assert unknown_words(line, ROOT_COMMAND) == [], f"{line.where}: {line.text}"


@pytest.mark.parametrize("name", HELP)
def test_the_help_of_each_command_ends_with_examples_that_work(name: str, scratch: Scratch) -> None:
    scratch.begin()
    assert HELP[name], f"{name} --help has no line that begins with `Example: `"
    for line in HELP[name]:
        assert line.is_ours and unknown_words(line, ROOT_COMMAND) == []
        if is_run(line):
            scratch.type(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_and_toml_in_the_docs_work(page: Path, scratch: Scratch) -> None:
    names: dict[str, object] = {}
    if any(block.language == "python" for block in blocks(page)):
        for line in commands(page):  # what a page reads in Python may be exports of the fixture's store
            if line.is_ours and line.words[1:3] == ("export", "a.zarr"):
                scratch.type(line)
    with contextlib.chdir(scratch.folder), contextlib.redirect_stdout(sys.stderr):
        for block in blocks(page):
            if block.language == "python":
                here = block.text.replace("~/", "./")  # the home folder that commands have
                exec(compile(here, f"{block.page}:{block.line}", "exec"), names)  # noqa: S102
            elif block.language == "toml":
                assert tomllib.loads(block.text)


def test_what_is_not_run_is_there_and_is_run_elsewhere() -> None:
    texts = [line.text for page in PAGES for line in commands(page)]
    texts += [line.text for lines in HELP.values() for line in lines]
    for start, (_, by) in NOT_RUN.items():
        assert (ROOT / by).exists(), by
        assert any(re.match(start, text) for text in texts), f"NOT_RUN lists {start}, which no page has"
    assert sum(1 for page in PAGES for line in commands(page) if is_run(line)) > 15
