"""A graph in short, for people: what its one line says, a table of its operations, and what stands in their rows.

The whole of a graph is its text (`text.py`); here long parts are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

from pefslc.diagnostics.errors import quote
from pefslc.diagnostics.text_table import plain_table
from pefslc.geometry.shapes import Window
from pefslc.ir.interface import GraphInput
from pefslc.ir.text import stages_text, type_text, window_text
from pefslc.ir.value import IntArray, Op, RealArray, Value
from pefslc.numeric.expression import Call, Number, Variable
from pefslc.numeric.line import BentLine
from pefslc.numeric.stages import Stage
from pefslc.numeric.staircase import Staircase

if TYPE_CHECKING:
    from pefslc.ir.graph import Graph

__all__ = [
    "cut",
    "details_of",
    "elided",
    "end_of",
    "one_line",
    "origin_text",
    "quantizer_text",
    "stage_text",
    "summary_text",
]

_HEADER = ("operation", "result", "type", "reads", "what it does", "from")
_WIDEST = {"type": 48, "reads": 24, "what it does": 48, "from": 40}
_T = TypeVar("_T")


def one_line(graph: Graph) -> str:
    """Name, level, size, inputs and outputs."""
    ends = " -> ".join(
        ", ".join(f"{quote(end.name)} {list(end.value.type.shape)}" for end in part)
        for part in (graph.inputs[:4], graph.outputs[:4])
    )
    count = len(graph.ops)
    operations = f"{count:,} operation{'' if count == 1 else 's'}"
    return f"Graph {quote(graph.name)}, {graph.level.value} level: {operations}, {ends}"


def summary_text(graph: Graph, most: int) -> str:
    """`one_line`, the inputs and outputs, and a table of at most `most` operations: of more, the first and last."""
    lines = [one_line(graph)]
    lines += [f"input  {quote(i.name)} as %{cut(i.value.name, 24)}: {_input_text(i)}" for i in graph.inputs]
    lines += [
        f"output {quote(o.name)} = %{cut(o.value.name, 24)}: {cut(type_text(o.value.type), 80)}" for o in graph.outputs
    ]
    if not graph.ops:
        return "\n".join(lines)
    first, left_out, last = elided(graph.ops, most)
    rows = [_row(op) for op in first]
    if left_out:
        rows.append((f"({left_out:,} more)", *("" for _ in _HEADER[1:])))
    rows += [_row(op) for op in last]
    return "\n".join([*lines, "", plain_table(_HEADER, rows)])


def elided(items: Sequence[_T], most: int) -> tuple[Sequence[_T], int, Sequence[_T]]:
    """The first ones, how many are left out, and the last ones: at most `most` in all, two thirds of them first."""
    if len(items) <= most:
        return items, 0, ()
    first = (2 * most + 2) // 3
    last = most - first
    return items[:first], len(items) - most, items[len(items) - last :]


def details_of(op: Op) -> str:
    """The fields that say what an operation does, in a few words: window, shapes of constants, stages."""
    contents = ((f, getattr(op, f.name)) for f in fields(op) if f.name != "result")
    shown = ((f.name, content) for f, content in contents if f.default is MISSING or content != f.default)
    return ", ".join(part for name, content in shown for part in _details(name, content))


def quantizer_text(graph_input: GraphInput) -> str:
    """What the host does with an input, where the graph says it."""
    words = [stage_text(stage) for stage in graph_input.stages]
    if graph_input.quantizer is not None:
        words.append(f"{graph_input.quantizer.quantization}, {graph_input.quantizer.rounding.value}")
    return ", ".join(words)


def origin_text(value: Value) -> str:
    """The ONNX node that a value came from, and without a name of the node its tensor."""
    origin = value.origin
    return quote(origin.node or origin.tensor)[1:-1] or f"({origin.op_type})"


def cut(text: str, longest: int) -> str:
    """One printable line of at most `longest` characters."""
    printable = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return printable if len(printable) <= longest else f"{printable[: longest - 3]}..."


def end_of(name: str, longest: int) -> str:
    """A name with slashes, of which the end tells most, in at most `longest` characters."""
    return name if len(name) <= longest else f"...{name[3 - longest :]}"


def _input_text(graph_input: GraphInput) -> str:
    host = quantizer_text(graph_input)
    return cut(f"{type_text(graph_input.value.type)}{host and f', from the host by {host}'}", 120)


def _row(op: Op) -> tuple[str, ...]:
    reads = ", ".join(f"%{v.name}" for v in op.operands)
    cells = (op.mnemonic, f"%{cut(op.result.name, 24)}", type_text(op.result.type), reads, details_of(op))
    row = (*cells, end_of(origin_text(op.result), _WIDEST["from"]))
    return tuple(cut(c, _WIDEST.get(column, 40)) for column, c in zip(_HEADER, row, strict=True))


def _details(name: str, content: object) -> Iterator[str]:
    match content:
        case None | Value() | ():
            return
        case Window():
            yield window_text(content)
        case IntArray() | RealArray():
            yield f"{name} {'x'.join(map(str, content.shape))}"
        case Staircase():
            yield f"codes {content.low}..{content.high}"
            if content.chains is not None:
                yield from map(stage_text, content.chains.stages)
        case BentLine():
            yield f"slopes {content.above} and {content.below}, codes {content.low}..{content.high}"
        case Variable() | Number() | Call():
            yield str(content)
        case bool() | int() | Fraction():
            if name != "groups" or content != 1:
                yield f"{name}={content}"
        case Enum():
            yield str(content.value)
        case tuple() if all(isinstance(part, int) for part in content):
            yield f"{name}={list(content)}"
        case tuple() if all(isinstance(part, Stage) for part in content):
            yield from map(stage_text, content)
        case _ if isinstance(content, Stage):
            yield stage_text(content)


def stage_text(stage: Stage) -> str:
    """Its notation; where that lists constants, its name alone."""
    text = stages_text((stage,))[1:-1]
    return text.split("(", 1)[0] if "@" in text or "{" in text else text
