"""What one lane of the TCU computes: multiply-accumulate, saturation and the SIMD operations, on integer codes.

Codes are int64 within the data type's range. The widest product, 2^62 of FP32BP16, plus a sum shifted by the binary
point stays below 2^63, so int64 is exact throughout. Source: Tensil's emulator and RTL, which agree bit for bit.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.rounding import round_shift
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.instructions import SimdOperation

__all__ = ["multiply_accumulate", "saturate", "simd"]

Codes = NDArray[np.int64]


def saturate(codes: Codes, data_type: DataType) -> tuple[Codes, bool]:
    """`codes` clipped to the range of the data type, and whether any was outside; the same array if none was."""
    low, high = data_type.min_code, data_type.max_code
    if codes.min(initial=low) >= low and codes.max(initial=high) <= high:
        return codes, False
    return np.minimum(np.maximum(codes, low), high), True


def multiply_accumulate(x: Codes, y: Codes, z: Codes | int, data_type: DataType) -> Codes:
    """round((x * y + z * 2^p) / 2^p) before saturation, half to even.

    The tie goes to the even *sum*, not to the even product: z + round(x * y / 2^p) differs on ties with odd z.
    """
    point = data_type.binary_point
    return round_shift(x * y + (z << point), point)


def simd(operation: SimdOperation, left: Codes, right: Codes, data_type: DataType) -> tuple[Codes, bool]:
    """The lane-wise result of a SIMD operation, and whether it saturated. Truth is 1.0, falsehood 0.

    Zero, Move, Add, Subtract, Multiply, Min and Max are those of Tensil's emulator; the others exist in the RTL only,
    which is what is followed here.
    """
    one = data_type.one
    match operation:
        case SimdOperation.ADD:
            return saturate(left + right, data_type)
        case SimdOperation.SUBTRACT:
            return saturate(left - right, data_type)
        case SimdOperation.MULTIPLY:
            return saturate(multiply_accumulate(left, right, 0, data_type), data_type)
        case SimdOperation.INCREMENT:
            return saturate(left + one, data_type)
        case SimdOperation.DECREMENT:
            return saturate(left - one, data_type)
        case _:
            return _simd_within_range(operation, left, right, data_type), False


def _simd_within_range(operation: SimdOperation, left: Codes, right: Codes, data_type: DataType) -> Codes:
    one = data_type.one
    match operation:
        case SimdOperation.NOOP | SimdOperation.ZERO:
            return np.zeros_like(left)
        case SimdOperation.MOVE:
            return left
        case SimdOperation.MIN:
            smaller: Codes = np.minimum(left, right)
            return smaller
        case SimdOperation.MAX:
            larger: Codes = np.maximum(left, right)
            return larger
        case SimdOperation.NOT:
            return np.where(left == 0, one, 0)
        case SimdOperation.AND:
            return np.where((left != 0) & (right != 0), one, 0)
        case SimdOperation.OR:
            return np.where((left != 0) | (right != 0), one, 0)
        case SimdOperation.ABS:
            return np.where(left == data_type.min_code, left, np.abs(left))  # the RTL negates in place: min wraps
        case SimdOperation.GREATER_THAN:
            return np.where(left > right, one, 0)
        case SimdOperation.GREATER_THAN_EQUAL:
            return np.where(left >= right, one, 0)
        case (
            SimdOperation.ADD
            | SimdOperation.SUBTRACT
            | SimdOperation.MULTIPLY
            | SimdOperation.INCREMENT
            | SimdOperation.DECREMENT
        ):
            raise AssertionError(operation)
        case _:
            assert_never(operation)
