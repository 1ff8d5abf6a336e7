"""Operators that sum products of activations and weights: convolutions and dense layers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.constant_operands import constant_values
from pefslc.frontend.movement import transposed
from pefslc.frontend.node import Node
from pefslc.frontend.rows import import_matmul_of_rows
from pefslc.frontend.sizes import check_size
from pefslc.frontend.weights import moved
from pefslc.frontend.windows import checked_output, image_operand, transposed_window, window_of
from pefslc.geometry.shapes import Window, conv_shape
from pefslc.ir.quantized import BiasAdd, Conv, Linear, Scaling
from pefslc.ir.structural import Transpose
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.stages import Affine

__all__ = ["import_conv", "import_conv_transpose", "import_gemm", "import_matmul"]

_ONE = Fraction(1)
_MOST_PHASES = 1 << 12  # each is a convolution of its own (`phases`)


def import_conv(builder: Builder, node: Node) -> Value:
    """Conv(x [N, C, H, W], weight [M, C / group, KH, KW], bias [M])."""
    x, weight = image_operand(builder, node), _kernel_operand(builder, node)
    groups = node.take_int("group", 1)
    w, channels = weight.type.shape, x.type.channels
    if groups < 1 or channels % groups or w[0] % groups:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"group={groups} does not divide {channels} input and {w[0]} output channels"
        )
    if w[1] * groups != channels:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"the weight {list(w)} wants {w[1] * groups} input channels, the input has {channels}"
        )
    bias = _bias_operand(builder, node, w[0])
    return _convolution(builder, node, x, weight, bias, window_of(node, (w[2], w[3]), x.type.shape), groups)


def import_conv_transpose(builder: Builder, node: Node) -> Value:
    """ConvTranspose(x [N, C, H, W], weight [C, M / group, KH, KW], bias [M]).

    A convolution of x with zeros between its pixels, by the flipped kernel with inputs and outputs exchanged.
    """
    x, weight = image_operand(builder, node), _kernel_operand(builder, node)
    groups = node.take_int("group", 1)
    w, channels = weight.type.shape, x.type.channels
    if w[0] != channels:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"the weight {list(w)} wants {w[0]} input channels, the input has {channels}"
        )
    if groups < 1 or channels % groups:
        raise node.fault(Code.SHAPE_MISMATCH, f"group={groups} does not divide {channels} input channels")

    def convolved_with(array: NDArray[np.generic]) -> NDArray[np.generic]:
        """[C, M / group, KH, KW] as [M, C / group, KH, KW]."""
        by_group = array[:, :, ::-1, ::-1].reshape(groups, channels // groups, *w[1:])
        return by_group.swapaxes(1, 2).reshape(groups * w[1], channels // groups, *w[2:])

    bias = _bias_operand(builder, node, groups * w[1])
    window = transposed_window(node, (w[2], w[3]), x.type.shape)
    if math.prod(window.input_dilations) > _MOST_PHASES:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"strides={list(window.input_dilations)} is not supported",
            hint=f"at most {_MOST_PHASES:,} phases: the product of the strides",
        )
    check_size((*x.type.shape[:2], *window.slides_over(*x.type.shape[2:])), node.origin)
    return _convolution(builder, node, x, moved(builder, node, weight, convolved_with), bias, window, groups)


def _kernel_operand(builder: Builder, node: Node) -> Value:
    """The weight, [.., .., KH, KW]."""
    weight = builder.operand(node, 1)
    w = weight.type.shape
    if len(w) != 4:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE, f"a weight of shape {list(w)} is not supported", hint="only 2-D convolutions"
        )
    declared = node.take_ints("kernel_shape", w[2:])
    if declared != w[2:]:
        raise node.fault(Code.SHAPE_MISMATCH, f"kernel_shape is {list(declared or ())} but the weight is {list(w)}")
    return weight


def _bias_operand(builder: Builder, node: Node, outputs: int) -> Value | None:
    bias = builder.operand(node, 2) if node.has_input(2) else None
    if bias is not None and bias.type.shape != (outputs,):
        raise node.fault(
            Code.SHAPE_MISMATCH,
            f"the bias has shape {list(bias.type.shape)}, the convolution {outputs} output channels",
        )
    return bias


def _convolution(
    builder: Builder, node: Node, x: Value, weight: Value, bias: Value | None, window: Window, groups: int
) -> Value:
    shape = checked_output(node, conv_shape(x.type.shape, weight.type.shape, window))
    return builder.append(
        Conv(result=builder.real(shape, node), input=x, weight=weight, bias=bias, window=window, groups=groups)
    )


def import_gemm(builder: Builder, node: Node) -> Value:
    """Gemm(x [N, K], weight [K, M], or [M, K] with transB, bias [M]): alpha * x weight + beta * bias."""
    alpha, beta = node.take_fraction("alpha", 1.0), node.take_fraction("beta", 1.0)
    if not alpha:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE, "Gemm with alpha=0 is not supported", hint="take the layer out of the model"
        )
    if node.take_int("transA", 0):
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            "Gemm with transA=1 is not supported",
            hint="keep the batch axis first: transpose the input before the network",
        )
    return _linear(builder, node, is_transposed=bool(node.take_int("transB", 0)), alpha=alpha, beta=beta)


def import_matmul(builder: Builder, node: Node) -> Value:
    """MatMul(x [N, K], weight [K, M]); of more axes, over the last one (`rows`)."""
    if len(builder.operand(node, 0).type.shape) in (3, 4) and len(builder.operand(node, 1).type.shape) == 2:
        return import_matmul_of_rows(builder, node)
    return _linear(builder, node, is_transposed=False)


def _linear(
    builder: Builder, node: Node, *, is_transposed: bool, alpha: Fraction = _ONE, beta: Fraction = _ONE
) -> Value:
    x, weight = builder.operand(node, 0), builder.operand(node, 1)
    if len(x.type.shape) != 2 or len(weight.type.shape) != 2:
        raise node.fault(
            Code.UNSUPPORTED_SHAPE,
            f"{node.op_type} of {list(x.type.shape)} and {list(weight.type.shape)} is not supported",
            hint="two matrices, the second a constant",
        )
    if not is_transposed:
        weight = transposed(builder, weight)
    if not _has_scales_of_rows(builder, weight):
        raise node.fault(
            Code.SCALE_SHAPE,
            "the weight has one scale per input",
            hint="use one scale per tensor, or one per output: scaling_per_output_channel",
        )
    if weight.type.shape[1] != x.type.shape[1]:
        raise node.fault(
            Code.SHAPE_MISMATCH, f"the weight wants {weight.type.shape[1]} features, the input has {x.type.shape[1]}"
        )
    bias = _bias_of_rows(builder, node, weight.type.shape[0]) if node.has_input(2) else None
    shape = (x.type.shape[0], weight.type.shape[0])
    is_plain = alpha == beta == 1 or (alpha == 1 and bias is None)
    result = builder.append(
        Linear(result=builder.real(shape, node), input=x, weight=weight, bias=bias if is_plain else None)
    )
    if is_plain:
        return result
    if alpha != 1:
        result = builder.append(Scaling(result=builder.real(shape, node), input=result, stage=Affine.product((alpha,))))
    if bias is None or not beta:
        return result
    stage = Affine.bias(tuple(beta * v for v in constant_values(builder, node, bias).reshape(-1)))
    return builder.append(BiasAdd(result=builder.real(shape, node), input=result, stage=stage))


def _bias_of_rows(builder: Builder, node: Node, outputs: int) -> Value:
    """Gemm's C [M], which the file may write as what broadcasts to it: [1, M], [1, 1], [1], []."""
    bias = builder.operand(node, 2)
    shape = bias.type.shape
    if shape == (outputs,):
        return bias
    if len(shape) > 2 or shape[-1:] not in ((), (1,), (outputs,)) or shape[:-1] not in ((), (1,)):
        raise node.fault(
            Code.SHAPE_MISMATCH,
            f"the bias has shape {list(shape)}, the layer {outputs} outputs",
            hint=f"one number, or one per output: [{outputs}] or [1, {outputs}]",
        )
    return moved(builder, node, bias, lambda array: np.broadcast_to(array, (1, outputs)).reshape(outputs))


def _has_scales_of_rows(builder: Builder, weight: Value) -> bool:
    """Whether the scales of a weight [M, K], if there are several, are those of its rows."""
    if not (isinstance(weight.type.element, Quantization) and weight.type.element.scale.per_channel):
        return True
    makers = {op.result.name: op for op in builder.ops}
    turns = 0
    while isinstance(maker := makers[weight.name], Transpose):
        weight, turns = maker.input, turns + 1
    return turns % 2 == 0
