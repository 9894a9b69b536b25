"""Features -> labels and probabilities, on CPU or GPU, the same whichever other windows are labelled with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mms_regions.core.errors import EnvironmentProblem, InputProblem, UsageProblem
from mms_regions.core.messages import counted
from mms_regions.core.types import NO_LABEL, WINDOW, Flags, Floats
from mms_regions.model.fused import FusedRNN
from mms_regions.model.network import N_FEATURES, RegionRNN

_LOG = logging.getLogger(__name__)

BLOCK = 1024  # windows computed together: the size is fixed, because results depend on it in the last bits
_PART = 65_536  # samples that are checked at a time, so that what is found stays in the cache
_GPU_BLOCK = 65_536  # a GPU is idle half the time with less
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of W windows of T samples. Raises ValueError where the two arrays do not agree.

    label: (W, T) int8, the region's index, -1 for none. probability: (W, T, C) float32 of the C
    regions, NaN where there is no label.
    """

    label: NDArray[np.int8]
    probability: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.label.dtype != np.int8 or self.probability.dtype != np.float32:
            raise ValueError(f"label is int8, probability float32; got {self.label.dtype}, {self.probability.dtype}")
        if self.label.ndim != 2 or self.probability.shape[:-1] != self.label.shape:
            raise ValueError(
                f"label is (W, T), probability (W, T, C); got {self.label.shape}, {self.probability.shape}"
            )
        classes = self.probability.shape[-1]
        if self.label.size and not NO_LABEL <= self.label.min() <= self.label.max() < classes:
            raise ValueError(f"label is 0 to {classes - 1}, or -1 for none")
        without = self.label == NO_LABEL
        parts = np.array_split(self.probability, 1 + self.label.size // _PART)
        finite = sum(np.count_nonzero(np.isfinite(part)) for part in parts)
        if finite != classes * np.count_nonzero(~without) or not np.isnan(self.probability[without]).all():
            raise ValueError("probability is finite where there is a label, and NaN where there is none")


def label_windows(
    model: RegionRNN, windows: Floats, withheld: Flags, device: str = "cpu", block: int | None = None
) -> Prediction:
    """Label every sample of every window.

    model: it is moved to `device`. windows: (W, T, 14) float32,
    dimensionless, in simulation axes, NaN where missing; T is 32 in the store. withheld: (W, T) bool, samples that get
    no label although their features go into the state (bridged ones). block: how many windows are computed together.
    A sample is labelled if it is not withheld and every feature is finite from its window's start to itself. Equal
    probabilities go to the lower index.
    On the CPU torch's threads (`torch.get_num_threads`) take a block each; on one type of machine a window's result
    does not depend, in any bit, on their number or on the other windows. On a GPU blocks are as large as the number of
    windows asks for, and halved where memory is too small, which is logged: there the last bits may differ.
    Raises ValueError for shapes that do not match, InputProblem where finite features give no finite probability,
    EnvironmentProblem where a GPU has no memory for a single window.
    """
    if windows.ndim != 3 or windows.shape[2] != N_FEATURES or withheld.shape != windows.shape[:2]:
        raise ValueError(f"windows are (W, T, 14), withheld (W, T); got {windows.shape}, {withheld.shape}")
    block = block or (BLOCK if device == "cpu" else _gpu_block(len(windows)))
    label = np.empty(withheld.shape, dtype=np.int8)
    probability = np.empty((*withheld.shape, model.classes), dtype=np.float32)
    model = model.to(device)
    with steady_arithmetic() as threads, torch.inference_mode():
        if type(model) is RegionRNN and device == "cpu":
            _label_side_by_side(FusedRNN(model), windows, withheld, block, threads, label, probability)
        else:
            _label_in_turn(model, windows, withheld, block, threads, device, label, probability)
    try:
        return Prediction(label, probability)
    except ValueError:
        _refuse_not_finite(label, probability)
        raise


def label_samples(
    model: RegionRNN, features: Floats, withheld: Flags, device: str = "cpu"
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Labels (n,) and probabilities (n, C) of a segment's features (n, 14) in order of time; withheld: (n,).

    Raises what `label_windows` raises.
    """
    windows, n = as_windows(features), len(features)
    kept_back = np.zeros(windows.shape[:2], dtype=bool)
    kept_back.reshape(-1)[:n] = withheld
    found = label_windows(model, windows, kept_back, device)
    return found.label.reshape(-1)[:n], found.probability.reshape(-1, model.classes)[:n]


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


def _label_side_by_side(
    network: FusedRNN,
    windows: Floats,
    withheld: Flags,
    block: int,
    threads: int,
    label: NDArray[np.int8],
    probability: NDArray[np.float32],
) -> None:
    """Fill in blocks on the CPU, each on a thread of its own: torch lets other threads run while it computes."""
    steps, starts = windows.shape[1], iter(range(0, len(windows), block))

    def label_blocks() -> None:
        """In memory of its own, for all blocks the same: new memory costs more than to fill it."""
        rows = np.empty((block, steps, N_FEATURES), dtype=np.float32)
        features, kept_back = torch.empty(steps, N_FEATURES, block), torch.zeros(steps, block, dtype=torch.bool)
        with torch.inference_mode():
            for first in starts:  # threads share it: each block is taken once
                some = slice(first, first + block)
                n = len(withheld[some])
                rows[:n] = windows[some]  # in the order they lie in memory, which is faster than to turn them there
                features.numpy()[:, :, :n] = rows[:n].transpose(1, 2, 0)
                features.numpy()[:, :, n:] = 0.0
                kept_back.numpy()[:, :n] = withheld[some].T
                labels, probabilities = _answer(network, features, kept_back, dim=1)
                torch.from_numpy(label[some]).copy_(labels[:, :n].t())
                flat = torch.from_numpy(probability[some].reshape(n, -1))
                flat.copy_(probabilities.view(-1, block)[:, :n].t())

    with ThreadPoolExecutor(threads) as pool:
        for one in [pool.submit(label_blocks) for _ in range(threads)]:
            one.result()


def _label_in_turn(
    model: RegionRNN,
    windows: Floats,
    withheld: Flags,
    block: int,
    threads: int,
    device: str,
    label: NDArray[np.int8],
    probability: NDArray[np.float32],
) -> None:
    """Fill in one block after another on any device; smaller ones where memory is short."""
    if device != "cpu":
        torch.set_num_threads(threads)  # of copies to and from pinned memory, which take longer than a GPU's arithmetic
    first, staging = 0, None
    while first < len(windows):
        some = slice(first, first + block)
        try:
            staging = staging or _Staging(device, block, windows.shape[1], model.classes)
            staging.label(model, windows[some], withheld[some], label[some], probability[some])
        except torch.OutOfMemoryError:
            if device == "cpu":
                raise
            block, staging = _halved(block), None
        else:
            first += block


class _Staging:
    """Memory of this machine for one block: pinned for a GPU, which copies from and to it several times as fast."""

    def __init__(self, device: str, block: int, steps: int, classes: int):
        self._device, gpu = device, device.startswith("cuda")
        self._features = torch.zeros(block, steps, N_FEATURES, pin_memory=gpu)
        self._withheld = torch.zeros(block, steps, dtype=torch.bool, pin_memory=gpu)
        self._label = torch.empty(block, steps, dtype=torch.int8, pin_memory=gpu)
        self._probability = torch.empty(block, steps, classes, pin_memory=gpu)

    def label(
        self,
        model: RegionRNN,
        windows: Floats,
        withheld: Flags,
        label: NDArray[np.int8],
        probability: NDArray[np.float32],
    ) -> None:
        """Fill in a block of as many windows or fewer; what is computed is always as large."""
        n = len(windows)
        self._features[:n].copy_(torch.from_numpy(windows))  # by all threads of torch, unlike an assignment in numpy
        self._withheld[:n].copy_(torch.from_numpy(withheld))
        features = self._features.to(self._device, non_blocking=True)
        kept_back = self._withheld.to(self._device, non_blocking=True)
        labels, probabilities = _answer(model, features, kept_back, dim=2)
        self._label.copy_(labels)  # waits for the device
        self._probability.copy_(probabilities)
        torch.from_numpy(label).copy_(self._label[:n])
        torch.from_numpy(probability).copy_(self._probability[:n])


def _answer(network: Callable[[Tensor], Tensor], features: Tensor, withheld: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Labels and probabilities of a block, -1 and NaN where there is no label; what is not finite of it becomes 0.

    features: their axis is `dim`, as is that of the logits; that of time comes before it.
    """
    finite = (features.amin(dim) >= -_LARGEST) & (features.amax(dim) <= _LARGEST)  # both are NaN where one is
    unlabelled = withheld | ((~finite).cumsum(dim - 1, dtype=torch.int32) > 0)
    probability = network(features.nan_to_num_(0.0, 0.0, 0.0)).softmax(dim)
    label = _first_largest(probability, dim)
    probability += torch.where(unlabelled, torch.nan, 0.0).unsqueeze(dim)  # three times as fast as to fill with a mask
    return label.masked_fill_(unlabelled, NO_LABEL), probability


def _first_largest(probability: Tensor, dim: int) -> Tensor:
    """The index of the largest along `dim`, the first of equals, int8: as many as come before it. Faster than max."""
    largest, (first, *others) = probability.amax(dim), probability.unbind(dim)
    before = first != largest
    index = before.to(torch.int8)
    for one in others[:-1]:
        before = before & (one != largest)
        index += before
    return index


def _gpu_block(windows: int) -> int:
    """As many windows at once as there are, or as equal parts of them, in whole blocks of the CPU."""
    parts = max(1, -(-windows // _GPU_BLOCK))
    return max(1, -(-windows // (parts * BLOCK))) * BLOCK


def _halved(block: int) -> int:
    """Half as many windows at once."""
    if block == 1:
        raise EnvironmentProblem(
            "The GPU has no memory left for a single window; run where nobody else uses it, or with --device cpu"
        )
    _LOG.warning("The GPU has no memory for %d windows at once; going on with %d.", block, block // 2)
    return block // 2


def _refuse_not_finite(label: NDArray[np.int8], probability: NDArray[np.float32]) -> None:
    bad = np.argwhere(np.isnan(probability[:, :, 0]) & (label != NO_LABEL))  # a softmax is NaN as a whole or not at all
    if len(bad):
        window, sample = bad[0]
        raise InputProblem(
            f"The model gives no finite probability for {counted(len(bad), 'sample')} with all features, the first "
            f"being sample {sample} of window {window}: look for features of absurd size there, or for damage to the "
            "model."
        )


@contextmanager
def steady_arithmetic() -> Iterator[int]:
    """One thread (OpenMP on small matrices collapses) and no TF32 (it costs 1e-3) inside; as it was, afterwards.

    Yields how many threads torch has outside.
    """
    threads = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    tf32 = torch.backends.cudnn.allow_tf32
    try:
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        yield threads
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = tf32
