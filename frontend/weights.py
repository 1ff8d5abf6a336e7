"""Constants on their way to be weights: where their output channels lie, and the order that our operations want.

Our constants have their scales along axis 0, and a convolution's weights their output channels there. What a file
orders otherwise is moved before its quantizer, which works element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from pefslc.codes import Code
from pefslc.frontend.importer import Builder
from pefslc.frontend.movement import transposed
from pefslc.frontend.node import Node
from pefslc.ir.quantized import Constant, Quantize, QuantizedConstant
from pefslc.ir.structural import Reshape, Transpose
from pefslc.ir.value import IntArray, RealArray, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale
from pefslc.shapes import Shape

__all__ = ["Move", "back_from_first", "channel_axes", "moved", "with_axis_first"]

Move = Callable[[NDArray[np.generic]], NDArray[np.generic]]

_ELEMENT_BY_ELEMENT = ("Clip", "DequantizeLinear", "Identity", "QuantizeLinear")


def channel_axes(node: Node, shape: Shape) -> tuple[int, ...]:
    """The axes along which a constant of that shape, which `node` quantizes, may have several scales.

    Of a matrix both: who reads it knows where its outputs are. Else axis 0, and axis 1 for a ConvTranspose.
    """
    return (0, 1) if len(shape) == 2 or _readers(node.raw) == {"ConvTranspose"} else (0,)


def _readers(node: gs.Node) -> set[str]:
    """The operators that compute with what `node` makes."""
    found: set[str] = set()
    waiting, seen = [node], {id(node)}
    while waiting:
        for reader in (r for tensor in waiting.pop().outputs for r in tensor.outputs):
            if reader.op not in _ELEMENT_BY_ELEMENT:
                found.add(reader.op)
            elif id(reader) not in seen:
                seen.add(id(reader))
                waiting.append(reader)
    return found


def with_axis_first(builder: Builder, x: Value, axis: int, make: Callable[[Value], Value]) -> Value:
    """make(x) where it sees `axis` as axis 0; the result has x's own axes."""
    if axis == 0:
        return make(x)
    forth = (axis, *(a for a in range(len(x.type.shape)) if a != axis))
    return back_from_first(builder, make(transposed(builder, x, forth)), axis)


def back_from_first(builder: Builder, x: Value, axis: int) -> Value:
    """x with its axis 0 as `axis`."""
    if axis == 0:
        return x
    others = range(1, len(x.type.shape))
    return transposed(builder, x, (*others[:axis], 0, *others[axis:]))


def moved(builder: Builder, node: Node, x: Value, move: Move) -> Value:
    """The constant x, quantized or not, with its elements in another order. Raises CompileError where it is computed.

    move  of an array of x's shape; it neither changes elements nor makes any
    """
    if x.name in builder.unknown:
        value = builder.real(move(np.broadcast_to(np.zeros(1), x.type.shape)).shape, node)
        builder.unknown.add(value.name)
        return value
    op = builder.producer(x)
    builder.superseded.add(x.name)
    match op:
        case Constant():
            data = RealArray(np.ascontiguousarray(move(op.data.data), dtype=np.float64))
            return builder.append(Constant(result=_like(builder, x, data.shape), data=data))
        case QuantizedConstant():
            codes = IntArray(np.ascontiguousarray(move(op.codes.data), dtype=np.int64))
            return builder.append(
                QuantizedConstant(result=_scaled(builder, node, x, codes.shape, 0, move), codes=codes)
            )
        case Quantize() if not op.stages:
            source = moved(builder, node, op.input, move)
            result = _scaled(builder, node, x, source.type.shape, op.channel_axis, move)
            quantize = Quantize(
                result=result,
                input=source,
                rounding=op.rounding,
                adds_zero_point_last=op.adds_zero_point_last,
                channel_axis=0,
            )
            return builder.append(quantize)
        case Reshape():
            shape = x.type.shape
            return moved(builder, node, op.input, lambda array: move(array.reshape(shape)))
        case Transpose():
            permutation = op.permutation
            return moved(builder, node, op.input, lambda array: move(array.transpose(permutation)))
    raise node.fault(
        Code.COMPUTED_OPERAND,
        f"the weights of {node.op_type} are computed at run time",
        hint="only constants are supported here: freeze the model before exporting it",
    )


def _like(builder: Builder, x: Value, shape: tuple[int, ...]) -> Value:
    return builder.new_value(shape, x.type.element, x.origin)


def _scaled(builder: Builder, node: Node, x: Value, shape: tuple[int, ...], axis: int, move: Move) -> Value:
    """A value of the moved shape, whose scales are those of its elements, along axis 0."""
    element = x.type.element
    assert isinstance(element, Quantization)
    if not element.scale.per_channel:
        return _like(builder, x, shape)
    channel = np.arange(len(element.scale.steps)).reshape([-1 if a == axis else 1 for a in range(len(x.type.shape))])
    channels = move(np.broadcast_to(channel, x.type.shape)).reshape(shape[0], -1)
    if (channels != channels[:, :1]).any():
        raise node.fault(
            Code.SCALE_SHAPE,
            f"the weights {list(x.type.shape)} have several scales for one output channel",
            hint="one scale per tensor, or per output channel",
        )
    scale = Scale.of(element.scale.steps[int(c)] for c in channels[:, 0])
    return builder.new_value(shape, replace(element, scale=scale), x.origin)
