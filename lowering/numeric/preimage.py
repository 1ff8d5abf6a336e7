"""Preimages of half-lines under a chain of stages, exactly and for many bounds at once.

A staircase's thresholds are the preimages of its quantizer's steps. Where no square root stands in the chain and it
rises, they are rationals in closed form: integer arithmetic over one denominator, int64 while the numbers fit, Python's
integers beyond. A 16-bit quantizer has 65,535 of them; deciding each by the exact predicate would take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.stages import Affine, ClipStage, FunctionStage, LeakyReluStage, SnapStage, Stage

__all__ = ["HalfLines", "preimage"]

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

_INT64_ROOM = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class HalfLines:
    """Sets of reals {x >= n / d} or, not `inclusive`, {x > n / d}; all reals where `everywhere`, none where `nowhere`.

    numerators  int64, or Python's integers in an object array where those are too small
    """

    numerators: Integers
    denominator: int
    inclusive: Mask
    everywhere: Mask
    nowhere: Mask

    @classmethod
    def at_least(cls, numerators: Integers, denominator: int, inclusive: Mask) -> HalfLines:
        nothing = np.zeros(numerators.shape, dtype=np.bool_)
        return cls(numerators, denominator, inclusive, nothing, nothing)

    def scaled(self, factor: Fraction) -> HalfLines:
        """{factor * x}; the factor is positive."""
        numerators = _times(self.numerators, factor.numerator)
        return replace(self, numerators=numerators, denominator=self.denominator * factor.denominator)

    def moved(self, offset: Fraction) -> HalfLines:
        """{x + offset}."""
        numerators = _times(self.numerators, offset.denominator)
        numerators = _with_room(numerators, 1, offset.numerator * self.denominator)
        addend = offset.numerator * self.denominator
        return replace(self, numerators=numerators + addend, denominator=self.denominator * offset.denominator)

    def hold(self, value: Fraction) -> Mask:
        """Which of the sets, the empty and the full ones aside, `value` lies in."""
        other = value.numerator * self.denominator
        ours = _with_room(_times(self.numerators, value.denominator), 1, other)
        return np.asarray((ours < other) | (self.inclusive & (ours == other)), dtype=np.bool_)

    def first_integers(self, low: int, high: int) -> Integers:
        """The lowest integer of each set in [low, high]; high + 1 where there is none."""
        numerators = _with_room(self.numerators, 1, self.denominator)
        floor = numerators // self.denominator
        beyond = ~self.inclusive | (floor * self.denominator != numerators)
        first = np.where(self.everywhere, low, np.where(self.nowhere, high + 1, floor + beyond))
        return np.minimum(np.maximum(first, low), high + 1).astype(np.int64)


def preimage(stages: Sequence[Stage], channel: int, of: HalfLines) -> HalfLines | None:
    """{x: stages(x) in `of`}; None where a stage falls, is constant, has a square root, or is a step function."""
    for stage in reversed(stages):
        found = _stage_preimage(stage, channel, of)
        if found is None:
            return None
        of = found
    return of


def _stage_preimage(stage: Stage, channel: int, of: HalfLines) -> HalfLines | None:
    match stage:
        case Affine():
            c = channel if stage.channels > 1 else 0
            if stage.radicand[c] != 1 or stage.factor[c] <= 0:
                return None
            return of.moved(-stage.addend[c] - stage.offset[c]).scaled(1 / stage.factor[c])
        case LeakyReluStage():
            alpha = stage.alpha(channel)
            return _leaky_preimage(alpha, of) if alpha >= 0 else None
        case ClipStage():
            if stage.high is not None:
                of = replace(of, nowhere=of.nowhere | (~of.everywhere & ~of.hold(stage.high)))
            if stage.low is not None:
                of = replace(of, everywhere=of.everywhere | (~of.nowhere & of.hold(stage.low)))
            return of
        case SnapStage() | FunctionStage():
            return None


def _leaky_preimage(alpha: Fraction, of: HalfLines) -> HalfLines:
    if alpha == 0:
        return replace(of, everywhere=of.everywhere | (~of.nowhere & of.hold(Fraction(0))))
    # One denominator for both pieces: n / d above 0, n / (alpha * d) below.
    above, below = _times(of.numerators, alpha.numerator), _times(of.numerators, alpha.denominator)
    numerators = np.where(of.numerators > 0, above, below)
    return replace(of, numerators=numerators, denominator=of.denominator * alpha.numerator)


def _times(values: Integers, factor: int) -> Integers:
    return _with_room(values, factor, factor) * factor


def _with_room(values: Integers, factor: int, addend: int = 0) -> Integers:
    """`values`, as Python's integers where products with `factor`, or `addend` itself, might not fit 64 bits."""
    largest = int(np.abs(values).max(initial=0))
    fits = largest * abs(factor) < _INT64_ROOM and abs(addend) < _INT64_ROOM
    return values if values.dtype == object or fits else values.astype(object)
