"""The version of the numbers of each convention, raised by every change of a stored value.

A store keeps the version that it was made with, and gets segments of no other one. Each change has a line in the
changelog.
"""

from __future__ import annotations

NUMBERS: dict[str, int] = {"published": 1, "corrected": 2}
