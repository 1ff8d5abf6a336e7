"""HTML for notebooks: tables and texts whose every character is shown as it is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["html_details", "html_heading", "html_table", "html_text"]


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """A table; the columns whose index is in `right` are aligned to the right, a line break in a cell is kept."""

    def row(tag: str, cells: Sequence[str]) -> str:
        sides = ("right" if i in right else "left" for i in range(len(cells)))
        made = (
            f'<{tag} style="text-align:{side}">{html_text(c)}</{tag}>' for c, side in zip(cells, sides, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return f"<table><thead>{row('th', header)}</thead><tbody>{body}</tbody></table>"


def html_heading(text: str) -> str:
    """A line in bold."""
    return f"<div><strong>{html_text(text)}</strong></div>"


def html_details(summary: str, content: str) -> str:
    """HTML that opens at a click on `summary`."""
    return f"<details><summary>{html_text(summary)}</summary>{content}</details>"


def html_text(text: str) -> str:
    """A text with its line breaks."""
    return escape(text).replace("\n", "<br>")
