"""docs/architecture.md has a line for every module of the package, and none for a module that is gone."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pipeline" / "mms_regions"


def modules_described() -> set[str]:
    """Modules as the tables name them, such as `core/errors`, by the heading above each table."""
    found, folder = set(), ""
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        if heading := re.match(r"### `(\w+)/`", line):
            folder = heading[1]
        elif row := re.match(r"\| `(\w+)` \| \S", line):
            found.add(f"{folder}/{row[1]}")
    return found


def modules_there() -> set[str]:
    return {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.glob("*/[!_]*.py")}


def test_every_module_has_a_line() -> None:
    assert sorted(modules_there() - modules_described()) == [], "add a line to docs/architecture.md"


def test_no_line_is_about_a_module_that_is_gone() -> None:
    assert sorted(modules_described() - modules_there()) == [], "remove the line from docs/architecture.md"
