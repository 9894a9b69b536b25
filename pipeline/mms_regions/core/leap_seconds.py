"""Leap seconds: what a time means where one is inside an interval."""

from __future__ import annotations

from dataclasses import dataclass

from mms_regions.core.types import SECOND, Flags, Times

# ns UTC: the midnights that have a leap second before them, since MMS was launched (IERS Bulletins C 49 and C 52).
LEAP_SECONDS = (1_435_708_800 * SECOND, 1_483_228_800 * SECOND)
_NEVER = 2**62  # ns, in 2116


@dataclass(frozen=True)
class Clock:
    """Even time of an interval: ns UTC, but a leap second inside is counted, so that differences are true.

    As ns UTC the second 23:59:60 has the same times as the one after it; even time sets them apart. It is UTC up to the
    midnight `leap` (see LEAP_SECONDS), UTC plus 1 s after the leap second, and UTC everywhere where there is none.
    """

    leap: int = _NEVER

    @classmethod
    def within(cls, begin: int, end: int) -> Clock:
        """The clock of an interval of at most days, its ends in ns UTC."""
        return cls(next((leap for leap in LEAP_SECONDS if begin < leap <= end), _NEVER))

    def even(self, utc: Times) -> Times:
        """Even time of ns UTC; an ambiguous time is taken as the later one, after the leap second."""
        return utc + SECOND * (utc >= self.leap)

    def utc(self, even: Times) -> Times:
        """ns UTC; of 23:59:60 that of the second after it, as CDF libraries and POSIX have it."""
        return even - SECOND * (even >= self.leap + SECOND)

    def in_leap_second(self, even: Times) -> Flags:
        """Which of these times are in the second 23:59:60."""
        inside: Flags = (even >= self.leap) & (even < self.leap + SECOND)
        return inside
