"""What a recurrent network is compared with: a network of single samples, and a rule of three thresholds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mms_regions.core.types import Floats
from mms_regions.model.network import N_FEATURES, N_HIDDEN
from mms_regions.synthetic.layer import (
    INFLOW_NORTH,
    INFLOW_SOUTH,
    NONE_OF_THESE,
    OUTFLOW_EARTHWARD,
    OUTFLOW_TAILWARD,
    SEPARATRIX_NORTH,
    SEPARATRIX_SOUTH,
)

_BX, _EY, _VIX = 0, 4, 8  # columns, in simulation axes: E_y is the normal field, positive to the south
_JET, _NORMAL_E, _LOBE = 0.3, 0.3, 0.5


def label_by_rule(features: Floats) -> NDArray[np.int8]:
    """(...) int8 regions of features (..., 14): a jet is outflow, a field to the sheet separatrix, B_x alone inflow."""
    b_x, v_x = features[..., _BX], features[..., _VIX]
    north = b_x >= 0
    inward = np.where(north, 1, -1) * features[..., _EY]
    inflow = np.where(north, INFLOW_NORTH, INFLOW_SOUTH)
    found = np.where(np.abs(b_x) > _LOBE, inflow, NONE_OF_THESE)
    found = np.where(inward > _NORMAL_E, np.where(north, SEPARATRIX_NORTH, SEPARATRIX_SOUTH), found)
    jet = np.where(v_x > 0, OUTFLOW_EARTHWARD, OUTFLOW_TAILWARD)
    return np.where(np.abs(v_x) > _JET, jet, found).astype(np.int8)


class SingleSamples(nn.Module):
    """The same layers without recurrence: each sample by itself."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        sizes = [N_FEATURES, N_HIDDEN, N_HIDDEN, N_HIDDEN]
        hidden = [part for i in range(3) for part in (nn.Linear(sizes[i], sizes[i + 1]), nn.Tanh())]
        self.layers = nn.Sequential(*hidden, nn.Linear(N_HIDDEN, classes))

    def forward(self, features: Tensor) -> Tensor:
        """(..., 14) -> (..., classes) logits."""
        logits: Tensor = self.layers(features)
        return logits

    def label(self, features: Floats) -> NDArray[np.int8]:
        """(...) int8 regions of features (..., 14)."""
        with torch.inference_mode():
            label: NDArray[np.int8] = self(torch.from_numpy(features)).argmax(-1).to(torch.int8).numpy()
        return label


def fit_single_samples(
    features: Tensor, region: Tensor, classes: int, seed: int, epochs: int, rate: float = 0.004
) -> SingleSamples:
    """The network of single samples, fitted to features (n, 14) of known regions (n,)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SingleSamples(classes)
    with torch.no_grad():
        network.get_parameter("layers.0.weight").div_(features.std(dim=0))
    generator = torch.Generator().manual_seed(seed)
    optimizer, batch = torch.optim.Adam(network.parameters()), min(8192, len(features))
    batches = len(features) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * batches)
    for _ in range(epochs):
        order = torch.randperm(len(features), generator=generator)
        for some in order[: batches * batch].reshape(-1, batch):
            loss = nn.functional.cross_entropy(network(features[some]), region[some])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()
