"""What an estimate of a code must be compared with: the residual, which says whether it is one too many.

A staircase takes its step to code j at T(j). An estimate is the code j, or one more: it is one too many where the sum
is below T(j). Of a straight line, T(j) = a j - b - c(j), with an integer a for each channel, and a c that changes by 1
at most from one code to the next. So the residual is sum - a j + b + c(j), made of integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.wide.active_range import FAR

__all__ = ["Demands", "Residual"]

Words = NDArray[np.int64]
Flags = NDArray[np.bool_]
Ends = tuple[Words, Words]


@dataclass(frozen=True, slots=True, eq=False)
class Demands:
    """Where T(j) must lie, for code low + k: in [least, most]. Code low is never too many. All [channels, codes].

    first, last  the sums whose estimate the code is; none where first > last
    own          the sum at which its step is taken
    close        whether each estimate is the code or one more
    """

    first: Words
    last: Words
    own: Words
    close: bool

    @classmethod
    def of(cls, thresholds: Words, starts: Words, ends: tuple[int, int], coarser: int = 0) -> Demands:
        """Of a sum whose steps are taken at `thresholds`, and an estimate whose are at `starts`, of sums in `ends`.

        thresholds, starts  [channels, steps], rising
        coarser             the estimate is made of the sum / 2^coarser, rounded, which saturates to `ends`
        """
        channels = len(thresholds)
        low, high = (np.full((channels, 1), end, dtype=np.int64) for end in ends)
        first = np.concatenate([low, starts], axis=1)
        last = np.concatenate([starts - 1, high], axis=1)
        some = first <= last
        half = (1 << coarser) // 2
        if coarser:
            beyond = np.full_like(low, FAR)
            first = np.where(first <= low, -beyond, (first << coarser) - half)
            last = np.where(last >= high, beyond, (last << coarser) + half)
        far = np.full((channels, 1), FAR)
        before = np.concatenate([-far, -far, thresholds], axis=1)[:, :-1]  # the step to the code below
        own, after = np.concatenate([-far, thresholds], axis=1), np.concatenate([thresholds, 2 * far], axis=1)
        close = ~some | ((first >= before) & (last < after))
        return cls(first, last, np.broadcast_to(own, first.shape), bool(close.all()))

    @property
    def _is_below(self) -> Flags:
        """Where some sums are below the step; and where some are not (`_is_above`)."""
        return self._some & (self.own > self.first)

    @property
    def _is_above(self) -> Flags:
        return self._some & (self.own <= self.last)

    @property
    def _some(self) -> Flags:
        some = self.first <= self.last
        some[:, 0] = False
        return np.asarray(some)

    def answered(self, below: Callable[[Words], Words]) -> bool:
        """Whether of each estimate `below` [channels, codes] of a sum for each code, rising with it, is negative just
        below the step: it is asked on both sides.
        """
        under, over = np.minimum(self.own - 1, self.last), np.maximum(self.own, self.first)
        under, over = np.where(self._is_below, under, self.first), np.where(self._is_above, over, self.last)
        return not (((below(under) >= 0) & self._is_below) | ((below(over) < 0) & self._is_above)).any()

    @property
    def bounds(self) -> Ends:
        """Between what T(j) must lie; 2^40 is no bound."""
        least = np.where(self._is_below, np.minimum(self.own, self.last + 1), -FAR)
        return least, np.where(self._is_above, np.maximum(self.own, self.first), FAR)

    def met(self, thresholds: Words) -> Flags:
        """[channels, codes]: whether T(j) lies so."""
        least, most = self.bounds
        return np.asarray((least <= thresholds) & (thresholds <= most))


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """sum - factor * j + offset + c(j): what is beside c. Both [channels]."""

    factor: Words
    offset: Words
