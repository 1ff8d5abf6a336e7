"""input_fmt: the host hands over numbers on a grid that the user named.

What the model does with its input, its own quantizer among it, then runs on the target. An input that the model leaves
open has that format and no other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pefslc.ir.graph import Graph, Level, map_operands
from pefslc.ir.quantized import Quantize
from pefslc.ir.value import Op, TensorType, Value
from pefslc.passes.input_formats import InputFormats, format_of_input
from pefslc.passes.manager import Exactness

__all__ = ["InputGrid"]


@dataclass(frozen=True, slots=True)
class InputGrid:
    """input -> op  ==>  input -> quantize(fmt) -> op, for every op, the model's own input quantizer among them.

    Where that is the same quantizer, nothing.

    fmt     of every input, or by the name of an input, of some
    ending  of the names of what is added

    Bounded: exact for inputs on the grid of the format and in its range, else within half a step of it in the input.
    The user asked for it; all that follows is exact.
    """

    fmt: InputFormats
    ending: str = "grid"
    name: ClassVar[str] = "input-grid"
    exactness: ClassVar[Exactness] = Exactness.BOUNDED
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        on_grid: dict[str, Value] = {}
        quantizers: list[Op] = []
        readers = graph.consumers()
        for graph_input in graph.inputs:
            value, fmt = graph_input.value, format_of_input(self.fmt, graph_input.name)
            if fmt is None:
                continue
            kind = TensorType(value.type.shape, fmt.quantization)
            result = replace(value, name=f"{value.name}.{self.ending}", type=kind)
            grid = Quantize(result=result, input=value)
            if all(_is_the_same(grid, op) for op in readers.get(value.name, [])):
                continue
            quantizers.append(grid)
            on_grid[value.name] = result
        if not on_grid:
            return graph
        ops = [map_operands(op, lambda v: on_grid.get(v.name, v)) for op in graph.ops]
        return replace(graph, ops=(*quantizers, *ops))


def _is_the_same(grid: Quantize, op: Op) -> bool:
    """Whether the operation makes the same codes of the input itself: the grid is there already."""
    return isinstance(op, Quantize) and not op.stages and op.quantizer == grid.quantizer
