"""Inputs of integers: a uint8 picture, or codes that the file gives a meaning with DequantizeLinear or Cast.

Here they are the real numbers that they are. What is read from them is an affine map and a quantizer whose codes are
the integers themselves; `passes.host_input` makes one step of the two.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.ir.quantized import BiasAdd, Quantize, Scaling
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine

__all__ = ["check_reads_integers", "dequantized_input", "values_as_integers"]

_INTEGERS_FROM_INTEGERS = {
    "Clip", "Concat", "DepthToSpace", "Dropout", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Pad",
    "ReduceMax", "Relu", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
_READERS = {"Cast", "DequantizeLinear"}


def check_reads_integers(builder: Builder, node: Node) -> None:
    """Mark what is moved integers, too. Raises CompileError where the node computes with them."""
    kinds = {builder.integer_tensors[t.name] for t in node.inputs if t.name in builder.integer_tensors}
    if not kinds or node.op_type in _READERS:
        return
    if node.op_type not in _INTEGERS_FROM_INTEGERS:
        raise node.fault(
            Code.UNSUPPORTED_OPERATOR,
            f"{node.op_type} of an input of integers is not supported",
            hint="put a DequantizeLinear, or a Cast to float, between the input and it",
        )
    for tensor in node.raw.outputs:
        builder.integer_tensors[tensor.name] = kinds.copy().pop()


def dequantized_input(builder: Builder, node: Node, scale: Scale, zero_point: int) -> Value:
    """(x - zero point) * scale of an input's integers, and the quantizer whose codes they are."""
    x, kind = builder.operand(node, 0), np.dtype(builder.integer_tensors[node.inputs[0].name])
    scaled = Scaling(result=builder.real(x.type.shape, node), input=x, stage=Affine.product(scale.steps))
    offsets = tuple(-zero_point * step for step in scale.steps)
    values = _added(builder, node, builder.append(scaled), offsets)
    quantization = Quantization(bits=8 * kind.itemsize, signed=kind.kind == "i", scale=scale, zero_point=zero_point)
    result = builder.new_value(x.type.shape, quantization, node.origin)
    return builder.append(Quantize(result=result, input=values))


def values_as_integers(builder: Builder, node: Node, x: Value, scale: Scale, zero_point: int) -> Value:
    """x / scale + zero_point."""
    factors = tuple(1 / step for step in scale.steps)
    scaled = Scaling(result=builder.real(x.type.shape, node), input=x, stage=Affine.product(factors))
    return _added(builder, node, builder.append(scaled), (Fraction(zero_point),))


def _added(builder: Builder, node: Node, x: Value, offsets: tuple[Fraction, ...]) -> Value:
    if not any(offsets):
        return x
    return builder.append(BiasAdd(result=builder.real(x.type.shape, node), input=x, stage=Affine.bias(offsets)))
