"""What the documentation tells people to type: blocks of Markdown files, and the examples in the command's own help."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "jobs/README.md", "jobs/profiles/README.md", "models/README.md")
    ),
    *sorted((ROOT / "docs").glob("*.md")),
]
_SHELL = {"", "sh", "bash", "console"}  # languages of fences; an indented block has none
_VARIABLE = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Block:
    """A block of code: the page and line where it begins, its language, its text."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Line:
    """One command that somebody may type, with the variables set before it."""

    where: str
    text: str
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        return bool(self.words) and Path(self.words[0]).name == "mms-regions"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced and indented blocks of a page. A block that is indented follows a blank line, and is in no list."""
    name, lines = str(page.relative_to(ROOT)), page.read_text().splitlines()
    at, in_list = 0, False
    while at < len(lines):
        line, begun = lines[at], at
        if fence := re.match(r"```(\w*)", line):
            at += 1
            while not lines[at].startswith("```"):
                at += 1
            yield Block(name, begun + 1, fence[1], "\n".join(lines[begun + 1 : at]))
        elif line.startswith("    ") and not in_list and (at == 0 or not lines[at - 1].strip()):
            while at + 1 < len(lines) and lines[at + 1].startswith("    "):
                at += 1
            yield Block(name, begun + 1, "", "\n".join(text[4:] for text in lines[begun : at + 1]))
        elif line.strip():
            in_list = bool(re.match(r"\s*([-*]|\d+\.) ", line)) or (in_list and line.startswith(" "))
        at += 1


def commands(page: Path) -> Iterator[Line]:
    """The lines of all blocks of shell of a page, those that go on after a backslash put together."""
    for block in blocks(page):
        if block.language in _SHELL:
            for text in block.text.replace("\\\n", " ").splitlines():
                if line := _line(f"{block.page}:{block.line}", text):
                    yield line


def inline(page: Path) -> Iterator[Line]:
    """What stands between backquotes in running text and calls the command with words."""
    outside = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for text in re.findall(r"`((?:[A-Z_]+=\S+ )?mms-regions [^`]+)`", outside.replace("\n", " ")):
        if line := _line(str(page.relative_to(ROOT)), text):
            yield line


def examples(command: Any, path: str = "mms-regions") -> Iterator[tuple[str, list[Line]]]:
    """Each command below a group, with the examples in its help."""
    for name, below in command.commands.items():
        here = f"{path} {name}"
        if hasattr(below, "commands"):
            yield from examples(below, here)
        else:
            told = re.findall(r"^ *Example: (.*)$", below.help or "", re.MULTILINE)
            yield here, [line for text in told if (line := _line(f"{here} --help", text))]


def _line(where: str, text: str) -> Line | None:
    words = [word for word in shlex.split(text, comments=True) if word != "..."]
    variables = []
    while words and _VARIABLE.fullmatch(words[0]):
        variables.append(words.pop(0))
    return Line(where, text.strip(), tuple(words), tuple(variables)) if words else None


def unknown_words(line: Line, root: Any) -> list[str]:
    """Options and commands in a line that the command does not know."""
    command, words = root, list(line.words[1:])
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in command.commands:
            return [name]
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "-h", "--debug"}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [option for option in options if option not in known]
