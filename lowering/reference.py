"""The float64 evaluation of a quantized graph: an oracle for the integer level, never its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pefslc.interpret import broadcast_steps, quantize_array
from pefslc.ir.graph import Graph
from pefslc.ir.quantized import (
    Add,
    AveragePool,
    BatchNorm,
    BiasAdd,
    Clip,
    Constant,
    Conv,
    LeakyRelu,
    Linear,
    Quantize,
    QuantizedConstant,
    QuantizedOp,
    Relu,
)
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Transpose
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.stages import Affine, ClipStage, LeakyReluStage, SnapStage, Stage
from pefslc.numeric.staircase import Quantizer
from pefslc.semantics import convolve, windows
from pefslc.shapes import Window

__all__ = ["evaluate_quantized", "evaluate_values"]

Floats = NDArray[np.float64]


def evaluate_quantized(graph: Graph, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Output name -> float64 values, for inputs [batch, ...] by name."""
    values = evaluate_values(graph, inputs)
    return {o.name: values[o.value.name] for o in graph.outputs}


def evaluate_values(graph: Graph, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Value name -> float64 values of every tensor in the graph."""
    values = {i.value.name: inputs[i.name] for i in graph.inputs}
    for op in graph.ops:
        values[op.result.name] = _evaluate(op, [values[v.name] for v in op.operands])  # type: ignore[arg-type]
    return values


def _evaluate(op: QuantizedOp, operands: list[Floats]) -> Floats:
    match op:
        case Constant():
            return op.data.data
        case QuantizedConstant():
            return dequantize(op.codes.data, _quantization(op.result), channel_axis=0)
        case Quantize():
            quantizer = Quantizer(_quantization(op.result), op.rounding, op.adds_zero_point_last)
            x = _apply(op.stages, operands[0], op.channel_axis)
            codes = quantize_array(quantizer, x, op.channel_axis)
            return dequantize(codes, quantizer.quantization, op.channel_axis)
        case Conv():
            bias = operands[2] if op.bias is not None else None
            return _conv(operands[0], operands[1], bias, op.window, op.groups)
        case Linear():
            product = operands[0] @ operands[1].T
            return product + operands[2] if op.bias is not None else product
        case AveragePool():
            return np.asarray(windows(operands[0], op.window).sum(axis=(4, 5)), dtype=np.float64) / op.window.taps
        case Add():
            return operands[0] + operands[1]
        case BatchNorm() | BiasAdd() | Relu() | LeakyRelu() | Clip():
            return _apply((op.stage,), operands[0], channel_axis=1)
        case MaxPool():
            return np.asarray(windows(operands[0], op.window, fill=-np.inf).max(axis=(4, 5)), dtype=np.float64)
        case Reshape():
            constant = op.input.type.shape == operands[0].shape
            return operands[0].reshape(
                op.result.type.shape if constant else (len(operands[0]), *op.result.type.shape[1:])
            )
        case Transpose():
            return operands[0].transpose(op.permutation)
        case Pad():
            return np.pad(operands[0], list(zip(op.before, op.after, strict=True)))
        case Concat():
            return np.concatenate(operands, axis=op.axis)


def _quantization(value: Value) -> Quantization:
    assert isinstance(value.type.element, Quantization)
    return value.type.element


def dequantize(codes: NDArray[np.int64], q: Quantization, channel_axis: int) -> Floats:
    """(code - zero_point) * scale in float64."""
    steps = broadcast_steps(q.scale, codes.ndim, channel_axis)
    values: Floats = (codes - q.zero_point).astype(np.float64) * steps
    return values


def _conv(x: Floats, weight: Floats, bias: Floats | None, window: Window, groups: int) -> Floats:
    result = convolve(x, weight, window, groups, np.matmul)
    return result if bias is None else result + bias[:, None, None]


def _apply(stages: Sequence[Stage], x: Floats, channel_axis: int) -> Floats:
    for stage in stages:
        match stage:
            case Affine():
                shape = [1] * x.ndim
                if stage.channels > 1:
                    shape[channel_axis] = -1
                factor, addend, radicand, offset = (
                    np.array([float(v) for v in part]).reshape(shape)
                    for part in (stage.factor, stage.addend, stage.radicand, stage.offset)
                )
                x = (x * factor + addend) / np.sqrt(radicand) + offset
            case LeakyReluStage():
                x = np.where(x >= 0, x, x * float(stage.alpha))
            case ClipStage():
                low = -np.inf if stage.low is None else float(stage.low)
                high = np.inf if stage.high is None else float(stage.high)
                x = np.clip(x, low, high)
            case SnapStage():
                step, zero_point = float(stage.step), stage.zero_point
                x = (np.rint(x / step + zero_point) - zero_point) * step
    return x
