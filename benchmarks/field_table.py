"""Rows of docs/field.md: one model each, then one for all models of an exporter that are alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Row", "joined", "line"]

# A number that is a word: not the 8 of FP16BP8, and none in a tensor's name.
_NUMBER = re.compile(r"(?<![\w.'/])\d+(?![\w.'/])")


@dataclass(frozen=True, slots=True)
class Row:
    """What became of the models.

    models   names, of one exporter
    cells    of the columns behind them, in the table's order
    """

    exporter: str
    models: tuple[str, ...]
    cells: tuple[str, ...]

    def __str__(self) -> str:
        return line((self.exporter, ", ".join(self.models), *self.cells))


def line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def joined(rows: Iterable[Row]) -> list[Row]:
    """Rows of one exporter whose cells say the same but for numbers become one, where the first was."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.exporter, *(_NUMBER.sub("0", cell) for cell in row.cells)), []).append(row)
    return [
        Row(
            same[0].exporter,
            tuple(model for row in same for model in row.models),
            tuple(_with_ranges(cells) for cells in zip(*(row.cells for row in same), strict=True)),
        )
        for same in alike.values()
    ]


def _with_ranges(texts: Sequence[str]) -> str:
    """The text that all are but for numbers; a number that is not the same in all, as "3 to 40"."""
    columns = iter(list(zip(*(map(int, _NUMBER.findall(text)) for text in texts), strict=True)))

    def number(_: re.Match[str]) -> str:
        column = next(columns)
        return str(min(column)) if min(column) == max(column) else f"{min(column)} to {max(column)}"

    return _NUMBER.sub(number, texts[0])
