"""What an estimate of a code must be compared with: the residual, which says whether it is one too many.

A staircase takes its step to code j at T(j). An estimate is the code j, or one more: it is one too many where the sum
is below T(j). Of a straight line, T(j) = a j - b - c(j), with an integer a for each channel, and a staircase c of the
codes that rises by 1 at most from one to the next. So the residual is sum - a j + b + c(j), made of integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.wide.estimate import slopes

__all__ = ["Demands", "Residual"]

Words = NDArray[np.int64]
Flags = NDArray[np.bool_]
Ends = tuple[Words, Words]

_FAR = 1 << 40


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
    def of(
        cls, thresholds: Words, starts: Words, ends: tuple[int, int], coarser: int = 0, occurring: Ends | None = None
    ) -> Demands:
        """Of a sum whose steps are taken at `thresholds`, and an estimate whose are at `starts`, of sums in `ends`.

        thresholds, starts  [channels, steps], rising
        occurring           the lowest and highest sums [channels] that matter; all where they are not known
        coarser             the estimate is made of the sum / 2^coarser, rounded, which saturates to `ends`
        """
        channels = len(thresholds)
        low, high = (np.full((channels, 1), end, dtype=np.int64) for end in ends)
        first = np.concatenate([low, starts], axis=1)
        last = np.concatenate([starts - 1, high], axis=1)
        if occurring is not None:
            first, last = np.maximum(first, occurring[0][:, None]), np.minimum(last, occurring[1][:, None])
        some = first <= last
        half = (1 << coarser) // 2
        if coarser:
            beyond = np.full_like(low, _FAR)
            first = np.where(first <= low, -beyond, (first << coarser) - half)
            last = np.where(last >= high, beyond, (last << coarser) + half)
        far = np.full((channels, 1), _FAR)
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
        least = np.where(self._is_below, np.minimum(self.own, self.last + 1), -_FAR)
        return least, np.where(self._is_above, np.maximum(self.own, self.first), _FAR)

    def demanded(self, low: int) -> Ends:
        """The first and the last code [channels] of which anything is demanded; `low` alone where nothing is."""
        least, most = self.bounds
        some = (least > -_FAR) | (most < _FAR)
        last = low + some.shape[1] - 1 - some[:, ::-1].argmax(axis=1)
        return np.where(some.any(axis=1), low + some.argmax(axis=1), low), np.where(some.any(axis=1), last, low)

    def met(self, thresholds: Words) -> Flags:
        """[channels, codes]: whether T(j) lies so."""
        least, most = self.bounds
        return np.asarray((least <= thresholds) & (thresholds <= most))


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """sum - factor * j + offset + c(j).

    factor, offset  [channels]
    fine            c, on codes; where no code occurs it goes on as it was
    """

    factor: Words
    offset: Words
    fine: Staircase

    @classmethod
    def of(cls, thresholds: Words, inner: Flags, low: int, nudge: Words) -> Residual | None:
        """For rising `thresholds` [channels, steps], those that are `inner` taken to be a line; codes from `low` on.

        nudge  [channels]: what is added to the nearest factor, in the direction in which the slope lies beside it
        None where they are no line, or where a line has ties that go this way and that.
        """
        channels, steps = thresholds.shape
        levels, slope = low + np.arange(steps + 1, dtype=np.int64), slopes(thresholds, inner)
        factor, offset, direction = (np.zeros(channels, dtype=np.int64) for _ in range(3))
        fine = np.zeros((channels, steps + 1), dtype=np.int64)
        for c in range(channels):
            at = np.flatnonzero(inner[c])
            if len(at):
                whole = _extended(at + 1, thresholds[c, at], float(slope[c]), steps + 1)
                nearest = round(slope[c])
                factor[c] = nearest + nudge[c] * (1 if slope[c] > nearest else -1)
                fine[c] = factor[c] * levels - whole
                offset[c] = (int(fine[c].min()) + int(fine[c].max())) >> 1
                fine[c] -= offset[c]
            direction[c] = 1 if fine[c, -1] >= fine[c, 0] else -1
        if (np.diff(fine, axis=1) * direction[:, None] < 0).any():
            return None
        least, most = int(fine.min()), int(fine.max())
        rows, wanted = np.empty((channels, most - least), dtype=np.int64), np.arange(least + 1, most + 1)
        for c in range(channels):
            if direction[c] > 0:
                rows[c] = low + np.searchsorted(fine[c], wanted, side="left")
            else:  # the last code with so high a c
                rows[c] = low + steps - np.searchsorted(fine[c, ::-1], wanted, side="left")
        return cls(factor, offset, Staircase(low, low + steps, least, rows, direction))

    def thresholds(self, computed: Staircase) -> Words:
        """T(j) [channels, codes], with `computed` in place of c."""
        codes = np.arange(self.fine.domain_low, self.fine.domain_high + 1, dtype=np.int64)
        fine = computed(np.broadcast_to(codes, (computed.channels, len(codes))))
        return self.factor[:, None] * codes - self.offset[:, None] - fine


def _extended(at: Words, steps: Words, slope: float, codes: int) -> Words:
    """[codes]: steps at `at`, which follow one another, and beside them as a line of this slope has them."""
    start = steps - slope * at  # the line is at most 1 below each step
    line = (float(start.max()) - 1 + float(start.min())) / 2 + slope * np.arange(codes)
    whole = np.ceil(line).astype(np.int64)
    whole[at] = steps
    return np.asarray(whole, dtype=np.int64)
