"""Weights are loaded only if they are those of the card and of this network; nothing else in a file is run."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mms_regions.core.errors import EnvironmentProblem, InputProblem
from mms_regions.model.card import CARD_FILE, InstalledModel, ModelCard, find_model, list_models
from mms_regions.model.network import RegionRNN
from mms_regions.model.weights import check_state, import_published, load_model, save_weights

State = dict[str, Tensor]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"MMS_REGIONS_MODEL_DIR": str(tmp_path / "models")}


def shipped_card(**changes: object) -> ModelCard:
    return find_model("waters2025", {"MMS_REGIONS_MODEL_DIR": "/nonexistent"}).card.model_copy(update=changes)


def weights(seed: int = 0) -> State:
    torch.manual_seed(seed)
    return dict(RegionRNN().state_dict())


def pickled(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def publish(data: bytes, tmp_path: Path, expected: bytes | None = None) -> Path:
    """A file of the authors `toy`, and a card in the user's folder that expects it (or other bytes)."""
    expected = data if expected is None else expected
    card = shipped_card(name="toy", source_sha256=hashlib.sha256(expected).hexdigest(), source_bytes=len(expected))
    (tmp_path / "models" / "toy").mkdir(parents=True)
    (tmp_path / "models" / "toy" / CARD_FILE).write_bytes(card.to_json())
    (tmp_path / "best_model").write_bytes(data)
    return tmp_path / "best_model"


def same(model: RegionRNN, state: State) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_the_network_has_the_published_names_and_size() -> None:
    model = RegionRNN()
    assert sum(parameter.numel() for parameter in model.parameters()) == 9918
    assert {name.partition(".")[0] for name in model.state_dict()} == {"rnn", "fc"}
    assert model(torch.zeros(3, 5, 14)).shape == (3, 5, 6)


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    installed = save_weights(weights(), shipped_card(), tmp_path / "m")
    model = load_model(find_model(tmp_path / "m", {}))
    assert same(model, weights())
    assert not model.training
    assert installed.weights is not None
    assert installed.card.weights_sha256 == hashlib.sha256(installed.weights.read_bytes()).hexdigest()


def test_new_weights_replace_old_ones_and_nothing_is_left_half_written(tmp_path: Path) -> None:
    save_weights(weights(1), shipped_card(), tmp_path / "m")
    save_weights(weights(2), shipped_card(), tmp_path / "m")
    assert same(load_model(find_model(tmp_path / "m", {})), weights(2))
    assert not [path.name for path in (tmp_path / "m").iterdir() if path.name.startswith(".")]


def test_a_write_that_fails_leaves_the_model_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(weights(1), shipped_card(), tmp_path / "m")
    replace = Path.replace

    def full_disk(self: Path, target: Path) -> Path:
        if target.name == CARD_FILE:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        save_weights(weights(2), shipped_card(), tmp_path / "m")
    assert same(load_model(find_model(tmp_path / "m", {})), weights(1))
    assert not list((tmp_path / "m").glob(".*"))


def test_weights_that_are_not_there_come_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InputProblem, match="mms-regions model import best_model"):
        load_model(find_model("waters2025", {"MMS_REGIONS_MODEL_DIR": str(tmp_path)}))
    installed = save_weights(weights(), shipped_card(), tmp_path / "m")
    weights_of(installed).unlink()
    with pytest.raises(InputProblem, match=r"which is not there.*mms-regions model import best_model"):
        load_model(find_model(tmp_path / "m", {}))


def weights_of(installed: InstalledModel) -> Path:
    assert installed.weights is not None
    return installed.weights


SPOILED: dict[str, tuple[Callable[[State], object], str]] = {
    "a name missing": (lambda state: state.pop("fc.bias"), "fc.bias is missing"),
    "a name too many": (lambda state: state.update(extra=torch.zeros(1)), "extra is not a name of this network"),
    "a wrong shape": (
        lambda state: state.update({"fc.weight": torch.zeros(5, 42)}),
        r"fc.weight has shape \(5, 42\) instead of \(6, 42\)",
    ),
    "a wrong type": (
        lambda state: state.update({"fc.bias": torch.zeros(6, dtype=torch.float64)}),
        "fc.bias holds float64 instead of float32",
    ),
    "a NaN": (
        lambda state: state["rnn.bias_ih_l1"].fill_(torch.nan),
        "rnn.bias_ih_l1 holds values that are not finite",
    ),
    "an infinity": (lambda state: state["fc.bias"].fill_(torch.inf), "fc.bias holds values that are not finite"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_bad_weights_are_refused_on_every_way_in(what: str, tmp_path: Path, environ: dict[str, str]) -> None:
    import safetensors.torch

    spoil, complaint = SPOILED[what]
    state = weights()
    spoil(state)
    with pytest.raises(InputProblem, match=complaint):
        check_state(state)
    with pytest.raises(InputProblem, match=complaint):
        save_weights(state, shipped_card(), tmp_path / "m")
    with pytest.raises(InputProblem, match=complaint):
        import_published(publish(pickled(state), tmp_path), environ, "toy")
    assert {model.card.name for model in list_models(environ) if model.weights} == {"open"}  # none is new
    with pytest.raises(InputProblem, match=complaint):
        load_model(installed_with(safetensors.torch.save(state), tmp_path / "n"))


def installed_with(data: bytes, folder: Path) -> InstalledModel:
    """A model whose card names these bytes as its weights."""
    card = shipped_card(weights_sha256=hashlib.sha256(data).hexdigest())
    folder.mkdir()
    (folder / str(card.weights_file)).write_bytes(data)
    return InstalledModel(card, folder, folder / str(card.weights_file))


def test_all_that_is_wrong_is_said_at_once() -> None:
    state = weights()
    del state["fc.bias"]
    state["rnn.bias_hh_l0"] = torch.zeros(41)
    with pytest.raises(InputProblem, match=r"fc\.bias is missing; rnn\.bias_hh_l0 has shape"):
        check_state(state)
    with pytest.raises(InputProblem, match="this is a list"):
        check_state([torch.zeros(3)])
    with pytest.raises(InputProblem, match=r"fc\.bias is a float, not a tensor"):
        check_state(weights() | {"fc.bias": 1.0})


@pytest.mark.parametrize("keep", [0, 5, 500, -1])
def test_weights_cut_short_are_refused(keep: int, tmp_path: Path) -> None:
    installed = save_weights(weights(), shipped_card(), tmp_path / "m")
    data = weights_of(installed).read_bytes()[:keep]
    weights_of(installed).write_bytes(data)
    with pytest.raises(InputProblem, match="sha256 differs"):
        load_model(installed)
    with pytest.raises(InputProblem, match="not a safetensors file"):
        load_model(installed_with(data, tmp_path / "n"))


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    installed = save_weights(weights(), shipped_card(), tmp_path / "m")
    data = bytearray(weights_of(installed).read_bytes())
    data[-1] ^= 1
    weights_of(installed).write_bytes(data)
    with pytest.raises(InputProblem, match="sha256 differs"):
        load_model(installed)


def test_the_published_file_becomes_a_model_as_often_as_one_likes(tmp_path: Path, environ: dict[str, str]) -> None:
    file = publish(pickled(weights()), tmp_path)
    first, second = (import_published(file, environ, "toy") for _ in range(2))
    assert first == second == find_model("toy", environ)
    assert same(load_model(second), weights())


def test_another_file_is_refused_unopened(tmp_path: Path, environ: dict[str, str]) -> None:
    data = pickled(weights())
    file = publish(data, tmp_path)
    for other, complaint in [
        (data[:-1], f"bytes instead of {len(data):,}"),
        (data[::-1], "sha256 is not"),
    ]:
        file.write_bytes(other)
        with pytest.raises(InputProblem, match=f"{complaint}.*not loaded"):
            import_published(file, environ, "toy")
    with pytest.raises(InputProblem, match="which is not there"):
        import_published(tmp_path / "nothing", environ, "toy")
    with pytest.raises(InputProblem, match="cannot be read"):
        import_published(tmp_path, environ, "toy")
    with pytest.raises(InputProblem, match="bytes instead of 43,563"):
        import_published(file, environ)


class Hostile:
    """Unpickled without care, leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("save", [pickled, pickle.dumps], ids=["torch", "pickle"])
def test_a_file_that_would_run_code_runs_nothing(
    save: Callable[[object], bytes], tmp_path: Path, environ: dict[str, str]
) -> None:
    trace = tmp_path / "trace"
    data = save(weights() | {"fc.bias": Hostile(trace)})
    torch.load(io.BytesIO(pickled(Hostile(trace))), weights_only=False)
    assert trace.exists(), "the file is not hostile, so this test would show nothing"
    trace.unlink()

    with pytest.raises(InputProblem, match="not loaded"):
        import_published(publish(data, tmp_path, expected=b"other"), environ, "toy")
    (tmp_path / "second").mkdir()
    approved = {"MMS_REGIONS_MODEL_DIR": str(tmp_path / "second" / "models")}
    with pytest.raises(InputProblem, match="tensors and nothing else"):
        import_published(publish(data, tmp_path / "second"), approved, "toy")
    assert not trace.exists()


@pytest.mark.parametrize("data", [pickled(weights())[:20_000], b"", b"no pickle"], ids=["cut short", "empty", "text"])
def test_a_broken_file_that_a_card_approves_is_refused(data: bytes, tmp_path: Path, environ: dict[str, str]) -> None:
    file = publish(data or b"\0", tmp_path)
    with pytest.raises(InputProblem, match="cannot be read as tensors"):
        import_published(file, environ, "toy")


def test_a_published_list_is_not_weights(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(InputProblem, match=r"best_model cannot be used: .*this is a list"):
        import_published(publish(pickled([torch.zeros(2)]), tmp_path), environ, "toy")
