"""What tests look at in the folder of a report."""

from __future__ import annotations

import html
import re
from pathlib import Path


def words_of(page: Path) -> str:
    """What there is to read on a page, without its pictures."""
    body = re.sub(r"<(style|script)\b[^>]*>.*?</\1>|<head>.*?</head>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "\n", body)).split())


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
