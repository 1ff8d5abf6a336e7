"""The pages of docs/: in a checkout where they are written, in an installed wheel beside the modules."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["error_sections", "page", "page_names"]

_PACKAGE = Path(__file__).resolve().parent.parent
_INSTALLED = _PACKAGE / "docs"  # package-dir of pyproject.toml puts docs/ there
_FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "docs"
_ERRORS = "errors"
_SECTION = re.compile(r"^### (PEF\d{4}): .*\n(?:(?!#).*\n?)*", re.MULTILINE)


def page_names() -> tuple[str, ...]:
    """The pages by name, which is their file's without `.md`; sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.md")))


def page(name: str) -> str:
    """The Markdown of a page. `name` is one of `page_names()`."""
    return (_FOLDER / f"{name}.md").read_text(encoding="utf-8")


def error_sections() -> dict[str, str]:
    """The number of each code, "PEF0504" -> its section of errors.md, from the heading on."""
    return {found[1]: found[0].rstrip() + "\n" for found in _SECTION.finditer(page(_ERRORS))}
