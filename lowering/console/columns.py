"""Tables in a terminal: nothing in them is cut; a narrow one folds long names and says which columns it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Column", "print_columns"]

_SHORTEST_FOLD = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A header, of one or more lines, and the cells below it; `right` aligns numbers."""

    header: str
    cells: Sequence[Text]
    right: bool = False


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """For cli.run to answer; rich would end the process with status 1."""
        raise BrokenPipeError


def print_columns(
    columns: Sequence[Column], dropped_first: Sequence[str], console: Console | None = None, *, total: bool = False
) -> None:
    """Print the table. In a terminal too narrow for it the first column is folded, then columns go; a line says which.

    Without colour (NO_COLOR) nothing is bold, either: whoever sets it mostly wants no escapes at all.

    dropped_first  headers, in the order in which they go
    total          whether the last row is set off from the others
    """
    console = console or _Console(highlight=False)
    left_out: list[str] = []
    if console.no_color:
        columns = [replace(c, cells=[Text(cell.plain) for cell in c.cells]) for c in columns]
    if console.is_terminal and _width(columns) > console.width:
        columns = _folded(columns, max(_SHORTEST_FOLD, console.width // 3))
        for header in dropped_first:
            if _width(columns) <= console.width:
                break
            left_out += [c.header.replace("\n", " ") or "bar" for c in columns if c.header == header]
            columns = [c for c in columns if c.header != header]
    needed = _width(columns)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    if console.no_color:
        table.header_style = ""
    lines = max(c.header.count("\n") for c in columns)
    for column in columns:
        header = "\n" * (lines - column.header.count("\n")) + column.header
        table.add_column(header, justify="right" if column.right else "left", no_wrap=True)
    rows = list(zip(*(c.cells for c in columns), strict=True))
    for i, cells in enumerate(rows):
        table.add_row(*cells, end_section=total and i == len(rows) - 2)
    width, console.width = console.width, max(console.width, needed)
    console.print(table)
    console.width = width
    if left_out:
        console.print(Text(f"left out for want of width: {', '.join(left_out)}; `| less -S` shows all"))


def _width(columns: Sequence[Column]) -> int:
    """Of the table: each column as wide as its widest line, and two spaces between columns."""
    widest = (max(_line_width(cell) for cell in (Text(c.header), *c.cells)) for c in columns)
    return sum(widest) + 2 * (len(columns) - 1)


def _line_width(cell: Text) -> int:
    return max((line.cell_len for line in cell.split()), default=0)


def _folded(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns with the layers' names in lines of at most `width` characters, if possible of whole words."""
    names, *others = columns
    cells = [Text("\n".join(wrap(c.plain, width, break_on_hyphens=False))) for c in names.cells]
    return [replace(names, cells=cells), *others]
