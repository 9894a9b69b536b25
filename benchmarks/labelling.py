"""Benchmark of labelling: against a window at a time, batched nn.RNN, and what the processor's arithmetic allows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from measure import cpu_seconds, machine, table, wall_seconds
from numpy.typing import NDArray
from torch import nn

from mms_regions.label import Prediction, label_windows
from mms_regions.model import N_FEATURES, N_HIDDEN, N_LAYERS, N_REGIONS, RegionRNN

# Multiplications and additions of a sample, and how many tanh it takes.
FLOP = 2 * (N_HIDDEN * (N_FEATURES + N_HIDDEN + 1) + (N_LAYERS - 1) * N_HIDDEN * (2 * N_HIDDEN + 1))
FLOP += 2 * N_REGIONS * (N_HIDDEN + 1)
ACTIVATIONS = N_LAYERS * N_HIDDEN
BATCHES = (256, 1024, 4096, 16384)
CLEAR = 1e-5  # two best logits that are closer than this may change places

Windows = NDArray[np.float32]


def results(quick: bool = False) -> str:
    """The section of RESULTS.md on labelling."""
    sizes = (10_000, 100_000) if quick else (10_000, 1_000_000, 10_000_000)
    runs = 1 if quick else 3
    torch.manual_seed(0)
    model, windows = RegionRNN().eval(), _windows(sizes[-1])
    alone = _alone(model, windows[: (5_000 if quick else 100_000) // 32])
    batch, batched = _best_batch(model, windows[: sizes[1] // 32], runs)
    rows, rates = [], {}
    for size in sizes:
        some = windows[: -(-size // 32)]
        rates[size], peak = _rate_and_peak(model, some, (512,) if quick else (1024, 2048, 4096), runs)
        rows.append(
            [
                f"{size:.0e}".replace("e+0", "e"),
                f"{rates[size] / 1e6:.2f}",
                f"{rates[size] / batched:.2f}",
                f"{rates[size] / alone:.0f}",
                f"{100 * rates[size] * FLOP / peak:.0f} % of {peak / 1e9:.0f} GFLOP/s",
            ]
        )
    head = ["samples", "M samples/s and CPU-second", "times nn.RNN", "times a window at a time", "of the sgemm peak"]
    differing, unclear = _differing(model, windows)
    return f"""## Labelling

`make bench`, {machine()}. One core, random weights; CPU time. Promised at 1e6 and 1e7 samples: 45 % of the sgemm peak (best
of square float32 products, n = 1024 to 4096), 2.5 times nn.RNN at its best batch, 100 times a window at a time.

{table(head, rows)}

A window at a time, as the published code does: {alone / 1e6:.4f} M samples/s. nn.RNN in batches of {batch} windows, the
best of {", ".join(map(str, BATCHES))}: {batched / 1e6:.2f} M. {_roof(peak)}
Of {windows.shape[0] * 32} samples {differing} have another label than nn.RNN gives though their two best logits are {CLEAR:g}
apart or more (promised: none); {unclear} are closer. {_threads(model, windows[: sizes[1] // 32], runs)}
{_gpu(model, windows, runs)}
"""


def _windows(samples: int) -> Windows:
    rng = np.random.default_rng(0)
    return rng.standard_normal((-(-samples // 32), 32, N_FEATURES), dtype=np.float32)


def _label(model: nn.Module, windows: Windows, device: str = "cpu") -> Prediction:
    return label_windows(model, windows, np.zeros(windows.shape[:2], bool), device)


def _alone(model: nn.Module, windows: Windows) -> float:
    """Samples per CPU-second of a window at a time."""

    def loop() -> None:
        with torch.inference_mode():
            for window in windows:
                model(torch.from_numpy(window)[None]).softmax(2).argmax(2)

    return windows.shape[0] * 32 / cpu_seconds({"": loop}, 1)[""]


def _best_batch(model: nn.Module, windows: Windows, runs: int) -> tuple[int, float]:
    """The batch that nn.RNN is fastest with, and its samples per CPU-second."""

    def batched(size: int) -> Callable[[], None]:
        def loop() -> None:
            for _ in _logits(model, windows, size):
                pass

        return loop

    taken = cpu_seconds({str(size): batched(size) for size in BATCHES}, runs)
    best = min(taken, key=lambda size: taken[size])
    return int(best), windows.shape[0] * 32 / taken[best]


def _logits(model: nn.Module, windows: Windows, batch: int) -> Iterator[torch.Tensor]:
    for first in range(0, len(windows), batch):
        with torch.inference_mode():
            logits = model(torch.from_numpy(windows[first : first + batch]))
            logits.softmax(2).max(2)
        yield logits


def _rate_and_peak(model: nn.Module, windows: Windows, sides: tuple[int, ...], runs: int) -> tuple[float, float]:
    """Samples per CPU-second, and the most FLOP/s of a product of square matrices, measured in turn."""
    matrices = {side: torch.rand(3, side, side) for side in sides}

    def multiply(side: int) -> Callable[[], None]:
        return lambda: torch.mm(*matrices[side][:2], out=matrices[side][2])

    taken = cpu_seconds({"label": lambda: _label(model, windows)} | {str(n): multiply(n) for n in sides}, runs)
    return windows.shape[0] * 32 / taken["label"], max(2 * side**3 / taken[str(side)] for side in sides)


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
    labels, first, differing, unclear = _label(model, windows).label, 0, 0, 0
    for logits in _logits(model, windows, 4096):
        best = logits.topk(2, dim=2)
        clear = (best.values[:, :, 0] - best.values[:, :, 1] >= CLEAR).numpy()
        other = labels[first : first + len(logits)] != best.indices[:, :, 0].numpy()
        differing += int((other & clear).sum())
        unclear += int((~clear).sum())
        first += len(logits)
    return differing, unclear


def _threads(model: nn.Module, windows: Windows, runs: int) -> str:
    """What more cores gain, in seconds as they pass."""
    cores = len(os.sched_getaffinity(0))

    def on(threads: int) -> Callable[[], None]:
        def label() -> None:
            torch.set_num_threads(threads)
            _label(model, windows)
            torch.set_num_threads(1)

        return label

    taken = wall_seconds({"one": on(1), "all": on(cores)}, runs)
    return f"On {cores} cores {taken['one'] / taken['all']:.2f} times as fast as on one."


def _gpu(model: nn.Module, windows: Windows, runs: int) -> str:
    if not torch.cuda.is_available():
        return "There was no GPU."
    _label(model, windows, "cuda")
    taken = wall_seconds({"": lambda: _label(model, windows, "cuda")}, runs)[""]
    model.to("cpu")
    return f"On {torch.cuda.get_device_name()}: {windows.shape[0] * 32 / taken / 1e6:.0f} M samples/s as they pass."


if __name__ == "__main__":
    torch.set_num_threads(1)
    begin = time.perf_counter()
    print(results())
    print(f"{time.perf_counter() - begin:.0f} s")
