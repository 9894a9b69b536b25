"""The faults of the loopback archive: what can go wrong with an answer, and which fault comes next."""

from __future__ import annotations

import hashlib
import math
import re
import threading
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mms_regions.core.errors import InputProblem

Kind = Literal[
    "busy",  # 503
    "too_many",  # 429, Retry-After: `seconds`
    "stall",  # half of the body, nothing for `seconds`, then the rest
    "cut",  # half of the body, then the connection ends
    "reset",  # half of the body, then a TCP reset
    "slow",  # nothing for `seconds`, then a good answer
    "html",  # 200, an error page
    "json_error",  # 200, {"error": ...}
    "wrong_size",  # listing: every size is too large
    "new_version",  # download: 404, and from now on the file is listed and served one version higher
    "flipped",  # download: one bit is wrong, in the middle of the body
]
Where = Literal["listing", "download", "both"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_ONLY_AT = {"wrong_size": "listing", "new_version": "download", "flipped": "download"}
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {  # of the fields of a fault in a file
    "kind": ("a string", (str,)),
    "where": ("a string", (str,)),
    "match": ("a string", (str,)),
    "times": ("an integer", (int,)),
    "seconds": ("a number", (int, float)),
}


@dataclass(frozen=True)
class Fault:
    """How some answers go wrong.

    where: at listings, at downloads (those of `extra` too) or both. match: regular expression, searched in the file's
    name in the folder, or in the listing's query (SPDF: its path). times: for each such file or listing, this many
    requests and no more; 0 is all. seconds: for stall, slow and too_many. Raises InputProblem where these do not fit.
    """

    kind: Kind
    where: Where = "both"
    match: str = ""
    times: int = 1
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputProblem(f"There is no fault {self.kind!r}; there are {', '.join(KINDS)}.")
        if not any(self.strikes(where, None) for where in ("listing", "download")):
            raise InputProblem(
                f"A fault {self.kind} is at listing, download or both where it can be, not {self.where}."
            )
        if self.times < 0 or not 0 <= self.seconds < math.inf:
            raise InputProblem(f"Fault {self.kind}: times and seconds are 0 or more, not {self.times}, {self.seconds}.")
        try:
            re.compile(self.match)
        except (re.error, OverflowError, RecursionError) as problem:
            raise InputProblem(f"Fault {self.kind}: {self.match!r} is no regular expression: {problem}.") from None

    def strikes(self, where: str, subject: str | None) -> bool:
        """Whether it can be at this place ("listing", "download") with this file name or query; None is any."""
        is_there = where != "" and self.where in ("both", where) and _ONLY_AT.get(self.kind, where) == where
        return is_there and (subject is None or re.search(self.match, subject) is not None)


@dataclass(frozen=True)
class RandomFaults:
    """A share (0 to 1) of the answers goes wrong, drawn from `kinds`; at most `most_per_file` per file or listing.

    What happens hangs on the seed, the file (or listing) and how often it was asked for before, on nothing else.
    """

    seed: int
    share: float = 0.2
    kinds: tuple[Kind, ...] = KINDS
    most_per_file: int = 3
    seconds: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and self.most_per_file >= 0 and self.kinds):
            raise InputProblem(f"Random faults need a share of 0 to 1, kinds and a most_per_file, not {self}.")
        for kind in self.kinds:
            Fault(kind, seconds=self.seconds)

    def fault(self, where: str, subject: str, asked: int) -> Fault | None:
        """What goes wrong with a request that was made `asked` times before."""
        *before, drawn = [self._draw(where, subject, n) for n in range(asked + 1)]
        return drawn if len(before) - before.count(None) < self.most_per_file else None

    def _draw(self, where: str, subject: str, n: int) -> Fault | None:
        possible = [f for f in (Fault(kind, seconds=self.seconds) for kind in self.kinds) if f.strikes(where, None)]
        digest = hashlib.sha256(repr((self.seed, where, subject, n)).encode()).digest()
        chance, choice = (int.from_bytes(part, "big") for part in (digest[:8], digest[8:16]))
        return possible[choice % len(possible)] if possible and chance < self.share * 2**64 else None


class Script:
    """Which fault comes when."""

    def __init__(self, faults: Sequence[Fault], random: RandomFaults | None) -> None:
        self._faults, self._random = faults, random
        self._lock = threading.Lock()
        self._asked: Counter[tuple[str, str, str]] = Counter()
        self._struck: Counter[tuple[str, str, str, int]] = Counter()

    def next(self, method: str, where: str, subject: str) -> Fault | None:
        """What is to go wrong with the answer to this request; HEAD and GET are counted apart."""
        key = (method, where, subject)
        with self._lock:
            asked = self._asked[key]
            self._asked[key] += 1
            for number, fault in enumerate(self._faults):
                if fault.strikes(where, subject) and (not fault.times or self._struck[*key, number] < fault.times):
                    self._struck[*key, number] += 1
                    return fault
        return self._random.fault(where, subject, asked) if self._random else None


def read_faults(path: Path) -> tuple[Fault, ...]:
    """The [[fault]] tables of a TOML file, in their order; each has the fields of `Fault`, of which it needs kind.

    Raises InputProblem, which names the file and the table's number from 1, for what cannot be read or used.
    """
    values = _toml(path)
    tables = values.pop("fault", [])
    if values:
        raise InputProblem(
            f"{path}: there is no {', '.join(map(repr, values))} here, only [[fault]] tables; correct it."
        )
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputProblem(f"{path}: fault is not a list of tables; begin each fault with [[fault]].")
    return tuple(_fault(table, f"{path}, [[fault]] {number}") for number, table in enumerate(tables, start=1))


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise InputProblem(f"There is no file {path}; give a TOML file of [[fault]] tables.") from None
    except OSError as problem:
        raise InputProblem(f"{path} cannot be read: {problem}. Give a readable TOML file.") from None
    except ValueError as problem:  # not UTF-8, not TOML, or an integer of too many digits
        raise InputProblem(f"{path} is not TOML: {problem}. Correct it there.") from None


def _fault(table: Mapping[str, Any], where: str) -> Fault:
    if unknown := [repr(name) for name in table if name not in _TYPES]:
        raise InputProblem(f"{where}: a fault has no {', '.join(unknown)}; its fields are {', '.join(_TYPES)}.")
    if "kind" not in table:
        raise InputProblem(f"{where}: kind is missing; it is one of {', '.join(KINDS)}.")
    for name, value in table.items():
        words, types = _TYPES[name]
        if type(value) not in types:  # not isinstance, to which true is an integer
            raise InputProblem(f"{where}: {name} must be {words}, not {value!r}.")
    try:
        return Fault(**table)
    except InputProblem as problem:
        raise InputProblem(f"{where}: {problem}") from None
