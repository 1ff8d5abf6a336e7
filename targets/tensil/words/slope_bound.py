"""Whether a multiplication per channel can come near a staircase at all: said before anything is searched.

Of many codes, the second multiplier is a power of two, for the words between must hold codes times it. Then the first
one is an integer within bounds that two steps, far apart, demand of the slope. The more codes there are, the closer the
bounds are, and the smaller the multiplier is: often no integer lies between.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.rounding import lowest_numerators
from pefslc.numeric.steps import Steps
from pefslc.targets.tensil.machine.architecture import DataType

__all__ = ["has_near_slope"]

Words = NDArray[np.int64]

_AWAY = 3  # steps from the ends: were the product saturated so early, more than one code would be missing
_FEWEST = 3 * _AWAY


def has_near_slope(steps: Steps, exponent: int, data_type: DataType, largest_deviation: int) -> bool:
    """Whether in each channel some words may compute the steps and be off by so much at most: False only where none do.

    With D the largest deviation, i a step far above a step j: the sum where i is reached must give level i - D, that
    before j level j - 1 + D at most, and the other way around; each product is rounded by half a word.
    """
    if steps.levels.ndim > 1 or largest_deviation >= _AWAY or steps.levels.shape[0] < _FEWEST:
        return True
    point, levels = data_type.binary_point, steps.levels
    if _are_words(lowest_numerators(np.array([levels[0], levels[-1]]), point), data_type):
        return True  # then the second multiplier may be any, and a third step follows
    inner = steps.is_inner
    some = inner.sum(axis=1) >= _FEWEST
    low = inner.argmax(axis=1) + _AWAY
    high = inner.shape[1] - 1 - inner[:, ::-1].argmax(axis=1) - _AWAY
    rows = np.flatnonzero(some & (low < high))
    i, j = high[rows], low[rows]
    widest = steps.reached[rows, i] - steps.before[rows, j] << exponent
    narrowest = np.maximum(steps.before[rows, i] - steps.reached[rows, j] << exponent, 1)
    possible = np.zeros(len(rows), dtype=np.bool_)
    for shift in range(point + 1):
        second = 1 << point - shift
        if not _are_words(-(-lowest_numerators(np.array([levels[0], levels[-1]]), point) // second), data_type):
            continue

        def word(of: Words, second: int = second) -> Words:
            return -(-lowest_numerators(of, point) // second)

        d = largest_deviation
        least = word(levels[i] - d) - word(levels[j] + d) - 1
        most = word(levels[i] + d) - word(levels[j] - d) + 1
        possible |= -(-(least << point) // widest) <= np.minimum((most << point) // narrowest, data_type.max_code)
    return bool(possible.all())


def _are_words(numbers: Words, data_type: DataType) -> bool:
    return bool(data_type.min_code < numbers.min() and numbers.max() <= data_type.max_code)
