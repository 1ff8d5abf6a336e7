"""Requantization per channel: BatchNorm that is kept, float scales, negative gammas, as SIMD steps.

    Multiply by M1[c]    the accumulators, on a fine grid of their own in each channel
    Add        A[c]      where that grid begins
    Multiply by M2[c]    down to the codes
    (Multiply by 1       a factor of 2^-p more: M2 is wide then, and the product M1 * M2 takes many more values)
    Max, Min             the clip

Each step is monotone and so is the sequence. It is searched as in `numeric.requantize`: from the last step backwards
the words at which the codes change are known; with M1 each demands an A at least or at most so large; what is tried is
M1 (within the slopes that the staircase admits at all) and M2. What the sequence computes is then asked of the
machine's own arithmetic, and is again a staircase: equal to the model's, or the exact list of the differing codes; it
is judged in `group_placement`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import lowest_numerators
from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.steps import ChannelAdd, ChannelMultiply, Multiply, RawStep, apply_steps

__all__ = ["ChannelRequantization", "fit_channels"]

Words = NDArray[np.int64]
Floats = NDArray[np.float64]

_SLOPES = 17  # first multipliers tried within the slopes that a staircase admits
_GRIDS = 3  # second multipliers tried that are powers of two
# Rounds of (wide second multipliers tried, steps expected to move at most), with a quarter as many first multipliers.
# Rounding on the fine grid moves a step by up to half a word: where a channel's steps are so many, and the grid so
# coarse, that more of them are expected to move over an accumulator code, the round is not worth its time.
_LEAST_SLOPES = 5
_EFFORTS = ((8, np.inf), (32, 16.0), (128, 6.0))
_COMPARED = 48  # steps whose pairs bound the slope
_FAR = np.int64(1) << 40  # beyond every word


@dataclass(frozen=True, slots=True, eq=False)
class ChannelRequantization:
    """Raw steps and the staircase that they compute, on the domain of the one that was wanted."""

    steps: tuple[RawStep, ...]
    computed: Staircase


def fit_channels(
    staircase: Staircase, low: Words, high: Words, exponent: int, data_type: DataType
) -> ChannelRequantization | None:
    """Steps, the clip not among them, that compute `staircase` on accumulators placed at `exponent`, or nearly.

    low, high  [channels of the staircase]: the codes that can occur in each; others are not looked at
    result     with the fewest codes that differ among those tried; None where the data type holds no such steps
    """
    if staircase.step != 1:
        return None
    search = _Search(staircase, low, high, exponent, data_type)
    found = search.narrow()
    if found is None or found.differing:
        wide = search.wide(found)
        if wide is not None and (found is None or wide.differing < found.differing):
            found = wide
    if found is None:
        return None
    steps = found.steps(staircase.direction, data_type)
    return ChannelRequantization(steps, computed_by(steps, staircase, low, high, exponent, data_type))


def computed_by(
    steps: tuple[RawStep, ...], staircase: Staircase, low: Words, high: Words, exponent: int, data_type: DataType
) -> Staircase:
    """The staircase that monotone `steps` and a clip to the codes of `staircase` compute, by bisection of each step.

    Its thresholds are those of `staircase` where they differ only outside of low, high.
    """
    sign = staircase.direction[:, None]
    wanted = Steps.of(staircase, low, high)
    ends = np.sort(np.stack([low, high], axis=1) * sign, axis=1)
    first = np.broadcast_to(ends[:, :1], staircase.thresholds.shape).copy()
    last = np.broadcast_to(ends[:, 1:] + 1, staircase.thresholds.shape).copy()
    limits = first.copy(), last.copy()
    while (first < last).any():
        middle = (first + last) >> 1
        words = saturate((middle * sign) << exponent, data_type.min_code, data_type.max_code)
        taken = apply_steps(steps, words, data_type) >= wanted.levels
        last = np.where(taken, middle, last)
        first = np.where(taken | (first == last), first, middle + 1)
    thresholds = staircase.thresholds * sign
    same = np.clip(thresholds, *limits) == first
    return Staircase(
        staircase.domain_low,
        staircase.domain_high,
        staircase.low,
        np.where(same, thresholds, first) * sign,
        staircase.direction.copy(),
        staircase.step,
    )


@dataclass(eq=False)
class _Found:
    """Words for each channel, and how many of its steps they miss. A multiplier is positive here: the search looks at
    falling channels in the mirror.
    """

    first: Words
    addend: Words
    second: Words
    missed: Words
    wide: bool

    @classmethod
    def nothing(cls, channels: int, *, wide: bool) -> _Found:
        zeros = np.zeros(channels, dtype=np.int64)
        return cls(zeros, zeros.copy(), zeros.copy(), np.full(channels, _FAR), wide)

    @property
    def differing(self) -> int:
        return int(self.missed.sum())

    @property
    def settled(self) -> NDArray[np.bool_]:
        return np.asarray(self.missed == 0)

    def take(self, rows: Words, first: Words, addend: Words, second: int, missed: Words) -> None:
        """Keep what misses fewer steps than what was kept for these rows."""
        better = missed < self.missed[rows]
        kept = rows[better]
        self.first[kept], self.addend[kept], self.missed[kept] = first[better], addend[better], missed[better]
        self.second[kept] = second

    def steps(self, direction: Words, data_type: DataType) -> tuple[RawStep, ...]:
        """The raw steps; those that change nothing are left out."""
        found = [*_multiply(self.first * direction, data_type)]
        if self.addend.any():
            found.append(ChannelAdd(tuple(self.addend.tolist())))
        found += _multiply(self.second, data_type)
        return (*found, Multiply(1)) if self.wide else tuple(found)


def _multiply(words: Words, data_type: DataType) -> list[RawStep]:
    if (words != words[0]).any():
        return [ChannelMultiply(tuple(words.tolist()))]
    return [] if words[0] == data_type.one else [Multiply(int(words[0]))]


class _Search:
    """Words M1, A, M2 of one staircase, all channels at once."""

    def __init__(self, staircase: Staircase, low: Words, high: Words, exponent: int, data_type: DataType) -> None:
        self.data_type, self.point, self.exponent = data_type, data_type.binary_point, exponent
        self.steps = Steps.of(staircase, low, high)
        self.channels = staircase.channels
        # Out of the domain a step demands nothing; a word is as good as another there.
        self.reached = np.where(self.steps.is_reached, self.steps.reached, 0) << exponent
        self.before = np.where(self.steps.is_before, self.steps.before, 0) << exponent
        self.all = np.arange(self.channels, dtype=np.int64)
        self.unit = 2.0 ** (self.point - exponent)  # the multiplier that makes an accumulator code one word

    def narrow(self) -> _Found | None:
        """With a power of two as the second multiplier: the finest grid first."""
        found = _Found.nothing(self.channels, wide=False)
        tried = np.zeros(self.channels, dtype=np.int64)
        for shift in range(self.point, -1, -1):
            second = 1 << (self.point - shift)
            targets = self._lowest_words(self.steps.levels, second)
            if targets is None:
                continue
            low, _ = self._slopes(self.all, targets)
            rows = self.all[~found.settled & (low <= self._widest(self.all)) & (tried < _GRIDS)]
            self._try(found, rows, targets, second, _SLOPES)
            tried[rows] += 1
        return self._completed(found)

    def wide(self, narrow: _Found | None) -> _Found | None:
        """With any second multiplier, and the third step. What `narrow` settled stays so where 2^p times its multiplier
        is a word.
        """
        found = _Found.nothing(self.channels, wide=True)
        inner = self._lowest_words(self.steps.levels, 1)
        if inner is None or not inner.size:
            return None
        if narrow is not None:
            self._adopt(found, narrow, inner)
        largest = max(abs(int(inner.min())), abs(int(inner.max())), 1)
        least = max(-(-(largest << self.point) // self.data_type.max_code), 1)
        most = min(2 * least, self.data_type.max_code)
        for effort, hopeless in _EFFORTS:
            for second in range(least, most + 1, max((most - least) // effort, 1)):
                rows = self.all[~found.settled]
                targets = self._lowest_words(inner, second)
                if targets is not None and len(rows):
                    low, _ = self._slopes(rows, targets)
                    rows = rows[(self._expected_misses(rows, targets) < hopeless) & (low <= self._widest(rows))]
                    self._try(found, rows, targets, second, max(effort // 4, _LEAST_SLOPES))
        return self._completed(found)

    def _adopt(self, found: _Found, narrow: _Found, inner: Words) -> None:
        for second in np.unique(narrow.second).tolist():
            wide = second << self.point
            targets = self._lowest_words(inner, wide)
            if targets is not None and wide <= self.data_type.max_code:
                rows = self.all[narrow.second == second]
                first = narrow.first[rows]
                addend, missed = self._addends(rows, first, targets)
                found.take(rows, first, addend, wide, missed)

    def _completed(self, found: _Found) -> _Found | None:
        return found if (found.missed < _FAR).all() else None

    def _lowest_words(self, levels: Words, multiplier: int) -> Words | None:
        """The lowest words that a Multiply by `multiplier` takes to each level; None where they are no words."""
        words = -(-lowest_numerators(levels, self.point) // multiplier)
        if words.size and not (self.data_type.min_code < words.min() and words.max() <= self.data_type.max_code):
            return None
        return words

    def _expected_misses(self, rows: Words, targets: Words) -> Floats:
        """How many steps rounding moves, roughly: one step in as many as an accumulator code has words."""
        low, high = self._slopes(rows, targets)
        return np.asarray(self.steps.is_inner[rows].sum(axis=1) / np.maximum((low + high) / 2, 1e-9))

    def _widest(self, rows: Words) -> Floats:
        """The slopes at which the first product of a channel, or the multiplier itself, fills a word."""
        words = np.maximum(np.abs(self.reached[rows]), np.abs(self.before[rows])).max(axis=1, initial=1)
        largest = np.maximum(words >> self.exponent, max(self.unit, 1))
        return np.asarray(self.data_type.max_code / largest)

    def _slopes(self, rows: Words, targets: Words) -> tuple[Floats, Floats]:
        """Bounds of the slopes, in words an accumulator code, with which a straight line takes every step and is no
        wider than a word.
        """
        widest = self._widest(rows)
        if targets.size < 2:
            return np.zeros(len(rows)), widest
        if targets.size > _COMPARED:  # fewer pairs of steps: wider bounds, but no square of hundreds
            some = np.linspace(0, targets.size - 1, _COMPARED).astype(np.int64)
        else:
            some = np.arange(targets.size)
        i, j = (some[k] for k in np.triu_indices(len(some), 1))
        reached, inner = self.steps.reached[rows], self.steps.is_inner[rows]
        run, rise = reached[:, j] - reached[:, i], (targets[j] - targets[i]).astype(np.float64)
        both = inner[:, i] & inner[:, j]
        low = np.where(both, (rise - 1) / (run + 1), 0).max(axis=1)
        high = np.where(both & (run > 1), (rise + 1) / np.maximum(run - 1, 1), np.inf).min(axis=1)
        return low, np.minimum(high, widest)

    def _try(self, found: _Found, rows: Words, targets: Words, second: int, count: int) -> None:
        """Keep the best of `count` first multipliers: the middle of the slopes, which often does, then the others."""
        for parts in (np.array([0.5]), np.linspace(0, 1, count)):
            rows = rows[~found.settled[rows]]
            if not len(rows):
                return
            low, high = (bound[:, None] for bound in self._slopes(rows, targets))
            slopes = ((low + (high - low) * parts) * self.unit).reshape(-1)
            first = np.clip(np.rint(slopes), 0, self.data_type.max_code).astype(np.int64)
            addend, missed = self._addends(np.repeat(rows, len(parts)), first, targets)
            shape = len(rows), len(parts)
            best = np.arange(len(rows)), missed.reshape(shape).argmin(axis=1)
            found.take(
                rows, first.reshape(shape)[best], addend.reshape(shape)[best], second, missed.reshape(shape)[best]
            )

    def _addends(self, rows: Words, first: Words, targets: Words) -> tuple[Words, Words]:
        """For each row the addend that serves the most steps, and how many it misses."""
        multiply = (ChannelMultiply(tuple(first.tolist())),)
        reached = apply_steps(multiply, self.reached[rows], self.data_type)
        before = apply_steps(multiply, self.before[rows], self.data_type)
        least = np.where(self.steps.is_reached[rows], targets - reached, -_FAR)
        most = np.where(self.steps.is_before[rows], targets - 1 - before, _FAR)
        low, high = least.max(axis=1, initial=-_FAR), most.min(axis=1, initial=_FAR)
        addend = np.where(low <= high, np.clip(0, low, high), 0)
        missed = np.zeros(len(rows), dtype=np.int64)
        wrong = np.flatnonzero(low > high)
        if len(wrong):
            addend[wrong], missed[wrong] = _most_served(least[wrong], most[wrong])
        fits = (addend >= self.data_type.min_code) & (addend <= self.data_type.max_code)
        return np.where(fits, addend, 0), np.where(fits, missed, _FAR)


def _most_served(least: Words, most: Words) -> tuple[Words, Words]:
    """Per row, a number that lies in the most of the intervals [least, most], and how many it lies outside of."""
    points = np.concatenate([least, most + 1], axis=1)
    change = np.concatenate([np.ones_like(least), -np.ones_like(most)], axis=1)
    order = np.argsort(points, axis=1, kind="stable")
    points, change = np.take_along_axis(points, order, axis=1), np.take_along_axis(change, order, axis=1)
    # At equal points the ends must count before the beginnings: only the last of them has the true count.
    counts = np.cumsum(change, axis=1)
    last = np.concatenate([points[:, 1:] != points[:, :-1], np.ones((len(points), 1), dtype=bool)], axis=1)
    best = np.where(last, counts, -1).argmax(axis=1)
    rows = np.arange(len(points))
    return points[rows, best], least.shape[1] - counts[rows, best]
