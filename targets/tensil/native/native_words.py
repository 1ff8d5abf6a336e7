"""The formats of native arithmetic: of the machine's own numbers, and of a float model's weights before it."""

from __future__ import annotations

from pefslc.numeric.format import FixedPoint
from pefslc.targets.tensil.machine.architecture import DataType

__all__ = ["native_format", "native_weights"]

_SUM_BITS = 50  # of products: room for sums of 4,096 of them in int64, with their sign


def native_format(data_type: DataType, extra: int = 0) -> FixedPoint:
    """The format of the TCU's own numbers, Q8.8 for FP16BP8; or of its words with `extra` bits more of fraction."""
    integer_bits = data_type.width_bits - data_type.binary_point
    return FixedPoint(integer_bits - extra, data_type.binary_point + extra)


def native_weights(data_type: DataType) -> FixedPoint:
    """The format of a float model's weights before each layer rounds them to words: p bits of fraction more than the
    data type's own, or as many as keep the integer sums of products, by inputs of that format, in int64.
    """
    own = native_format(data_type)
    finer = min(own.fraction_bits, _SUM_BITS - 2 * own.bits)
    return FixedPoint(own.integer_bits, own.fraction_bits + max(finer, 0))
