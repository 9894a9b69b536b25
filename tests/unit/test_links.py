"""Links between the pages resolve, headings included. No network: links to other sites are only looked at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "node_modules"} & set(path.relative_to(ROOT).parts)
    and not path.relative_to(ROOT).parts[0].startswith(".")
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its blocks and words of code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = [heading.lower() for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def why_not(page: Path, link: str) -> str:
    """What is wrong with a link on a page; nothing if it is sound."""
    if re.match(r"(https://|mailto:)", link):
        return ""
    if ":" in link.partition("#")[0]:
        return f"{link} is of a kind that is not known"
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{link}: there is no {target}"
    return f"{link}: no such heading" if anchor and anchor not in anchors(target) else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    assert [wrong for link in LINK.findall(prose(page)) if (wrong := why_not(page, link))] == []


def test_each_page_of_the_docs_is_in_the_table_of_contents() -> None:
    contents = ROOT / "docs" / "README.md"
    linked = {(contents.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(contents))}
    assert {page.resolve() for page in (ROOT / "docs").glob("*.md")} - {contents.resolve()} <= linked


@pytest.mark.parametrize(
    ("link", "wrong"),
    [
        ("none.md", "there is no"),
        ("README.md#none", "no such heading"),
        ("http://x.org", "not known"),
        ("README.md", ""),
    ],
)
def test_a_link_that_leads_nowhere_is_told(link: str, wrong: str) -> None:
    assert wrong in why_not(ROOT / "README.md", link)
    assert bool(why_not(ROOT / "README.md", link)) == bool(wrong)
