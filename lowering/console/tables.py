"""Tables aligned with spaces: the same in a pipe and in a golden text; a terminal may have the last column wrapped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from textwrap import wrap

__all__ = ["plain_table", "wrapped_table"]

_NARROWEST = 20


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Columns as wide as their widest cell; those whose index is in `right` are aligned to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, tuple("-" * w for w in widths), *rows):
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


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
