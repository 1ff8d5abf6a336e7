"""Staircases: the exact meaning of "BatchNorm, activation, Quant" as a step function of the accumulator code.

Per channel a staircase is monotone: non-decreasing, or non-increasing where BatchNorm's gamma is negative; constant is
the case without steps. It is stored as thresholds over the proven accumulator range, so that two implementations can be
compared integer for integer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import FunctionValue
from pefslc.numeric.format import Quantization, saturate
from pefslc.numeric.preimage import HalfLines, preimage
from pefslc.numeric.rounding import LowerBound, RoundingMode, round_bounds, rounds_to_at_least
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import (
    FILTER,
    FunctionStage,
    Root,
    Stage,
    apply_stages,
    chain_expression,
    direction,
    invert_estimate,
    of_channel,
)

__all__ = ["MOST_STEPS", "Quantizer", "Staircase", "agrees_everywhere", "chain_value", "is_uniform", "staircase_of"]

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

MOST_STEPS = 1 << 20  # a staircase lists its steps; beyond this it is no longer a sensible object
_HASHED = 64  # channels, and steps of each


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A Quant node: clip(round(x / scale + zero_point)).

    `adds_zero_point_last` is ONNX's order, round(x / scale) + zero_point; they differ on ties with an odd zero point.
    """

    quantization: Quantization
    rounding: RoundingMode = RoundingMode.HALF_EVEN
    adds_zero_point_last: bool = False

    def reaches(self, code: int, channel: int) -> LowerBound:
        """The reals x whose code, before clipping, is at least `code`."""
        q = self.quantization
        inside = q.zero_point if self.adds_zero_point_last else 0
        bound = rounds_to_at_least(code - inside, self.rounding)
        before = bound.value - (0 if self.adds_zero_point_last else q.zero_point)
        return LowerBound(before * q.scale.channel(channel), bound.inclusive)

    def bounds(self, codes: Codes, channel: int) -> HalfLines:
        """`reaches`, for many codes at once."""
        twice, inclusive = self._twice_bounds(codes)
        scale = self.quantization.scale.channel(channel)
        return HalfLines.at_least(twice, 2, np.broadcast_to(inclusive, codes.shape)).scaled(scale)

    def bounds_in_steps(self, codes: Codes) -> Floats:
        """`reaches`, without whether the bound itself is inside, in steps of the scale: exact."""
        return np.asarray(self._twice_bounds(codes)[0] / 2, dtype=np.float64)

    def _twice_bounds(self, codes: Codes) -> tuple[Codes, bool | Flags]:
        q = self.quantization
        inside = q.zero_point if self.adds_zero_point_last else 0
        twice, inclusive = round_bounds(codes - inside, self.rounding)
        return twice - (0 if self.adds_zero_point_last else 2 * q.zero_point), inclusive

    def code_of(self, x: Root | FunctionValue, channel: int) -> int:
        """The code of the exact real `x`, by bisection over the codes."""
        low, high = self.quantization.low, self.quantization.high
        while low < high:
            middle = (low + high + 1) // 2
            if _reached(x, self.reaches(middle, channel)):
                low = middle
            else:
                high = middle - 1
        return low


def _reached(x: Root | FunctionValue, bound: LowerBound) -> bool:
    sign = x.compare(bound.value)
    return sign > 0 or (sign == 0 and bound.inclusive)


@dataclass(frozen=True, slots=True, eq=False)
class Staircase:
    """code(a) = low + number of steps taken at accumulator code a, for a in [domain_low, domain_high].

    thresholds  [channels or 1, steps] int64, non-decreasing along the steps where direction is 1 (a step is taken at
                a >= threshold), non-increasing where it is -1 (taken at a <= threshold)
    direction   [channels or 1], 1 or -1
    step        what one step adds to the code: 1, or 2 for bipolar codes -1, 1
    """

    domain_low: int
    domain_high: int
    low: int
    thresholds: Codes
    direction: Codes
    step: int = 1

    def __post_init__(self) -> None:
        assert self.domain_low <= self.domain_high
        assert self.thresholds.ndim == 2
        assert self.direction.shape == self.thresholds.shape[:1]
        assert all(_in_order(row, d) for row, d in zip(self.thresholds, self.direction, strict=True)), "out of order"
        self.thresholds.setflags(write=False)
        self.direction.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Staircase)
            and self._numbers == other._numbers
            and np.array_equal(self.direction, other.direction)
            and np.array_equal(self.thresholds, other.thresholds)
        )

    def __hash__(self) -> int:
        rows, columns = (-(-size // _HASHED) or 1 for size in self.thresholds.shape)
        some = self.thresholds[::rows, ::columns]  # of millions, some are enough to tell them apart
        return hash((*self._numbers, some.tobytes()))

    @property
    def _numbers(self) -> tuple[object, ...]:
        return self.domain_low, self.domain_high, self.low, self.step, self.thresholds.shape

    @property
    def channels(self) -> int:
        """Number of channels told apart; 1 when all have the same staircase."""
        return len(self.thresholds)

    @property
    def high(self) -> int:
        """The highest code that any channel reaches."""
        return self.low + self.step * int(self.thresholds.shape[1])

    @property
    def is_identity(self) -> bool:
        """Whether every accumulator code of the domain is its own output code."""
        if self.low != self.domain_low or self.step != 1:
            return False
        # Before any table of the domain: it may hold billions of codes where the thresholds are few.
        if self.thresholds.shape != (1, self.domain_high - self.domain_low) or self.direction[0] != 1:
            return False
        return bool((self.thresholds[0] == np.arange(self.domain_low + 1, self.domain_high + 1, dtype=np.int64)).all())

    def __call__(self, codes: Codes, channel_axis: int = 0) -> Codes:
        """The output codes of accumulator `codes`; channels lie along `channel_axis`."""
        if self.channels == 1:
            return self._channel(0, codes)
        moved = np.moveaxis(codes, channel_axis, 0)
        assert moved.shape[0] == self.channels
        result = np.stack([self._channel(c, moved[c]) for c in range(self.channels)])
        return np.moveaxis(result, 0, channel_axis)

    def _channel(self, c: int, codes: Codes) -> Codes:
        thresholds = self.thresholds[c]
        if self.direction[c] > 0:
            taken = np.searchsorted(thresholds, codes, side="right")
        else:
            taken = len(thresholds) - np.searchsorted(thresholds[::-1], codes, side="left")
        return np.asarray(self.low + self.step * taken, dtype=np.int64)

    def critical_codes(self) -> Codes:
        """[channels, points]: both sides of every step, and the ends of the domain.

        A monotone function that agrees with the staircase there agrees on the whole domain: between two steps the
        staircase is flat, and the function has the same value at both ends of the flat.
        """
        other_side = self.thresholds - self.direction[:, None]
        ends = np.tile(np.array([[self.domain_low, self.domain_high]], dtype=np.int64), (self.channels, 1))
        points = np.concatenate([self.thresholds, other_side, ends], axis=1)
        return saturate(points, self.domain_low, self.domain_high)

    def of_channels(self, some: slice) -> Staircase:
        """The staircases of some channels, which share this one's memory."""
        s = self
        return Staircase(s.domain_low, s.domain_high, s.low, s.thresholds[some], s.direction[some], s.step)

    def parts(self, steps: int) -> Iterator[slice]:
        """The channels, so many at a time that they have so many steps at most: all at once may take much memory."""
        at_once = max(steps // max(self.thresholds.shape[1], 1), 1)
        for first in range(0, self.channels, at_once):
            yield slice(first, min(first + at_once, self.channels))

    def range_on(self, low: int, high: int) -> tuple[int, int]:
        """The lowest and the highest code of any channel on the codes [low, high]."""
        assert self.domain_low <= low <= high <= self.domain_high
        ends = self(np.tile(np.array([low, high], dtype=np.int64), (self.channels, 1)))
        return int(ends.min()), int(ends.max())

    def restricted(self, low: int, high: int) -> Staircase:
        """The same function on the smaller domain [low, high]. Thresholds inside of it are not copied."""
        lowest, highest = self.range_on(low, high)
        kept = self.thresholds[:, (lowest - self.low) // self.step : (highest - self.low) // self.step]
        beyond = (self.direction > 0).astype(np.int64)  # where a step is never taken: past the high end, or the low one
        first, last = low - 1 + beyond, high + beyond
        if (kept.min(axis=1, initial=high) < first).any() or (kept.max(axis=1, initial=low) > last).any():
            clipped = np.empty_like(kept)
            for row, of, *limits in zip(clipped, kept, first, last, strict=True):
                np.clip(of, *limits, out=row)
            kept = clipped
        return _collapsed(Staircase(low, high, lowest, kept, self.direction.copy(), self.step))


def agrees_everywhere(staircase: Staircase, implementation: Callable[[Codes], Codes]) -> bool:
    """The certificate: whether a *monotone* implementation equals the staircase on its whole domain.

    implementation  accumulator codes [channels, points] -> output codes, monotone in each channel
    """
    s = staircase
    if s.step != 1:
        points = s.critical_codes()
        return bool((implementation(points) == s(points)).all())
    ends = np.tile(np.array([[s.domain_low, s.domain_high]], dtype=np.int64), (s.channels, 1))
    if not (implementation(ends) == s(ends)).all():
        return False
    # Where a step is taken the code is its level at least, on the other side less: between them that leaves one code.
    levels = s.low + 1 + np.arange(s.thresholds.shape[1], dtype=np.int64)

    def codes_at(points: Codes) -> tuple[Codes, Flags]:
        inside = (points >= s.domain_low) & (points <= s.domain_high)
        return implementation(saturate(points, s.domain_low, s.domain_high)), inside

    codes, inside = codes_at(s.thresholds)
    if ((codes < levels) & inside).any():
        return False
    codes, inside = codes_at(s.thresholds - s.direction[:, None])
    return not ((codes >= levels) & inside).any()


def staircase_of(
    scale: Scale, stages: Sequence[Stage], quantizer: Quantizer, domain_low: int, domain_high: int, channels: int
) -> Staircase:
    """The staircase of `quantizer(stages(scale * a))` for accumulator codes a in [domain_low, domain_high].

    channels  of the tensor; scale, stages and quantizer are per tensor or have that many entries
    Raises OverflowError beyond MOST_STEPS steps.
    """
    told_apart = 1 if is_uniform(scale, stages, quantizer) else channels
    chains = [_Chain(scale.channel(c), stages, quantizer, c) for c in range(told_apart)]
    ends = [(chain.code(domain_low), chain.code(domain_high)) for chain in chains]
    low, high = min(min(e) for e in ends), max(max(e) for e in ends)
    if high - low > MOST_STEPS:
        raise OverflowError(f"a staircase of {high - low} steps")
    levels = range(low + 1, high + 1)
    directions = np.array([-1 if chain.falls else 1 for chain in chains], dtype=np.int64)
    thresholds = np.empty((told_apart, len(levels)), dtype=np.int64)
    if levels:
        codes = np.arange(levels.start, levels.stop, dtype=np.int64)
        for row, chain, codes_at_ends in zip(thresholds, chains, ends, strict=True):
            closed = chain.closed_thresholds(codes, domain_low, domain_high)
            row[:] = chain.thresholds(codes, domain_low, domain_high, codes_at_ends) if closed is None else closed
    return _collapsed(Staircase(domain_low, domain_high, low, thresholds, directions))


def is_uniform(scale: Scale, stages: Sequence[Stage], quantizer: Quantizer) -> bool:
    """Whether all channels have the same staircase."""
    per_channel_stage = any(getattr(stage, "channels", 1) > 1 for stage in stages)
    return not (scale.per_channel or per_channel_stage or quantizer.quantization.scale.per_channel)


def _collapsed(staircase: Staircase) -> Staircase:
    """One channel instead of many equal ones."""
    if staircase.channels == 1:
        return staircase
    first = staircase.thresholds[0]
    same = (staircase.direction == staircase.direction[0]).all()
    if not same or not all(np.array_equal(row, first) for row in staircase.thresholds):
        return staircase
    return Staircase(
        staircase.domain_low,
        staircase.domain_high,
        staircase.low,
        staircase.thresholds[:1].copy(),
        staircase.direction[:1].copy(),
        staircase.step,
    )


def _in_order(thresholds: Codes, direction: int) -> bool:
    """Whether the thresholds of a channel do not fall along its steps, or do not rise."""
    before, after = thresholds[:-1], thresholds[1:]
    return bool((before <= after).all() if direction > 0 else (before >= after).all())


def _certain(x: Floats, error: Floats, low: int, high: int, *, falling: bool) -> tuple[Codes, Flags]:
    """The thresholds of estimates x, and where they are certain: far enough from every integer to decide."""
    decides = (x == x) & (error < inf)  # neither: a kink, or a factor of 0
    beyond, before = decides & (x - error > high), decides & (x + error < low)
    inside = decides & ~beyond & ~before
    inside[inside] = np.abs(x[inside] - np.rint(x[inside])) > error[inside]
    above = np.where(inside, np.floor(x) + 1, 0).astype(np.int64)
    found = np.maximum(above - 1, low - 1) if falling else np.minimum(above, high + 1)
    found[beyond] = high if falling else high + 1
    found[before] = low - 1 if falling else low
    return found, inside | beyond | before


def chain_value(stages: Sequence[Stage], x: Fraction, channel: int) -> Root | FunctionValue:
    """The exact value of the chain at `x`, to be compared with rationals."""
    if any(isinstance(stage, FunctionStage) for stage in stages):
        return FunctionValue(chain_expression(stages, channel), x)
    return apply_stages(stages, x, channel)


@dataclass(frozen=True, slots=True)
class _Chain:
    """One channel: the exact predicate "the code of accumulator a is at least j", and the thresholds it gives."""

    step: Fraction
    stages: Sequence[Stage]
    quantizer: Quantizer
    channel: int

    @property
    def falls(self) -> bool:
        rises = direction(self.stages, self.channel)
        assert rises is not None, "a staircase of a function that neither rises nor falls"
        return rises < 0

    def value(self, a: int) -> Root | FunctionValue:
        return chain_value(self.stages, self.step * a, self.channel)

    def code(self, a: int) -> int:
        return self.quantizer.code_of(self.value(a), self.channel)

    def at_least(self, a: int, bound: LowerBound) -> bool:
        return _reached(self.value(a), bound)

    def closed_thresholds(self, levels: Codes, low: int, high: int) -> Codes | None:
        """The thresholds by exact inversion of the whole chain; None where it falls or has a square root."""
        inverse = preimage(self.stages, self.channel, self.quantizer.bounds(levels, self.channel))
        return None if inverse is None else inverse.scaled(1 / self.step).first_integers(low, high)

    def thresholds(self, levels: Codes, low: int, high: int, codes_at_ends: tuple[int, int]) -> Codes:
        """The thresholds by estimates, and by the exact predicate where those do not decide.

        codes_at_ends  of low and high: what lies outside of them is reached everywhere or nowhere
        """
        falling = self.falls
        found = np.full(levels.shape, high if falling else low, dtype=np.int64)
        found[levels > max(codes_at_ends)] = low - 1 if falling else high + 1
        between = np.flatnonzero((levels > min(codes_at_ends)) & (levels <= max(codes_at_ends)))
        if len(between):
            estimate, margin = self._estimates(levels[between])
            some, certain = _certain(estimate, margin, low, high, falling=falling)
            found[between] = some
            for i in np.flatnonzero(~certain).tolist():
                bound = self.quantizer.reaches(int(levels[between[i]]), self.channel)
                found[between[i]] = self._search(bound, float(estimate[i]), falling, low, high)
        return found

    def _estimates(self, levels: Codes) -> tuple[Floats, Floats]:
        """Approximate real thresholds [levels] in accumulator codes, and their error bounds."""
        q = self.quantizer.quantization
        bounds = self.quantizer.bounds_in_steps(levels) * float(q.scale.channel(self.channel))
        x, magnitude = invert_estimate([of_channel(s, self.channel) for s in self.stages], bounds[None, :])
        step = float(self.step)
        return (x / step)[0], (magnitude / step * FILTER + 2.0**-30)[0]

    def _search(self, bound: LowerBound, x: float, falling: bool, low: int, high: int) -> int:
        """The threshold by the exact predicate: near the estimate first, else by bisection."""
        if falling:
            # With b = -a the chain rises: the first b that reaches the bound is minus the last a that does.
            return -self._first(lambda b: self.at_least(-b, bound), -x, -high, -low)
        return self._first(lambda a: self.at_least(a, bound), x, low, high)

    @staticmethod
    def _first(reaches: Callable[[int], bool], x: float, low: int, high: int) -> int:
        """The lowest a in [low, high] with reaches(a), or high + 1."""
        if abs(x) < 2**62:
            near = round(x)
            for a in (near, near + 1):
                if low < a <= high and reaches(a) and not reaches(a - 1):
                    return a
        first, last = low, high + 1
        while first < last:
            middle = (first + last) // 2
            if reaches(middle):
                last = middle
            else:
                first = middle + 1
        return first
