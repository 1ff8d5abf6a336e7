"""How large a sum of products can become: the bound that the overflow proof rests on.

With weights w_k and inputs x_k in [low, high], every partial sum, in any order, lies within
[sum min(w_k low, w_k high, 0), sum max(w_k low, w_k high, 0)] (docs/exactness.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["WeightSums", "bits_for_range", "dot_bounds", "fits_int64", "largest_magnitude", "prefix_bounds"]

_INT64_LIMIT = (1 << 63) - 1
_AT_ONCE = 1 << 20  # weights, for the memory that sums of them take


def bits_for_range(low: int, high: int) -> int:
    """Width of the narrowest two's complement integer that holds every code in [low, high]."""
    return max(high, -low - 1).bit_length() + 1


def fits_int64(magnitude: int) -> bool:
    """Whether integers up to `magnitude` can be computed with in int64."""
    return magnitude <= _INT64_LIMIT


def largest_magnitude(array: NDArray[np.int64]) -> int:
    """The largest absolute value, as a Python integer: np.abs of the lowest int64 is negative."""
    return max(int(array.max(initial=0)), -int(array.min(initial=0)))


@dataclass(frozen=True, slots=True, eq=False)
class WeightSums:
    """What bounds of `weight @ x` want to know of weights [outputs, fan_in].

    largest              the largest magnitude
    positive, negative   [outputs]: the sum of the weights above 0, and of those below
    """

    fan_in: int
    largest: int
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]

    @classmethod
    def of(cls, weight: NDArray[np.int64]) -> WeightSums:
        """Sums that leave int64 wrap here: `bounds` refuses them."""
        positive, total = np.empty((2, len(weight)), dtype=np.int64)
        at_once = max(_AT_ONCE // max(weight.shape[1], 1), 1)
        for first in range(0, len(weight), at_once):
            part, rows = weight[first : first + at_once], slice(first, first + at_once)
            positive[rows], total[rows] = np.maximum(part, 0).sum(axis=1), part.sum(axis=1)
        return cls(weight.shape[1], largest_magnitude(weight), positive, total - positive)

    def bounds(self, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As `dot_bounds`."""
        if not fits_int64(max(-low, high) * self.largest * self.fan_in):
            raise OverflowError("the sum of products does not fit 64 bits")
        # A weight w >= 0 adds at least w * least and at most w * most; with w < 0 it is the other way around.
        least, most = min(low, 0), max(high, 0)
        return self.positive * least + self.negative * most, self.positive * most + self.negative * least


def dot_bounds(weight: NDArray[np.int64], low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per output, the bounds of every partial sum of `weight @ x` with x in [low, high].

    weight  [outputs, fan_in] codes
    result  (lowest, highest), each [outputs]; at most 0 and at least 0
    Raises OverflowError when the bound itself leaves int64.
    """
    return WeightSums.of(weight).bounds(low, high)


def prefix_bounds(low: Sequence[int], high: Sequence[int], bias: Sequence[int]) -> tuple[int, int]:
    """Bounds of every prefix of every sum, over all outputs, whether the bias comes first, last or anywhere.

    low, high  per output, bounds of the partial sums without the bias; at most 0 and at least 0
    Python integers: near the ends of int64 nothing may wrap.
    """
    lowest = min(min(a, a + b, b) for a, b in zip(low, bias, strict=True))
    highest = max(max(a, a + b, b) for a, b in zip(high, bias, strict=True))
    return lowest, highest
