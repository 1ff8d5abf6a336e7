"""Where the pages of the checkout stand on the site, and their links rewritten for it.

A page of docs/ keeps its name; those of the root get the names of `ROOT_PAGES`. Pictures lie in pictures/.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = {"README.md": "overview.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

_LINK = re.compile(r"(?<=\]\()([^)#\s]*)(#[^)\s]*)?(?=\))")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def documentation_url() -> str:
    """The address of the site, which ends in "/": the one line of pyproject.toml that says it."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Documentation"])


def name_on_site(page: PurePosixPath) -> PurePosixPath:
    """docs/errors.md -> errors.md. Raises ValueError for what is neither in docs/ nor one of `ROOT_PAGES`."""
    if page.is_relative_to("docs"):
        return page.relative_to("docs")
    if str(page) not in ROOT_PAGES:
        raise ValueError(f"{page} is not on the site: link to a page of docs/, or write its name without a link")
    return PurePosixPath(ROOT_PAGES[str(page)])


def for_site(text: str, page: PurePosixPath) -> str:
    """The Markdown of `page`, a path from the root of the checkout, with its links as the site has them."""
    here = name_on_site(page).parent

    def link(target: PurePosixPath, anchor: str) -> str:
        return f"{os.path.relpath(name_on_site(target), here)}{anchor}"

    return _with_links(text, page, link)


def absolute(text: str, page: PurePosixPath, url: str) -> str:
    """The Markdown of `page` with links that lead to the site from anywhere: what a package index shows."""

    def link(target: PurePosixPath, anchor: str) -> str:
        name = name_on_site(target)
        return f"{url}{name.with_suffix('.html') if name.suffix == '.md' else name}{anchor}"

    return _with_links(text, page, link)


def _with_links(text: str, page: PurePosixPath, link: Callable[[PurePosixPath, str], str]) -> str:
    def rewritten(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        return link(PurePosixPath(os.path.normpath(page.parent / target)), anchor)

    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [_LINK.sub(rewritten, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(rewritten, text[end:])])
