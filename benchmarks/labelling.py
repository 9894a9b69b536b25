"""Benchmark of labelling: against a window at a time, batched nn.RNN, and what the processor's arithmetic allows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from measure import cpu_seconds, machine, table, wall_seconds
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mms_regions.model.label import Prediction, label_windows
from mms_regions.model.network import N_FEATURES, N_HIDDEN, N_LAYERS, RegionRNN

# Multiplications and additions of a sample, and how many tanh it takes.
FLOP = 2 * (N_HIDDEN * (N_FEATURES + N_HIDDEN + 1) + (N_LAYERS - 1) * N_HIDDEN * (2 * N_HIDDEN + 1))
FLOP += 2 * RegionRNN().classes * (N_HIDDEN + 1)
ACTIVATIONS = N_LAYERS * N_HIDDEN
BATCHES = (256, 1024, 4096, 16384)
SIDES = (1024, 2048, 4096)  # of square matrices
CORES = len(os.sched_getaffinity(0))
CLEAR = 1e-5  # two best logits that are closer than this may change places

Windows = NDArray[np.float32]


@dataclass(frozen=True)
class Rates:
    """Samples per CPU-second of this project and of nn.RNN, and the FLOP/s of sgemm, measured in turn."""

    samples: int
    fused: float
    batched: float
    peak: float

    def row(self, alone: float) -> list[str]:
        return [
            f"{self.samples:.0e}".replace("e+0", "e"),
            f"{self.fused / 1e6:.2f}",
            f"{self.batched / 1e6:.2f}",
            f"{self.fused / self.batched:.2f}",
            f"{self.fused / alone:.0f}",
            f"{100 * self.fused * FLOP / self.peak:.0f} % of {self.peak / 1e9:.0f}",
        ]


def results(quick: bool = False) -> str:
    """The section of RESULTS.md on labelling."""
    sizes, sides, runs = ((10_000, 100_000), (512,), 1) if quick else ((10_000, 1_000_000, 10_000_000), SIDES, 3)
    torch.manual_seed(0)
    model, windows = RegionRNN().eval(), _windows(sizes[-1])
    few = windows[: (5_000 if quick else 100_000) // 32]
    alone, published = _alone(model, few, 1), _alone(model, few[: 10_000 // 32], CORES)
    batch = _best_batch(model, windows[: sizes[1] // 32], runs)
    found = [_rates(model, windows[: -(-size // 32)], size, batch, sides, runs) for size in sizes]
    differing, unclear = _differing(model, windows)
    head = ["samples", "M/s", "nn.RNN, M/s", "ratio", "to a window at a time", "of the sgemm peak, GFLOP/s"]
    return f"""## Labelling

`make bench`: {machine()}.
One core, random weights, samples per CPU-second. Promised at 1e6 and 1e7 samples: 45 % of the sgemm peak (best of
square float32 products, n = 1024 to 4096), 2.5 times nn.RNN at its best batch, 100 times a window at a time.

{table(head, [rates.row(alone) for rates in found])}

A window at a time, with all that the published code does for each: {alone / 1e6:.4f} M samples/s on one thread; on
{CORES}, for it leaves that to torch, {published / 1e6:.4f} M as seconds pass, {found[1].fused / published:.0f} times
slower than this project on one. nn.RNN has batches of {batch} windows, the best of {", ".join(map(str, BATCHES))}.
{_roof(found[-1].peak)}
Of {windows.shape[0] * 32} samples {differing} have another label than nn.RNN gives though their two best logits are
{CLEAR:g} apart or more (promised: none); {unclear} are closer.
{_threads(model, windows[: sizes[1] // 32], runs, published)}
"""


def _windows(samples: int) -> Windows:
    rng = np.random.default_rng(0)
    return rng.standard_normal((-(-samples // 32), 32, N_FEATURES), dtype=np.float32)


def _label(model: nn.Module, windows: Windows, device: str = "cpu") -> Prediction:
    return label_windows(model, windows, np.zeros(windows.shape[:2], bool), device)


def _alone(model: nn.Module, windows: Windows, threads: int) -> float:
    """Samples per second of a window at a time, with all that the published code does for each."""
    samples = TensorDataset(torch.from_numpy(windows.reshape(-1, N_FEATURES)))

    def loop() -> None:
        kept: tuple[list[object], ...] = ([], [], [], [])
        with torch.no_grad():
            for (window,) in DataLoader(samples, batch_size=32):
                logits = model(window)
                best = logits.softmax(1).max(1)
                for values, found in zip(kept, (logits.argmax(1), window, best.indices, best.values), strict=True):
                    values.extend(found.numpy())

    torch.set_num_threads(threads)
    taken = wall_seconds({"": loop}, 1)[""] if threads > 1 else cpu_seconds({"": loop}, 1)[""]
    torch.set_num_threads(1)
    return len(samples) / taken


def _best_batch(model: RegionRNN, windows: Windows, runs: int) -> int:
    """The number of windows at once that nn.RNN is fastest with."""
    taken = cpu_seconds({str(size): partial(_batched, model, windows, size) for size in BATCHES}, runs)
    return int(min(taken, key=lambda size: taken[size]))


def _batched(model: RegionRNN, windows: Windows, batch: int) -> None:
    """Labels and probabilities from nn.RNN."""
    probability = np.empty((*windows.shape[:2], model.classes), np.float32)
    label = np.empty(windows.shape[:2], np.int8)
    for some, logits in _logits(model, windows, batch):
        probability[some] = logits.softmax(2).numpy()
        label[some] = logits.max(2).indices.numpy()


def _logits(model: nn.Module, windows: Windows, batch: int) -> Iterator[tuple[slice, torch.Tensor]]:
    for first in range(0, len(windows), batch):
        some = slice(first, first + batch)
        with torch.inference_mode():
            logits = model(torch.from_numpy(windows[some]))
        yield some, logits


def _rates(model: nn.Module, windows: Windows, samples: int, batch: int, sides: Sequence[int], runs: int) -> Rates:
    matrices = {side: torch.rand(3, side, side) for side in sides}

    def multiply(side: int) -> Callable[[], None]:
        return lambda: torch.mm(*matrices[side][:2], out=matrices[side][2])

    ours = {"fused": lambda: _label(model, windows), "batched": lambda: _batched(model, windows, batch)}
    taken = cpu_seconds(ours | {str(n): multiply(n) for n in sides}, runs)
    peak = max(2 * side**3 / taken[str(side)] for side in sides)
    return Rates(samples, samples / taken["fused"], samples / taken["batched"], peak)


def _roof(peak: float) -> str:
    values, out = torch.randn(N_HIDDEN, 1024), torch.empty(N_HIDDEN, 1024)

    def many(function: Callable[..., object]) -> Callable[[], None]:
        def loop() -> None:
            for _ in range(100):
                function(values, out=out)

        return loop

    taken = cpu_seconds({"tanh": many(torch.tanh), "sigmoid": many(torch.sigmoid)}, 5)
    each = {name: seconds / 100 / values.numel() for name, seconds in taken.items()}
    roof = {name: 1e-6 / (FLOP / peak + ACTIVATIONS * seconds) for name, seconds in each.items()}
    return (
        f"If products ran at the sgemm peak,\nactivations would allow {roof['tanh']:.1f} M with torch's tanh "
        f"({1e9 * each['tanh']:.2f} ns each) and {roof['sigmoid']:.1f} M with its sigmoid "
        f"({1e9 * each['sigmoid']:.2f} ns), which is taken."
    )


def _differing(model: nn.Module, windows: Windows) -> tuple[int, int]:
    """Samples whose label is not that of nn.RNN though its answer is clear; and samples where it is not."""
    labels, differing, unclear = _label(model, windows).label, 0, 0
    for some, logits in _logits(model, windows, 4096):
        best = logits.topk(2, dim=2)
        clear = (best.values[:, :, 0] - best.values[:, :, 1] >= CLEAR).numpy()
        other = labels[some] != best.indices[:, :, 0].numpy()
        differing += int((other & clear).sum())
        unclear += int((~clear).sum())
    return differing, unclear


def _threads(model: nn.Module, windows: Windows, runs: int, published: float) -> str:
    """What more cores gain, in seconds as they pass."""

    def on(threads: int) -> Callable[[], None]:
        def label() -> None:
            torch.set_num_threads(threads)
            _label(model, windows)
            torch.set_num_threads(1)

        return label

    taken = wall_seconds({"one": on(1), "all": on(CORES)}, runs)
    rate, gain = windows.shape[0] * 32 / taken["all"], taken["one"] / taken["all"]
    return f"""On {CORES} cores {rate / 1e6:.2f} M samples/s as they pass, {gain:.2f} times as many as on one, and
{rate / published:.0f} times as many as the published code's loop on the same {CORES}."""


if __name__ == "__main__":
    torch.set_num_threads(1)
    begin = time.perf_counter()
    print(results())
    print(f"{time.perf_counter() - begin:.0f} s")
