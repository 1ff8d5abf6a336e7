"""Chains: "BatchNorm, activation, Quant" behind an accumulator, and where its code reaches each level.

The thresholds of a monotone chain are computed for some channels at a time, by float64 estimates that decide wherever
they are certain, and exactly where they are not. So nobody needs to hold those of 1,000 channels of 16-bit codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import inf, nextafter

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import FunctionValue
from pefslc.numeric.expression import Integers, rational_values
from pefslc.numeric.preimage import preimage
from pefslc.numeric.quantizer import Quantizer, chain_value, reached
from pefslc.numeric.rounding import LowerBound, RoundingMode
from pefslc.numeric.scale import Scale
from pefslc.numeric.stage_values import quantize_behind
from pefslc.numeric.stages import (
    Affine,
    ClipStage,
    FunctionStage,
    LeakyReluStage,
    Root,
    SnapStage,
    Stage,
    apply_stages,
    chain_expression,
    direction,
    invert_estimate,
)

__all__ = ["ROUNDED_AS_FLOOR", "Chain", "Chains", "blocks", "is_uniform"]

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]

_LARGEST_INTEGER = 1 << 53  # up to which float64 has all integers
_SMALLEST_STEP = Fraction(1, 1 << 400)
_BLOCK = 1 << 16  # thresholds at a time: half a megabyte, which the caches hold
# Thresholds of a channel in doubt that are decided one by one: the exact inversion costs about three searches before
# the first level, and next to nothing for each.
_FEW = 3
_BETWEEN = 0.25


def is_uniform(scale: Scale, stages: Sequence[Stage], quantizer: Quantizer) -> bool:
    """Whether all channels have the same staircase."""
    per_channel_stage = any(getattr(stage, "channels", 1) > 1 for stage in stages)
    return not (scale.per_channel or per_channel_stage or quantizer.quantization.scale.per_channel)


@dataclass(frozen=True, slots=True)
class Chain:
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

    @property
    def is_constant(self) -> bool:
        """Whether a factor of 0 stands in it."""
        return direction(self.stages, self.channel) == 0

    def value(self, a: int) -> Root | FunctionValue:
        return chain_value(self.stages, self.step * a, self.channel)

    def code(self, a: int) -> int:
        return self.quantizer.code_of(self.value(a), self.channel)

    def at_least(self, a: int, bound: LowerBound) -> bool:
        return reached(self.value(a), bound)

    def all_at_least(self, codes: Codes, levels: Codes) -> Flags:
        """Whether the code of each accumulator is at least its level: many at once, of rational chains."""
        found = self.rational_values(codes)
        if found is not None:
            numerators, unit = found
            bounds = self.quantizer.bounds(levels, self.channel)
            ours, other = numerators * bounds.denominator, bounds.numerators.astype(object) * unit
            return np.asarray((ours > other) | (bounds.inclusive & (ours == other)), dtype=np.bool_)
        pairs = zip(codes.tolist(), levels.tolist(), strict=True)
        return np.array([self.at_least(a, self.quantizer.reaches(j, self.channel)) for a, j in pairs], dtype=np.bool_)

    def rational_values(self, codes: Codes) -> tuple[Integers, int] | None:
        """(numerators, denominator) of the exact values at many codes; None where some stage is not rational."""
        if any(isinstance(stage, SnapStage) for stage in self.stages):
            return None
        return rational_values(chain_expression(self.stages, self.channel), codes, self.step)

    def closed_thresholds(self, levels: Codes, low: int, high: int) -> Codes | None:
        """The thresholds by exact inversion of the whole chain; None where it falls or has a square root."""
        bounds = self.quantizer.bounds(levels, self.channel)
        inverse = preimage(self.stages, self.channel, bounds)
        return None if inverse is None else inverse.scaled(1 / self.step).first_integers(low, high)

    def search(self, bound: LowerBound, x: float, falling: bool, low: int, high: int) -> int:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """`quantizer(stages(scale * a))` for accumulator codes a in [domain_low, domain_high], rising or falling.

    channels  told apart: 1 where all have the same chain
    levels    the codes, zero point included, whose thresholds are asked for
    """

    scale: Scale
    stages: tuple[Stage, ...]
    quantizer: Quantizer
    domain_low: int
    domain_high: int
    channels: int
    levels: range

    def chain(self, channel: int) -> Chain:
        return Chain(self.scale.channel(channel), self.stages, self.quantizer, channel)

    def moved(self, by: int) -> Chains:
        """The same codes for accumulators that are less by so much: what is missing is added first."""
        back = Affine.bias(tuple(step * by for step in self.scale.steps))
        low, high = self.domain_low - by, self.domain_high - by
        return replace(self, stages=(back, *self.stages), domain_low=low, domain_high=high)

    def codes(self, *accumulators: int) -> Codes:
        """[accumulators, channels]: their codes."""
        if self._has_float_estimates(max(map(abs, accumulators))):
            x = np.repeat(np.array([accumulators], dtype=np.float64).T, self.channels, axis=1)
            return quantize_behind((Affine.product(self.scale.steps), *self.stages), self.quantizer, x, 1)
        chains = [self.chain(c) for c in range(self.channels)]
        return np.array([[chain.code(a) for chain in chains] for a in accumulators], dtype=np.int64)

    def _has_float_estimates(self, a: int) -> bool:
        """Whether float64 holds `a` and is near to the value of each stage: no scale is about to leave its range."""
        plain = all(isinstance(stage, Affine | LeakyReluStage | ClipStage) for stage in self.stages)
        steps = (*self.scale.steps, *self.quantizer.quantization.scale.steps)
        return plain and abs(a) <= _LARGEST_INTEGER and _SMALLEST_STEP <= min(steps) <= max(steps) <= 1 / _SMALLEST_STEP

    @property
    def directions(self) -> Codes:
        """[channels]: 1, or -1 where the chain falls."""
        return np.array([-1 if self.chain(c).falls else 1 for c in range(self.channels)], dtype=np.int64)

    def thresholds(self, first: int, last: int) -> Codes:
        """[last - first, levels]: where each level is reached, of channels first .. last - 1, as `Staircase` has it."""
        falls = np.array([self.chain(c).falls for c in range(first, last)])[:, None]
        estimate, error = self._estimate(first, last)
        found, doubtful = self._certain(estimate, error, falls)
        for i in np.flatnonzero(doubtful.any(axis=1)).tolist():
            chain, at = self.chain(first + i), np.flatnonzero(doubtful[i])
            closed, levels = None, self.levels.start + at
            if chain.is_constant:
                closed = np.where(levels <= chain.code(self.domain_low), self.domain_low, self.domain_high + 1)
            elif len(at) > _FEW:
                closed = chain.closed_thresholds(levels, self.domain_low, self.domain_high)
            if closed is not None:
                found[i, at] = closed
                continue
            falling = bool(falls[i, 0])
            certain = (error[i, at] < _BETWEEN) & np.isfinite(
                estimate[i, at]
            )  # then it is the nearest code alone that is in doubt
            beside, at = at[certain], at[~certain]
            found[i, beside] = self._beside(chain, beside, np.rint(estimate[i, beside]), falling)
            for j in at.tolist():
                bound = self.quantizer.reaches(self.levels[j], chain.channel)
                found[i, j] = chain.search(bound, float(estimate[i, j]), falling, self.domain_low, self.domain_high)
        return found

    def _beside(self, chain: Chain, at: Codes, near: NDArray[np.float64], falling: bool) -> Codes:
        """The thresholds of some levels that are reached at `near` or at the next code, by one decision each."""
        low, high = self.domain_low, self.domain_high
        inside = (near >= low) & (near <= high)
        codes = np.clip(near, -_BEYOND, _BEYOND).astype(np.int64)
        reached = np.zeros(len(at), dtype=np.bool_)
        reached[inside] = chain.all_at_least(codes[inside], self.levels.start + at[inside])
        next_code = codes - 1 if falling else codes + 1
        return np.clip(np.where(reached, codes, next_code), low - falling, high + 1 - falling)

    def _estimate(self, first: int, last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Approximate real thresholds in accumulator codes, and their error bounds: both [last - first, levels]."""
        q, channels = self.quantizer.quantization, range(first, last)
        base = _bounds_of_first(self.quantizer, self.levels)
        ratios = [float(q.scale.channel(c) / q.scale.channel(0)) for c in channels]
        stages = [_of_channels(stage, channels) for stage in self.stages]
        y, error = invert_estimate(stages, base[None, :] * np.array(ratios)[:, None])
        step = np.array([float(self.scale.channel(c)) for c in channels])[:, None]
        shape = (len(channels), len(self.levels))
        return np.broadcast_to(y / step, shape), np.broadcast_to(error / step + 2.0**-30, shape)

    def _certain(
        self, x: NDArray[np.float64], error: NDArray[np.float64], falls: NDArray[np.bool_]
    ) -> tuple[Codes, NDArray[np.bool_]]:
        """The thresholds where no integer lies within the error of the estimate; and where one does, or there is none.

        Where all that lies within the error is outside of the domain the integer does not matter.
        """
        low, high = self.domain_low, self.domain_high
        with np.errstate(invalid="ignore"):
            doubtful = ~(np.abs(x - np.rint(x)) > error)  # so is NaN: behind a factor of 0, of a constant chain
            if doubtful.any():
                doubtful &= ~((x - error > _at_least(high)) | (x + error < -_at_least(-low)))
            above = np.floor(np.clip(x, -_BEYOND, _BEYOND)).astype(np.int64) + 1
        return np.clip(above - falls, low - falls, high + 1 - falls), doubtful

    @property
    def may_bend(self) -> bool:
        """False where each channel is a line between two limits, rounded alike below code 0 and above."""
        below, above = ROUNDED_AS_FLOOR.get(self.quantizer.rounding, (None, _ZERO))
        return below != above or not all(isinstance(stage, Affine | ClipStage) for stage in self.stages)

    def line(self, channel: int, *, below: bool) -> tuple[Root, Root] | None:
        """(slope, offset) with: number of levels reached at a = floor(slope * a + offset), nearly.

        That is so between the clips, and but for codes that hit a bound exactly. Where the chain bends at 0, `below`
        says which piece. None where it is no such line. A place to look for an implementation, no proof.
        """
        quantizer, step = self.quantizer, self.scale.channel(channel)
        rounding = ROUNDED_AS_FLOOR.get(quantizer.rounding)
        linear: list[Stage] = []
        for stage in self.stages:
            match stage:
                case LeakyReluStage():
                    if below:
                        linear.append(Affine((stage.alpha(channel),), (_ZERO,), (_ONE,), (_ZERO,)))
                case Affine():
                    linear.append(stage)
                case SnapStage() | FunctionStage():
                    return None
                case ClipStage():
                    pass
        if rounding is None:
            return None
        at_zero, at_one = (apply_stages(linear, x, channel) for x in (_ZERO, step))
        slope = Root(at_one.rational - at_zero.rational, at_one.coefficient - at_zero.coefficient, at_one.radicand)
        unit = 1 / quantizer.quantization.scale.channel(channel)
        addend = rounding[not below] + quantizer.quantization.zero_point - (self.levels.start - 1)
        return slope.scaled(unit), at_zero.scaled(unit).plus(addend)


_BEYOND = 2.0**62  # every accumulator
_ZERO, _ONE, _HALF = Fraction(0), Fraction(1), Fraction(1, 2)

# What to add to a number so that its floor is its rounding, below code 0 and above: exact hits of a bound aside.
ROUNDED_AS_FLOOR = {
    RoundingMode.HALF_EVEN: (_HALF, _HALF),
    RoundingMode.HALF_AWAY: (_HALF, _HALF),
    RoundingMode.HALF_TO_ZERO: (_HALF, _HALF),
    RoundingMode.FLOOR: (_ZERO, _ZERO),
    RoundingMode.CEIL: (_ONE, _ONE),
    RoundingMode.TO_ZERO: (_ONE, _ZERO),
    RoundingMode.AWAY: (_ZERO, _ONE),
}


def blocks(channels: int, levels: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of the channels to look at together."""
    together = max(_BLOCK // max(levels, 1), 1)
    for first in range(0, channels, together):
        yield first, min(first + together, channels)


@lru_cache(maxsize=1)
def _bounds_of_first(quantizer: Quantizer, levels: range) -> NDArray[np.float64]:
    """[levels]: about where channel 0 reaches each level; the others do in proportion to their scales."""
    bounds = quantizer.bounds(np.arange(levels.start, levels.stop, dtype=np.int64), 0)
    base = bounds.numerators.astype(np.float64) / float(bounds.denominator)
    base.setflags(write=False)
    return base


def _of_channels(stage: Stage, channels: range) -> Stage:
    """The stage of those channels only; per tensor it stays as it is."""
    match stage:
        case Affine():
            return stage.of_channels(channels)
        case LeakyReluStage() if stage.channels > 1:
            return replace(stage, alphas=tuple(stage.alpha(c) for c in channels))
    return stage


def _at_least(value: int) -> float:
    """A float64 that is not below `value`."""
    nearest = float(value)
    return nearest if nearest >= value else nextafter(nearest, inf)
