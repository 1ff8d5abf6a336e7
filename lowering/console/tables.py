"""Plain tables whose last column is wrapped on a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from textwrap import wrap

from pefslc.diagnostics.text_table import plain_table

__all__ = ["wrapped_table"]

_NARROWEST = 20


def wrapped_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table; on a terminal that is too narrow, the last column is wrapped, if that leaves it 20 characters."""
    before = sum(max(len(row[i]) for row in (header, *rows)) + 2 for i in range(len(header) - 1))
    width = shutil.get_terminal_size().columns - before
    if not sys.stdout.isatty() or width < _NARROWEST:
        return plain_table(header, rows)
    lines: list[Sequence[str]] = []
    for *cells, last in rows:
        first, *others = wrap(last, width) or [""]
        lines += [(*cells, first), *((*[""] * len(cells), other) for other in others)]
    return plain_table(header, lines)
