"""The ways a run can fail, each with its exit code and whether trying again can help.

Every message is a sentence for a person: what is wrong, where (file, row, variable), what to do.
"""

from __future__ import annotations

from typing import ClassVar


class MMSRegionsError(Exception):
    """The root of all errors that the command line shows as one sentence."""

    exit_code: ClassVar[int] = 1
    retry_helps: ClassVar[bool] = False


class UsageProblem(MMSRegionsError):
    """Words on the command line are off: an unknown event, a spacecraft 7."""

    exit_code = 2


class InputProblem(MMSRegionsError):
    """A catalogue or a model that cannot be used."""

    exit_code = 3


class SegmentProblem(MMSRegionsError):
    """One segment cannot be made: no data, a bad file, a missing variable. The others go on."""

    exit_code = 4


class EnvironmentProblem(MMSRegionsError):
    """The machine is in the way: disk full, no GPU where one is asked for, a store that others hold."""

    exit_code = 5


class DamagedStore(EnvironmentProblem):
    """Files of a store are not what its receipt says."""


class Interrupted(MMSRegionsError):
    """The run was asked to stop; running it again goes on."""

    exit_code = 75
    retry_helps = True
