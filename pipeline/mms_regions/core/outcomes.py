"""What can become of a segment, and why one failed or has no data: codes for the index, reports and scripts.

| how it ends | status | exit code of the run |
|---|---|---|
| its files, samples or event cannot be used, its worker died, an error of the software | `failed`, with a cause | 4 |
| the run was stopped before it was made, or labelled | `missing`, `prepared` | 75 |
| the machine did not allow more | `missing`, `prepared` | 5 |
| samples and labels are there | `complete` | 0 |
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The state of a segment. In the index of a store are all but `running` and `damaged`."""

    MISSING = "missing"  # not made yet
    RUNNING = "running"  # a run works on it now
    PREPARED = "prepared"  # its samples are there, its labels are not
    COMPLETE = "complete"
    FAILED = "failed"  # it could not be made; the next run tries again
    DAMAGED = "damaged"  # complete once; a file of it is missing
    NO_DATA = "no_data"  # nothing was measured there; reserved: today such a segment is `failed`, with that cause


class Cause(StrEnum):
    """Why a segment is `failed` or `no_data`; its reason says it in a sentence."""

    NONE = ""
    UNKNOWN = "unknown"  # in stores made before causes were kept
    EVENT = "event"  # of the catalogue: it cannot be used
    FILES = "files"  # not there, not fetched, damaged or not what they should be
    NOTHING_MEASURED = "nothing_measured"  # no sample has all features
    WORKER = "worker"  # died
    UNEXPECTED = "unexpected"  # an error of the software
