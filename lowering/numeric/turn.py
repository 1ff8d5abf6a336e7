"""Where a function turns, proved: on one side of that place its codes do not rise, on the other they do not fall.

The argument's range is divided until of each block either the sign of the function's slope is certain, or its code is:
near the turn the function is flat, and all of a block has one code. Blocks share their ends, so the codes go one way
through a row of blocks that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import FloatArithmetic, Interval, enclose
from pefslc.numeric.expression import Expression
from pefslc.numeric.quantizer import Quantizer
from pefslc.numeric.slope import enclose_slope
from pefslc.numeric.stages import Root
from pefslc.numeric.table import codes_within

__all__ = ["Turn", "turn_of"]

Floats = NDArray[np.float64]

_FIRST_BLOCKS = 1 << 8
_MOST_BLOCKS = 1 << 12  # at a time
_MOST_DIVISIONS = 50
_BEYOND = 2.0**-10  # of the range, on both sides: its last steps are no ends


@dataclass(frozen=True, slots=True)
class Turn:
    """On [first, at] the codes go one way, on [at, last] the other.

    before  1 where they do not fall on [first, at], -1 where they do not rise
    """

    first: Fraction
    at: Fraction
    last: Fraction
    before: int


def turn_of(function: Expression, quantizer: Quantizer, reached: Sequence[Root]) -> Turn | None:
    """The turn, on a range that holds `reached`; at its first end where there is none.

    quantizer  per tensor, behind the function
    None where the function turns more than once, or nothing is proved.
    """
    ends = [float(x.rational) + float(x.coefficient) * sqrt(x.radicand) for x in reached]
    beyond = (max(ends) - min(ends)) * _BEYOND
    first, last = min(ends) - beyond, max(ends) + beyond
    if not first < last or any(x.compare(Fraction(first)) < 0 or x.compare(Fraction(last)) > 0 for x in reached):
        return None
    found = _signs(function, quantizer, np.linspace(first, last, _FIRST_BLOCKS + 1))
    if found is None:
        return None
    low, high, sign = found
    moving = np.flatnonzero(sign)
    changes = np.flatnonzero(np.diff(sign[moving]))
    if len(changes) > 1:
        return None
    if not len(changes):
        before, at = -int(sign[moving[0]]) if len(moving) else 1, first
    else:
        last_before, first_after = moving[changes[0]], moving[changes[0] + 1]
        before, at = int(sign[last_before]), float(high[last_before] / 2 + low[first_after] / 2)
    return Turn(Fraction(first), Fraction(at), Fraction(last), before)


def _signs(
    function: Expression, quantizer: Quantizer, edges: Floats
) -> tuple[Floats, Floats, NDArray[np.int64]] | None:
    """(low, high, sign) of blocks in order: 1 where the function does not fall, -1 where it does not rise, 0: one code.

    None where that takes too many blocks.
    """
    low, high, found = edges[:-1], edges[1:], []
    for _ in range(_MOST_DIVISIONS):
        if not len(low):
            break
        if len(low) > _MOST_BLOCKS:
            return None
        block = Interval(low, high)
        slope = enclose_slope(function, block)
        with np.errstate(invalid="ignore"):
            sign = np.where(slope.low >= 0, 1, np.where(slope.high <= 0, -1, 0))
            sign[~(np.isfinite(slope.low) & np.isfinite(slope.high))] = 0
        least, most = codes_within(enclose(function, block, FloatArithmetic()), quantizer, 0)
        one_code = np.broadcast_to(least == most, low.shape)
        sign[one_code] = 0
        known = one_code | (sign != 0)
        found.append((low[known], high[known], sign[known].astype(np.int64)))
        low, high = low[~known], high[~known]
        middle = low / 2 + high / 2
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    if len(low):
        return None
    lows, highs, signs = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(lows)
    return lows[order], highs[order], signs[order]
