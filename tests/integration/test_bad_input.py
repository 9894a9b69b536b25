"""Bad input of every kind gives a sentence, the exit code of its kind and no stack trace, and harms nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import xarray as xr
from cdf_files import (
    PRODUCTS,
    Arrays,
    Edit,
    Scene,
    constant,
    relabel_spacecraft,
    take_rows,
    truncate,
    write_files,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_regions.cli.main import main
from mms_regions.core.errors import InputProblem
from mms_regions.model.card import CARD_FILE, ModelCard, find_model
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import save_weights
from mms_regions.store.paths import run_folder
from mms_regions.store.read import card_of, open_segment

pytestmark = pytest.mark.system  # a minute or more

CONVENTIONS = ("corrected", "published")
HEADER = "event,t_start,t_end,B0,n0,probes\n"
FILL = np.float32(-1e31)

# --- the command, in this process -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def call(site: Path, *words: object, **environ: str) -> Said:
    """What `mms-regions` answers: with the models of the site and `environ`, and nothing of the user's own settings."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("MMS_", "SPEDAS_"))]:
            patch.delenv(name)
        ours = {
            "MMS_REGIONS_MODEL_DIR": str(site / "models"),
            "MMS_REGIONS_ARCHIVE_URL": "http://127.0.0.1:9",  # nobody is there
            "COLUMNS": "300",
        }
        for name, value in {**ours, **environ}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["mms-regions", *map(str, words)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def assert_refused(said: Said, code: int, *parts: str) -> None:
    """It ended with this code, its words on stderr hold all parts, and nobody was shown a stack trace."""
    assert said.code == code, said.err
    assert [part for part in parts if part not in said.err] == [], said.err
    assert "Traceback" not in said.err + said.out


# --- a site: data, models, one sound store --------------------------------------------------------------------------


def shipped_card(**changes: object) -> ModelCard:
    return find_model("waters2025", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card.model_copy(update=changes)


def weights(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {**RegionRNN().state_dict(), **changes}


def day(number: int) -> str:
    """Events lie days apart, so that none finds the files of another."""
    return str(np.datetime64("2017-05-01") + 3 * number)


def row(name: str, number: int) -> str:
    return f"{name},{day(number)}T03:58:22,{day(number)}T03:58:25,20,0.2,1\n"


def scene(**changes: object) -> Scene:
    """Fields and flows that vary, so that no two samples are alike."""
    wave = dict(
        b_gse=lambda t: 10 * np.sin(t[:, None] + [0, 1, 2]), v_e=lambda t: 900 * np.cos(2 * t[:, None] + [0, 1, 2])
    )
    return Scene(**{**wave, **changes})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of event A on day 0, its catalogue, a model, settings for small shards, and a sound store."""
    site = tmp_path_factory.mktemp("site")
    write_files(site / "data", 1, f"{day(0)}T03:58:20", 8, scene())
    (site / "one.csv").write_text(HEADER + row("A", 0))
    (site / "small.toml").write_text("shard_samples = 1024\nworkers = 0\n")
    (site / "plain").write_text("a file")
    (site / "other").mkdir()
    (site / "other" / "notes.txt").write_text("a folder of something else")
    save_weights(weights(), shipped_card(name="sound"), site / "models" / "sound")
    assert call(site, *sound_run(site), "--store", site / "sound.zarr").code == 0
    return site


def sound_run(site: Path) -> list[object]:
    data, profile = site / "data", site / "small.toml"
    return ["run", site / "one.csv", "--data-dir", data, "--profile", profile, "--model", "sound", "--offline"]


# --- catalogues -----------------------------------------------------------------------------------------------------

A = "A,2017-05-28T03:58:22,2017-05-28T03:58:26,20,0.2,1\n"
BAD_CATALOGUES: dict[str, tuple[str, tuple[str, ...]]] = {
    "t_end before t_start": (
        HEADER + A.replace("58:26", "58:00"),
        ("line 2", "column t_end", "2017-05-28T03:58:00", "must be after t_start (2017-05-28T03:58:22)"),
    ),
    "B0 zero": (HEADER + A.replace(",20,", ",0,"), ("line 2", "column B0 = '0'", "above 0", "nT")),
    "B0 negative": (HEADER + A.replace(",20,", ",-3,"), ("line 2", "column B0 = '-3'", "above 0")),
    "B0 NaN": (HEADER + A.replace(",20,", ",nan,"), ("line 2", "column B0 = 'nan'", "finite")),
    "n0 infinite": (HEADER + A.replace("0.2", "inf"), ("line 2", "column n0 = 'inf'", "finite", "cm^-3")),
    "unparsable time": (
        HEADER + A.replace("2017-05-28T03:58:22", "yesterday"),
        ("line 2", "column t_start = 'yesterday'", "such as 2017-05-28T03:58:30"),
    ),
    "duplicate event": (HEADER + A + A.lower(), ("line 3", "column event = 'a'", "unique", "line 2 has it")),
    "a name that leaves its folder": (HEADER + A.replace("A,", "../../x,"), ("line 2", "'../../x'", "letters, digits")),
    "unknown spacecraft": (HEADER + A.replace("0.2,1", "0.2,7"), ("line 2", "column probes = '7'", "1 to 4")),
    "a column missing": ("event,t_start,B0,n0\n", ("line 1", "column t_end is missing", "separated by commas")),
    "empty": ("", ("is empty", "event,t_start,t_end,B0,n0")),
    "a header alone": (HEADER, ("no events below it", "add a row")),
    "several bad rows": (
        HEADER + A.replace(",20,", ",0,") + "../x,never,2017-05-28T03:58:26,x,nan,9\n",
        ("line 2: column B0", "line 3: column event", "t_start = 'never'", "B0 = 'x'", "n0 = 'nan'", "probes = '9'"),
    ),
}


@pytest.mark.parametrize("case", BAD_CATALOGUES)
def test_a_bad_catalogue_is_refused_by_line_and_column(case: str, site: Path, tmp_path: Path) -> None:
    text, parts = BAD_CATALOGUES[case]
    bad, store = tmp_path / "bad.csv", tmp_path / "new.zarr"
    bad.write_text(text)
    words = [bad if word == site / "one.csv" else word for word in sound_run(site)]
    assert_refused(call(site, *words, "--store", store), 3, str(bad), *parts)
    assert_refused(call(site, "catalogue", "check", bad), 3, str(bad), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


@given(content=st.binary(max_size=80) | st.text(alphabet="A1.,-:T/\"'\n# x", max_size=80).map(str.encode))
@settings(max_examples=40)
def test_any_bytes_as_a_catalogue_give_a_sentence(content: bytes, site: Path) -> None:
    (site / "any.csv").write_bytes(HEADER.encode() + content)
    said = call(site, "catalogue", "check", site / "any.csv")
    assert_refused(said, 3, str(site / "any.csv"))  # 80 bytes hold no sound event


# --- words, settings, folders, stores -------------------------------------------------------------------------------

RUN = "run {site}/one.csv --data-dir {site}/data --profile {site}/small.toml --model sound --store {new} "
NO_STORE = ("no store there", "mms-regions run --store")
BAD_WORDS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "unknown spacecraft": (RUN + "--probes 7", 2, ("--probes '7'", "1 to 4")),
    "unknown event": (RUN + "--events A,Q", 2, ("'Q'", "no event of one", "Known events: A")),
    "no event": (RUN + "--events ''", 2, ("--events ''", "picks nothing", "Known events: A")),
    "missing catalogue": (
        "run {site}/none.csv --store {new}",
        3,
        ("no catalogue", "{site}/none.csv", "built-in: rogers2023"),
    ),
    "catalogue is a folder": ("run {site} --store {new}", 3, ("{site} cannot be read", "Give a readable CSV")),
    "no data folder named": (
        "run {site}/one.csv --model sound --workers 0 --store {new}",
        2,
        ("Where are the CDF files", "--data-dir", "MMS_DATA_DIR"),
    ),
    "workers below zero": (RUN + "--workers -1", 2, ("flag --workers", "workers = -1", "0 (no processes) or more")),
    "workers in words": (RUN + "--workers two", 2, ("--workers", "integer")),
    "unknown device": (RUN + "--device tpu", 2, ("flag --device", "'tpu'", "auto, cpu or cuda")),
    "unknown convention": (RUN + "--convention x", 2, ("flag --convention", "'x'", "corrected or published")),
    "unknown option": (RUN + "--bogus", 2, ("--bogus", "-h")),
    "unknown command": ("rum", 2, ("No such command 'rum'",)),
    "missing profile": (RUN + "--profile {site}/none.toml", 3, ("no profile {site}/none.toml", "TOML file")),
    "profile is a folder": (RUN + "--profile {site}", 3, ("{site} cannot be read", "TOML file")),
    "profile is no TOML": (RUN + "--profile {site}/one.csv", 3, ("{site}/one.csv is not TOML", "line 1")),
    "unknown model": (RUN + "--model none", 3, ("no model 'none'", "known are", "waters2025")),
    "model is a file": (RUN + "--model {site}/plain", 3, ("{site}/plain is a file", "mms-regions model import")),
    "model folder without a card": (RUN + "--model {site}/other", 3, ("no card.json in {site}/other",)),
    "default model not there": (
        RUN + "--model waters2025",
        3,
        ("weights of model waters2025 are not here", "github.com/carawaters", "`mms-regions model import best_model`"),
    ),
    "store is a file": (RUN + "--store {site}/plain", 5, ("{site}/plain exists", "choose another --store")),
    "store is something else": (RUN + "--store {site}/other", 5, ("{site}/other exists", "choose another --store")),
    "store below a file": (RUN + "--store {site}/plain/x.zarr", 5, ("{site}/plain/x.zarr", "Not a directory")),
    "store without a name": (RUN + "--store /", 2, ("/ cannot be a store", "give another path")),
    "store of other settings": (
        RUN + "--store {site}/sound.zarr --convention published",
        5,
        ("sound.zarr was made with other settings", "'corrected' there and 'published' here", "another --store"),
    ),
    "status of no store": ("status {new}", 2, NO_STORE),
    "status of no store as JSON": ("status {new} --json", 2, NO_STORE),
    "status of a file": ("status {site}/plain", 2, NO_STORE),
    "label of no store": ("label {new} --model sound --workers 0", 2, NO_STORE),
    "label of something else": ("label {site}/other --model sound --workers 0", 2, NO_STORE),
    "export of no store": ("export {new} --out {new}.out", 2, NO_STORE),
    "unknown export format": ("export {site}/sound.zarr --out {new} --format xml", 2, ("'xml'", "choose csv")),
    "export of an unknown event": ("export {site}/sound.zarr --out {new} --events Q", 2, ("'Q'", "Known events: A")),
    "export into a file": ("export {site}/sound.zarr --out {site}/plain", 5, ("{site}/plain", "another place")),
    "import of no file": ("model import {site}/none", 3, ("{site}/none, which is not there", "downloaded")),
    "import of another file": (
        "model import {site}/plain",
        3,
        ("{site}/plain is not the published file", "not loaded"),
    ),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_bad_words_are_refused_and_leave_nothing(case: str, site: Path, tmp_path: Path) -> None:
    words, code, parts = BAD_WORDS[case]
    names = {"site": site, "new": tmp_path / "new.zarr"}
    said = call(site, *shlex.split(words.format_map(names)))
    assert_refused(said, code, *(part.format_map(names) for part in parts))
    assert said.out == ""
    assert not list(tmp_path.iterdir())


def test_all_bad_values_of_a_profile_are_told_at_once(site: Path, tmp_path: Path) -> None:
    profile = tmp_path / "bad.toml"
    profile.write_text('shard_samples = 33\nmargin = "wide"\nbridge = nan\nworkers = -2\nconvention = "x"\nspeed = 9\n')
    said = call(site, "run", site / "one.csv", "--store", tmp_path / "new.zarr", "--profile", profile)
    parts = (
        "shard_samples = 33",
        "margin = 'wide'",
        "bridge = nan",
        "workers = -2",
        "convention = 'x'",
        "'speed'",
    )
    assert_refused(said, 3, f"profile {profile}", *parts, "a multiple of 32", "seconds", "settings are data_dir")


@pytest.mark.parametrize("origin", ["flag --data-dir", "environment MMS_DATA_DIR"])
@pytest.mark.parametrize("name", ["nowhere", "plain"])
def test_a_data_folder_that_is_none_is_told_once(name: str, origin: str, site: Path, tmp_path: Path) -> None:
    words: list[object] = [
        "run",
        site / "one.csv",
        "--model",
        "sound",
        "--workers",
        0,
        "--store",
        tmp_path / "new.zarr",
    ]
    folder = str(site / name)
    if origin.startswith("flag"):
        said = call(site, *words, "--data-dir", folder)
    else:
        said = call(site, *words, MMS_DATA_DIR=folder)
    assert_refused(said, 2, f"no folder {folder} ({origin})", "mms1/ to mms4/", "--data-dir")
    assert "failed" not in said.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told_before_anything_is_prepared(site: Path, tmp_path: Path) -> None:
    said = call(site, *sound_run(site), "--store", tmp_path / "new.zarr", "--device", "cuda")
    assert_refused(said, 5, "No GPU", "--device cpu")
    assert "prepared" not in said.err


def test_debug_shows_the_trace(site: Path) -> None:
    with pytest.raises(InputProblem, match="no catalogue"):
        call(site, "catalogue", "check", site / "none.csv", "--debug")


# --- models ---------------------------------------------------------------------------------------------------------


class RunsCode:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def put_model(site: Path, name: str, data: bytes, sha256: str = "") -> None:
    """A model folder with these weights, and a card that expects them (or others)."""
    card = shipped_card(name=name, weights_sha256=sha256 or hashlib.sha256(data).hexdigest())
    folder = site / "models" / name
    folder.mkdir(exist_ok=True)
    (folder / CARD_FILE).write_bytes(card.to_json())
    (folder / card.weights_file).write_bytes(data)


SOUND = safetensors.torch.save(weights(**{"fc.bias": torch.ones(6)}))  # other ones than of the model `sound`
BAD_MODELS: dict[str, tuple[Callable[[Path], bytes], str, tuple[str, ...]]] = {
    "nan": (
        lambda site: safetensors.torch.save(weights(**{"fc.bias": torch.full((6,), torch.nan)})),
        "",
        ("fc.bias holds values that are not finite", "Import or train"),
    ),
    "shape": (
        lambda site: safetensors.torch.save(weights(**{"fc.bias": torch.zeros(7)})),
        "",
        ("fc.bias has shape (7,) instead of (6,)", "Import or train"),
    ),
    "checksum": (lambda site: SOUND, "0" * 64, ("sha256 differs", "cut short or changed")),
    "truncated": (lambda site: SOUND[:999], hashlib.sha256(SOUND).hexdigest(), ("sha256 differs", "cut short")),
    "truncated-early": (lambda site: SOUND[:999], "", ("not a safetensors file", "Import or train")),
    "pickle": (lambda site: pickle.dumps(RunsCode(site / "ran")), "", ("not a safetensors file", "Import or train")),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_bad_model_is_refused_and_the_labels_before_stay(name: str, site: Path) -> None:
    make, sha256, parts = BAD_MODELS[name]
    put_model(site, name, make(site), sha256)
    store = site / "sound.zarr"
    with open_segment(store, "A", 1) as data:
        before = data.load()
    where = str(site / "models" / name)
    assert_refused(call(site, "model", "check", name), 3, where, *parts)
    assert_refused(call(site, "label", store, "--model", name, "--workers", 0), 3, where, *parts)
    assert_refused(call(site, *sound_run(site), "--store", store, "--model", name), 3, where, *parts)
    assert not (site / "ran").exists()
    with open_segment(store, "A", 1) as data:
        xr.testing.assert_identical(data.load(), before)


def test_a_bad_model_is_refused_before_anything_is_prepared(site: Path, tmp_path: Path) -> None:
    put_model(site, "bad", SOUND[:999])
    words = [*sound_run(site), "--store", tmp_path / "new.zarr"]
    said = call(site, *words, "--model", "bad")
    assert_refused(said, 3, "not a safetensors file")
    assert "prepared" not in said.err
    assert call(site, *words).code == 0  # and with a sound model the same store goes on


def test_a_pickle_that_would_run_code_is_not_loaded(site: Path, tmp_path: Path) -> None:
    content = pickle.dumps(RunsCode(tmp_path / "ran"))
    (tmp_path / "best_model").write_bytes(content)
    assert_refused(call(site, "model", "import", tmp_path / "best_model"), 3, "not the published file", "not loaded")
    # Even where a card expects these very bytes, only tensors are taken from them.
    put_model(site, "hostile", SOUND)
    expected = dict(name="hostile", source_sha256=hashlib.sha256(content).hexdigest(), source_bytes=len(content))
    (site / "models" / "hostile" / CARD_FILE).write_bytes(shipped_card(**expected).to_json())
    said = call(site, "model", "import", tmp_path / "best_model", "--name", "hostile")
    assert_refused(said, 3, "cannot be read as tensors and nothing else", "refused")
    assert not (tmp_path / "ran").exists()
    pickle.loads(content).close()
    assert (tmp_path / "ran").exists()  # what would have happened


@given(content=st.binary(max_size=200) | st.integers(0, len(SOUND) - 1).map(lambda n: SOUND[:n]))
@settings(max_examples=25)
def test_any_bytes_as_weights_give_a_sentence(content: bytes, site: Path) -> None:
    put_model(site, "any", content)
    assert_refused(call(site, "model", "check", "any"), 3, str(site / "models" / "any"))


# --- segments: one bad among sound ones -----------------------------------------------------------------------------

Paths = Mapping[str, Path]


@dataclass(frozen=True)
class Spoilt:
    """How the files of a segment are spoilt, and what is said of it in each convention; None: it is complete."""

    corrected: tuple[str, ...] | None
    published: tuple[str, ...] | None
    edit: Mapping[str, Edit] = field(default_factory=dict)
    scene: Scene = field(default_factory=scene)
    products: tuple[str, ...] = PRODUCTS
    after: Callable[[Paths], None] = lambda paths: None

    def says(self, convention: str) -> tuple[str, ...] | None:
        return self.corrected if convention == "corrected" else self.published


def alike(*parts: str, **how: object) -> Spoilt:
    return Spoilt(parts, parts, **how)


def filled(name: str, value: float, rows: slice = slice(None)) -> Edit:
    def edit(arrays: Arrays) -> Arrays:
        spoilt = arrays[name].copy()
        spoilt[rows] = value
        return {**arrays, name: spoilt}

    return edit


def without(name: str) -> Edit:
    return lambda arrays: {key: values for key, values in arrays.items() if key != name}


def going_back(arrays: Arrays) -> Arrays:
    n = len(arrays["epoch"])
    return take_rows(arrays, np.r_[: n // 2, n // 4 : n])


def nothing_from(*features: str) -> tuple[str, ...]:
    return ("no sample from 20", f"{', '.join(features)} never", "fill values", "newer versions")


def background_takes_all(row: int) -> Edit:
    """One ion sample whose background is its whole density."""

    def edit(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays["numberdensity_bg"][row] = arrays["numberdensity"][row]
        return arrays

    return edit


SOUND_SEGMENTS = ("first", "middle", "last")
EMPTY = ("fill-b", "fill-n", "all-flagged", "infinite-b", "infinite-n", "zero-density")  # nothing was measured there
EMPTY_B, EMPTY_N = ("no usable sample of magnetic field", "flagged"), ("no usable sample of electrons", "newer")
SPOILT: dict[str, Spoilt] = {
    "no-files": alike("no file of", "fpi_brst_l2_dis-moms", "edp_brst_l2_dce", "/all", "--data-dir", products=()),
    "no-ions": alike("no file of fpi_brst_l2_dis-moms", products=PRODUCTS[1:]),
    "no-fast-field": Spoilt(None, ("no file of edp_fast_l2_dce",), products=PRODUCTS[:-1]),
    "truncated": alike("mms1_fpi_brst_l2_des-moms_2017", "trunc", "fetch", after=lambda p: truncate(p["des"], 0.6)),
    "empty": alike("mms1_edp_brst_l2_dce_2017", "not a CDF", "fetch", after=lambda p: truncate(p["edp_brst"], 0)),
    "text": alike("not a CDF", "fetch", after=lambda p: p["fgm"].write_text("<html>503</html>" * 99) and None),
    "of-mms2": alike("mms1_fgm_brst_l2_2017", "holds mms2", "fetch", after=lambda p: relabel_spacecraft(p["fgm"], 2)),
    "no-background": alike(
        "mms1_fpi_brst_l2_dis-moms_2017",
        "no variable mms1_dis_numberdensity_bg_brst",
        "fetch",
        edit={"dis": without("numberdensity_bg")},
    ),
    "no-flag": alike("mms1_fgm_brst_l2_2017", "no variable mms1_fgm_flag", "fetch", edit={"fgm": without("flag")}),
    "backwards": alike("fgm_brst_l2_2017", "Epoch runs backwards at row 512", "fetch", edit={"fgm": going_back}),
    "fill-b": Spoilt(EMPTY_B, nothing_from("Bx", "By", "Bz"), edit={"fgm": filled("b_gse", FILL)}),
    "fill-n": Spoilt(EMPTY_N, nothing_from("ne"), edit={"des": filled("numberdensity", FILL)}),
    "all-flagged": Spoilt(EMPTY_B, nothing_from("Bx", "By", "Bz"), edit={"fgm": filled("flag", 1)}),
    "infinite-b": Spoilt(EMPTY_B, nothing_from("Bx", "By", "Bz"), edit={"fgm": filled("b_gse", np.inf)}),
    "infinite-n": Spoilt(EMPTY_N, nothing_from("ne"), edit={"des": filled("numberdensity", np.inf)}),
    "infinite-once": Spoilt(None, None, edit={"edp_brst": filled("dce_gse", -np.inf, slice(30_000, 32_000))}),
    "no-ions-left-once": Spoilt(None, None, edit={"dis": background_takes_all(20)}),
    "zero-density": Spoilt(
        ("no usable sample of electrons, ions",),
        nothing_from("vix", "viy", "viz"),
        scene=Scene(n_i=constant(0), n_e=constant(0)),
    ),
}
EVENTS = ("first", *list(SPOILT)[:8], "middle", *list(SPOILT)[8:], "last")


@dataclass(frozen=True)
class Runs:
    """A run of all events with the files spoilt, and one of the sound segments alone."""

    convention: str
    said: Said
    spoilt: Path
    sound: Path
    reasons: Mapping[str, str]


def write_event(folder: Path, number: int, spoilt: Spoilt) -> None:
    start = f"{day(number)}T03:58:20"
    spoilt.after(write_files(folder, 1, start, 8, spoilt.scene, products=spoilt.products, edit=spoilt.edit))


@pytest.fixture(scope="module")
def data(site: Path) -> Path:
    """The files of all events, and their catalogue."""
    for number, name in enumerate(EVENTS):
        write_event(site / "all", number, SPOILT.get(name, Spoilt(None, None)))
    (site / "all" / "small.toml").write_text("shard_samples = 2048\nworkers = 0\n")
    (site / "all" / "list.csv").write_text(HEADER + "".join(row(name, i) for i, name in enumerate(EVENTS)))
    return site / "all"


@pytest.fixture(scope="module", params=CONVENTIONS)
def runs(request: pytest.FixtureRequest, site: Path, data: Path) -> Runs:
    convention = str(request.param)
    words = ["run", data / "list.csv", "--data-dir", data, "--profile", data / "small.toml", "--model", "sound"]
    words += ["--convention", convention, "--json", "--store"]
    alone = call(site, *words, data / f"{convention}-sound.zarr", "--events", ",".join(SOUND_SEGMENTS))
    assert alone.code == 0, alone.err
    said = call(site, *words, data / f"{convention}-spoilt.zarr")
    answer = json.loads(said.out)
    assert {key.partition("/")[0] for key in answer["no_data"]} == set(EMPTY)
    reasons = {key.partition("/")[0]: why for key, why in (answer["failed"] | answer["no_data"]).items()}
    return Runs(convention, said, data / f"{convention}-spoilt.zarr", data / f"{convention}-sound.zarr", reasons)


def test_a_run_with_bad_segments_exits_4_and_names_each(runs: Runs) -> None:
    bad = {name for name, spoilt in SPOILT.items() if spoilt.says(runs.convention) is not None}
    assert set(runs.reasons) == bad
    assert_refused(
        runs.said,
        4,
        *(f"{'no data' if n in EMPTY else 'failed'} {n}/mms1: {reason}" for n, reason in runs.reasons.items()),
    )
    assert "unexpected" not in runs.said.err and "Warning" not in runs.said.err


@pytest.mark.parametrize("name", SPOILT)
def test_a_bad_segment_has_its_reason_in_the_index(name: str, runs: Runs, site: Path) -> None:
    parts = SPOILT[name].says(runs.convention)
    rows = json.loads(call(site, "status", runs.spoilt, "--json").out)["segments"]
    found = next(row for row in rows if row["segment"] == f"{name}/mms1")
    status = "complete" if parts is None else "no_data" if name in EMPTY else "failed"
    assert found["status"] == status, found["reason"]
    assert [part for part in parts or () if part not in found["reason"]] == [], found["reason"]


@pytest.mark.parametrize("name", SOUND_SEGMENTS)
def test_the_sound_segments_beside_bad_ones_are_unharmed(name: str, runs: Runs) -> None:
    with open_segment(runs.spoilt, name, 1) as beside_bad, open_segment(runs.sound, name, 1) as alone:
        xr.testing.assert_equal(beside_bad, alone)
        assert (alone["label"] >= 0).mean() > 0.5


def test_no_infinite_value_comes_through(runs: Runs) -> None:
    with open_segment(runs.spoilt, "infinite-once", 1) as data:
        assert not np.isinf(data["features"]).any() and not np.isinf(data["e_gsm"]).any()
        assert (data["label"] >= 0).any() and (data["label"] < 0).any()


def test_a_store_with_bad_segments_can_still_be_labelled_anew(runs: Runs, site: Path, tmp_path: Path) -> None:
    save_weights(weights(**{"fc.bias": torch.arange(6.0)}), shipped_card(name="second"), site / "models" / "second")
    store = tmp_path / runs.spoilt.name
    for path in (runs.spoilt, run_folder(runs.spoilt)):
        shutil.copytree(path, tmp_path / path.name)
    assert_refused(call(site, "label", store, "--model", "second", "--workers", 0), 4, "labelled")
    with open_segment(store, "first", 1) as data:
        assert card_of(data)["name"] == "second"
        assert (data["label"] >= 0).any()


def test_a_run_of_which_nothing_can_be_made_says_so(site: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = tmp_path / "none.zarr"
    said = call(site, *sound_run(site), "--data-dir", tmp_path / "data", "--store", store)
    assert_refused(said, 4, "There is no file of 1 segment under", str(tmp_path / "data"), "--data-dir")
    assert not store.exists() and not store.with_name("none.zarr.run").exists()
