"""Every class of error, through the commands that meet it: one sentence on stderr, and its exit code."""

from __future__ import annotations

import shlex
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from mms_regions.core import errors
from mms_regions.model.card import CARD_FILE

Command = Callable[..., "CompletedProcess[str]"]

HEADER = "event,t_start,t_end,B0,n0,probes\n"
SOUND = "A,2017-07-11T10:34:00,2017-07-11T10:34:06,12.0,0.2,1\n"
RUN = "run {list} --data-dir {data} --profile {small} --offline --model first --store {new}"
SELECTING = (  # commands that take --events and --probes
    RUN,
    "fetch {list} --data-dir {new}",
    "synthesise {list} --data-dir {new}",
    "catalogue show {list}",
    "export {store} --out {new}",
)


@dataclass(frozen=True)
class Refused:
    """What is typed, with which variables set, the exit code, and what the sentence must name."""

    words: str
    code: int
    names: str
    env: dict[str, str] = field(default_factory=dict)


def each(commands: dict[str, str], code: int, names: str, **env: str) -> dict[str, Refused]:
    return {what: Refused(words, code, names, env) for what, words in commands.items()}


INTERVAL = "--interval 2017-05-28T03:58:22/2017-05-28T03:58:26"
CASES = {
    # 2: words
    **each(
        {
            f"{words.split()[0]}: no store": words
            for words in (
                "status {nowhere}",
                "verify {nowhere}",
                "label {nowhere} --model first",
                "export {nowhere} --out {new}",
            )
        },
        2,
        "no store there",
    ),
    **each(
        {
            f"{words.split()[0]}: not a store": words
            for words in (
                "status {folder}",
                "verify {folder}",
                "label {folder} --model first",
                "export {folder} --out {new}",
            )
        },
        2,
        "no store there",
    ),
    **each(
        {f"{words.split()[0]}: unknown event": f"{words} --events Q" for words in SELECTING},
        2,
        "'Q'",
    ),
    **each(
        {f"{words.split()[0]}: unknown spacecraft": f"{words} --probes 7" for words in SELECTING},
        2,
        "--probes '7'",
    ),
    "interval: not two times": Refused(f"run {INTERVAL[:30]} --store {{new}}", 2, "--interval"),
    "interval and catalogue": Refused(f"run {{list}} {INTERVAL} --store {{new}}", 2, "exclude each other"),
    "interval with B0 = 0": Refused(f"run {INTERVAL} --b0 0 --n0 1 --store {{new}}", 2, "--b0"),
    "B0 without interval": Refused("run {list} --b0 20 --store {new}", 2, "--b0 and --n0 go with --interval"),
    "no such command": Refused("rum", 2, "No such command 'rum'"),
    "no such command below": Refused("model rum", 2, "No such command 'rum'"),
    "no such option": Refused("status {store} --speed 9", 2, "--speed"),
    "an option without its value": Refused("status {store} --json --watch=", 2, "--watch"),
    "a missing option": Refused("run {list}", 2, "--store"),
    "a missing argument": Refused("status", 2, "argument 'store'; run `mms-regions status --help` for usage"),
    "too many words": Refused("catalogue list of mine", 2, "of mine"),
    "not a number": Refused("synthesise --data-dir {new} --seed x", 2, "--seed"),
    "setting in a flag": Refused(f"{RUN} --device tpu", 2, "flag --device"),
    "setting in the environment": Refused(RUN, 2, "MMS_REGIONS_MARGIN", {"MMS_REGIONS_MARGIN": "wide"}),
    "config show: setting in the environment": Refused(
        "config show", 2, "MMS_REGIONS_MARGIN", {"MMS_REGIONS_MARGIN": "wide"}
    ),
    "unknown format": Refused("export {store} --out {new} --format xml", 2, "'xml'"),
    "a folder of data that is none": Refused(RUN.replace("{data}", "{nowhere}"), 2, "no folder"),
    "a store without a name": Refused("run {list} --store /", 2, "/ cannot be a store"),
    "redo of what is not there": Refused(f"{RUN.replace('{new}', '{store}')} --redo Q", 2, "Q"),
    # 3: input
    **each(
        {
            f"{words.split()[0]}: {what}": words.format_map({"bad": f"{{{bad}}}"})
            for what, bad in {
                "missing catalogue": "nowhere",
                "bad rows": "bad_rows",
                "empty catalogue": "empty",
            }.items()
            for words in (
                "run {bad} --store {{new}}",
                "fetch {bad} --data-dir {{new}}",
                "catalogue check {bad}",
                "catalogue show {bad}",
                "synthesise {bad} --data-dir {{new}}",
            )
        },
        3,
        "catalogue",
    ),
    "synthesise: no n0": Refused("synthesise {no_n0} --data-dir {new}", 3, "B0 or n0 is missing for A; give both"),
    "an interval that ends before it begins": Refused("catalogue check {backwards}", 3, "t_end"),
    "setting in the profile": Refused(f"{RUN} --profile {{bad_profile}}", 3, "margin"),
    "config show: setting in the profile": Refused("config show --profile {bad_profile}", 3, "margin"),
    "config show: no such profile": Refused("config show --profile nowhere", 3, "no profile nowhere"),
    "doctor: no such profile": Refused("doctor --profile nowhere", 3, "no profile nowhere"),
    "doctor: a bad [cluster]": Refused("doctor --profile {bad_cluster}", 3, "cpu.jobs"),
    "run: no such profile": Refused(f"{RUN} --profile nowhere", 3, "no profile nowhere"),
    "fetch: no such profile": Refused("fetch {list} --data-dir {new} --profile nowhere", 3, "no profile nowhere"),
    **each(
        {
            f"{words.split(' {')[0].split(' --')[0]}: {bad} model": words.replace("{bad}", bad)
            for bad in ("unknown", "truncated", "hostile")
            for words in (f"{RUN} --model {{bad}}", "label {store} --model {bad} --workers 0", "model check {bad}")
        },
        3,
        "model",
    ),
    "model show: unknown": Refused("model show unknown", 3, "unknown"),
    "model import: unknown card": Refused("model import {empty} --name unknown", 3, "unknown"),
    "model import: another file": Refused("model import {bad_rows}", 3, "not the published file"),
    "weights that are not here": Refused(f"{RUN} --model waters2025", 3, "mms-regions model fetch"),
    # 4: no data
    "offline without data": Refused(RUN.replace("{data}", "{folder}"), 4, "There is no file of 1 segment under"),
    # 5: the machine
    "a store of other settings": Refused(RUN.replace("{new}", "{store}") + " --convention published", 5, "published"),
    "a store that is something else": Refused(RUN.replace("{new}", "{folder}"), 5, "exists"),
    "a store that is a device": Refused(RUN.replace("{new}", "/dev/null"), 5, "/dev/null exists"),
    "a store that is a link to nothing": Refused(RUN.replace("{new}", "{gone}"), 5, "{gone} is a link to {nowhere},"),
    "a store that is a link to itself": Refused(RUN.replace("{new}", "{itself}"), 5, "{itself} is a link to"),
    "status: a store that is a link to itself": Refused("status {itself}", 5, "{itself} is a link to"),
    "a disk that cannot be written to": Refused(RUN.replace("{new}", "/proc/x.zarr"), 5, "/proc/x.zarr"),
    "export: a file in the way": Refused("export {store} --out {bad_rows}", 5, "bad.csv"),
    "synthesise: a disk that cannot be written to": Refused("synthesise {list} --data-dir /proc/x", 5, "/proc/x"),
    "a port that is taken": Refused("serve-archive {data} --port {port}", 5, "{port}"),
    "an address where no scheduler is": Refused(f"{RUN} --profile {{nobody}}", 5, "127.0.0.1"),
    "no SLURM here": Refused(f"{RUN} --profile slurm-cpu", 5, "sbatch"),
}

# Runs that were planned when the error was met: a store without segments stays, and the same command goes on with it.
BEGUN = {"run: truncated model", "run: hostile model", "an address where no scheduler is", "no SLURM here"}


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory, data_dir: Path, profile: Path, healthy: Path, model_dir: Path
) -> dict[str, object]:
    """What the words mean: sound things beside bad ones of every kind; only to be read."""
    folder = tmp_path_factory.mktemp("refusals")
    texts = {
        "list.csv": HEADER + SOUND,
        "bad.csv": HEADER + SOUND.replace("12.0", "-1"),
        "backwards.csv": HEADER + SOUND.replace("10:34:06", "10:33:06"),
        "empty.csv": "",
        "no_n0.csv": HEADER + SOUND.replace("0.2", ""),
        "bad.toml": 'margin = "wide"\n',
        "bad_cluster.toml": '[cluster]\nkind = "slurm"\n[cluster.cpu]\njobs = 0\n',
        "nobody.toml": '[cluster]\nkind = "address"\naddress = "tcp://127.0.0.1:9"\nstart_timeout = 1\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    for path in (healthy, healthy.with_name("all.zarr.run")):
        shutil.copytree(path, folder / path.name)
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("something else")
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "itself").symlink_to("itself")
    for bad in ("truncated", "hostile"):
        model = Path(shutil.copytree(model_dir / "second", folder / "models" / bad))
        (model / CARD_FILE).write_text((model / CARD_FILE).read_text().replace('"second"', f'"{bad}"'))
        (weights,) = model.glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:999] if bad == "truncated" else b"cos\nsystem\n(S'false'\ntR.")
    for sound in ("first", "second"):
        shutil.copytree(model_dir / sound, folder / "models" / sound)
    named = {Path(name).stem: folder / name for name in texts}
    return {
        **named, "bad_rows": folder / "bad.csv", "bad_profile": folder / "bad.toml", "folder": folder / "folder",
        "nowhere": folder / "nowhere", "gone": folder / "gone", "itself": folder / "itself", "data": data_dir,
        "small": profile, "store": folder / "all.zarr",
        "models": folder / "models",
    }  # fmt: skip


def assert_one_sentence(done: CompletedProcess[str], code: int, names: str) -> None:
    assert done.returncode == code, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("mms-regions: ")]
    assert len(told) == 1, done.stderr
    sentence = done.stderr[done.stderr.index("mms-regions: ") :].rstrip()
    assert names in sentence, sentence
    assert all(line.startswith("  ") for line in sentence.splitlines()[1:]), sentence  # a list of what is wrong
    assert not {"Traceback", "╭", "Usage:"} & {word for word in ("Traceback", "╭", "Usage:") if word in done.stderr}
    assert done.stdout == ""


@pytest.mark.parametrize("case", CASES)
def test_each_error_is_one_sentence_with_its_exit_code(
    case: str, places: dict[str, object], mms_regions_here: Command, tmp_path: Path
) -> None:
    refused = CASES[case]
    if case == "no SLURM here" and shutil.which("sbatch"):
        pytest.skip("there is an sbatch here")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        meant = {**places, "new": tmp_path / "new", "port": taken.getsockname()[1]}
        words = [word.format_map(meant) for word in shlex.split(refused.words)]
        done = mms_regions_here(*words, env={"MMS_REGIONS_MODEL_DIR": str(places["models"]), **refused.env})
    assert_one_sentence(done, refused.code, refused.names.format_map(meant))
    assert case in BEGUN or not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("words", [RUN, "label {store}"])
def test_no_gpu_is_one_sentence(
    words: str, places: dict[str, object], mms_regions_here: Command, tmp_path: Path
) -> None:
    meant = {**places, "new": tmp_path / "new"}
    typed = [word.format_map(meant) for word in shlex.split(words)]
    done = mms_regions_here(*typed, "--model", "second", "--workers", 0, "--device", "cuda")
    assert_one_sentence(done, 5, "GPU")


def test_every_kind_of_error_has_a_case_or_a_test_of_its_own() -> None:
    kinds = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.MMSRegionsError) and kind is not errors.MMSRegionsError
    }
    assert kinds - {case.code for case in CASES.values()} == {errors.Interrupted.exit_code}  # test_stop.py
