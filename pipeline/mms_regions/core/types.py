"""Names for the numpy types and the few numbers that the whole package passes around."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]  # ns UTC since 1970-01-01, leap seconds not counted; even time in a Burst, see leap_seconds
Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Bits = NDArray[np.uint32]

WINDOW = 32  # samples that the network sees at once, each window from a zero state
CHUNK = 8192  # samples of an inner chunk of a shard, at most
NO_LABEL = -1  # of a sample that is in no region because an input is missing
SECOND = 1_000_000_000  # ns
DAY = 86_400 * SECOND
ENERGIES = 32  # channels of an FPI energy spectrum
