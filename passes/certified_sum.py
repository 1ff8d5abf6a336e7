"""A quantized sum whose scales have no grid within 62 bits: shorter factors that give the same code for every pair.

    y = quantize(F * a + G * b + O)  ==>  y = requantize(f * a + g * b),  G rational, F and O with a root, per channel

A convolution's sums with float scales, and a quantized shortcut, added before one quantizer: 72 bits and more would
hold that exactly. But the quantizer takes few steps. For each step and each code b of the shorter side, the codes a
that take it are those from one on, T(b), which is known exactly. Factors f and g serve where one threshold separates
all pairs that take the step from those that do not:

    f * (T(b) - 1) + g * b  <  threshold  <=  f * T(b) + g * b    for every b
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor, isqrt, sqrt

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.integer import Requantize, Sum
from pefslc.ir.quantized import Add, Quantize
from pefslc.ir.value import Op, Value
from pefslc.numeric.preimage import HalfLines, preimage
from pefslc.numeric.scale import Scale
from pefslc.numeric.stages import Affine, Root
from pefslc.numeric.staircase import Staircase
from pefslc.passes.integer_builder import IntegerBuilder, Lowered, with_codes

__all__ = ["certified_sum"]

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

_MOST_SHORT_CODES = 1 << 9  # of the shorter side
_MOST_CASES = 1 << 28  # channels times steps times codes of the shorter side
_WIDTHS = (40, 48, 56, 61)  # bits of the sums
_DOUBT = 2.0**-48  # relative to the terms of a quotient: some roundings of 2^-53 each


@dataclass(frozen=True, slots=True)
class _Line:
    """value = (slope * code + shift) * sqrt(radicand) + offset. The radicand is 1 where there is no root."""

    slope: Fraction
    shift: Fraction
    radicand: Fraction
    offset: Fraction


@dataclass(frozen=True, slots=True)
class _Side:
    """Codes of zero point 0, and what stands behind them."""

    codes: Value
    tail: tuple[Affine, ...]

    @property
    def count(self) -> int:
        return self.codes.type.codes.high - self.codes.type.codes.low + 1

    @property
    def roots(self) -> int:
        return sum(stage.has_root for stage in self.tail)

    def line(self, channel: int) -> _Line:
        """What one channel is of its codes; at most one of the stages has a root."""
        step = self.codes.type.codes.scale.channel(channel)
        ends = [Root(value, Fraction(0), Fraction(1)) for value in (Fraction(0), step)]
        for stage in self.tail:
            ends = [stage.apply(end, channel) for end in ends]
        zero, one = ends
        if zero.radicand == one.radicand == 1:
            return _Line(one.rational - zero.rational, Fraction(0), Fraction(1), zero.rational)
        return _Line(one.coefficient - zero.coefficient, zero.coefficient, one.radicand, zero.rational)


def _sides(builder: IntegerBuilder, op: Add) -> tuple[_Side, _Side] | None:
    """The long and the short one: that with a root, or with more codes; the other has no root, and few codes."""
    found = []
    for value in (op.lhs, op.rhs):
        lowered = builder.operand(value, op)
        found.append(_Side(builder.centred(lowered.value), lowered.tail))
    short, long = sorted(found, key=lambda side: (side.roots, side.count))
    return (long, short) if not short.roots and long.roots <= 1 and short.count <= _MOST_SHORT_CODES else None


@dataclass(frozen=True, slots=True)
class _Channel:
    """What one channel quantizes: about long * a + short * b, where `long` is positive.

    sign       what a's codes are multiplied by for that; then they lie in [low, high]
    """

    long: Fraction
    short: Fraction
    sign: int
    low: int
    high: int
    b: Codes
    first: Codes  # [steps, codes b] the first a that takes the step; high + 1 where none does

    def factors(self, bits: int) -> tuple[int, int]:
        """Short factors in the ratio of the exact ones, with which the sums fit so many bits."""
        reach = abs(self.long) * max(-self.low, self.high, 1) + abs(self.short) * max(int(np.abs(self.b).max()), 1)
        unit = reach / (1 << (bits - 2))
        return max(round(self.long / unit), 1), round(self.short / unit)

    def thresholds(self, f: int, g: int) -> Codes | None:
        """[steps] of f * a + g * b; None where a step has none."""
        sums = g * self.b
        least = np.where(self.first > self.low, f * (self.first - 1) + sums + 1, _NEVER_LESS).max(axis=1)
        most = np.where(self.first <= self.high, f * self.first + sums, _NEVER_MORE).min(axis=1)
        if (least > most).any():
            return None
        # Next to the middle of what is free, of what has two ends.
        middle = least + (most - least) // 2
        return np.asarray(np.where(least == _NEVER_LESS, most, np.where(most == _NEVER_MORE, least, middle)))


_NEVER_LESS, _NEVER_MORE = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def certified_sum(builder: IntegerBuilder, op: Quantize, add: Op) -> Lowered:
    """The sum in short factors, and what requantizes it to the model's codes.

    Raises CompileError, the refusal of the sum itself, where no factors are found.
    """
    assert isinstance(add, Add)
    found = _certified(builder, op, add)
    if found is None:
        raise builder.refusals[add.result.name]
    return found


def _certified(builder: IntegerBuilder, op: Quantize, add: Add) -> Lowered | None:
    sides, q = _sides(builder, add), op.quantization
    channels = op.input.type.channels
    if sides is None or channels * (q.high - q.low) * sides[1].count > _MOST_CASES:
        return None
    made = [_channel(op, sides, c) for c in range(channels)]
    known = [channel for channel in made if channel is not None]
    found = _shortest(known) if len(known) == channels else None
    if found is None:
        return None
    factors, rows = found
    scale = Scale.of(channel.long / f for channel, (f, _) in zip(known, factors, strict=True))
    own = [channel.sign * f for channel, (f, _) in zip(known, factors, strict=True)], [g for _, g in factors]
    lhs, rhs = (
        builder.rescaled(side.codes, factor, scale, f"{op.result.name}.{name}")
        for side, factor, name in zip(sides, own, ("long", "short"), strict=True)
    )
    result = replace(with_codes(add.result, scale), name=f"{op.result.name}.sum")
    total = builder.append(Sum(result=result, lhs=lhs, rhs=rhs))
    low, high = total.type.codes.low, total.type.codes.high
    thresholds = np.clip(np.array(rows, dtype=np.int64), low, high + 1)
    staircase = Staircase(low, high, q.low - q.zero_point, thresholds, np.ones(channels, dtype=np.int64))
    result = with_codes(op.result, q.scale)
    return Lowered(builder.append(Requantize(result=result, input=total, staircase=staircase)))


def _shortest(channels: Sequence[_Channel]) -> tuple[list[tuple[int, int]], list[Codes]] | None:
    for bits in _WIDTHS:
        factors = [channel.factors(bits) for channel in channels]
        if not all(g for _, g in factors):
            continue
        rows = [channel.thresholds(*own) for channel, own in zip(channels, factors, strict=True)]
        found = [row for row in rows if row is not None]
        if len(found) == len(rows):
            return factors, found
    return None


def _channel(op: Quantize, sides: tuple[_Side, _Side], c: int) -> _Channel | None:
    """What channel c quantizes, a negated where it falls; None where it is constant, or the stages do not rise."""
    q, (long, short) = op.quantization, (side.line(c) for side in sides)
    a, b = (side.codes.type.codes for side in sides)
    of = preimage(op.stages, c, op.quantizer.bounds(np.arange(q.low + 1, q.high + 1, dtype=np.int64), c))
    if of is None or not long.slope:
        return None
    sign = 1 if long.slope > 0 else -1
    low, high = (a.low, a.high) if sign > 0 else (-a.high, -a.low)
    codes = np.arange(b.low, b.high + 1, dtype=np.int64)
    moved = of.moved(-long.offset - short.offset)
    line = replace(long, slope=abs(long.slope))
    first = np.clip(_first_integers(moved, line, short.slope, codes), low, high + 1)
    first = np.where(moved.everywhere[:, None], low, np.where(moved.nowhere[:, None], high + 1, first))
    size = line.slope * Fraction(sqrt(float(line.radicand)))  # of the ratio alone, which need not be exact
    return _Channel(size, short.slope, sign, low, high, codes, first)


def _first_integers(of: HalfLines, line: _Line, slope: Fraction, codes: Codes) -> Codes:
    """[sets, codes]: the first integer a for which (line.slope * a + line.shift) * root + slope * code is in the set.

    The full and the empty sets aside.
    """
    bounds = [Fraction(int(n), of.denominator) for n in of.numerators]
    root, shift = sqrt(float(line.radicand)), float(line.shift / line.slope)
    left = np.array([float(v / line.slope) for v in bounds])[:, None] / root
    right = float(slope / line.slope) / root * codes
    x = left - right - shift
    doubtful = np.abs(x - np.rint(x)) <= _DOUBT * (np.abs(left) + np.abs(right) + abs(shift) + 1)
    first = np.ceil(x)
    for i, j in np.argwhere(doubtful).tolist():
        below, whole = _floor((bounds[i] - slope * int(codes[j])) / line.slope, line)
        first[i, j] = below if of.inclusive[i] and whole else below + 1
    limit = float(1 << 53)
    return np.clip(first, -limit, limit).astype(np.int64)


def _floor(value: Fraction, line: _Line) -> tuple[int, bool]:
    """(the floor of value / root - shift / slope, whether it is that integer)."""
    shift, n, d = line.shift / line.slope, line.radicand.numerator, line.radicand.denominator
    if not value or (isqrt(n) ** 2 == n and isqrt(d) ** 2 == d):
        exact = value * Fraction(isqrt(d), isqrt(n)) - shift
        return floor(exact), exact.denominator == 1
    bits = 64
    while True:  # an irrational number is next to no integer for ever
        root = Fraction(isqrt((d << 2 * bits) // n), 1 << bits)  # 1 / root lies above, by less than 2^-bits
        ends = [floor(value * r - shift) for r in (root, root + Fraction(1, 1 << bits))]
        if ends[0] == ends[1]:
            return ends[0], False
        bits *= 2
