"""Range analysis: bounds of the codes that each integer operation can produce.

Interval arithmetic: an interval for the whole tensor, every operand free within its own, so x - x is not known to be 0.
Sums of products are bounded per output channel first (`channel_accumulators`).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.geometry.dilation_phases import taps_together
from pefslc.geometry.shapes import Window
from pefslc.ir.integer import Clamp, Conv2d, Dense, IntegerOp, Lookup, Product, Requantize, Rescale, Round, Sum, SumPool
from pefslc.ir.structural import Concat, MaxPool, Pad, Reshape, Slice, Transpose, Upsample
from pefslc.ir.value import Value
from pefslc.numeric.accumulate import dot_bounds, fits_int64, prefix_bounds

__all__ = ["Range", "channel_accumulators", "conv_bounds", "partial_sums", "result_range"]

Range = tuple[int, int]
Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]


def channel_accumulators(op: Conv2d | Dense) -> tuple[list[int], list[int]]:
    """Per output channel, the lowest and the highest accumulator over all inputs in range."""
    low, high = _products(op)
    # Python integers: a bias near the end of int64 must not wrap.
    bias = _bias(op)
    return [a + b for a, b in zip(low, bias, strict=True)], [a + b for a, b in zip(high, bias, strict=True)]


def partial_sums(op: Conv2d | Dense) -> Range:
    """Bounds of every partial sum, in any order, with the bias first, last, or anywhere."""
    return prefix_bounds(*_products(op), _bias(op))


def conv_bounds(weight: NDArray[np.int64], window: Window, low: int, high: int) -> Bounds:
    """Per output channel, the bounds of every partial sum of a convolution of codes in [low, high].

    Over a dilated input no sum is made of all taps: the inserted zeros add nothing.
    Raises OverflowError as `dot_bounds` does.
    """
    parts = [weight[:, :, rows, columns] for rows, columns in taps_together(window)]
    bounds = [dot_bounds(part.reshape(len(weight), -1), low, high) for part in parts]
    return np.min([b[0] for b in bounds], axis=0), np.max([b[1] for b in bounds], axis=0)


def _products(op: Conv2d | Dense) -> tuple[list[int], list[int]]:
    codes = op.input.type.codes
    try:
        if isinstance(op, Conv2d) and op.window.dilates_input:
            low, high = conv_bounds(op.weight.data, op.window, codes.low, codes.high)
        else:
            low, high = op.weight.sums.bounds(codes.low, codes.high)
    except OverflowError:
        raise CompileError(
            Code.BEYOND_64_BITS,
            "the sum of products needs more than 64 bits",
            at=op.result.origin,
            hint="use fewer bits for the weights or the activations",
        ) from None
    return low.tolist(), high.tolist()


def _bias(op: Conv2d | Dense) -> list[int]:
    return [0] * op.weight.data.shape[0] if op.bias is None else op.bias.data.tolist()


def result_range(op: IntegerOp) -> Range:
    """An interval that holds every code of `op` while its operands, free of each other, stay within their types."""
    match op:
        case Conv2d() | Dense():
            lows, highs = channel_accumulators(op)
            return _checked(min(lows), max(highs), op.result)
        case Requantize():
            inputs = op.input.type.codes
            return op.staircase.range_on(inputs.low, inputs.high)
        case Round():
            low, high = op.line(np.array([op.input.type.codes.low, op.input.type.codes.high])).tolist()
            return low, high
        case Lookup():
            codes = op.input.type.codes
            found = op.table.data[:, codes.low - op.low : codes.high - op.low + 1]
            return int(found.min()), int(found.max())
        case Clamp():
            codes = op.input.type.codes
            return min(max(codes.low, op.low), op.high), min(max(codes.high, op.low), op.high)
        case Rescale():
            codes = op.input.type.codes
            low, high = sorted((codes.low * op.factor, codes.high * op.factor))
            return _checked(low, high, op.result)
        case Sum():
            lhs, rhs = op.lhs.type.codes, op.rhs.type.codes
            return _checked(lhs.low + rhs.low, lhs.high + rhs.high, op.result)
        case Product():
            lhs, rhs = op.lhs.type.codes, op.rhs.type.codes
            ends = [a * b for a in (lhs.low, lhs.high) for b in (rhs.low, rhs.high)]
            return _checked(min(ends), max(ends), op.result)
        case SumPool():
            codes = op.input.type.codes
            # A window may hang over the padding, whose taps are 0.
            low = min(codes.low, 0) if op.window.is_padded else codes.low
            high = max(codes.high, 0) if op.window.is_padded else codes.high
            if op.factors is None:
                return _checked(low * op.window.taps, high * op.window.taps, op.result)
            rows, columns = op.window.taps_inside(op.input.type.shape[2:])
            factors = zip(product(rows, columns), op.factors.data.reshape(-1).tolist(), strict=True)
            taps = [r * c * factor for (r, c), factor in factors]
            ends = [code * count for code in (codes.low, codes.high) for count in (min(taps), max(taps))]
            return _checked(min(ends), max(ends), op.result)
        case MaxPool() | Reshape() | Transpose() | Slice() | Upsample():
            codes = op.input.type.codes
            return codes.low, codes.high
        case Pad():
            codes, padding = op.input.type.codes, op.result.type.codes.zero_point
            return min(codes.low, padding), max(codes.high, padding)
        case Concat():
            types = [v.type.codes for v in op.inputs]
            return min(t.low for t in types), max(t.high for t in types)


def _checked(low: int, high: int, result: Value) -> Range:
    if not fits_int64(max(-low, high)):
        raise CompileError(
            Code.BEYOND_64_BITS, "the codes need more than 64 bits", at=result.origin, hint="use coarser scales"
        )
    return low, high
