"""The graph: inputs, operations in execution order, outputs.

`Graph[IntegerOp]` is a graph of the integer level, `Graph[QuantizedOp]` one of the quantized level, and `Graph` alone
one of either. `integer_graph` and `quantized_graph` go from the last to the first two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.html_table import html_heading
from pefslc.ir.flow import to_networkx
from pefslc.ir.integer import IntegerOp
from pefslc.ir.interface import GraphInput, GraphOutput, Level, OutputMap
from pefslc.ir.interpret import run
from pefslc.ir.picture import picture
from pefslc.ir.quantized import QuantizedOp
from pefslc.ir.summary import one_line, summary_text
from pefslc.ir.text import print_graph
from pefslc.ir.value import Op, Value
from pefslc.numeric.format import FixedPoint

if TYPE_CHECKING:
    import networkx as nx
    import typing_extensions

    # The type checker takes `Graph` for `Graph[Op]`; at run time no such default is needed.
    AnyOp = typing_extensions.TypeVar("AnyOp", bound=Op, covariant=True, default=Op)
else:
    AnyOp = TypeVar("AnyOp", bound=Op, covariant=True)

__all__ = [
    "Graph",
    "GraphInput",
    "GraphOutput",
    "IntegerGraph",
    "Level",
    "OutputMap",
    "QuantizedGraph",
    "integer_graph",
    "map_operands",
    "quantized_graph",
]

_Op = TypeVar("_Op", bound=Op)


@dataclass(frozen=True, slots=True)
class Graph(Generic[AnyOp]):
    """A network at one level. Operations stand in an order in which they can be executed.

    uniform_format  the one format to which a float model's input, weights and activations were quantized after
                    training; None for any other model
    """

    name: str
    level: Level
    inputs: tuple[GraphInput, ...]
    ops: tuple[AnyOp, ...]
    outputs: tuple[GraphOutput, ...]
    uniform_format: FixedPoint | None = None

    def __repr__(self) -> str:
        return f"<{one_line(self)}>"

    def __str__(self) -> str:
        """The whole graph as text, constants and all: `parse_graph` reads it back. `summary` is short."""
        return print_graph(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: `picture.picture`."""
        return f"{html_heading(one_line(self))}{picture(self)}"

    def summary(self, most: int = 100) -> str:
        """A table of the operations; of more than `most`, of the first and the last."""
        return summary_text(self, most)

    def run(self, inputs: Mapping[str, NDArray[np.float64]] | NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Output name -> float64 values, by the interpreter of this level; see `interpret.run`."""
        return run(self, inputs)

    def to_networkx(self) -> nx.DiGraph:
        """The values and the operations as the nodes of a `networkx.DiGraph`; see `flow.to_networkx`."""
        return to_networkx(self)

    def producers(self) -> dict[str, AnyOp]:
        """Value name -> the operation that makes it."""
        return {op.result.name: op for op in self.ops}

    def consumers(self) -> dict[str, list[AnyOp]]:
        """Value name -> the operations that read it, in order: one that reads it twice stands there twice."""
        readers: dict[str, list[AnyOp]] = {}
        for op in self.ops:
            for value in op.operands:
                readers.setdefault(value.name, []).append(op)
        return readers

    def reader_counts(self) -> Counter[str]:
        """Value name -> how often it is read, by operations and as an output; 0 for what nothing reads."""
        return Counter(
            [*(value.name for op in self.ops for value in op.operands), *(o.value.name for o in self.outputs)]
        )

    def of_type(self, kind: type[_Op]) -> Iterator[_Op]:
        """The operations of one kind, in order. Raises TypeError for what is no class."""
        if not isinstance(kind, type | UnionType):
            raise TypeError(f"of_type takes a class of operations, for example Conv, not {kind!r}")
        return (op for op in self.ops if isinstance(op, kind))

    def with_ops(self, ops: Iterable[_Op]) -> Graph[_Op]:
        """This graph with other operations; `self` when they are the same objects. TypeError for what is none."""
        new = tuple(ops)
        for op in new:
            if not isinstance(op, Op):
                raise TypeError(f"with_ops takes operations, and one of these is {type(op).__name__}: {op!r:.80}")
        if len(new) == len(self.ops) and all(a is b for a, b in zip(new, self.ops, strict=True)):
            return cast("Graph[_Op]", self)
        return cast("Graph[_Op]", replace(cast("Graph[Op]", self), ops=new))

    def with_outputs(self, values: Mapping[str, Value]) -> Graph[AnyOp]:
        """This graph with `values[name]` as its output where it was the value `name`; `self` when nothing changed.

        Raises TypeError for what is no mapping.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"with_outputs takes values by the name of what each replaces, not {values!r:.80}")
        outputs = tuple(replace(o, value=values.get(o.value.name, o.value)) for o in self.outputs)
        return self if outputs == self.outputs else replace(self, outputs=outputs)


QuantizedGraph = Graph[QuantizedOp]
IntegerGraph = Graph[IntegerOp]


def quantized_graph(graph: Graph) -> QuantizedGraph:
    """The same graph, its operations typed. Every graph of that level that was verified holds no others."""
    assert graph.level is Level.QUANTIZED
    return cast(QuantizedGraph, graph)


def integer_graph(graph: Graph) -> IntegerGraph:
    """The same graph, its operations typed. Every graph of that level that was verified holds no others."""
    assert graph.level is Level.INTEGER
    return cast(IntegerGraph, graph)


def map_operands(op: _Op, change: Callable[[Value], Value]) -> _Op:
    """`op` with every operand replaced by `change(operand)`; `op` itself when nothing changed."""
    changed: dict[str, Any] = {}
    for field in fields(op):
        if field.name == "result":
            continue
        content = getattr(op, field.name)
        if isinstance(content, Value):
            new: object = change(content)
        elif isinstance(content, tuple) and any(isinstance(v, Value) for v in content):
            new = tuple(change(v) for v in content)
        else:
            continue
        if new != content:
            changed[field.name] = new
    return replace(op, **changed) if changed else op
