"""Features -> labels and probabilities, on CPU or GPU, the same whatever the company a window is in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mms_regions.arrays import NO_LABEL, WINDOW, Flags, Floats
from mms_regions.errors import EnvironmentProblem, InputProblem, UsageProblem
from mms_regions.model import N_FEATURES, N_REGIONS

_LOG = logging.getLogger(__name__)

BLOCK = 1024  # windows computed together: the size is fixed, because results depend on it in the last bits


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of W windows of T samples. Raises ValueError where the two arrays do not agree.

    label: (W, T) int8, the region's index, -1 for none. probability: (W, T, 6) float32, NaN where there is no label.
    """

    label: NDArray[np.int8]
    probability: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.label.dtype != np.int8 or self.probability.dtype != np.float32:
            raise ValueError(f"label is int8, probability float32; got {self.label.dtype}, {self.probability.dtype}")
        if self.label.ndim != 2 or self.probability.shape != (*self.label.shape, N_REGIONS):
            raise ValueError(
                f"label is (W, T), probability (W, T, 6); got {self.label.shape}, {self.probability.shape}"
            )
        if ((self.label < NO_LABEL) | (self.label >= N_REGIONS)).any():
            raise ValueError("label is 0 to 5, or -1 for none")
        labelled = (self.label != NO_LABEL)[:, :, None]
        if (np.isfinite(self.probability) != labelled).any() or (np.isnan(self.probability) == labelled).any():
            raise ValueError("probability is finite where there is a label, and NaN where there is none")


def label_windows(
    model: nn.Module, windows: Floats, withheld: Flags, device: str = "cpu", block: int = BLOCK
) -> Prediction:
    """Label every sample of every window.

    model: logits from features, such as RegionRNN; it is moved to `device`. windows: (W, T, 14) float32,
    dimensionless, in simulation axes, NaN where missing; T is 32 in the store. withheld: (W, T) bool, samples that get
    no label although their features go into the state (bridged ones). A sample is labelled if it is not withheld and
    every feature is finite from its window's start to itself. Equal probabilities go to the lower index.
    On one type of machine a window's result does not depend, in any bit, on the other windows; on a GPU whose memory is
    too small for a block, blocks are halved, which is logged, and the last bits may differ.
    Raises ValueError for shapes that do not match, InputProblem where finite features give no finite probability,
    EnvironmentProblem where a GPU has no memory for a single window.
    """
    if windows.ndim != 3 or windows.shape[2] != N_FEATURES or withheld.shape != windows.shape[:2]:
        raise ValueError(f"windows are (W, T, 14), withheld (W, T); got {windows.shape}, {withheld.shape}")
    unlabelled = withheld | ~_complete(windows)
    probability = np.empty((*withheld.shape, N_REGIONS), dtype=np.float32)
    model = model.to(device)
    with steady_arithmetic(), torch.inference_mode():
        first = 0
        while first < len(windows):
            some = slice(first, first + block)
            try:
                probability[some] = _probability(model, windows[some], device, block)
            except torch.OutOfMemoryError:
                if device == "cpu":
                    raise
                block = _halved(block)
            else:
                first += block
    _refuse_not_finite(probability, unlabelled)
    probability[unlabelled] = np.nan
    label = np.where(unlabelled, NO_LABEL, probability.argmax(axis=2)).astype(np.int8)
    return Prediction(label, probability)


def as_windows(features: Floats) -> NDArray[np.float32]:
    """(n, 14) features in order of time -> (ceil(n / 32), 32, 14) float32, the end padded with NaN (missing)."""
    if features.ndim != 2 or features.shape[1] != N_FEATURES:
        raise ValueError(f"features are (n, 14); got {features.shape}")
    count = -(-len(features) // WINDOW)
    windows = np.full((count * WINDOW, N_FEATURES), np.nan, dtype=np.float32)
    windows[: len(features)] = features
    return windows.reshape(count, WINDOW, N_FEATURES)


def choose_device(wanted: str) -> str:
    """`cpu` or `cuda` for what was asked: `auto`, `cpu` or `cuda`.

    Raises EnvironmentProblem where a GPU is asked for and none can be used, UsageProblem for any other word.
    """
    if wanted not in {"auto", "cpu", "cuda"}:
        raise UsageProblem(f"There is no device {wanted!r}: choose auto, cpu or cuda.")
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "auto":
        return "cpu"
    raise EnvironmentProblem(
        "No GPU can be used here: torch finds no CUDA device, or is built without CUDA. Run where `nvidia-smi` lists "
        "one, install a CUDA build of torch, or choose --device cpu (or auto)."
    )


def _complete(windows: Floats) -> Flags:
    """(W, T) bool: every feature is finite from the window's start to the sample."""
    return np.logical_and.accumulate(np.isfinite(windows).all(axis=2), axis=1)


def _probability(model: nn.Module, windows: Floats, device: str, block: int) -> NDArray[np.float32]:
    """(w, T, 6) for at most `block` windows, computed among `block` of them, the rest zeros."""
    features = torch.zeros(block, *windows.shape[1:])  # memory of torch, so aligned alike for every block
    features[: len(windows)] = torch.from_numpy(np.nan_to_num(windows, nan=0.0, posinf=0.0, neginf=0.0))
    logits = model(features.to(device))
    probability: NDArray[np.float32] = logits.softmax(dim=2).cpu().numpy()
    return probability[: len(windows)]


def _halved(block: int) -> int:
    """Half as many windows at once."""
    if block == 1:
        raise EnvironmentProblem(
            "The GPU has no memory left for a single window; run where nobody else uses it, or with --device cpu"
        )
    _LOG.warning("The GPU has no memory for %d windows at once; going on with %d.", block, block // 2)
    return block // 2


def _refuse_not_finite(probability: NDArray[np.float32], unlabelled: Flags) -> None:
    bad = np.argwhere(~np.isfinite(probability).all(axis=2) & ~unlabelled)
    if len(bad):
        window, sample = bad[0]
        raise InputProblem(
            f"The model gives no finite probability for {len(bad)} samples with all their features, the first being "
            f"sample {sample} of window {window}: look for features of absurd size there, or for damage to the model."
        )


@contextmanager
def steady_arithmetic() -> Iterator[None]:
    """One thread (OpenMP on small matrices collapses) and no TF32 (it costs 1e-3) inside; as it was, afterwards."""
    threads = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    tf32 = torch.backends.cudnn.allow_tf32
    try:
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = tf32
