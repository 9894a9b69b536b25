"""Labelling on a GPU: how fast, and whether it agrees with the CPU. Needs torch and numpy alone.

`PYTHONPATH=pipeline python benchmarks/gpu.py [SAMPLES]` (1e8) prints the section "On a GPU" of RESULTS.md.
`--device cpu` tries the program itself where there is no GPU; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray

from mms_regions.core.types import WINDOW
from mms_regions.model.label import _GPU_BLOCK, BLOCK, Prediction, label_windows
from mms_regions.model.network import N_FEATURES, RegionRNN

CLEAR = 1e-5  # two best probabilities that are closer than this may change places
BLOCKS = (BLOCK, 8192, _GPU_BLOCK, 4 * _GPU_BLOCK)

Windows = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=float, nargs="?", default=1e8)
    parser.add_argument("--device", default="cuda")
    wanted = parser.parse_args()
    print(results(int(wanted.samples), wanted.device, 5))


def results(samples: int, device: str, runs: int) -> str:
    """The section of RESULTS.md."""
    torch.manual_seed(0)
    model, windows = RegionRNN().eval(), random_windows(samples)
    as_run, two_streams = "from host memory, as `run` does", "the same on two streams, in two threads"
    variants = {
        f"from host memory, blocks of {block:,} windows": from_host(model, windows, device, block)
        for block in BLOCKS
        if block <= len(windows)
    } | {
        as_run: from_host(model, windows, device, None),
        two_streams: on_two_streams(model, windows, device),
        "from device memory, the network alone": network_alone(model, windows, device, tf32=False),
        "the same with TF32": network_alone(model, windows, device, tf32=True),
    }
    taken = least_seconds(variants, device, runs)
    rows = "\n".join(f"| {name} | {len(windows) * WINDOW / s / 1e6:.1f} |" for name, s in taken.items())
    return f"""## On a GPU

`python benchmarks/gpu.py`: {device_name(device)}, torch {torch.__version__}, numpy {np.__version__}.
{len(windows) * WINDOW:.0e} samples, float32 from end to end, the least of {runs} runs each.

| | million samples per second |
| --- | --- |
{rows}

Two streams are {taken[as_run] / taken[two_streams]:.2f} times as fast as one (1.2 would be worth a second lane).
{agreement(model, windows, device)}
"""


def random_windows(samples: int) -> Windows:
    count = -(-samples // WINDOW)
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, WINDOW, N_FEATURES), dtype=np.float32)


def from_host(model: RegionRNN, windows: Windows, device: str, block: int | None) -> Callable[[], object]:
    """All that `run` does: from arrays of numpy to arrays of numpy."""
    withheld = np.zeros(windows.shape[:2], dtype=bool)
    return lambda: label_windows(model, windows, withheld, device, block)


def on_two_streams(model: RegionRNN, windows: Windows, device: str) -> Callable[[], object]:
    """Each half in a thread and on a stream of its own, so that copies of one overlap with arithmetic of the other."""
    halves = [(deepcopy(model), part) for part in np.array_split(windows, 2) if len(part)]  # nn.RNN is of one thread

    def label(half: tuple[RegionRNN, Windows]) -> Prediction:
        own, part = half
        with torch.cuda.stream(torch.cuda.Stream()) if device.startswith("cuda") else nullcontext():
            return label_windows(own, part, np.zeros(part.shape[:2], dtype=bool), device)

    def both() -> list[Prediction]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(label, halves))

    return both


def network_alone(model: RegionRNN, windows: Windows, device: str, *, tf32: bool) -> Callable[[], object]:
    """Logits of one large block that is on the device already, as often as all windows need."""
    block = windows[:_GPU_BLOCK]

    def compute() -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        there = model.to(device)
        features = torch.from_numpy(block).to(device)
        with torch.inference_mode():
            for _ in range(-(-len(windows) // len(block))):
                there(features)

    return compute


def least_seconds(variants: dict[str, Callable[[], object]], device: str, runs: int) -> dict[str, float]:
    """All variants once to warm up, then in turn, so that what else runs hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(runs + 1):
        for name, variant in variants.items():
            begin = time.perf_counter()
            variant()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - begin)
    return {name: min(times[1:]) for name, times in taken.items()}


def agreement(model: RegionRNN, windows: Windows, device: str) -> str:
    """How far labels and probabilities of the device are from those of the CPU."""
    some = windows[: 1_000_000 // WINDOW]
    withheld = np.zeros(some.shape[:2], dtype=bool)
    here, there = (label_windows(model, some, withheld, where) for where in ("cpu", device))
    best = np.sort(here.probability, axis=-1)[..., -2:]
    clear = best[..., 1] - best[..., 0] > CLEAR
    differ = here.label != there.label
    largest = np.abs(here.probability - there.probability).max()
    clearly, closely = np.count_nonzero(differ & clear), np.count_nonzero(differ & ~clear)
    return f"""Against the CPU, {some.shape[0] * WINDOW} samples: {clearly} labels differ where the two best
probabilities are {CLEAR:g} apart or more, {closely} where they are closer.
Probabilities differ by {largest:.1e} at most."""


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "the CPU, to try this program"


if __name__ == "__main__":
    main()
