"""Dot products: the types of their products and sums, and weights laid out for the kernel that reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import partial_sums
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.integer import Conv2d, Dense
from pefslc.targets.c.storage import INT16, INT32, INT64, CType, Tensor, dtype_of, sum_type
from pefslc.targets.c.taps import TapView
from pefslc.targets.c.weight_orders import WeightOrder

__all__ = ["accumulator_type", "code_range", "converted_taps", "packed_weights", "product_type"]

Codes = NDArray[np.int64]

OFFSET = 128  # makes an int8_t a uint8_t; taken off, the other way

_TURNED = [0, 2, 1, 3]


def accumulator_type(op: Conv2d | Dense) -> CType:
    """The type of the sums. Raises CompileError beyond 64 bits: signed overflow is undefined in C."""
    low, high = partial_sums(op)
    if not INT64.holds(low, high):
        raise CompileError(
            Code.BEYOND_64_BITS,
            "the sums of products need more than 64 bits",
            at=op.result.origin,
            hint="use fewer bits for the weights or the activations",
        )
    return sum_type(low, high)


def product_type(source: Tensor, weight: Codes, sums: CType, *, narrow: bool = False) -> CType:
    """int32_t where each product fits: always where their sums do. `narrow`: int16_t, where that does."""
    largest = max(abs(source.low), abs(source.high)) * int(np.abs(weight).max(initial=0))
    if narrow and INT16.holds(-largest, largest):
        return INT16
    return min(sums, sum_type(-largest, largest))


def code_range(source: Tensor) -> tuple[int, int]:
    """The least and the most of what a convolution reads: the source's codes, and 0, which a pad is."""
    return min(source.low, 0), max(source.high, 0)


def tap_offset(source: Tensor, taps: CType) -> int | None:
    """What makes each code of the source, and 0, which a pad is, one of this type: 0, or for bytes 128 or -128.

    None where nothing does.
    """
    low, high = code_range(source)
    offsets = (0, OFFSET, -OFFSET) if taps.bits == 8 else (0,)  # pads are filled byte by byte
    return next((o for o in offsets if taps.holds(low + o, high + o)), None)


def offset_bias(weight: Codes, bias: Codes | None, offset: int) -> Codes | None:
    """[outputs]: the bias of sums of taps that are `offset` more than they mean: sum w (x + 128) - 128 sum w.

    weight  [outputs, taps]
    offset  128 or -128

    None where a sum, or this bias, might need more than an int32_t.
    """
    found = (0 if bias is None else bias) - offset * weight.sum(axis=1)
    largest = 2 * OFFSET * int(np.abs(weight).sum(axis=1).max(initial=0)) + int(np.abs(found).max(initial=0))
    return np.asarray(found, dtype=np.int64) if INT32.holds(-largest, largest) else None


def converted_taps(
    source: Tensor, weight: Codes, bias: Codes | None, wanted: CType | None, *, may_offset: bool
) -> tuple[CType, int, Codes | None]:
    """(type of the taps that kernels read, what is added to each code as it becomes one, the bias with its part).

    weight      [outputs, taps]
    wanted      the type that a processor multiplies such weights by, if one is better
    may_offset  whether something can be added
    """
    offset = None if wanted is None else tap_offset(source, wanted)
    if wanted is None or offset is None:
        return source.code_type, 0, bias
    if offset == 0:
        return wanted, 0, bias
    moved = offset_bias(weight, bias, offset) if may_offset else None
    return (source.code_type, 0, bias) if moved is None else (wanted, offset, moved)


def packed_weights(
    weight: Codes, groups: int, outputs: int, view: TapView, order: WeightOrder, kind: CType
) -> NDArray[np.integer]:
    """[groups * outputs * taps]: for each group its outputs filled up to `outputs`, each segment to its taps, in order.

    weight   [all outputs, taps], segment after segment
    outputs  of a group, filled up: a multiple of the order's
    kind     of the result's elements: a network has many
    """
    rows, taps = weight.shape
    per_group, per_segment = rows // groups, taps // view.segments
    filled = np.zeros((groups, outputs, view.segments, view.taps), dtype=dtype_of(kind))
    filled[:, :per_group, :, :per_segment] = weight.reshape(groups, per_group, view.segments, per_segment)
    split = filled.reshape(groups, outputs // order.outputs, order.outputs, view.padded // order.taps, order.taps)
    ordered = split.transpose(0, 1, 3, 2, 4)
    return (ordered[..., _TURNED] if order.turned else ordered).reshape(-1)
