"""Sums of two codes in short factors that take the same steps as the exact sum does, for every pair of codes.

    F * a + G * b + O,  G rational, F and O with a root   ==>   f * a + g * b,  integers

What reads the sum takes few steps. For each step and each code b, the codes a that take it are those from one on, T(b),
which is known exactly. Factors f and g serve where one threshold separates all pairs that take the step from those that
do not:

    f * (T(b) - 1) + g * b  <  threshold  <=  f * T(b) + g * b    for every b
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm, sqrt

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.preimage import HalfLines
from pefslc.numeric.stages import Affine, Root

__all__ = ["CodeLine", "PairSum", "shortest_factors"]

Codes = NDArray[np.int64]

_WIDTHS = (40, 48, 56, 61)  # bits of the sums
_DOUBT = 2.0**-48  # relative to the terms of a quotient: some roundings of 2^-53 each
_NEVER_LESS, _NEVER_MORE = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class CodeLine:
    """value = (slope * code + shift) * sqrt(radicand) + offset. The radicand is 1 where there is no root."""

    slope: Fraction
    shift: Fraction
    radicand: Fraction
    offset: Fraction

    @classmethod
    def of(cls, step: Fraction, tail: Sequence[Affine], channel: int) -> CodeLine:
        """What `tail` makes of codes that are worth `step`; at most one of its stages has a root."""
        ends = [Root(value, Fraction(0), Fraction(1)) for value in (Fraction(0), step)]
        for stage in tail:
            ends = [stage.apply(end, channel) for end in ends]
        zero, one = ends
        if zero.radicand == one.radicand == 1:
            return cls(one.rational - zero.rational, Fraction(0), Fraction(1), zero.rational)
        return cls(one.coefficient - zero.coefficient, zero.coefficient, one.radicand, zero.rational)


@dataclass(frozen=True, slots=True)
class PairSum:
    """One channel: about long * a + short * b, where `long` is positive.

    sign       what a's codes are multiplied by for that; then they lie in [low, high]
    """

    long: Fraction
    short: Fraction
    sign: int
    low: int
    high: int
    b: Codes
    first: Codes  # [steps, codes b] the first a that takes the step; high + 1 where none does

    @classmethod
    def of(
        cls, steps: HalfLines, long: CodeLine, short: CodeLine, a: tuple[int, int], b: tuple[int, int]
    ) -> PairSum | None:
        """The sum of two lines of the codes in the ranges a and b; None where the first is constant.

        steps  the sums that take each step
        short  without a root
        """
        if not long.slope:
            return None
        sign = 1 if long.slope > 0 else -1
        low, high = a if sign > 0 else (-a[1], -a[0])
        codes = np.arange(b[0], b[1] + 1, dtype=np.int64)
        moved, line = steps.moved(-long.offset - short.offset), replace(long, slope=abs(long.slope))
        first = np.clip(_first_integers(moved, line, short.slope, codes), low, high + 1)
        first = np.where(moved.everywhere[:, None], low, np.where(moved.nowhere[:, None], high + 1, first))
        size = line.slope * Fraction(sqrt(float(line.radicand)))  # of the ratio alone, which need not be exact
        return cls(size, short.slope, sign, low, high, codes, first)

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


def shortest_factors(channels: Sequence[PairSum]) -> tuple[list[tuple[int, int]], list[Codes]] | None:
    """(f and g of each channel, the thresholds of each) for sums of the fewest bits; None where none certify."""
    for bits in _WIDTHS:
        factors = [channel.factors(bits) for channel in channels]
        if not all(g for _, g in factors):
            continue
        rows = [channel.thresholds(*own) for channel, own in zip(channels, factors, strict=True)]
        found = [row for row in rows if row is not None]
        if len(found) == len(rows):
            return factors, found
    return None


def _first_integers(of: HalfLines, line: CodeLine, slope: Fraction, codes: Codes) -> Codes:
    """[sets, codes]: the first integer a for which (line.slope * a + line.shift) * root + slope * code is in the set.

    The full and the empty sets aside.
    """
    bounds = [Fraction(int(n), of.denominator) for n in of.numerators]
    root, shift = sqrt(float(line.radicand)), line.shift / line.slope
    left = np.array([float(v / line.slope) for v in bounds])[:, None] / root
    right = float(slope / line.slope) / root * codes
    x = left - right - float(shift)
    doubtful = np.abs(x - np.rint(x)) <= _DOUBT * (np.abs(left) + np.abs(right) + abs(float(shift)) + 1)
    limit = 1 << 53
    first = np.clip(np.ceil(x), -limit, limit).astype(np.int64)
    if line.radicand == 1:  # nearly equal codes may be in doubt everywhere: all at once
        at = np.nonzero(doubtful)
        first[at] = _first_of_ratios(of, line, slope, codes, at).clip(-limit, limit)
        return first
    for i, j in np.argwhere(doubtful).tolist():
        exact = Root(-shift, (bounds[i] - slope * int(codes[j])) / line.slope, 1 / line.radicand)
        floor = exact.floor()
        first[i, j] = floor if of.inclusive[i] and exact.compare(Fraction(floor)) == 0 else floor + 1
    return first


def _first_of_ratios(
    of: HalfLines, line: CodeLine, slope: Fraction, codes: Codes, at: tuple[NDArray[np.intp], ...]
) -> Codes:
    """The same for pairs (set, code) of a line without a root, in integers over one denominator."""
    parts = (1 / (line.slope * of.denominator), slope / line.slope, line.shift / line.slope)
    denominator = lcm(*(part.denominator for part in parts))
    per_bound, per_code, shift = (int(part * denominator) for part in parts)
    numerators = of.numerators[at[0]].astype(object) * per_bound - codes[at[1]].astype(object) * per_code - shift
    floor = numerators // denominator
    is_first = of.inclusive[at[0]] & (floor * denominator == numerators)
    return np.asarray(np.where(is_first, floor, floor + 1))
