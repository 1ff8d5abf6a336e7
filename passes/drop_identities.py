"""Integer operations that change nothing."""

from __future__ import annotations

from typing import ClassVar

from pefslc.ir.graph import Graph, Level, map_operands
from pefslc.ir.integer import Clamp, Requantize, Rescale, Round
from pefslc.ir.structural import Reshape, Slice
from pefslc.ir.value import Op, Value
from pefslc.passes.manager import Exactness

__all__ = ["DropIdentities"]


class DropIdentities:
    """An identity requantize (on its input's range), an idle clamp, a rescale by 1, reshapes and slices to the same.

    Brevitas quantizes both branches of a residual add, also the one that already has the format.
    """

    name: ClassVar[str] = "drop-identities"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        alias: dict[str, Value] = {}
        ops: list[Op] = []
        for original in graph.ops:
            op = map_operands(original, lambda v: alias.get(v.name, v))
            source = _same_as(op)
            if source is not None:
                alias[op.result.name] = source
            else:
                ops.append(op)
        return graph.with_ops(ops).with_outputs(alias)


def _same_as(op: Op) -> Value | None:
    """The operand that `op` returns unchanged, codes and meaning."""
    match op:
        case Requantize():
            codes = op.input.type.codes
            same_meaning = (
                op.result.type.codes.scale == codes.scale and op.result.type.codes.zero_point == codes.zero_point
            )
            if same_meaning and op.staircase.restricted(codes.low, codes.high).is_identity:
                return op.input
        case Round() if op.line.is_idle and op.result.type.codes.scale == op.input.type.codes.scale:
            if op.line.low <= op.input.type.codes.low and op.input.type.codes.high <= op.line.high:
                return op.input
        case Clamp() if op.low <= op.input.type.codes.low and op.input.type.codes.high <= op.high:
            return op.input
        case Rescale() if op.factor == 1 and op.keeps_values:
            return op.input
        case Reshape() if op.input.type.shape == op.result.type.shape:
            return op.input
        case Slice() if op.is_whole:
            return op.input
    return None
