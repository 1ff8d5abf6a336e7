"""A bias that lies on no grid of its accumulator leaves the convolution."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import ClassVar

from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import BiasAdd, Constant, Conv, Linear, QuantizedConstant
from pefslc.ir.value import Op, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine
from pefslc.passes.manager import Exactness

__all__ = ["SeparateBias", "constant_values"]


class SeparateBias:
    """conv(x, w, b)  ==>  bias_add(conv(x, w), b) where b is not a multiple of scale(x) * scale(w).

    A raw float bias has 30 fraction bits; no accumulator needs them. After the convolution it is a stage, which the
    following quantizer's staircase absorbs exactly, or the output map does.
    """

    name: ClassVar[str] = "separate-bias"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        producers = graph.producers()
        ops: list[Op] = []
        for op in graph.ops:
            if isinstance(op, Conv | Linear) and op.bias is not None and not _on_grid(op, producers):
                values = constant_values(producers[op.bias.name])
                if values is not None:
                    accumulator = replace(op.result, name=f"{op.result.name}.products")
                    ops.append(replace(op, result=accumulator, bias=None))
                    ops.append(BiasAdd(result=op.result, input=accumulator, stage=Affine.bias(values)))
                    continue
            ops.append(op)
        return graph.with_ops(ops)


def constant_values(op: Op) -> tuple[Fraction, ...] | None:
    """The exact values of a one-dimensional constant; None for anything else."""
    if isinstance(op, Constant):
        return tuple(Fraction(v) for v in op.data.data.reshape(-1).tolist())
    if isinstance(op, QuantizedConstant):
        return tuple(
            op.quantization.value(code, channel) for channel, code in enumerate(op.codes.data.reshape(-1).tolist())
        )
    return None


def _on_grid(op: Conv | Linear, producers: dict[str, Op]) -> bool:
    assert op.bias is not None
    values = constant_values(producers[op.bias.name])
    scale = _accumulator_scale(op.input, op.weight)
    if values is None or scale is None:
        return False
    return all((v / scale.channel(c)).denominator == 1 for c, v in enumerate(values))


def _accumulator_scale(x: Value, weight: Value) -> Scale | None:
    x_type, w_type = x.type.element, weight.type.element
    if not isinstance(x_type, Quantization) or not isinstance(w_type, Quantization) or x_type.scale.per_channel:
        return None
    return x_type.scale * w_type.scale
