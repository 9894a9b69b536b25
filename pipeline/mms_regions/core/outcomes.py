"""What can become of a segment, and why one failed or has no data: codes for the index, reports and scripts."""

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
    NO_DATA = "no_data"  # nothing was measured there, or the instrument did not work: nothing is wrong


class Cause(StrEnum):
    """Why a segment is `failed` or `no_data`; its reason says it in a sentence."""

    NONE = ""
    UNKNOWN = "unknown"  # in stores made before causes were kept
    EVENT = "event"  # of the catalogue: it cannot be used
    FILES = "files"  # not there, not fetched, damaged or not what they should be
    NOTHING_MEASURED = "nothing_measured"  # the archive has no such data, or they are all fill values
    WORKER = "worker"  # died
    UNEXPECTED = "unexpected"  # an error of the software
