"""Our docstrings and help texts are plain prose; Sphinx reads reStructuredText.

A docstring has paragraphs; lists of names with two or more spaces between a name and what it is,

    width_bits  how wide
    a, b        two of a kind

and examples, which are indented or follow the first line of a module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAMED = re.compile(r"(?P<name>[\w*][\w*.\[\]=|]*(?:, [\w*][\w*.\[\]=|]*)*) {2,}(?P<text>\S.*)")
_CODE = re.compile(r"`+([^`]+)`+")
_MARKUP = re.compile(r"([\\*_|:])")


def to_rst(lines: Iterable[str]) -> list[str]:
    """The lines of a docstring, without the margin, as lines of reStructuredText."""
    written: list[str] = []
    for paragraph in _paragraphs(lines):
        written += [*_paragraph(paragraph), ""]
    return written


def inline(text: str) -> str:
    """One piece of prose: `code` as code, and no other character means anything."""
    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [_escaped(text[end : code.start()]), f"\\ ``{code[1]}``\\ "]
        end = code.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)


def _paragraphs(lines: Iterable[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line.rstrip())
        elif found[-1]:
            found.append([])
    return [paragraph for paragraph in found if paragraph]


def _paragraph(lines: list[str]) -> list[str]:
    if all(line.startswith("    ") for line in lines):
        return ["::", "", *lines]
    if all(_NAMED.fullmatch(line) or line.startswith("  ") for line in lines) and _NAMED.fullmatch(lines[0]):
        return _names(lines)
    if all(line.startswith(("- ", "  ")) for line in lines):
        return [f"{line[:2]}{inline(line[2:])}" for line in lines]
    named = next((i for i, line in enumerate(lines) if i and _NAMED.fullmatch(line)), None)
    if named is not None and len(lines) > named:
        return [*_paragraph(lines[:named]), "", *_paragraph(lines[named:])]
    return [inline(line.strip()) for line in lines]


def _names(lines: list[str]) -> list[str]:
    written = []
    for line in lines:
        if found := _NAMED.fullmatch(line):
            written += [f"``{found['name']}``", f"    {inline(found['text'])}"]
        else:
            written.append(f"    {inline(line.strip())}")
    return written
