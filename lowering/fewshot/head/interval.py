"""Intervals of integers: what the proof of the classifier's widths is written in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pefslc.numeric.accumulate import bits_for_range

__all__ = ["Interval"]


@dataclass(frozen=True, slots=True)
class Interval:
    """All integers from `low` to `high`. The result of an operation holds every result of its operands' elements."""

    low: int
    high: int

    def __post_init__(self) -> None:
        assert self.low <= self.high, "an empty interval"

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Interval) -> Interval:
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(ends), max(ends))

    def squared(self) -> Interval:
        """Of one number with itself: tighter than the product of two."""
        return Interval(max(self.low, -self.high, 0) ** 2, self.magnitude**2)

    def with_zero(self) -> Interval:
        """The smallest interval that holds this one and 0."""
        return Interval(min(self.low, 0), max(self.high, 0))

    @classmethod
    def around(cls, intervals: Iterable[Interval]) -> Interval:
        """The smallest interval that holds all of them; there is at least one."""
        found = list(intervals)
        return cls(min(i.low for i in found), max(i.high for i in found))

    @classmethod
    def total(cls, intervals: Iterable[Interval]) -> Interval:
        """The sum of one number from each. It holds every partial sum, in any order, too."""
        found = [i.with_zero() for i in intervals]
        return cls(sum(i.low for i in found), sum(i.high for i in found))

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return max(-self.low, self.high)

    @property
    def bits(self) -> int:
        """Width of the narrowest two's complement integer that holds all."""
        return bits_for_range(self.low, self.high)
