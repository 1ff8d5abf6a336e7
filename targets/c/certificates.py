"""What fits into 16 bits: where a kernel may use them, proven by the weights and the range of the taps.

Each sum that must fit is at least that of its negative products alone, and at most that of its positive ones. Where
neither leaves 16 bits, no sum does, whatever the taps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.c.storage import INT16, INT32
from pefslc.targets.c.taps import TapView
from pefslc.targets.c.weight_orders import BLOCKS, ROWS_OF_16, WeightOrder
from pefslc.targets.c.winograd import largest_results, point_ranges

__all__ = ["UNPROVEN", "Certificate", "certificate", "fits_winograd", "most_chained", "most_halved", "most_paired"]

Codes = NDArray[np.int64]
Weights = tuple[NDArray[np.integer], TapView]

_WORTH_HALVES = 16  # taps: what a register's halves save takes fewer instructions than taking them out


@dataclass(frozen=True, slots=True)
class Certificate:
    """How much of a dot product may be summed in 16 bits; 0: nothing. One of these at most is more.

    chained  products, by a lane of 8
    paired   sums of two products, by a lane
    halved   segments, by an output that is the half of a word
    """

    chained: int = 0
    paired: int = 0
    halved: int = 0

    def __str__(self) -> str:
        """For names: "_paired2"; "" where nothing is proven."""
        proven = {"chained": self.chained, "paired": self.paired, "halved": self.halved}
        return "".join(f"_{how}{count}" for how, count in proven.items() if count)


UNPROVEN = Certificate()


def certificate(order: WeightOrder, parts: Iterable[Weights], low: int, high: int, *, halves: bool) -> Certificate:
    """What holds for all parts of a layer, as far as kernels of the order ask.

    parts      the weights of each, as `packed_weights` lays them out, and where the taps lie
    low, high  of the taps, pads among them
    halves     whether kernels may have two outputs in a word
    """
    if order == ROWS_OF_16:
        return Certificate(chained=min(most_chained(*part, low, high) for part in parts))
    if order == BLOCKS:
        return Certificate(paired=min(most_paired(*part, low, high) for part in parts))
    if halves:
        return Certificate(halved=min(most_halved(*part, order, low, high) for part in parts))
    return UNPROVEN


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


def fits_winograd(weights: Codes, low: int, high: int) -> bool:
    """Whether Winograd's taps and weights have 16 bits, and all that is made of their products 32.

    weights    [points, outputs, channels], as `point_weights` makes them
    low, high  of the taps, pads among them: 0 is one

    What is on the way to a tap of a point, or to a result, is a sum of some of its terms.
    """
    lowest, highest = point_ranges(low, high)
    if not INT16.holds(int(min(lowest.min(), weights.min())), int(max(highest.max(), weights.max()))):
        return False
    largest = np.einsum("poc,p->po", np.abs(weights), np.maximum(-lowest, highest))
    most = int(largest_results(largest).max())
    return INT32.holds(-most, most)


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
