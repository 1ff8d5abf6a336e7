"""input_fmt: the host hands over numbers on a grid that the user named.

What the model does with its input, its own quantizer among it, then runs on the target. An input that the model leaves
open has that format and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
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

    fmt  of every input, or by the name of an input, of some

    Bounded: exact for inputs on the grid of the format and in its range, else within half a step of it in the input.
    The user asked for it; all that follows is exact.
    """

    fmt: FixedPoint | Mapping[str, FixedPoint]
    name: ClassVar[str] = "input-grid"
    exactness: ClassVar[Exactness] = Exactness.BOUNDED
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        on_grid: dict[str, Value] = {}
        quantizers: list[Op] = []
        for graph_input in graph.inputs:
            value, fmt = graph_input.value, self.format_of(graph_input.name)
            if fmt is None:
                continue
            result = replace(value, name=f"{value.name}.grid", type=TensorType(value.type.shape, fmt.quantization))
            quantizers.append(Quantize(result=result, input=value))
            on_grid[value.name] = result
        if not on_grid:
            return graph
        ops = [map_operands(op, lambda v: on_grid.get(v.name, v)) for op in graph.ops]
        return replace(graph, ops=(*quantizers, *ops))

    def format_of(self, name: str) -> FixedPoint | None:
        """The format of an input; None where nothing was said about it."""
        return self.fmt if isinstance(self.fmt, FixedPoint) else self.fmt.get(name)
