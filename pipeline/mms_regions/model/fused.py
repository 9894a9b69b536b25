"""The network for the CPU, rewritten as few large products: the same labels at more than twice the speed."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from mms_regions.model.network import N_FEATURES, N_HIDDEN, N_LAYERS, RegionRNN


class FusedRNN:
    """What RegionRNN computes, for a block of windows on the CPU at more than twice the speed, equal up to rounding.

    One matrix holds the state of all layers, a column per window and the rows x | 1 | s0 | 1 | s1 | 1 | s2, so that
    what a layer reads, its input, a one for its bias, and its own last state, lies in consecutive rows: each layer and
    sample takes one product and one activation. That is the sigmoid s of 2a, for tanh a = 2s - 1 and torch's sigmoid
    takes a fraction of the time of its tanh on some processors; the weights are those for s in the place of tanh a.
    """

    def __init__(self, model: RegionRNN):
        weights = {name: tensor.detach().double() for name, tensor in model.rnn.named_parameters()}
        self._layers = []
        for k in range(N_LAYERS):
            bias = weights[f"bias_ih_l{k}"] + weights[f"bias_hh_l{k}"]
            inputs, recurrent = weights[f"weight_ih_l{k}"], weights[f"weight_hh_l{k}"]
            if k > 0:
                inputs, bias = _of_sigmoids(inputs, bias)
            recurrent, bias = _of_sigmoids(recurrent, bias)
            self._layers.append((2 * torch.cat([inputs, bias[:, None], recurrent], 1)).float())
        weight, bias = _of_sigmoids(model.fc.weight.detach().double(), model.fc.bias.detach().double())
        self._read_out = torch.cat([bias[:, None], weight], 1).float()

    def __call__(self, features: Tensor) -> Tensor:
        """(T, 14, W) features -> (T, classes, W) logits."""
        steps, _, count = features.shape
        ends = [N_FEATURES + k * (1 + N_HIDDEN) for k in range(N_LAYERS + 1)]  # of x, s0, s1 and s2
        state = _rows(ends[-1], count).fill_(0.5)  # tanh a = 0
        state[ends[:-1]] = 1.0
        read = [state[max(0, end - N_HIDDEN) : next_end] for end, next_end in pairwise(ends)]
        own = [state[end - N_HIDDEN : end] for end in ends[1:]]
        x, top, layers = state[:N_FEATURES], state[ends[-2] :], list(zip(self._layers, read, own, strict=True))
        sums, logits = _rows(N_HIDDEN, count), torch.empty(steps, len(self._read_out), count)
        for now, said in zip(features.unbind(), logits.unbind(), strict=True):
            x.copy_(now)
            for weight, inputs, outputs in layers:
                torch.mm(weight, inputs, out=sums)
                torch.sigmoid(sums, out=outputs)
            torch.mm(self._read_out, top, out=said)
        return logits


def _rows(rows: int, columns: int) -> Tensor:
    """(rows, columns) that do not begin a power of two apart, for a cache keeps few such lines."""
    return torch.empty(rows, columns + 16)[:, :columns]


def _of_sigmoids(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and bias for s that make of s what these make of h = 2s - 1."""
    return 2 * weight, bias - weight.sum(dim=1)
