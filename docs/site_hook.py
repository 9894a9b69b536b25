"""A hook of mkdocs: files outside docs/ that a page links to become part of the site, below project/.

So the same Markdown works as files in the repository and as a site, without the address of a repository.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(?=[)#])")
OUTSIDE = "project/"  # a folder of the site


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the pages link to outside docs/, and what those files link to."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    while waiting:
        for path in _linked_from(waiting.pop()):
            uri = _in_site(path)
            if uri.startswith(OUTSIDE) and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
                waiting.append(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite relative links so that they hold in the site."""
    here, uri = _in_repository(page.file.src_uri), page.file.src_uri

    def rewritten(found: re.Match[str]) -> str:
        return posixpath.relpath(_in_site(_target(here, found[1])), posixpath.dirname(uri) or ".")

    return LINK.sub(rewritten, markdown)


def _linked_from(path: str) -> Iterator[str]:
    """Files of the repository that a page links to."""
    if path.endswith(".md"):
        for link in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
            target = _target(path, link)
            if (ROOT / target).is_file():
                yield target


def _target(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _in_site(path: str) -> str:
    """Where a file of the repository is in the site."""
    return path.removeprefix("docs/") if path.startswith("docs/") else OUTSIDE + path


def _in_repository(uri: str) -> str:
    """Where a file of the site is in the repository."""
    return uri.removeprefix(OUTSIDE) if uri.startswith(OUTSIDE) else f"docs/{uri}"
