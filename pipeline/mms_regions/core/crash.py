"""Places at which a process can be told to die, so that tests show what a kill leaves behind.

MMS_REGIONS_CRASH names a point and the count at which whoever reaches it is killed, and a file that counts, over all
processes of a run: `MMS_REGIONS_CRASH=shard-unreceipted:2:/tmp/count`. It happens once: later passes are not killed.
"""

from __future__ import annotations

import os
import signal
from typing import Literal

VARIABLE = "MMS_REGIONS_CRASH"

CrashPoint = Literal[
    "plan-written",  # the arrays are not there yet
    "store-described",
    "files-obtained",
    "segment-prepared",
    "array-unnamed",  # its shard is written, under a hidden name
    "shard-half-written",
    "shard-unreceipted",
    "repair-half-moved",
    "labels-half-written",
    "labels-unreceipted",
    "labels-withdrawn",  # those of another model, before they are replaced
    "labels-half-swapped",
    "index-unwritten",
]


def crash_point(point: CrashPoint) -> None:
    """Die here, as by SIGKILL, if this is the point and the count that the environment names."""
    wish = os.environ.get(VARIABLE)
    if not wish:
        return
    name, count, counter = wish.split(":", 2)
    if name == point and _passes(counter) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)


def _passes(counter: str) -> int:
    """How often the point was passed, this time included, by whatever process."""
    with open(counter, "ab") as file:  # noqa: PTH123  (appending is what counts right between processes)
        file.write(b".")
        file.flush()
        return os.fstat(file.fileno()).st_size
