"""--fmt fills: an input that the model leaves unquantized gets the format that the user named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pefslc.ir.graph import Graph, Level, map_operands
from pefslc.ir.quantized import Quantize
from pefslc.ir.value import Op, TensorType, Value
from pefslc.passes.input_formats import InputFormats, format_of_input
from pefslc.passes.manager import Exactness

__all__ = ["FillInput"]


@dataclass(frozen=True, slots=True)
class FillInput:
    """input -> op  ==>  input -> quantize(fmt) -> op, for every op that is not itself a quantizer.

    fmt  of every input, or by the name of an input, of some

    Bounded: within half a step for inputs in the format's range. The user asked for it; all that follows is exact.
    """

    fmt: InputFormats
    name: ClassVar[str] = "fill-input"
    exactness: ClassVar[Exactness] = Exactness.BOUNDED
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        consumers = graph.consumers()
        filled: dict[str, Value] = {}
        quantizers: list[Op] = []
        for graph_input in graph.inputs:
            value, fmt = graph_input.value, format_of_input(self.fmt, graph_input.name)
            if fmt is None or all(isinstance(op, Quantize) for op in consumers.get(value.name, [])):
                continue
            result = replace(value, name=f"{value.name}.filled", type=TensorType(value.type.shape, fmt.quantization))
            quantizers.append(Quantize(result=result, input=value))
            filled[value.name] = result
        if not filled:
            return graph
        ops = [
            op if isinstance(op, Quantize) else map_operands(op, lambda v: filled.get(v.name, v)) for op in graph.ops
        ]
        return replace(graph, ops=(*quantizers, *ops))
