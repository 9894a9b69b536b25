"""Weights on disk: reading them, importing the published file, writing a model.

A pickle is opened only when its sha256 is that on a model card, and then nothing but tensors is read from it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mms_regions.core.errors import EnvironmentProblem, InputProblem
from mms_regions.core.files import read_file, write_whole
from mms_regions.core.messages import counted
from mms_regions.model.card import CARD_FILE, InstalledModel, ModelCard, find_published_card, model_folders, read_model
from mms_regions.model.network import RegionRNN


def load_model(installed: InstalledModel) -> RegionRNN:
    """The network with the weights of an installed model, on the CPU, ready to label.

    Raises InputProblem where the weights are not there, are not those of the card, or cannot be those of this network.
    """
    card = installed.card
    if card.weights_sha256 is None:
        raise InputProblem(f"The weights of model {card.name} are not here. {card.how_to_get_weights}")
    path = installed.folder / str(card.weights_file)
    data = _read(path, f"The weights of model {card.name}", card.how_to_get_weights)
    if hashlib.sha256(data).hexdigest() != card.weights_sha256:
        raise InputProblem(
            f"{path} is not what the card of model {card.name} says (its sha256 differs): it was cut short or changed. "
            f"{card.how_to_get_weights}"
        )
    model = RegionRNN(card.architecture.classes)
    model.load_state_dict(_parse_safetensors(data, path, card.architecture.classes))
    return model.eval()


def import_published(path: str | Path, environ: Mapping[str, str], card_name: str = "waters2025") -> InstalledModel:
    """Turn the file that the authors publish into a model in the user's folder.

    The file must have the size and sha256 of the model card before anything in it is unpickled, and then only
    tensors are. Raises InputProblem where it is another file, or holds anything but the weights of this network;
    EnvironmentProblem where the model cannot be written.
    """
    path = Path(path)
    card = find_published_card(card_name, environ)
    return _install(_read_published(path, card), str(path), card, model_folders(environ)[0])


def fetch_published(environ: Mapping[str, str], card_name: str = "waters2025", url: str = "") -> InstalledModel:
    """Get the file that the authors publish, by its address on the model's card or `url`, and import it.

    Raises as `import_published` does, and EnvironmentProblem where the server does not give the file.
    """
    from mms_regions.archive.http import Client, Limits, NetworkProblem  # not needed by those who load weights

    card = find_published_card(card_name, environ)
    address = url or card.source_file_url
    if not address:
        raise InputProblem(f"The card of {card.name} has no address of its file. {card.how_to_get_weights}")
    client, most = Client(Limits()), cast(int, card.source_bytes)
    try:
        data = client.persist(card.name, address, lambda: client.body(address, most))
    except NetworkProblem as problem:
        raise EnvironmentProblem(f"{problem}. {card.how_to_get_weights}") from problem
    _refuse_other_file(data, address, card)
    return _install(data, address, card, model_folders(environ)[0])


def _install(data: bytes, origin: str, card: ModelCard, models: Path) -> InstalledModel:
    """Weights from a file that is known to be the published one."""
    state = _unpickle_tensors(data, origin)
    try:
        check_state(state, card.architecture.classes)
    except InputProblem as problem:
        raise InputProblem(f"{origin} cannot be used: {problem}") from problem
    return save_weights(cast(Mapping[str, Tensor], state), card, models / card.name)


def check_state(state: object, classes: int = 6) -> None:
    """Raise InputProblem, with all that is wrong, unless `state` maps the names of RegionRNN to its float32 weights."""
    if not isinstance(state, Mapping):
        raise InputProblem(f"weights are a mapping of names to tensors, and this is a {type(state).__name__}.")
    expected = _expected_shapes(classes)
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name!s:.80} is not a name of this network" for name in state if name not in expected]
    wrong += [
        f"{name} {complaint}"
        for name in expected
        if name in state and (complaint := _fault(state[name], expected[name]))
    ]
    if wrong:
        raise InputProblem(f"these are not weights of this network: {'; '.join(wrong)}.")


def save_weights(weights: nn.Module | Mapping[str, Tensor], card: ModelCard, folder: Path) -> InstalledModel:
    """Write weights and card as a model folder, and give the model.

    The card gets the sha256 of the weights and arrives last: until then the folder holds no model, or the one before.
    Raises InputProblem for weights that are not those of this network, EnvironmentProblem where they cannot be written.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    check_state(state, card.architecture.classes)
    data = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    try:
        write_whole(folder / str(card.weights_file), data)
        write_whole(folder / CARD_FILE, card.to_json())
    except OSError as error:
        raise EnvironmentProblem(
            f"The model {card.name} cannot be written to {folder}: {error.strerror}. Free space there, or name another "
            f"folder in MMS_REGIONS_MODEL_DIR."
        ) from error
    return read_model(folder)


def _expected_shapes(classes: int) -> dict[str, torch.Size]:
    with torch.device("meta"):  # shapes alone: nothing is allocated, no random number drawn
        return {name: tensor.shape for name, tensor in RegionRNN(classes).state_dict().items()}


def _fault(value: object, shape: torch.Size) -> str:
    """What is wrong with one tensor, or an empty text."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, not a tensor"
    if value.shape != shape:
        return f"has shape {tuple(value.shape)} instead of {tuple(shape)}"
    if value.dtype != torch.float32:
        return f"holds {str(value.dtype).removeprefix('torch.')} instead of float32"
    if not bool(value.isfinite().all()):
        return "holds values that are not finite"
    return ""


def _read(path: Path, what: str, advice: str) -> bytes:
    try:
        return read_file(path)
    except FileNotFoundError:
        raise InputProblem(f"{what} should be in {path}, which is not there. {advice}") from None
    except OSError as error:
        raise InputProblem(f"{what} cannot be read from {path}: {error.strerror}. {advice}") from error


def _read_published(path: Path, card: ModelCard) -> bytes:
    """The bytes of the file, once they are known to be those that the card means."""
    if path.is_file() and path.stat().st_size != card.source_bytes:
        raise _not_published(
            str(path), card, f"it has {counted(path.stat().st_size, 'byte')} instead of {card.source_bytes:,}"
        )
    data = _read(path, f"The published file of model {card.name}", "Name the file that was downloaded.")
    _refuse_other_file(data, str(path), card)
    return data


def _refuse_other_file(data: bytes, origin: str, card: ModelCard) -> None:
    """Raise InputProblem for bytes that are not those of the card: nothing else is ever unpickled."""
    if hashlib.sha256(data).hexdigest() != card.source_sha256:
        raise _not_published(origin, card, f"its sha256 is not {card.source_sha256}")


def _not_published(origin: str, card: ModelCard, wrong: str) -> InputProblem:
    return InputProblem(
        f"{origin} is not the published file of model {card.name}: {wrong}. It was not loaded. "
        f"{card.how_to_get_weights}"
    )


def _unpickle_tensors(data: bytes, origin: str) -> object:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers raise; for a person it is one thing
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputProblem(
            f"{origin} cannot be read as tensors and nothing else, so it was refused ({reason:.200})."
        ) from error


def _parse_safetensors(data: bytes, path: Path, classes: int) -> dict[str, Tensor]:
    try:
        state = safetensors.torch.load(data)
        check_state(state, classes)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise InputProblem(f"{path} is not a safetensors file: {error}. Import or train the model again.") from error
    except InputProblem as problem:
        raise InputProblem(f"{path} cannot be used: {problem} Import or train the model again.") from problem
    return state
