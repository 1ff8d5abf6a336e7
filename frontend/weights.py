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

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.movement import transposed
from pefslc.frontend.node import Node
from pefslc.geometry.shapes import Shape
from pefslc.ir.quantized import Constant, Quantize, QuantizedConstant
from pefslc.ir.structural import Reshape, Transpose
from pefslc.ir.value import IntArray, RealArray, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale

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
        value = builder.real(move(np.broadcast_to(np.zeros(()), x.type.shape)).shape, node)
        builder.unknown.add(value.name)
        return value
    moves, quantize, to_quantize = [move], None, 0
    while isinstance(op := builder.producer(x), Reshape | Transpose | Quantize):
        if isinstance(op, Quantize):
            if quantize is not None or op.stages:
                break
            quantize, to_quantize = op, len(moves)
        else:
            moves.append(_of_shape(op.result.type.shape) if isinstance(op, Reshape) else _permuted(op.permutation))
        builder.superseded.add(x.name)
        x = op.input
    builder.superseded.add(x.name)
    if isinstance(op, QuantizedConstant) and quantize is None:
        codes = IntArray(np.ascontiguousarray(_all_of(moves)(op.codes.data), dtype=np.int64))
        result = _scaled(builder, node, x, 0, _all_of(moves))
        return builder.append(QuantizedConstant(result=result, codes=codes))
    if not isinstance(op, Constant):
        raise node.fault(
            Code.COMPUTED_OPERAND,
            f"the weights of {node.op_type} are computed at run time",
            hint="only constants are supported here: freeze the model before exporting it",
        )
    data = RealArray(np.ascontiguousarray(_all_of(moves)(op.data.data), dtype=np.float64))
    constant = builder.append(Constant(result=builder.new_value(data.shape, x.type.element, x.origin), data=data))
    if quantize is None:
        return constant
    result = _scaled(builder, node, quantize.result, quantize.channel_axis, _all_of(moves[:to_quantize]))
    return builder.append(
        Quantize(
            result=result,
            input=constant,
            rounding=quantize.rounding,
            adds_zero_point_last=quantize.adds_zero_point_last,
            channel_axis=0,
        )
    )


def _of_shape(shape: Shape) -> Move:
    return lambda array: array.reshape(shape)


def _permuted(permutation: tuple[int, ...]) -> Move:
    return lambda array: array.transpose(permutation)


def _all_of(moves: list[Move]) -> Move:
    """The last of them first."""

    def move(array: NDArray[np.generic]) -> NDArray[np.generic]:
        for each in reversed(moves):
            array = each(array)
        return array

    return move


def _scaled(builder: Builder, node: Node, x: Value, axis: int, move: Move) -> Value:
    """A value for x moved: its scales, which went along `axis`, are those of the same elements, along axis 0."""
    element = x.type.element
    assert isinstance(element, Quantization)
    count = len(element.scale.steps)
    of_axis = np.arange(count).reshape([-1 if a == axis else 1 for a in range(len(x.type.shape))])
    channel = move(np.broadcast_to(of_axis, x.type.shape))
    if not element.scale.per_channel:
        return builder.new_value(channel.shape, element, x.origin)
    channels = channel.reshape(channel.shape[0], -1)
    if (channels != channels[:, :1]).any():
        raise node.fault(
            Code.SCALE_SHAPE,
            f"the weights {list(x.type.shape)} have several scales for one output channel",
            hint="one scale per tensor, or per output channel",
        )
    scale = Scale.of(element.scale.steps[int(c)] for c in channels[:, 0])
    return builder.new_value(channel.shape, replace(element, scale=scale), x.origin)
