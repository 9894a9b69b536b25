"""The network alone: it needs torch and nothing else. Its weights are read and written in `weights`."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

N_FEATURES, N_HIDDEN, N_LAYERS = 14, 42, 3


class RegionRNN(nn.Module):
    """The recurrent network of Waters et al. (2025): three tanh layers of 42, and a linear read-out.

    classes: how many regions it distinguishes; the published network has 6.
    """

    def __init__(self, classes: int = 6) -> None:
        super().__init__()
        self.rnn = nn.RNN(N_FEATURES, N_HIDDEN, num_layers=N_LAYERS, nonlinearity="tanh", batch_first=True)
        self.fc = nn.Linear(N_HIDDEN, classes)

    @property
    def classes(self) -> int:
        """How many regions it distinguishes."""
        return self.fc.out_features

    def forward(self, features: Tensor) -> Tensor:
        """(W, T, 14) dimensionless features -> (W, T, classes) logits; each window starts from a zero state."""
        states, _ = self.rnn(features)  # (W, T, 42): what the top layer holds after each sample
        return cast(Tensor, self.fc(states))
