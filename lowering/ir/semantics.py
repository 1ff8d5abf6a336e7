"""The meaning of every integer operation, on int64 codes.

int64 suffices because the type of every result carries a range that was proven when it was made (`ranges`), and the
partial sums of convolutions are bounded by `numeric.accumulate` before anything is computed.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.ir.integer import (
    Clamp,
    Conv2d,
    Dense,
    IntegerOp,
    Lookup,
    Product,
    Requantize,
    Rescale,
    Round,
    Sum,
    SumPool,
)
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Transpose, Upsample
from pefslc.numeric.accumulate import largest_magnitude
from pefslc.numeric.format import saturate

__all__ = ["conv2d", "dense", "evaluate", "repeated", "windows"]

Codes = NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.float64)

# A sum of products of integers whose partial sums stay within these is exact, in any order.
_EXACT_IN_FLOAT32, _EXACT_IN_FLOAT64 = 2**24, 2**53


def windows(x: NDArray[Number], window: Window, fill: int | float = 0) -> NDArray[Number]:
    """[N, C, H', W', KH, KW]: the taps of every window over x [N, C, H, W]; positions outside hold `fill`."""
    taps = sliding_window_view(_padded(_dilated(x, window), window, fill), window.extent, axis=(2, 3))
    (sh, sw), (dh, dw) = window.strides, window.dilations
    return taps[:, :, ::sh, ::sw, ::dh, ::dw]


def _dilated(x: NDArray[Number], window: Window) -> NDArray[Number]:
    """Zeros between the pixels."""
    if not window.dilates_input:
        return x
    image = np.zeros((*x.shape[:2], *window.dilated(*x.shape[2:])), dtype=x.dtype)
    image[:, :, :: window.input_dilations[0], :: window.input_dilations[1]] = x
    return image


def _padded(image: NDArray[Number], window: Window, fill: int | float) -> NDArray[Number]:
    """`fill` around the image; of a negative pad, so many rows or columns less."""
    top, left, bottom, right = window.pads
    widths = ((0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0)))
    padded = np.pad(image, widths, constant_values=fill)
    rows, columns = padded.shape[2:]
    return padded[:, :, max(-top, 0) : rows - max(-bottom, 0), max(-left, 0) : columns - max(-right, 0)]


def repeated(x: NDArray[Number], factors: tuple[int, ...]) -> NDArray[Number]:
    """Each element `factors` times along each axis."""
    for axis, factor in enumerate(factors):
        x = np.repeat(x, factor, axis=axis) if factor > 1 else x
    return x


def conv2d(x: Codes, weight: Codes, bias: Codes | None, window: Window, groups: int = 1) -> Codes:
    """Integer convolution: x [N, C_in, H, W], weight [C_out, C_in/groups, KH, KW] -> [N, C_out, H', W']."""
    n, outputs = len(x), len(weight)
    kind = _exact_kind(x, weight, weight[0].size)
    taps = windows(x.astype(kind), window)
    rows, columns = taps.shape[2:4]
    pixels = taps.transpose(0, 1, 4, 5, 2, 3).reshape(n, groups, weight[0].size, rows * columns)
    sums = weight.astype(kind).reshape(groups, outputs // groups, weight[0].size) @ pixels
    result: Codes = sums.astype(np.int64).reshape(n, outputs, rows, columns)
    return result if bias is None else result + bias[:, None, None]


def dense(x: Codes, weight: Codes, bias: Codes | None) -> Codes:
    """x [N, K] @ weight [M, K].T + bias [M]."""
    result = _matmul(x, weight.T)
    return result if bias is None else result + bias


def _matmul(lhs: Codes, rhs: Codes) -> Codes:
    kind = _exact_kind(lhs, rhs, len(rhs))
    return np.asarray(lhs.astype(kind) @ rhs.astype(kind)).astype(np.int64)


def _exact_kind(x: Codes, weight: Codes, products: int) -> str:
    """The name of the fastest numbers in which sums of so many products are exact."""
    largest = largest_magnitude(x) * largest_magnitude(weight) * products
    if largest < _EXACT_IN_FLOAT32:
        return "float32"
    return "float64" if largest < _EXACT_IN_FLOAT64 else "int64"


def evaluate(op: IntegerOp, operands: list[Codes]) -> Codes:
    """The result of one operation on the codes of its operands."""
    x = operands[0]
    match op:
        case Conv2d():
            bias = None if op.bias is None else op.bias.data
            return conv2d(x, op.weight.data, bias, op.window, op.groups)
        case Dense():
            return dense(x, op.weight.data, None if op.bias is None else op.bias.data)
        case Requantize():
            return op.staircase(x, channel_axis=1)
        case Round():
            return op.line(x)
        case Lookup():
            return _lookup(op, x)
        case Clamp():
            return saturate(x, op.low, op.high)
        case Rescale():
            return x * op.factor
        case Sum():
            return x + operands[1]
        case Product():
            return x * operands[1]
        case SumPool():
            sums = np.asarray(windows(x, op.window).sum(axis=(4, 5)), dtype=np.int64)
            return sums if op.factors is None else sums * op.factors.data
        case MaxPool():
            lowest = int(np.iinfo(np.int64).min)
            return np.asarray(windows(x, op.window, fill=lowest).max(axis=(4, 5)), dtype=np.int64)
        case Reshape():
            return x.reshape(x.shape[0], *op.result.type.shape[1:])
        case Transpose():
            return x.transpose(op.permutation)
        case Upsample():
            return repeated(x, op.factors)
        case Slice():
            return x[op.index]
        case Pad():
            widths = list(zip(op.before, op.after, strict=True))
            return np.pad(x, widths, constant_values=op.result.type.codes.zero_point)
        case Concat():
            return np.concatenate(operands, axis=op.axis)


def _lookup(op: Lookup, x: Codes) -> Codes:
    table, index = op.table.data, x - op.low
    if len(table) == 1:
        return np.asarray(table[0][index], dtype=np.int64)
    channel = np.arange(len(table)).reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])
    return np.asarray(table[channel, index], dtype=np.int64)
