"""`model fetch` takes the file of the card and no other; whatever a server sends instead leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from archive_faults import Fault, LoopbackArchive

from mms_regions.archive.http import Limits
from mms_regions.core.files import sha256_of
from mms_regions.model.card import CARD_FILE, find_model
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import load_model

Command = Callable[..., "CompletedProcess[str]"]

AT = "/weights/best_model"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file as authors publish it, under `site`, and in `models` the card `toy`, which has its size and sha256."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        content = io.BytesIO()
        torch.save(RegionRNN().state_dict(), content)
    data = content.getvalue()
    shipped = find_model("waters2025", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card
    own = {"name": "toy", "source_sha256": hashlib.sha256(data).hexdigest(), "source_bytes": len(data)}
    for folder in ("site", "models/toy"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "models" / "toy" / CARD_FILE).write_bytes(shipped.model_copy(update=own).to_json())
    (tmp_path / "site" / "best_model").write_bytes(data)
    return tmp_path / "site" / "best_model"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"MMS_REGIONS_MODEL_DIR": str(tmp_path / "models")}


def files(folder: Path) -> dict[str, str]:
    """Everything in a folder, by path."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def fetch(
    command: Command, environ: dict[str, str], path: Path, *faults: Fault, name: str = "toy", at: str = AT
) -> CompletedProcess[str]:
    """Fetch the model from a server that has this file."""
    with LoopbackArchive(path.parent, faults, extra={AT: path}) as archive:
        return command("model", "fetch", name, "--url", archive.url + at, env=environ)


def test_the_file_of_the_card_becomes_a_model_even_after_a_broken_answer(
    mms_regions_here: Command, environ: dict[str, str], published: Path
) -> None:
    done = fetch(mms_regions_here, environ, published, Fault("cut"))
    assert done.returncode == 0, done.stderr
    model = find_model("toy", environ)
    assert f"toy: weights are in {model.folder}\n" in done.stdout
    assert f"Licence: {model.card.license}" in done.stdout
    expected = torch.load(published, weights_only=True)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_model(model).state_dict().items())
    assert len(files(Path(environ["MMS_REGIONS_MODEL_DIR"]))) == 2


REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "one bit other": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), r"its sha256 is not [0-9a-f]{64}\. It was not"),
    "shorter": (lambda data: data[:-1], r"its sha256 is not [0-9a-f]{64}\. It was not loaded"),
    "HTML": (lambda data: b"<html><body>Sign in to go on</body></html>", "is not the published file of model toy"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_another_file_is_refused_and_leaves_nothing(
    mms_regions_here: Command, environ: dict[str, str], published: Path, kind: str
) -> None:
    change, message = REFUSED[kind]
    published.write_bytes(change(published.read_bytes()))
    assert_refused(mms_regions_here, environ, published, 3, message)


def test_a_longer_file_is_not_even_received(
    mms_regions_here: Command, environ: dict[str, str], published: Path
) -> None:
    published.write_bytes(published.read_bytes() + bytes(10_000_000))
    assert_refused(mms_regions_here, environ, published, 5, r"toy: the server announces [\d,]+ bytes, more than [\d,]+")


def assert_refused(
    command: Command, environ: dict[str, str], path: Path, code: int, message: str, *faults: Fault, at: str = AT
) -> None:
    """With this exit code and a sentence, the model folder being as it was before."""
    models = Path(environ["MMS_REGIONS_MODEL_DIR"])
    before = files(models)
    done = fetch(command, environ, path, *faults, at=at)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    *waits, said = done.stderr.splitlines()
    assert waits == [] and said.startswith("mms-regions: "), done.stderr
    assert re.search(message, said), said
    assert files(models) == before and find_model("toy", environ).weights is None


def test_a_missing_file_says_so_and_how_to_get_it(
    mms_regions_here: Command, environ: dict[str, str], published: Path
) -> None:
    message = r"toy: the server answers 404 .*/weights/other, tried once.*mms-regions model import"
    assert_refused(mms_regions_here, environ, published, 5, message, at="/weights/other")


@pytest.mark.parametrize(("kind", "said"), [("cut", "too early|bytes of"), ("busy", "answers 503")])
def test_a_server_that_never_gives_all_of_it_is_named_after_some_attempts(
    mms_regions_here: Command,
    environ: dict[str, str],
    published: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    said: str,
) -> None:
    monkeypatch.setattr("mms_regions.archive.http.Limits", lambda: Limits(wait_initial=0.01, wait_max=0.02))
    fault = Fault(kind, times=0)  # type: ignore[arg-type]
    assert_refused(mms_regions_here, environ, published, 5, f"toy: .*({said}).*tried 5 times", fault)


def test_a_card_without_a_file_to_check_against_fetches_nothing(
    mms_regions_here: Command, environ: dict[str, str], published: Path
) -> None:
    done = fetch(mms_regions_here, environ, published, name="analytic-layer")
    assert done.returncode == 3 and "names no file to import" in done.stderr


def test_the_published_weights_of_waters_2025_are_taken(
    mms_regions_here: Command, tmp_path: Path, reference: Path
) -> None:
    environ = {"MMS_REGIONS_MODEL_DIR": str(tmp_path / "own")}
    done = fetch(mms_regions_here, environ, reference / "models" / "best_model", name="waters2025")
    assert done.returncode == 0, done.stderr
    assert "Licence: " in done.stdout
    assert mms_regions_here("model", "check", "waters2025", env=environ).returncode == 0
    listed = json.loads(mms_regions_here("model", "list", "--json", env=environ).stdout)["models"]
    assert {"waters2025": True}.items() <= {model["name"]: model["weights"] for model in listed}.items()
