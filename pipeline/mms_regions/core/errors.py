"""The ways a run can fail, each with its exit code and whether trying again can help.

Every message is a sentence for a person: what is wrong, where (file, row, variable), what to do.
"""

from __future__ import annotations

import errno
import resource
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from mms_regions.core.outcomes import Cause, Status

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_NONE: Mapping[str, str] = MappingProxyType({})


class MMSRegionsError(Exception):
    """The root of all errors that the command line shows as one sentence."""

    exit_code: ClassVar[int] = 1
    retry_helps: ClassVar[bool] = False


class UsageProblem(MMSRegionsError):
    """A usage error: an unknown option, an unknown event, a spacecraft 7."""

    exit_code = 2


class InputProblem(MMSRegionsError):
    """A catalogue or a model that cannot be used."""

    exit_code = 3


class SegmentProblem(MMSRegionsError):
    """One segment cannot be made: no data, a bad file, a missing variable. Other segments are not affected.

    cause: a code for the index of a store; the message says it in words.
    """

    exit_code = 4

    def __init__(self, message: str, cause: Cause = Cause.FILES):
        super().__init__(message)
        self.cause = cause

    @property
    def no_data(self) -> bool:
        """Whether there is nothing to make the segment from, which is no failure."""
        return self.cause.status is Status.NO_DATA


class EnvironmentProblem(MMSRegionsError):
    """The machine does not allow it: disk full, no GPU where one is asked for, a store that another process holds."""

    exit_code = 5


class DamagedStore(EnvironmentProblem):
    """Files of a store are not what its receipt says."""


class Interrupted(MMSRegionsError):
    """The run was asked to stop; the same command continues it."""

    exit_code = 75
    retry_helps = True


_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space there, or choose another place"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "it is in the way; choose another place"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "get write permission there, or choose another place"),
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), "raise the limit of open files (`ulimit -n`), or use fewer --workers"
    ),
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`), or choose another file system",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`), or use fewer --workers",
}
_NO_MEMORY = (
    "cannot allocate memory",
    "failed to map segment",
    "can't start new thread",
    "out of memory",
    "not enough memory",
)


def sentence(problem: BaseException) -> str:
    """An error as one sentence that names its cause; errors that are not ours too, as these may have many causes."""
    if isinstance(problem, MMSRegionsError):
        return str(problem)
    if isinstance(problem, MemoryError) or any(said in str(problem).lower() for said in _NO_MEMORY):
        return f"there is not enough memory: {_memory_limit()}; raise it, or use fewer --workers"
    if isinstance(problem, OSError) and str(problem):  # without a text: of a library, in whose code the place is
        return f"{problem.filename or 'the system'}: {problem.strerror or problem}; {advice(problem)}"
    if isinstance(problem, ImportError):
        return f"the installation is incomplete ({problem}); `mms-regions doctor` checks it"
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    text = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    return f"unexpected error ({text}{place}); run again with --debug and report what it shows"


def advice(problem: OSError) -> str:
    """What to do about what the system refuses, in words."""
    return _ADVICE.get(problem.errno or 0, "run again with --debug for the place in the program")


def _memory_limit() -> str:
    """Limits of a process that often are the reason, as batch systems and shells set them."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        return f"this shell limits a process to {limit / 2**30:.1f} GiB of address space (`ulimit -v`)"
    return "the machine, its container or its batch job has no more"


def shown(value: object) -> str:
    """A value in a message: quoted, and cut where it is long."""
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def explain(
    problem: ValidationError, names: Mapping[str, str] = _NONE, allowed: Mapping[str, str] = _NONE
) -> dict[str, str]:
    """What is wrong, by field: {"cpu.jobs": "cpu.jobs = 0: must be greater than or equal to 1"}.

    The field is empty for what concerns several. names: other names of fields, for messages; allowed: what the value of
    a field may be, where "must be ..." then says more than pydantic does.
    """
    errors = problem.errors(include_url=False)
    return {field: _clause(names.get(field, field), error, allowed.get(field, "")) for field, error in _located(errors)}


def _located(errors: list[ErrorDetails]) -> list[tuple[str, ErrorDetails]]:
    return [(".".join(map(str, error["loc"])), error) for error in errors]


def _clause(name: str, error: ErrorDetails, allowed: str) -> str:
    if error["type"] == "extra_forbidden":
        return f"there is no {name}"
    if error["type"] == "missing":
        return f"{name} is missing"
    said = error["msg"].removeprefix("Value error, ").replace("Input should", "must")
    said = f"must be {allowed}" if allowed else said
    return f"{name} = {shown(error['input'])}: {said}" if name else said
