"""The graph: inputs, operations in execution order, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.value import Op, Value
from pefslc.numeric.format import FixedPoint
from pefslc.numeric.staircase import Quantizer

__all__ = ["Graph", "GraphInput", "GraphOutput", "Level", "OutputMap", "map_operands"]

_Op = TypeVar("_Op", bound=Op)


class Level(Enum):
    """What the operations of a graph compute with."""

    QUANTIZED = "quantized"  # real values and quantizers: what the file says
    INTEGER = "integer"  # codes


@dataclass(frozen=True, slots=True)
class OutputMap:
    """How the host turns output codes into values: scale[c] * code + offset[c], one entry or one per channel (axis 1).

    Exact rationals, except where a BatchNorm's square root stays at the output: then within 2^-100, relatively.
    """

    scale: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input: the ONNX name, the value, and (integer level) the quantizer that the host applies."""

    name: str
    value: Value
    quantizer: Quantizer | None = None


@dataclass(frozen=True, slots=True)
class GraphOutput:
    """An output: the ONNX name, the value, and (integer level) the map from codes to values."""

    name: str
    value: Value
    map: OutputMap | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A network at one level. Operations stand in an order in which they can be executed.

    uniform_format  the one format to which a float model's input, weights and activations were quantized after
                    training; None for any other model
    """

    name: str
    level: Level
    inputs: tuple[GraphInput, ...]
    ops: tuple[Op, ...]
    outputs: tuple[GraphOutput, ...]
    uniform_format: FixedPoint | None = None

    def __str__(self) -> str:
        from pefslc.ir.text import print_graph  # the printer needs every operation, which need nothing of it

        return print_graph(self)

    def run(self, inputs: Mapping[str, NDArray[np.float64]] | NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Output name -> float64 values, by the interpreter of this level; see `interpret.run`."""
        from pefslc.evaluation.interpret import run  # the interpreter needs every operation, which need nothing of it

        return run(self, inputs)

    def producers(self) -> dict[str, Op]:
        """Value name -> the operation that makes it."""
        return {op.result.name: op for op in self.ops}

    def consumers(self) -> dict[str, list[Op]]:
        """Value name -> the operations that read it, in order."""
        found: dict[str, list[Op]] = {}
        for op in self.ops:
            for value in op.operands:
                found.setdefault(value.name, []).append(op)
        return found

    def of_type(self, kind: type[_Op]) -> Iterator[_Op]:
        """The operations of one kind, in order."""
        return (op for op in self.ops if isinstance(op, kind))

    def with_ops(self, ops: Iterable[Op]) -> Graph:
        """This graph with other operations; `self` when they are the same objects."""
        new = tuple(ops)
        if len(new) == len(self.ops) and all(a is b for a, b in zip(new, self.ops, strict=True)):
            return self
        return replace(self, ops=new)


def map_operands(op: _Op, change: Callable[[Value], Value]) -> _Op:
    """`op` with every operand replaced by `change(operand)`; `op` itself when nothing changed."""
    changed: dict[str, object] = {}
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
    return replace(op, **changed) if changed else op  # type: ignore[arg-type]  # field names come from the op itself
