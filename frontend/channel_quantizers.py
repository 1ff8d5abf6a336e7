"""Quant of a weight with a zero point, or a bit width, for each output channel, as Brevitas' shifted weights have it.

Our formats have one of each. The codes without their zero points are those of a symmetric quantizer, wide enough.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.node import Node
from pefslc.frontend.quantized_constants import quantized_constant
from pefslc.frontend.weights import channel_axes
from pefslc.geometry.shapes import Shape
from pefslc.ir.value import Value
from pefslc.numeric.format import MAX_FORMAT_BITS, Quantization
from pefslc.numeric.quantize import quantize_array
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.scale import Scale

__all__ = ["codes_by_channel", "differs_between_channels", "quantized_by_channel"]

_LARGEST_ZERO_POINT = 1 << 30


def differs_between_channels(node: Node, index: int) -> bool:
    """Whether a parameter of the quantizer has several numbers."""
    return node.has_input(index) and node.constant(index, "parameter").size > 1


def quantized_by_channel(
    builder: Builder,
    node: Node,
    array: NDArray[np.generic],
    scale: tuple[Scale, int],
    *,
    signed: bool,
    narrow: bool,
    rounding: RoundingMode,
) -> Value:
    """The constant `array` quantized, its zero points (input 2) and bit widths (input 3) along one axis.

    scale  and the axis that it goes along
    """
    steps, scale_axis = scale
    zero_points, zero_axis = _along(node, 2, "zero point", Code.ZERO_POINT, array.shape)
    widths, width_axis = _along(node, 3, "bit width", Code.BIT_WIDTH, array.shape)
    several = ((scale_axis, steps.per_channel), (zero_axis, len(zero_points) > 1), (width_axis, len(widths) > 1))
    axes = {axis for axis, differs in several if differs}
    if len(axes) != 1:
        raise node.fault(
            Code.SCALE_SHAPE, "scales, zero points and bit widths along several axes are not supported",
            hint="along the output channels",
        )  # fmt: skip
    (axis,) = axes
    count = array.shape[axis]
    codes = np.empty(array.shape, dtype=np.int64)
    lows, highs = [], []
    for channel in range(count):
        zero_point, bits = (int(v[channel % len(v)]) for v in (zero_points, widths))
        if not 1 + (signed or narrow) <= bits <= MAX_FORMAT_BITS:
            hint = f"2 to {MAX_FORMAT_BITS} bits"
            raise node.fault(Code.BIT_WIDTH, f"a bit width of {bits} is not supported", hint=hint)
        if abs(zero_point) > _LARGEST_ZERO_POINT:
            raise node.fault(Code.ZERO_POINT, f"a zero point of {zero_point} is not supported")
        q = Quantization(
            bits=bits, signed=signed, narrow=narrow, scale=Scale((steps.channel(channel),)), zero_point=zero_point
        )
        part = (slice(None),) * axis + (channel,)
        codes[part] = quantize_array(Quantizer(q, rounding), array[part].astype(np.float64), 0) - zero_point
        lows.append(q.low - zero_point)
        highs.append(q.high - zero_point)
    return quantized_constant(builder, node, codes, (min(lows), max(highs)), steps, np.zeros(1, np.int64), axis)


def codes_by_channel(
    values: NDArray[np.floating], quantizer: Quantizer, zero_points: NDArray[np.int64], axis: int
) -> NDArray[np.int64]:
    """The codes of a constant by a quantizer with a zero point for each index along `axis`.

    quantizer  but for its zero point; its scale is one, or one for each index along `axis`, too
    """
    codes, formats = np.empty(values.shape, dtype=np.int64), quantizer.quantization
    for channel, zero_point in enumerate(zero_points.tolist()):
        own = replace(formats, scale=Scale((formats.scale.channel(channel),)), zero_point=zero_point)
        part = (slice(None),) * axis + (channel,)
        codes[part] = quantize_array(replace(quantizer, quantization=own), values[part], 0)
    return codes


def _along(node: Node, index: int, what: str, code: Code, shape: Shape) -> tuple[NDArray[np.int64], int]:
    """The whole numbers of a parameter, and the axis of the weight along which there are several."""
    array = node.constant(index, what)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all() or (np.rint(array) != array).any():
        raise node.fault(code, f"the {what} holds other than integers")
    aligned = (1,) * (len(shape) - array.ndim) + tuple(array.shape)
    wide = [axis for axis, size in enumerate(aligned) if size > 1]
    if not wide:
        return array.reshape(-1).astype(np.int64), 0
    if len(wide) > 1 or wide[0] not in channel_axes(node, shape) or aligned[wide[0]] != shape[wide[0]]:
        raise node.fault(
            code,
            f"a {what} of shape {list(array.shape)} on a tensor {list(shape)} is not supported",
            hint="per tensor, or per output channel of a weight",
        )
    return array.reshape(-1).astype(np.int64), wide[0]
