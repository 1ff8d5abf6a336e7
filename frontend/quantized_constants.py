"""Constants that the file gives as integers: a format that holds them, and the order that our operations want."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.frontend.weights import back_from_first, channel_axes
from pefslc.ir.quantized import QuantizedConstant
from pefslc.ir.value import IntArray, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale

__all__ = ["format_of", "quantized_constant"]


def quantized_constant(
    builder: Builder,
    node: Node,
    codes: NDArray[np.int64],
    limits: tuple[int, int],
    scale: Scale,
    zero_points: NDArray[np.int64],
    axis: int,
) -> Value:
    """A constant of the file as (codes - zero point) * scale.

    limits       of the codes' type
    zero_points  one, or one for each index along `axis`, as the scales
    """
    (low, high), zero_point = limits, int(zero_points[0])
    if (zero_points != zero_point).any():  # one per channel: the codes become those of a symmetric quantizer
        aligned = zero_points.reshape([-1 if i == axis else 1 for i in range(codes.ndim)])
        codes, low, high = codes - aligned, low - int(zero_points.max()), high - int(zero_points.min())
        zero_point = 0
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + (low < 0)
    quantization = format_of(low, high, scale, zero_point) or Quantization(
        bits=max(bits, 1), signed=low < 0, scale=scale, zero_point=zero_point
    )
    if not scale.per_channel:
        axis = 0
    elif axis not in channel_axes(node, tuple(codes.shape)):
        raise node.fault(
            Code.SCALE_SHAPE,
            f"a scale along axis {axis} of a constant is not supported",
            hint="along the output channels",
        )
    data = IntArray(np.array(np.moveaxis(codes, axis, 0) if axis else codes, dtype=np.int64))
    result = builder.new_value(data.shape, quantization, node.origin)
    constant = builder.append(QuantizedConstant(result=result, codes=data))
    return back_from_first(builder, constant, axis)


def format_of(low: int, high: int, scale: Scale, zero_point: int) -> Quantization | None:
    """The format whose codes are [low, high]."""
    widest = (high + 1).bit_length() + (low < 0)  # that of a narrow unsigned format, one code below a power of two
    for bits in range(max(widest - 1, 1), widest + 1):
        for narrow in (False, True):
            q = Quantization(bits=bits, signed=low < 0, narrow=narrow, scale=scale, zero_point=zero_point)
            if (q.low, q.high) == (low, high):
                return q
    return None
