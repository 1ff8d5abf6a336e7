"""Certified implementations of a staircase: multiplier, offset, rounding shift, clamp.

    code(a) = clamp(round((a * multiplier[c] + offset[c]) / 2^shift), low, high)

is monotone in each channel by construction, so `agrees_everywhere` decides whether it *is* the staircase. The search
never guesses: for a given multiplier, each threshold bounds the offset from one side, so the offsets that work are an
interval in closed form; where it is empty, the two thresholds that contradict each other say which way the multiplier
must move. Only integers decide.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.affine_shift import INT64_HEADROOM, AffineShift
from pefslc.numeric.chain import blocks
from pefslc.numeric.rounding import RoundingMode, lowest_numerators
from pefslc.numeric.staircase import Staircase, agrees_in_blocks
from pefslc.numeric.steps import Steps, corner_steps

__all__ = [
    "bent_parts",
    "fit_affine_shift",
    "fit_bent",
    "fit_offset",
    "line_corners",
    "takes_line",
]

Codes = NDArray[np.int64]

_LARGEST_SHIFT = 40
_CUTS = 48  # each cut is a Newton step on a concave, piecewise linear function: a handful is usual
_BLOCKS = 4  # a search's arrays, of the size of a block of thresholds together
_ALL = slice(None)
_EVEN_FIRST = (RoundingMode.HALF_EVEN, RoundingMode.FLOOR)
_FLOOR_FIRST = (RoundingMode.FLOOR, RoundingMode.HALF_EVEN)


def fit_affine_shift(
    staircase: Staircase,
    *,
    product_bits: int = INT64_HEADROOM,
    multiplier_bits: int = 32,
    largest_shift: int = _LARGEST_SHIFT,
    corners: Steps | None = None,
) -> AffineShift | None:
    """The cheapest certified implementation of `staircase`, or None.

    Tried in this order: a rounding shift alone; an offset and a shift; multiplier, offset and the smallest shift (so
    the narrowest products).

    Of many steps, only those that bound lines are looked at before the certificate. They are those of the floor: what
    only half to even makes equal may be missed.

    product_bits     two's complement width that a * multiplier + offset (+ half a code) must fit, at most 62
    multiplier_bits  the same for the multiplier
    corners          `line_corners` of the staircase, where they are known
    """
    if staircase.step != 1:
        return None
    product_bits = min(product_bits, INT64_HEADROOM)
    if corners is None and staircase.has_many_steps:
        few = staircase.of_channels(*next(blocks(staircase.channels, staircase.steps)))
        if few.channels < staircase.channels and not fit_affine_shift(
            few, product_bits=product_bits, multiplier_bits=multiplier_bits, largest_shift=largest_shift
        ):
            return None  # before all are looked at
        corners = line_corners(staircase)
    search = _Search(staircase, product_bits, multiplier_bits, corners)
    ones = staircase.direction.copy()
    by_addition = [s for s in search.plausible_shifts() if s <= largest_shift]
    # Half to even first: without an offset the two modes never both work. With one, the floor is the cheaper.
    for attempt, modes in ((search.at_zero, _EVEN_FIRST), (search.at_multiplier, _FLOOR_FIRST)):
        for shift in by_addition:
            for mode in modes:
                found = attempt(ones, shift, mode)
                if found is not None:
                    return found
    for mode in _FLOOR_FIRST:
        found = _smallest_shift(search, mode, largest_shift)
        if found is not None:
            return found
    return None


def line_corners(staircase: Staircase, low: Codes | None = None, high: Codes | None = None) -> Steps | None:
    """`corner_steps` of a staircase of many steps; None where all of them may be looked at."""
    return corner_steps(staircase, low, high) if staircase.has_many_steps else None


def takes_line(staircase: Staircase, corners: Steps) -> bool:
    """Whether a line takes all steps, by those that bound lines. No certificate: nothing is to be computed by it."""
    search = _Search(staircase, INT64_HEADROOM, INT64_HEADROOM, corners)
    return _working_shift(search, RoundingMode.FLOOR, _LARGEST_SHIFT) is not None


def _smallest_shift(search: _Search, mode: RoundingMode, largest: int) -> AffineShift | None:
    """The implementation with the smallest shift up to `largest`, by bisection.

    What works at a shift works at the next one, with twice the multiplier and twice the offset, while the widths last.
    """
    last = _working_shift(search, mode, largest)
    if last is None:
        return None
    shift = bisect_left(range(last), True, key=lambda shift: search.any_multiplier(shift, mode) is not None)
    return search.certified(search.any_multiplier(shift, mode))


def _working_shift(search: _Search, mode: RoundingMode, largest: int) -> int | None:
    """The last shift at which a multiplier works, or the one before it: the average slope fits the widths at the last
    one, the right slope may not.
    """
    last = search.last_shift(largest)
    tried = range(last, max(last - 2, -1), -1)
    return next((shift for shift in tried if search.any_multiplier(shift, mode) is not None), None)


def fit_bent(staircase: Staircase, *, product_bits: int = INT64_HEADROOM) -> tuple[AffineShift, AffineShift] | None:
    """Two certified implementations whose sum is `staircase`, or None: one for its steps up to code 0, one above.

    For activations that bend at 0 (LeakyRelu) and for rounding toward or away from zero.
    """
    if staircase.step != 1 or not staircase.low < 0 < staircase.high:
        return None
    lower, upper = (fit_affine_shift(part, product_bits=product_bits) for part in bent_parts(staircase))
    return None if lower is None or upper is None else (lower, upper)


def bent_parts(staircase: Staircase) -> tuple[Staircase, Staircase]:
    """The steps up to code 0, and those above: two staircases whose sum is `staircase`, with codes on both sides."""
    s, below = staircase, -staircase.low
    return s.between(0, below, s.low), s.between(below, s.steps, 0)


def fit_offset(staircase: Staircase, multiplier: int, shift: int, corners: Steps | None = None) -> AffineShift | None:
    """The certified implementation with this positive multiplier, this shift, half-even rounding and some offset.

    corners  `line_corners` of the staircase, where they are known
    """
    if staircase.step != 1 or (staircase.direction < 0).any():
        return None

    multipliers = np.full(staircase.channels, multiplier, dtype=np.int64)
    if corners is not None:
        few = _Search(staircase, INT64_HEADROOM, INT64_HEADROOM, corners)
        if not few.may_have_offset(multipliers, shift):
            return None
    elif _ends_exclude(staircase, multiplier, shift):
        return None
    elif staircase.channels > 1:  # one channel, before all are looked at
        one = _Search(staircase.of_channels(0, 1), INT64_HEADROOM, INT64_HEADROOM)
        if one.at_multiplier(multipliers[:1], shift, RoundingMode.HALF_EVEN) is None:
            return None
    found: list[AffineShift] = []
    for first, last in blocks(staircase.channels, staircase.steps):
        search = _Search(staircase.of_channels(first, last), INT64_HEADROOM, INT64_HEADROOM)
        fitted = search.at_multiplier(multipliers[first:last], shift, RoundingMode.HALF_EVEN)
        if fitted is None:
            return None
        found.append(fitted)
    if len(found) == 1:
        return found[0]
    sizes = [last - first for first, last in blocks(staircase.channels, staircase.steps)]
    offset = np.concatenate([np.broadcast_to(f.offset, (n,)) for f, n in zip(found, sizes, strict=True)])
    if (offset == offset[0]).all():
        multipliers, offset = multipliers[:1].copy(), offset[:1].copy()
    return replace(found[0], multiplier=multipliers, offset=offset)


def _ends_exclude(staircase: Staircase, multiplier: int, shift: int) -> bool:
    """Whether no offset serves both the first and the last step of the first channel: most shifts fail there, and this
    takes little of the time that a search does.
    """
    (row,) = staircase.rows(0, 1)
    inner = np.flatnonzero((row > staircase.domain_low) & (row <= staircase.domain_high))
    if staircase.direction[0] != 1 or len(inner) < 2:
        return False
    ends = [(int(row[i]), staircase.low + 1 + int(i)) for i in (inner[0], inner[-1])]
    needed = [(taken, lowest_numerators(level, shift)) for taken, level in ends]
    least = max(numerator - taken * multiplier for taken, numerator in needed)
    most = min(numerator - 1 - (taken - 1) * multiplier for taken, numerator in needed)
    return least > most


class _Search:
    """The feasible (multiplier, offset) of one staircase, all channels at once.

    The line y = m a' + b must lie on or above (reached, N) and on or below (before, N - 1) for each step, where N is
    the lowest numerator that rounds to the step's code; where the staircase falls, m is negated in the end.
    """

    def __init__(
        self, staircase: Staircase, product_bits: int, multiplier_bits: int, steps: Steps | None = None
    ) -> None:
        self.staircase = staircase
        self.product_bits = product_bits
        self.multiplier_bits = multiplier_bits
        self.steps = Steps.of(staircase) if steps is None else steps
        inner = self.steps.is_inner
        self.has_ends = inner.any(axis=1)
        count = inner.shape[1]
        self.start = inner.argmax(axis=1) if count else np.zeros(len(inner), dtype=np.int64)
        self.end = count - 1 - inner[:, ::-1].argmax(axis=1) if count else self.start
        self.domain_bits = bits_for_range(staircase.domain_low, staircase.domain_high)
        self.level_bits = bits_for_range(staircase.low, staircase.high)

    @property
    def room(self) -> int:
        """The largest shift at which the numerators of the staircase's own codes fit; negative where they never do."""
        return self.product_bits - self.level_bits - 1

    def plausible_shifts(self) -> list[int]:
        """The shifts at which a multiplier of 1 gives the average step; all when there are no two steps."""
        inner = self.steps.is_inner
        rows = np.flatnonzero(inner.sum(axis=1) > 1)
        if not len(rows):
            return list(range(min(_LARGEST_SHIFT, self.room + 1)))
        c = int(rows[0])
        run = self.steps.reached[c, self.end[c]] - self.steps.reached[c, self.start[c]]
        rise = _of_steps(self.steps.levels, self.end)[c] - _of_steps(self.steps.levels, self.start)[c]
        step = max(int(run) // int(rise), 1)
        near = step.bit_length() - 1
        return [s for s in (near, near + 1, near - 1) if 0 <= s <= self.room]

    def last_shift(self, largest: int) -> int:
        """The largest shift at which numerators fit and the steepest channel's multiplier does too."""
        for shift in range(min(largest, self.room), 0, -1):
            slopes = self._average_slope(lowest_numerators(self.steps.levels, shift, RoundingMode.FLOOR))
            if int(slopes.max()) <= self.largest_multiplier:
                return shift
        return 0

    @property
    def largest_multiplier(self) -> int:
        """With it, products with the domain still fit."""
        return (1 << max(min(self.product_bits - self.domain_bits, self.multiplier_bits - 1), 0)) - 1

    def _parts(self) -> Iterator[slice]:
        """The channels, some at a time: where one of the first has no solution, the others are not looked at."""
        channels, steps = self.steps.reached.shape
        for first, last in blocks(channels, _BLOCKS * steps):
            yield slice(first, last)

    def _offsets(
        self, multiplier: Codes, numerators: Codes, channels: slice | Codes = _ALL
    ) -> tuple[Codes, Codes, Codes, Codes]:
        """Per channel the least and the greatest offset, and the steps that demand them.

        multiplier, result  [channels]: of those channels; numerators of all
        """
        limit = np.int64(1) << np.int64(INT64_HEADROOM)
        if not numerators.size:
            zero = np.zeros(len(multiplier), dtype=np.int64)
            return zero - limit, zero + limit, zero, zero
        s, own = self.steps, numerators if numerators.ndim == 1 else numerators[channels]
        least = np.where(s.is_reached[channels], own - s.reached[channels] * multiplier[:, None], -limit)
        most = np.where(s.is_before[channels], own - 1 - s.before[channels] * multiplier[:, None], limit)
        at_least, at_most = least.argmax(axis=1), most.argmin(axis=1)
        rows = np.arange(len(multiplier))
        return least[rows, at_least], most[rows, at_most], at_least, at_most

    def at_zero(self, multiplier: Codes, shift: int, mode: RoundingMode) -> AffineShift | None:
        """The implementation without offset (and, rising, without multiplier)."""
        if (multiplier != 1).any():
            return None
        numerators = lowest_numerators(self.steps.levels, shift, mode)
        for some in self._parts():
            least, most, _, _ = self._offsets(multiplier[some], numerators, some)
            if (least > 0).any() or (most < 0).any():
                return None
        return self.certified(self._candidate(np.ones(1, dtype=np.int64), np.zeros(1, dtype=np.int64), shift, mode))

    def at_multiplier(self, multiplier: Codes, shift: int, mode: RoundingMode) -> AffineShift | None:
        """The implementation with the given multiplier (negative where the staircase falls) and some offset."""
        numerators = lowest_numerators(self.steps.levels, shift, mode)
        offset = np.empty_like(multiplier)
        for some in self._parts():
            least, most, _, _ = self._offsets(np.abs(multiplier[some]), numerators, some)
            if (least > most).any():
                return None
            offset[some] = _nearest_to_zero(least, most)
        return self.certified(self._candidate(multiplier, offset, shift, mode))

    def may_have_offset(self, multiplier: Codes, shift: int) -> bool:
        """Whether some offset satisfies these steps, half to even: up to a numerator that ties may demand more."""
        least, most, _, _ = self._offsets(multiplier, lowest_numerators(self.steps.levels, shift, RoundingMode.FLOOR))
        return not (least > most + 1).any()

    def any_multiplier(self, shift: int, mode: RoundingMode) -> AffineShift | None:
        """The interval of multipliers, cut by the contradictions found in it until one works in each channel.

        Not certified yet: bisection asks often.
        """
        numerators = lowest_numerators(self.steps.levels, shift, mode)
        multiplier = np.clip(self._average_slope(numerators), 0, self.largest_multiplier)
        offset = np.empty_like(multiplier)
        for some in self._parts():
            if not self._cut(np.arange(some.start, some.stop), multiplier, offset, numerators):
                return None
        return self._candidate(multiplier * self.staircase.direction, offset, shift, mode)

    def _cut(self, left: Codes, multiplier: Codes, offset: Codes, numerators: Codes) -> bool:
        """Find multiplier and offset of the channels `left`, from the multipliers there; False where one has none."""
        lowest = np.zeros(len(left), dtype=np.int64)
        highest = np.full(len(left), self.largest_multiplier, dtype=np.int64)
        for _ in range(_CUTS):
            least, most, above, below = self._offsets(multiplier[left], numerators, left)
            wrong = least > most
            right = left[~wrong]
            offset[right] = _nearest_to_zero(least[~wrong], most[~wrong])
            if not wrong.any():
                return True
            left, above, below = left[wrong], above[wrong], below[wrong]
            # (before_j - reached_k) m <= N_j - 1 - N_k, violated: a bound on m from one side. The run is not 0: of two
            # steps at one code, the one that is not taken there leads to the higher level.
            run = self.steps.before[left, below] - self.steps.reached[left, above]
            rise = _of_steps(numerators, below, left) - 1 - _of_steps(numerators, above, left)
            highest = np.where(run > 0, np.minimum(highest[wrong], rise // run), highest[wrong])
            lowest = np.where(run < 0, np.maximum(lowest[wrong], -(-rise // run)), lowest[wrong])
            if (lowest > highest).any():
                return False
            multiplier[left] = np.clip(multiplier[left], lowest, highest)
        return False

    def _average_slope(self, numerators: Codes) -> Codes:
        """[channels]: rise over run between the first and the last step that lie inside the domain; 0 without."""
        if not self.has_ends.any():
            return np.zeros(len(self.steps.reached), dtype=np.int64)
        rows = np.arange(len(self.steps.reached))
        run = self.steps.reached[rows, self.end] - self.steps.reached[rows, self.start]
        rise = _of_steps(numerators, self.end) - _of_steps(numerators, self.start)
        return np.where(self.has_ends, np.maximum(rise // np.maximum(run, 1), 1), 0)

    def certified(self, candidate: AffineShift | None) -> AffineShift | None:
        """`candidate` if it is the staircase, by the certificate alone."""
        return candidate if candidate is not None and agrees_in_blocks(self.staircase, candidate) else None

    def _candidate(self, multiplier: Codes, offset: Codes, shift: int, mode: RoundingMode) -> AffineShift | None:
        """The implementation with these parameters, where the widths allow it."""
        if multiplier.min() == multiplier.max() and offset.min() == offset.max():
            multiplier, offset = multiplier[:1].copy(), offset[:1].copy()
        if not self._fits(multiplier, offset, shift):
            return None
        s = self.staircase
        return AffineShift(s.domain_low, s.domain_high, multiplier, offset, shift, mode, s.low, s.high)

    def _fits(self, multiplier: Codes, offset: Codes, shift: int) -> bool:
        """Whether a * m and a * m + b (+ half a code) fit the allowed width at both ends of the domain."""
        ends = [
            a * m + addend
            for m, b in zip(multiplier.tolist(), offset.tolist(), strict=True)
            for a in (self.staircase.domain_low, self.staircase.domain_high)
            for addend in (0, b)
        ]
        return bits_for_range(min(ends), max(ends) + (1 << shift) // 2) <= self.product_bits


def _of_steps(numerators: Codes, steps: Codes, channels: Codes | None = None) -> Codes:
    """[channels]: the numerators [steps], or [channels, steps], of one step of each channel, or of those channels."""
    if numerators.ndim == 1:
        return numerators[steps]
    return numerators[np.arange(len(steps)) if channels is None else channels, steps]


def _nearest_to_zero(least: Codes, most: Codes) -> Codes:
    return np.clip(np.zeros_like(least), least, most)
