"""A graph as a small inline SVG for notebooks: a row for each operation, in the order of execution, data going down.

A value keeps a lane from the row that makes it to the last row that reads it, so that no line runs through a dot; a row
stands at the lane of what it reads last, else at the first free one. Constants and what is made of them alone are not
drawn, and of a large graph only the first and the last operations: the picture has a largest size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pefslc.ir.integer import Clamp, Conv2d, Dense, Lookup, Product, Requantize, Round, Sum, SumPool
from pefslc.ir.quantized import Add, AveragePool, Conv, Linear, Multiply, Quantize
from pefslc.ir.structural import Structural
from pefslc.ir.summary import cut, details_of, elided, end_of, one_line, origin_text, quantizer_text
from pefslc.ir.text import type_text
from pefslc.ir.value import Op, Value

if TYPE_CHECKING:
    from pefslc.ir.graph import Graph

__all__ = ["picture"]

Texts: TypeAlias = tuple[str, str, str, str]
_T = TypeVar("_T")

_MOST = 80  # operations that are drawn
_MOST_ENDS = 16  # inputs, and outputs, that are drawn
_ROW, _LANE, _DOT = 20, 14, 5  # pixels
_WIDEST_LANES = 140  # pixels: more lanes stand closer
_HIGHEST = 420  # pixels that are seen at once; the rest is scrolled to
_CHARACTER = 6.7  # pixels, of 11 px of a monospaced font, rounded up
_COLUMNS = (20, 46, 34, 38)  # characters: what, its details, its type, where it is from

_COLOURS = (
    ((Conv, Linear, Multiply, Conv2d, Dense, Product), "#3b78c2"),
    ((Quantize, Requantize, Round, Lookup, Clamp), "#d2761b"),
    ((Add, AveragePool, Sum, SumPool), "#3a9457"),
    ((Structural,), "#8d8d8d"),
)
_OTHER, _END = "#9159a8", "#606060"


@dataclass(frozen=True, slots=True)
class _Row:
    """A dot and the texts beside it. `reads` are numbers of earlier rows."""

    texts: Texts
    colour: str
    reads: tuple[int, ...] = ()


def picture(graph: Graph) -> str:
    """The HTML of the picture, in a frame of its own that scrolls. The same graph gives the same text."""
    rows = _rows(graph)
    lanes = _lanes([row.reads for row in rows])
    step = min(_LANE, _WIDEST_LANES / max(1, max(lanes, default=0)))
    left = 2 * _DOT + step * max(lanes, default=0) + 12
    height, width = _ROW * len(rows), left + _CHARACTER * sum(_COLUMNS)

    def x(lane: int) -> str:
        return f"{_DOT + 3 + step * lane:.4g}"

    def y(row: int) -> int:
        return _ROW * row + _ROW // 2

    parts = []
    for number, row in enumerate(rows):
        for read in row.reads:
            turn = f" V{y(number - 1)}" if number - 1 > read else ""
            parts.append(f'<path d="M{x(lanes[read])} {y(read)}{turn} L{x(lanes[number])} {y(number)}"/>')
    lines = f'<g fill="none" stroke="#8d8d8d" stroke-width="1.5">{"".join(parts)}</g>'
    dots = "".join(
        f'<circle cx="{x(lane)}" cy="{y(i)}" r="{_DOT}" fill="{row.colour}"/>'
        for i, (row, lane) in enumerate(zip(rows, lanes, strict=True))
    )
    texts = "".join(_texts(row, left, y(i) + 4) for i, row in enumerate(rows))
    return (
        f'<div style="max-height:{_HIGHEST}px;overflow:auto">'
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}" style="max-width:none" font-family="monospace" font-size="11" '
        f'fill="currentColor"><title>{escape(cut(one_line(graph), 300))}</title>{lines}{dots}{texts}</svg></div>'
    )


def _texts(row: _Row, left: float, y: int) -> str:
    spans: list[str] = []
    x = left
    for text, width in zip(row.texts, _COLUMNS, strict=True):
        if text:
            bold = ' font-weight="bold"' if not spans else ""
            spans.append(f'<tspan x="{x:.0f}"{bold}>{escape(cut(text, width - 1))}</tspan>')
        x += _CHARACTER * width
    whole = escape(cut("  ".join(filter(None, row.texts)), 300))
    return f'<text y="{y}"><title>{whole}</title>{"".join(spans)}</text>'


def _rows(graph: Graph) -> list[_Row]:
    """Inputs, operations, outputs. What is left out of them is one row, which stands for all of it."""
    rows: list[_Row] = []
    number_of: dict[str, int] = {}  # value name -> its row

    def add(texts: Texts, colour: str, reads: Iterable[Value] = (), makes: Iterable[Value] = ()) -> None:
        found = dict.fromkeys(number_of[v.name] for v in reads if v.name in number_of)
        number_of.update((v.name, len(rows)) for v in makes)
        rows.append(_Row(texts, colour, tuple(found)))

    for inputs in _groups(graph.inputs, _MOST_ENDS):
        i = inputs[0]
        texts = (f"input {i.name}", quantizer_text(i), type_text(i.value.type), "")
        add(_texts_of(inputs, texts, "inputs"), _END, makes=[i.value for i in inputs])
    for ops in _groups(_depending_on_inputs(graph), _MOST):
        op = ops[0]
        texts = (
            op.mnemonic,
            details_of(op),
            type_text(op.result.type),
            end_of(origin_text(op.result), _COLUMNS[3] - 1),
        )
        colour = next((c for kinds, c in _COLOURS if isinstance(op, kinds)), _OTHER) if len(ops) == 1 else _END
        reads = [v for op in ops for v in op.operands]
        add(_texts_of(ops, texts, "operations"), colour, reads, [op.result for op in ops])
    for outputs in _groups(graph.outputs, _MOST_ENDS):
        o = outputs[0]
        texts = (f"output {o.name}", "" if o.function is None else str(o.function), type_text(o.value.type), "")
        add(_texts_of(outputs, texts, "outputs"), _END, [o.value for o in outputs])
    return rows


def _groups(items: Sequence[_T], most: int) -> Iterator[Sequence[_T]]:
    """Each item alone, and those that are left out together."""
    first, left_out, last = elided(items, most)
    yield from ((item,) for item in first)
    if left_out:
        yield items[len(first) : len(first) + left_out]
    yield from ((item,) for item in last)


def _texts_of(group: Sequence[object], texts: Texts, what: str) -> Texts:
    return texts if len(group) == 1 else (f"({len(group):,} more)", what, "", "")


def _depending_on_inputs(graph: Graph) -> list[Op]:
    """The operations that compute something of an input."""
    known = {i.value.name for i in graph.inputs}
    found = []
    for op in graph.ops:
        if any(v.name in known for v in op.operands):
            known.add(op.result.name)
            found.append(op)
    return found


def _lanes(reads: Sequence[Sequence[int]]) -> list[int]:
    """Row -> its lane."""
    last_reader: dict[int, int] = {read: row for row, found in enumerate(reads) for read in found}
    lanes: list[int] = []
    taken: set[int] = set()
    for row, found in enumerate(reads):
        ended = [lanes[read] for read in found if last_reader[read] == row]
        taken.difference_update(ended)
        lane = ended[0] if ended else next(n for n in range(len(taken) + 1) if n not in taken)
        lanes.append(lane)
        if row in last_reader:
            taken.add(lane)
    return lanes
