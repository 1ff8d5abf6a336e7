"""Dot products: the types of their products and sums, and weights laid out for the kernel that reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.analysis.ranges import partial_sums
from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.integer import Conv2d, Dense
from pefslc.targets.c.cpus import WeightOrder
from pefslc.targets.c.storage import INT16, INT32, INT64, CType, Tensor, dtype_of, sum_type
from pefslc.targets.c.taps import TapView

__all__ = [
    "accumulator_type", "converted_taps", "most_chained", "most_halved", "most_paired", "packed_weights",
    "product_type", "round_up",
]  # fmt: skip

Codes = NDArray[np.int64]

OFFSET = 128  # makes an int8_t a uint8_t; taken off, the other way

_TURNED = [0, 2, 1, 3]
_WORTH_HALVES = 16  # taps: what a register's halves save takes fewer instructions than taking them out


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


def tap_offset(source: Tensor, taps: CType) -> int | None:
    """What makes each code of the source, and 0, which a pad is, one of this type: 0, or for bytes 128 or -128.

    None where nothing does.
    """
    low, high = min(source.low, 0), max(source.high, 0)
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


def most_chained(weights: NDArray[np.integer], view: TapView, low: int, high: int) -> int:
    """How many products a lane of 8 may sum in 16 bits, at most 4; 0: not even one product fits.

    weights    [outputs * taps], rows as `packed_weights` lays them out, filled up to 16 taps a segment
    low, high  of the taps

    Lane l sums the products of the taps l, l + 8, ... behind each multiple of 8 * the number in a segment: each partial
    sum is at least that of the negative products, and at most that of the positive ones.
    """
    if view.taps % 16:
        return 0
    wide = weights.astype(np.int64).reshape(-1, view.taps // 8, 8)
    highest = np.maximum(np.maximum(wide * low, wide * high), 0)
    lowest = np.minimum(np.minimum(wide * low, wide * high), 0)
    return _most_in_16_bits(lowest, highest, (1, 2, 4))


def most_paired(weights: NDArray[np.integer], view: TapView, low: int, high: int) -> int:
    """How many sums of two products a lane may sum in 16 bits, at most 32; 0: not even one fits.

    weights    [outputs * taps] in the order BLOCKS
    low, high  of the taps

    An instruction sums the products of taps 0 and 1, and of 2 and 3, of each output; a lane sums as many of them, from
    each multiple of that number of fours in a segment on.
    """
    wide = weights.astype(np.int64).reshape(-1, view.taps // 4, 16, 2, 2)
    highest = np.maximum(np.maximum(wide * low, wide * high), 0).sum(axis=4)
    lowest = np.minimum(np.minimum(wide * low, wide * high), 0).sum(axis=4)
    return _most_in_16_bits(lowest, highest, (1, 2, 4, 8, 16, 32))


def most_halved(weights: NDArray[np.integer], view: TapView, order: WeightOrder, low: int, high: int) -> int:
    """How many segments an output may sum in 16 bits: all of a window's, 1, or 0, if not even one fits.

    weights    [outputs * taps] in the order
    low, high  of the taps

    Two outputs share a register of 32 bits, which is exact modulo 2^32: each sum must fit where it is taken out, not on
    its way. The less often that is, the better: 0, too, where fewer than `_WORTH_HALVES` taps lie between.
    """
    lying = view.taps // order.taps, order.outputs, order.taps
    wide = weights.astype(np.int64).reshape(-1, view.segments, *lying)
    ends = [each(wide * low, wide * high).sum(axis=(2, 4)) for each in (np.minimum, np.maximum)]
    for count, (lowest, highest) in ((view.segments, [end.sum(axis=1) for end in ends]), (1, ends)):
        fits = INT16.holds(int(lowest.min(initial=0)), int(highest.max(initial=0)))
        if fits and count * view.taps >= _WORTH_HALVES:
            return count
    return 0


def _most_in_16_bits(lowest: Codes, highest: Codes, counts: tuple[int, ...]) -> int:
    """The largest of `counts` of which all sums of neighbours along axis 1, from each multiple of it on, fit."""
    fitting = 0
    for count in counts:
        starts = np.arange(0, lowest.shape[1], count)
        ends = (
            np.add.reduceat(lowest, starts, axis=1).min(initial=0),
            np.add.reduceat(highest, starts, axis=1).max(initial=0),
        )
        if not INT16.holds(int(ends[0]), int(ends[1])):
            break
        fitting = count
    return fitting


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


def round_up(count: int, multiple: int) -> int:
    """The first multiple that is not less."""
    return -(-count // multiple) * multiple
