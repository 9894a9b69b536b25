"""What can become of a segment, and why one failed or has no data: codes for the index, reports and scripts.

| how it ends | status | exit code of the run |
|---|---|---|
| its files or event cannot be used, its worker died, an error of the software | `failed`, with a cause | 4 |
| there are no files of a product, or nothing was measured in its interval | `no_data`, with a cause | 4 |
| the run was stopped before it was made, or labelled | `missing`, `prepared` | 75 |
| the machine did not allow more | `missing`, `prepared` | 5 |
| samples and labels are there | `complete` | 0 |
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """The state of a segment. In the index of a store are all but `running` and `damaged`."""

    MISSING = "missing"  # not made yet
    RUNNING = "running"  # a run works on it now
    PREPARED = "prepared"  # its samples are there, its labels are not
    COMPLETE = "complete"
    FAILED = "failed"  # it could not be made; the next run tries again
    DAMAGED = "damaged"  # complete once; a file of it is missing
    NO_DATA = "no_data"  # there is nothing to make it from; the next run looks again


class Cause(StrEnum):
    """Why a segment is `failed` or `no_data`; its reason says it in a sentence."""

    NONE = ""
    UNKNOWN = "unknown"  # in stores made before causes were kept
    EVENT = "event"  # of the catalogue: it cannot be used
    FILES = "files"  # not fetched, damaged or not what they should be
    NO_FILES = "no_files"  # the archive or the data folder has none of a product
    NOTHING_MEASURED = "nothing_measured"  # no sample in the interval has all features
    WORKER = "worker"  # died
    UNEXPECTED = "unexpected"  # an error of the software

    @property
    def status(self) -> Status:
        """`no_data` where there was nothing to make a segment from, which is no failure; else `failed`."""
        return Status.NO_DATA if self in (Cause.NO_FILES, Cause.NOTHING_MEASURED) else Status.FAILED

    @property
    def text(self) -> str:
        """The cause in a few words, for all segments that have it."""
        return _TITLES[self]


_TITLES = {
    Cause.NONE: "",
    Cause.UNKNOWN: "cause not recorded",
    Cause.EVENT: "the event cannot be used",
    Cause.FILES: "files cannot be fetched or read",
    Cause.NO_FILES: "no file of a product",
    Cause.NOTHING_MEASURED: "nothing measured in the interval",
    Cause.WORKER: "the worker died",
    Cause.UNEXPECTED: "an error of the software",
}


def by_cause(causes: Mapping[str, str]) -> dict[Cause, list[str]]:
    """The keys of segments by cause, the most frequent cause first. causes: the code of each segment by its key."""
    found: dict[Cause, list[str]] = {}
    for key, code in causes.items():
        cause = Cause(code) if code in set(Cause) else Cause.UNKNOWN
        if cause is not Cause.NONE:
            found.setdefault(cause, []).append(key)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def without_key(reason: str, key: str) -> str:
    """A reason as it is stored and reported beside the key of its segment, such as A/mms4: without the key in front."""
    return reason.removeprefix(f"{key}: ")
