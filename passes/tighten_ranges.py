"""Range analysis: types become the interval bounds that follow from the weights and the input ranges (`ranges`)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pefslc.analysis.ranges import result_range
from pefslc.ir.graph import Graph, Level, integer_graph, map_operands
from pefslc.ir.integer import Requantize
from pefslc.ir.value import Op, Value
from pefslc.passes.manager import Exactness

__all__ = ["TightenRanges"]


class TightenRanges:
    """Recompute every result's range from its operands; cut each staircase to the codes that can occur."""

    name: ClassVar[str] = "tighten-ranges"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.INTEGER

    def run(self, graph: Graph) -> Graph:
        tighter: dict[str, Value] = {}
        ops: list[Op] = []
        for original in integer_graph(graph).ops:
            op = map_operands(original, lambda v: tighter.get(v.name, v))
            if isinstance(op, Requantize):
                codes = op.input.type.codes
                if (op.staircase.domain_low, op.staircase.domain_high) != (codes.low, codes.high):
                    op = replace(op, staircase=op.staircase.restricted(codes.low, codes.high))
            low, high = result_range(op)
            old = op.result.type.codes
            if (low, high) != (old.low, old.high):
                result = replace(op.result, type=replace(op.result.type, element=replace(old, low=low, high=high)))
                tighter[op.result.name] = result
                op = replace(op, result=result)
            ops.append(op)
        return graph.with_ops(ops).with_outputs(tighter)
