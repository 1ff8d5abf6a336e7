"""How large a sum of products can become: the bound that the overflow proof rests on.

With weights w_k and inputs x_k in [low, high], every partial sum, in any order, lies within
[sum min(w_k low, w_k high, 0), sum max(w_k low, w_k high, 0)] (docs/exactness.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bits_for_range", "dot_bounds", "fits_int64", "largest_magnitude", "prefix_bounds"]

_INT64_LIMIT = (1 << 63) - 1


def bits_for_range(low: int, high: int) -> int:
    """Width of the narrowest two's complement integer that holds every code in [low, high]."""
    return max(high, -low - 1).bit_length() + 1


def fits_int64(magnitude: int) -> bool:
    """Whether integers up to `magnitude` can be computed with in int64."""
    return magnitude <= _INT64_LIMIT


def largest_magnitude(array: NDArray[np.int64]) -> int:
    """The largest absolute value, as a Python integer: np.abs of the lowest int64 is negative."""
    return max(int(array.max(initial=0)), -int(array.min(initial=0)))


def dot_bounds(weight: NDArray[np.int64], low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per output, the bounds of every partial sum of `weight @ x` with x in [low, high].

    weight  [outputs, fan_in] codes
    result  (lowest, highest), each [outputs]; at most 0 and at least 0
    Raises OverflowError when the bound itself leaves int64.
    """
    magnitude = max(-low, high)
    largest = largest_magnitude(weight)
    if not fits_int64(magnitude * largest * weight.shape[1]):
        raise OverflowError("the sum of products does not fit 64 bits")
    # A weight w >= 0 adds at least w * least and at most w * most; with w < 0 it is the other way around.
    least, most = min(low, 0), max(high, 0)
    positive = np.maximum(weight, 0).sum(axis=1)
    negative = weight.sum(axis=1) - positive
    return positive * least + negative * most, positive * most + negative * least


def prefix_bounds(low: Sequence[int], high: Sequence[int], bias: Sequence[int]) -> tuple[int, int]:
    """Bounds of every prefix of every sum, over all outputs, whether the bias comes first, last or anywhere.

    low, high  per output, bounds of the partial sums without the bias; at most 0 and at least 0
    Python integers: near the ends of int64 nothing may wrap.
    """
    lowest = min(min(a, a + b, b) for a, b in zip(low, bias, strict=True))
    highest = max(max(a, a + b, b) for a, b in zip(high, bias, strict=True))
    return lowest, highest
