"""Tables in terminals of any width: what is left out is said; NO_COLOR leaves no escape."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from rich.text import Text

from pefslc.console.columns import Column, print_columns

COLUMNS = [
    Column("layer", [Text("first/conv"), Text("second/conv")]),
    Column("op", [Text("Conv2d"), Text("Conv2d", "bold red")]),
    Column("modelled\ncycles", [Text("12,345"), Text("6")], right=True),
    Column("", [Text("####"), Text("#")]),
    Column("MACs", [Text("1,000,000"), Text("7", "bold")], right=True),
]
DROPPED_FIRST = ["op", "", "modelled\ncycles"]


def printed(width: int, *, terminal: bool = True, colour: bool = True) -> str:
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, no_color=not colour, highlight=False)
    print_columns(COLUMNS, DROPPED_FIRST, console)
    return file.getvalue()


@pytest.mark.parametrize("width", range(24, 60))
def test_what_is_left_out_is_said_and_nothing_else(width: int) -> None:
    text = " ".join(printed(width, colour=False).split())  # the line is wrapped where it must be
    table, _, note = text.partition("left out for want of width: ")
    names = [name for name in note.partition(";")[0].split(", ") if name]
    assert [name in names for name in ("op", "bar", "modelled cycles")] == [
        "Conv2d" not in table,
        "####" not in table,
        "12,345" not in table,
    ]
    assert len(names) == len(set(names))
    assert "1,000,000" in table


def test_a_wide_terminal_and_a_pipe_show_all() -> None:
    assert "left out" not in printed(100)
    assert "left out" not in printed(20, terminal=False)
    assert all(text in printed(20, terminal=False) for text in ("Conv2d", "12,345", "####"))


def test_without_colour_nothing_is_bold() -> None:
    assert "\x1b" in printed(100)
    assert "\x1b" not in printed(100, colour=False)
    assert "\x1b" not in printed(30, colour=False)
