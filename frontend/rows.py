"""Dense layers over the last axis of [N, T, C] and [N, H, W, C]: 1 x 1 convolutions of [N, C, ...].

Our channels are axis 1. A MatMul over the last axis is a convolution between two transpositions; what works element by
element behind it, or has one number for each channel, works before the second one, so that bias, activation and
quantizer stay with the sums that they belong to, and two transpositions that meet are none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder, IntegerTensor
from pefslc.frontend.constant_operands import is_constant
from pefslc.frontend.linear_quantizers import dequantized
from pefslc.frontend.movement import reshaped, transposed
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.weights import moved
from pefslc.geometry.shapes import Window, conv_shape
from pefslc.ir.quantized import Conv
from pefslc.ir.value import Value

__all__ = ["also_for_rows", "import_matmul_of_rows"]

Elementwise = Callable[[Builder, Node], Value | IntegerTensor]


def import_matmul_of_rows(builder: Builder, node: Node) -> Value:
    """MatMul(x [N, T, K] or [N, H, W, K], weight [K, M], a constant): [N, T, M] or [N, H, W, M]."""
    x, weight = builder.operand(node, 0), builder.operand(node, 1)
    features, outputs = weight.type.shape
    if features != x.type.shape[-1]:
        raise node.fault(Code.SHAPE_MISMATCH, f"the weight wants {features} features, the input has {x.type.shape[-1]}")
    first = _channels_first(builder, x)
    n, _, *space = first.type.shape
    image = first if len(space) == 2 else reshaped(builder, node, first, (n, features, 1, *space))
    kernel = moved(builder, node, weight, lambda array: array.T.reshape(outputs, features, 1, 1))
    window = Window(kernel=(1, 1))
    result = builder.real(conv_shape(image.type.shape, kernel.type.shape, window), node)
    made = builder.append(Conv(result=result, input=image, weight=kernel, bias=None, window=window, groups=1))
    return _channels_last(builder, made if len(space) == 2 else reshaped(builder, node, made, (n, outputs, *space)))


def also_for_rows(operator: Elementwise) -> Elementwise:
    """The operator, which treats elements or channels alike, where the channels are the last axis."""

    def import_either(builder: Builder, node: Node) -> Value | IntegerTensor:
        operands = [i for i in range(len(node.inputs)) if not is_constant(builder, node.inputs[i])]
        values = [builder.values.get(node.inputs[i].name) for i in operands]
        found = [v for v in values if v is not None]
        rows = found and len(found) == len(values) and all(v.name in builder.channels_first for v in found)
        of_channels = [i for i in range(len(node.inputs)) if len(found) == 1 and _of_last(builder, node, i, found[0])]
        if not (rows or of_channels) or not _others_are_numbers(builder, node, operands, of_channels):
            return operator(builder, node)
        for i, x in zip(operands, found, strict=True):
            _replace(builder, node, i, _channels_first(builder, x))
        for i in of_channels:
            _per_channel(builder, node, i, len(found[0].type.shape))
        made = operator(builder, node)
        if isinstance(made, IntegerTensor):
            last = _channels_last(builder, dequantized(builder, node, made))
            return made.quantized_as(last)
        return _channels_last(builder, made)

    return import_either


def _of_last(builder: Builder, node: Node, index: int, x: Value) -> bool:
    """Whether input `index` is a constant with a number for each element of x's last axis, which is not axis 1."""
    tensor = node.inputs[index]
    shape = x.type.shape
    if len(shape) not in (3, 4) or index > 1 or not is_constant(builder, tensor) or _is_parameter(node, index):
        return False
    own = _shape(builder, tensor)
    return own[-1:] == shape[-1:] and shape[-1] > 1 and set(own[:-1]) <= {1} and len(own) <= len(shape)


def _others_are_numbers(builder: Builder, node: Node, operands: list[int], of_channels: list[int]) -> bool:
    """Whether each further constant is one number, which no axis is about."""
    others = (i for i in range(len(node.inputs)) if i not in operands and i not in of_channels)
    return all(node.inputs[i].is_empty() or set(_shape(builder, node.inputs[i])) <= {1} for i in others)


def _is_parameter(node: Node, index: int) -> bool:
    """Whether input `index` belongs to a quantizer or a Clip: no operand of arithmetic."""
    return node.op_type not in ("Add", "Sub", "Mul", "Div", "PRelu") or (node.op_type == "PRelu" and index == 0)


def _shape(builder: Builder, tensor: gs.Tensor) -> tuple[int, ...]:
    array = constant_array(tensor)
    return tuple(array.shape) if array is not None else builder.values[tensor.name].type.shape


def _per_channel(builder: Builder, node: Node, index: int, rank: int) -> None:
    """Let a constant of the last axis be one of axis 1."""
    shape = (-1, *[1] * (rank - 2))
    array = constant_array(node.inputs[index])
    if array is not None:
        node.inputs[index] = gs.Constant(f"{node.inputs[index].name} per channel", np.asarray(array).reshape(shape))
    else:
        value = builder.values[node.inputs[index].name]
        _replace(builder, node, index, moved(builder, node, value, lambda a: a.reshape(shape)))


def _replace(builder: Builder, node: Node, index: int, value: Value) -> None:
    tensor = gs.Variable(f"{node.inputs[index].name} with channels first")
    builder.values[tensor.name] = value
    node.inputs[index] = tensor


def _channels_first(builder: Builder, x: Value) -> Value:
    """x [N, ..., C] as [N, C, ...]."""
    if x.name in builder.channels_first:
        builder.superseded.add(x.name)
        return builder.channels_first[x.name]
    last = len(x.type.shape) - 1
    return transposed(builder, x, (0, last, *range(1, last)))


def _channels_last(builder: Builder, first: Value) -> Value:
    """first [N, C, ...] as [N, ..., C]; what reads it may take `first` instead."""
    last = transposed(builder, first, (0, *range(2, len(first.type.shape)), 1))
    builder.channels_first[last.name] = first
    return last
