"""Constants: quantizers and transpositions of constants are evaluated, exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.graph import Graph, Level
from pefslc.ir.quantized import Constant, Quantize, QuantizedConstant
from pefslc.ir.structural import Reshape, Transpose
from pefslc.ir.value import IntArray, Op, RealArray
from pefslc.numeric.quantize import quantize_array
from pefslc.passes.manager import Exactness

__all__ = ["FoldConstants"]


class FoldConstants:
    """Quantize, Transpose and Reshape of constants become constants; transposing twice becomes transposing once."""

    name: ClassVar[str] = "fold-constants"
    exactness: ClassVar[Exactness] = Exactness.EXACT
    level: ClassVar[Level] = Level.QUANTIZED

    def run(self, graph: Graph) -> Graph:
        done: dict[str, Op] = {}
        ops: list[Op] = []
        for op in graph.ops:
            new = _fold(op, done)
            done[new.result.name] = new
            ops.append(new)
        return graph.with_ops(ops)


def _fold(op: Op, done: dict[str, Op]) -> Op:
    match op:
        case Quantize():
            source = done.get(op.input.name)
            if isinstance(source, Constant) and not op.stages:
                return QuantizedConstant(result=op.result, codes=IntArray(_quantize(op, source.data.data)))
        case Transpose():
            source = done.get(op.input.name)
            if isinstance(source, Transpose):
                permutation = tuple(source.permutation[i] for i in op.permutation)
                return _fold(Transpose(result=op.result, input=source.input, permutation=permutation), done)
            if op.permutation == tuple(range(len(op.permutation))) and isinstance(source, Constant | QuantizedConstant):
                return replace(source, result=replace(op.result, type=source.result.type))
            if isinstance(source, Constant):
                return Constant(result=op.result, data=RealArray(_copy(source.data.data.transpose(op.permutation))))
            if isinstance(source, QuantizedConstant) and not source.quantization.scale.per_channel:
                codes = IntArray(np.ascontiguousarray(source.codes.data.transpose(op.permutation)))
                value = replace(op.result, type=replace(op.result.type, element=source.quantization))
                return QuantizedConstant(result=value, codes=codes)
        case Reshape():
            source = done.get(op.input.name)
            if isinstance(source, Constant):
                return Constant(result=op.result, data=RealArray(_copy(source.data.data.reshape(op.result.type.shape))))
            if isinstance(source, QuantizedConstant) and op.result.type.shape[:1] == source.codes.shape[:1]:
                reshaped = IntArray(source.codes.data.reshape(op.result.type.shape).copy())
                value = replace(op.result, type=replace(op.result.type, element=source.quantization))
                return QuantizedConstant(result=value, codes=reshaped)
    return op


def _copy(array: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ascontiguousarray(array)


def _quantize(op: Quantize, data: NDArray[np.float64]) -> NDArray[np.int64]:
    return quantize_array(op.quantizer, data, op.channel_axis)
