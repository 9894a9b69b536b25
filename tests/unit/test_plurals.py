"""Counts agree with their noun: `1 segment`, `2 segments`. No message or page has a plural behind a bare number."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mms_regions.core.messages import counted, plural

PACKAGE = Path(__file__).parents[2] / "pipeline" / "mms_regions"
COUNTED = (
    "bytes columns crossings draws events files jobs machines parameters processes rows samples segments shards "
    "simulations steps stretches tasks values windows workers".split()
)
NOUN = re.compile(rf"\s+(?:(?!of |has |in )\w+ )?({'|'.join(COUNTED)})\b")


def bare_counts(source: str) -> Iterator[str]:
    """What is put before a plural in f-strings, but constants, formatted numbers, and texts that say what it is of."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            for value, after in zip(node.values, node.values[1:], strict=False):
                is_text = isinstance(after, ast.Constant) and NOUN.match(str(after.value))
                if is_text and isinstance(value, ast.FormattedValue) and _is_count(value.value):
                    yield f"{{{ast.unparse(value.value)}}}{after.value}"  # type: ignore[attr-defined]


def _is_count(value: ast.expr) -> bool:
    name = ast.unparse(value)
    is_constant = name.rpartition(".")[2].isupper()
    return not is_constant and name not in ("most", "some", "spacecraft", "text") and "counted(" not in name


def test_messages_count_with_the_noun() -> None:
    assert list(bare_counts("f'{n} segments of {MOST} files'")) == ["{n} segments of "]
    found = {path: list(bare_counts(path.read_text())) for path in PACKAGE.rglob("*.py")}
    programming = PACKAGE / "physics"  # its ValueErrors speak of shapes
    assert {path: bad for path, bad in found.items() if bad and programming not in path.parents} == {}


def test_pages_count_with_the_noun() -> None:
    bare = re.compile(rf"\{{\{{ [\w.]+(\|length)? \}}\}} ({'|'.join(COUNTED)})\b")
    assert bare.search("{{ run.tasks }} tasks") and bare.search("{{ facts|length }} segments")
    pages = {path.name: bare.search(path.read_text()) for path in PACKAGE.rglob("*.j2")}
    assert {name for name, found in pages.items() if found} == set()


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (0, "file", "0 files"),
        (1, "stretch", "1 stretch"),
        (2, "stretch", "2 stretches"),
        (3, "process", "3 processes"),
        (10_000, "segment", "10,000 segments"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, noun: str, said: str) -> None:
    assert counted(number, noun) == said


def test_verbs_agree_too() -> None:
    assert [plural(verb, 1) for verb in ("is", "was", "has")] == ["is", "was", "has"]
    assert [plural(verb, 2) for verb in ("is", "was", "has")] == ["are", "were", "have"]
