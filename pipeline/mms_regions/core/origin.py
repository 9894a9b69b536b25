"""The origin of data by their input files: measured by instruments, or synthetic, from a program that imitates them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MEASURED, SYNTHETIC = "measured", "synthetic"  # what the record of an input file says of its origin
MIXED = "mixed"

_NAMED = 4  # files, in a sentence


@dataclass(frozen=True)
class Origin:
    """Names of input files, by what their records say; `unknown` where a record says nothing, as older ones do."""

    measured: tuple[str, ...] = ()
    synthetic: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """`measured`, `synthetic`, `mixed` (some are synthetic) or `unknown`, of all files together."""
        if self.synthetic:
            return MIXED if self.measured or self.unknown else SYNTHETIC
        return "unknown" if self.unknown or not self.measured else MEASURED

    @property
    def warning(self) -> str:
        """What stands before a title, such as `SYNTHETIC DATA`; empty where no file is known to be synthetic."""
        return {SYNTHETIC: "SYNTHETIC DATA", MIXED: "PARTLY SYNTHETIC DATA"}.get(self.word, "")

    def titled(self, title: str) -> str:
        return f"{self.warning}: {title}" if self.warning else title

    def sentence(self) -> str:
        """For readers who must not take synthetic data for measurements; empty where none is known to be synthetic."""
        if not self.synthetic:
            return ""
        if self.word == SYNTHETIC:
            return "All input files are synthetic: they imitate MMS files, and nothing in them was measured."
        some = f"{len(self.synthetic)} of {len(self.synthetic + self.measured + self.unknown)}"
        names = sorted(self.synthetic)
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"{some} input files are synthetic, not measured: {', '.join(names[:_NAMED])}{more}."


def origin_of(inputs: Iterable[Mapping[str, Any]]) -> Origin:
    """The origin of what is made from these records of input files: their `name` and, where known, `origin`."""
    origins = {str(one["name"]): one.get("origin") or "" for one in inputs}
    known = {kind: tuple(name for name, origin in origins.items() if origin == kind) for kind in (MEASURED, SYNTHETIC)}
    unknown = tuple(name for name, origin in origins.items() if origin not in known)
    return Origin(known[MEASURED], known[SYNTHETIC], unknown)
