"""input_fmt: the host hands over numbers on a grid of its own, and the model's input quantizer runs on the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pefslc.ir.graph import Graph, Level, map_operands
from pefslc.ir.quantized import Quantize
from pefslc.ir.value import Op, TensorType, Value
from pefslc.numeric.format import FixedPoint
from pefslc.passes.manager import Exactness

__all__ = ["InputGrid"]


@dataclass(frozen=True, slots=True)
class InputGrid:
    """input -> op  ==>  input -> quantize(fmt) -> op, for every op, the model's own input quantizer among them.

    Bounded: exact for inputs on the grid of the format and in its range, else within half a step of it in the input.
    The user asked for it; all that follows is exact.
    """

    fmt: FixedPoint
    name: ClassVar[str] = "input-grid"
    exactness: ClassVar[Exactness] = Exactness.BOUNDED
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        on_grid: dict[str, Value] = {}
        quantizers: list[Op] = []
        for graph_input in graph.inputs:
            value = graph_input.value
            result = replace(value, name=f"{value.name}.grid", type=TensorType(value.type.shape, self.fmt.quantization))
            quantizers.append(Quantize(result=result, input=value))
            on_grid[value.name] = result
        ops = [map_operands(op, lambda v: on_grid.get(v.name, v)) for op in graph.ops]
        return replace(graph, ops=(*quantizers, *ops))
