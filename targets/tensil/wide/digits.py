"""Tensors in two digits: q = 2^bits * high + low, with low in [-2^(bits - 1), 2^(bits - 1)].

The high digit is q / 2^bits, rounded half to even, which is one multiplication; the low one is what that leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.integer import Requantize, Rescale, Sum
from pefslc.ir.structural import Reshape, Slice, Transpose
from pefslc.ir.value import Op, Value
from pefslc.numeric.rounding import lowest_numerators, round_shift
from pefslc.numeric.scale import Scale
from pefslc.numeric.staircase import Staircase

__all__ = ["Digits", "derived", "digit_ranges", "rounded_quotient"]

Words = NDArray[np.int64]


def derived(value: Value, name: str, low: int, high: int, factor: Fraction | int = 1) -> Value:
    """A tensor of the same shape, whose codes are worth `factor` codes of `value` each."""
    codes = value.type.codes
    scale = Scale.of(step * factor for step in codes.scale.steps)
    element = replace(codes, low=low, high=high, scale=scale)
    return Value(f"{value.name}.{name}", replace(value.type, element=element), value.origin)


def rounded_quotient(value: Value, name: str, bits: int) -> Requantize:
    """value / 2^bits, rounded half to even."""
    codes = value.type.codes
    low, high = round_shift(codes.low, bits), round_shift(codes.high, bits)
    levels = np.arange(low + 1, high + 1, dtype=np.int64)
    thresholds, rising = lowest_numerators(levels, bits)[None, :], np.ones(1, dtype=np.int64)
    staircase = Staircase(codes.low, codes.high, low, thresholds, rising)
    return Requantize(result=derived(value, name, low, high, 1 << bits), input=value, staircase=staircase)


def digit_ranges(low: int, high: int, bits: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The ranges of both digits of codes in [low, high]."""
    half = 1 << bits - 1
    return (round_shift(low, bits), round_shift(high, bits)), (-half, half)


@dataclass(slots=True)
class Digits:
    """Makes digits, once for all who read them.

    producers  of the graph
    ops        where the operations that make digits are put
    """

    producers: Mapping[str, Op]
    ops: list[Op]
    made: dict[tuple[str, int], tuple[Value, Value]] = field(default_factory=dict)

    def of(self, value: Value, bits: int) -> tuple[Value, Value]:
        """The high and the low digit of a tensor. Who moves its elements moves theirs."""
        key = value.name, bits
        if key not in self.made:
            producer = self.producers.get(value.name)
            if isinstance(producer, Reshape | Transpose | Slice):
                digits = self.of(producer.input, bits)
                moved = [
                    self._moved(producer, digit, suffix) for digit, suffix in zip(digits, _names(bits), strict=True)
                ]
                self.made[key] = moved[0], moved[1]
            else:
                self.made[key] = self._split(value, bits)
        return self.made[key]

    def bits_made(self, value: Value) -> list[int]:
        """The digits that are there already."""
        return [bits for name, bits in self.made if name == value.name]

    def _moved(self, op: Reshape | Transpose | Slice, digit: Value, suffix: str) -> Value:
        result = Value(f"{op.result.name}.{suffix}", replace(digit.type, shape=op.result.type.shape), op.result.origin)
        self.ops.append(replace(op, input=digit, result=result))
        return result

    def _split(self, value: Value, bits: int) -> tuple[Value, Value]:
        high_name, low_name = _names(bits)
        high = rounded_quotient(value, high_name, bits)
        ends = sorted(-end << bits for end in (high.staircase.low, high.staircase.high))
        taken = Rescale(result=derived(value, f"{low_name}.taken", *ends), input=high.result, factor=-1 << bits)
        # What the remainder can be, interval arithmetic does not see.
        low = Sum(result=derived(value, low_name, *digit_ranges(0, 0, bits)[1]), lhs=taken.result, rhs=value)
        self.ops += [high, taken, low]
        return high.result, low.result


def _names(bits: int) -> tuple[str, str]:
    return f"high{bits}", f"low{bits}"
