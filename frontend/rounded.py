"""A quantizer that the file has in pieces (`rounding_chains`): of a tensor, or of a weight."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node, constant_array
from pefslc.frontend.quantized_constants import format_of, quantized_constant
from pefslc.frontend.rounding_chains import Rounding
from pefslc.ir.quantized import BiasAdd, Clip, Quantize, Scaling
from pefslc.ir.value import Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.quantize import round_floats
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine

__all__ = ["import_rounded"]

_LARGEST_CODE = (1 << 31) - 1


def import_rounded(builder: Builder, node: Node) -> Value:
    """(clip(round(u)) - zero point) * step, of a tensor or of a weight."""
    rounding = node.raw.attrs.get("rounding")
    if not isinstance(rounding, Rounding):
        raise node.fault(Code.UNSUPPORTED_OPERATOR, f"operator {node.op_type} is not supported")
    node.ignore("rounding")
    weights = constant_array(node.inputs[0])
    return _of_tensor(builder, node, rounding) if weights is None else _of_weight(builder, node, rounding, weights)


def _of_tensor(builder: Builder, node: Node, rounding: Rounding) -> Value:
    assert rounding.mode is not None
    x = builder.operand(node, 0)
    low, high, zero_point, step = rounding.low, rounding.high, rounding.zero_point, rounding.steps[0]
    if low is None or high is None or max(-low, high, abs(zero_point)) > _LARGEST_CODE or low > high:
        raise node.fault(
            Code.BIT_WIDTH,
            "the rounded numbers have no limits that a format holds",
            hint="clip right after the rounding, or right before it: torch.clamp(..., -128, 127)",
        )
    if not rounding.of_values:
        one, none = (Fraction(1),), (Fraction(0),)
        x = builder.append(
            Scaling(result=builder.real(x.type.shape, node), input=x, stage=Affine((step,), none, one, none))
        )
        if zero_point:
            stage = Affine.bias((-zero_point * step,))
            x = builder.append(BiasAdd(result=builder.real(x.type.shape, node), input=x, stage=stage))
    scale = Scale((step,))
    found = format_of(low, high, scale, zero_point)
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1)
    quantization = found or Quantization(bits=bits + (low < 0), signed=low < 0, scale=scale, zero_point=zero_point)
    result = builder.new_value(x.type.shape, quantization, node.origin)
    value = builder.append(Quantize(result=result, input=x, rounding=rounding.mode))
    if found is not None:
        return value
    ends = [(code - zero_point) * step for code in (low, high)]
    return builder.append(Clip(result=builder.real(x.type.shape, node), input=value, low=ends[0], high=ends[1]))


def _of_weight(builder: Builder, node: Node, rounding: Rounding, weights: NDArray[np.generic]) -> Value:
    numbers = weights.astype(np.float64)  # every float of a file is exact in it
    if not np.isfinite(numbers).all():
        raise node.fault(
            Code.CONSTANT_VALUE,
            "the constant holds NaN or infinity",
            hint="training diverged? check the checkpoint",
        )
    codes = np.sign(numbers) if rounding.mode is None else round_floats(numbers, rounding.mode)
    if rounding.low is not None or rounding.high is not None:
        codes = np.clip(codes, rounding.low, rounding.high)
    low, high = int(codes.min()), int(codes.max())
    if max(-low, high, 1) * rounding.multiple + abs(rounding.zero_point) > _LARGEST_CODE:
        raise node.fault(
            Code.BIT_WIDTH, "the rounded weights have no limits that a format holds", hint="clip them, or scale them"
        )
    if rounding.low is not None and rounding.high is not None and max(-rounding.low, rounding.high) <= 1 << 16:
        low, high = rounding.low, rounding.high
    integers = codes.astype(np.int64) * rounding.multiple
    low, high = low * rounding.multiple, high * rounding.multiple
    return quantized_constant(
        builder, node, integers, (low, high), Scale.of(rounding.steps), np.array([rounding.zero_point]), rounding.axis
    )
