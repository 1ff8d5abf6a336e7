"""Resize between linear neighbours, larger by integers: a depthwise transposed convolution by a triangle.

    asymmetric  pixel i of the result lies at i / f of the input
    half_pixel  at (i + 1/2) / f - 1/2

Each pixel is the sum of its two neighbours along each axis, by weights that are multiples of 1 / (2 f). A pixel beyond
the edge is that of the edge, so the input is padded by one in front.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.frontend.builder import Builder
from pefslc.frontend.gathering import taken_along
from pefslc.frontend.node import Node
from pefslc.geometry.shapes import Window
from pefslc.ir.quantized import AveragePool, Conv, QuantizedConstant
from pefslc.ir.value import IntArray, Value
from pefslc.numeric.format import Quantization
from pefslc.numeric.scale import Scale

__all__ = ["import_linear"]

_MOST_TIMES = 64


def import_linear(
    builder: Builder, node: Node, x: Value, sizes: tuple[int, ...], way: str, *, antialias: bool
) -> Value:
    """x [N, C, H, W] with rows and columns between its own. Raises CompileError for what is not larger by integers."""
    shape = x.type.shape
    factors = [after // before if after % before == 0 else 0 for after, before in zip(sizes, shape, strict=True)]
    if len(shape) != 4 or not all(0 < f <= _MOST_TIMES for f in factors) or way == "align_corners" or antialias:
        raise node.fault(
            Code.UNSUPPORTED_ATTRIBUTE,
            f"{node.op_type} of {list(shape)} to {list(sizes)} with mode='linear' and "
            f"coordinate_transformation_mode={way!r} is not supported",
            hint="enlarge by whole factors, with align_corners=False and without antialias; or use mode 'nearest'",
        )
    pads, kernels, crops = [], [], []
    for factor, size in zip(factors[2:], shape[2:], strict=True):
        kernel, crop = _triangle(factor, way)
        if size == 1:  # all neighbours are this one
            kernel, crop = np.full(factor, 2 * factor), 0
        pads.append(int(size > 1 and factor > 1))
        kernels.append(kernel)
        crops.append(crop)
    for axis, pad in enumerate(pads, 2):
        if pad:
            last = shape[axis] - 1
            x = taken_along(builder, node, x, axis, [0, *range(last + 1), last])
    weight = np.multiply.outer(kernels[0], kernels[1])
    total = 4 * factors[2] * factors[3]
    whole = total & -total  # the power of two in it: a scale that floats hold, as what is divided by behind it is not
    codes = IntArray(np.ascontiguousarray(np.broadcast_to(weight, (shape[1], 1, *weight.shape))).astype(np.int64))
    bits = int(weight.max()).bit_length()
    element = Quantization(bits=bits, signed=False, scale=Scale((Fraction(1, whole),)))
    constant = builder.append(
        QuantizedConstant(result=builder.new_value(codes.shape, element, node.origin), codes=codes)
    )
    (kh, kw), (top, left) = weight.shape, crops
    ends = [
        (size + 2 * pad - 1) * factor + k - crop - size * factor
        for size, pad, factor, k, crop in zip(shape[2:], pads, factors[2:], (kh, kw), crops, strict=True)
    ]
    window = Window(
        kernel=(kh, kw),
        pads=(kh - 1 - top, kw - 1 - left, kh - 1 - ends[0], kw - 1 - ends[1]),
        input_dilations=(factors[2], factors[3]),
    )
    result = builder.real(sizes, node)
    sums = builder.append(Conv(result=result, input=x, weight=constant, bias=None, window=window, groups=shape[1]))
    if whole == total:
        return sums
    counts = IntArray(np.full(sizes[2:], total // whole))
    divided = builder.real(sizes, node)
    return builder.append(AveragePool(result=divided, input=sums, window=Window(kernel=(1, 1)), counts=counts))


def _triangle(factor: int, way: str) -> tuple[NDArray[np.int64], int]:
    """The weights, times 2 * factor, of a pixel for those of the result around it, and how many lie in front of 0.

    In the order of a convolution: from the last to the first.
    """
    if factor == 1:
        return np.array([2]), 0
    offset = Fraction(1) if way == "asymmetric" else (Fraction(1, factor) + 1) / 2
    weights = {}
    for k in range(-2 * factor, factor + 1):
        distance = abs(Fraction(k, factor) + offset)
        if distance < 1:
            weights[k] = int((1 - distance) * 2 * factor)
    first = min(weights)
    assert list(weights) == list(range(first, first + len(weights)))
    return np.array([*weights.values()][::-1]), -first
