"""Rounding on integers: one function per question, every mode in each.

The modes are QONNX's and ONNX's. Beware of their names: QONNX `HALF_UP` rounds half *away from zero* and `HALF_DOWN`
half *toward zero*; neither means "toward plus infinity".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LowerBound",
    "RoundingMode",
    "lowest_numerators",
    "round_bounds",
    "round_fraction",
    "round_ratio",
    "round_shift",
    "rounds_to_at_least",
]

# A Python integer, or an array of them (int64 where the caller has proved that it suffices, else object).
Integers = TypeVar("Integers", int, NDArray[np.int64])


class RoundingMode(Enum):
    """How a real number becomes an integer. The value is the name in the IR's text."""

    HALF_EVEN = "half_even"  # QONNX ROUND, HALF_EVEN; ONNX QuantizeLinear; torch.round
    HALF_AWAY = "half_away"  # QONNX HALF_UP
    HALF_TO_ZERO = "half_to_zero"  # QONNX HALF_DOWN
    FLOOR = "floor"
    CEIL = "ceil"
    TO_ZERO = "to_zero"  # QONNX DOWN, Brevitas ROUND_TO_ZERO
    AWAY = "away"  # QONNX UP
    SIGN = "sign"  # QONNX BipolarQuant: 1 for y >= 0, else -1; the one mode that reaches no other integer

    @classmethod
    def from_qonnx(cls, name: str) -> RoundingMode | None:
        """The mode that a QONNX node means by `name`, in any case; None when it means none of ours."""
        return _QONNX_NAMES.get(name.upper())


_QONNX_NAMES = {
    "ROUND": RoundingMode.HALF_EVEN,
    "HALF_EVEN": RoundingMode.HALF_EVEN,
    "HALF_UP": RoundingMode.HALF_AWAY,
    "HALF_DOWN": RoundingMode.HALF_TO_ZERO,
    "FLOOR": RoundingMode.FLOOR,
    "CEIL": RoundingMode.CEIL,
    "DOWN": RoundingMode.TO_ZERO,
    "ROUND_TO_ZERO": RoundingMode.TO_ZERO,
    "UP": RoundingMode.AWAY,
}


def round_ratio(numerator: Integers, denominator: int, mode: RoundingMode = RoundingMode.HALF_EVEN) -> Integers:
    """round(numerator / denominator), exactly.

    `denominator` is positive. An int64 array must leave one bit of room: 2 * (remainder) is formed.
    """
    assert denominator > 0
    floor = numerator // denominator
    twice = (numerator - floor * denominator) * 2  # twice the remainder: compared with the denominator, it is the tie
    match mode:
        case RoundingMode.FLOOR:
            up = twice < 0  # never: the remainder is not negative
        case RoundingMode.CEIL:
            up = twice > 0
        case RoundingMode.TO_ZERO:
            up = (twice > 0) & (numerator < 0)
        case RoundingMode.AWAY:
            up = (twice > 0) & (numerator > 0)
        case RoundingMode.HALF_EVEN:
            up = (twice > denominator) | ((twice == denominator) & (floor % 2 == 1))
        case RoundingMode.HALF_AWAY:
            up = (twice > denominator) | ((twice == denominator) & (numerator > 0))
        case RoundingMode.HALF_TO_ZERO:
            up = (twice > denominator) | ((twice == denominator) & (numerator < 0))
        case RoundingMode.SIGN:
            return (numerator >= 0) * 2 - 1
        case _:
            assert_never(mode)
    return floor + up


def round_shift(value: Integers, shift: int, mode: RoundingMode = RoundingMode.HALF_EVEN) -> Integers:
    """round(value / 2^shift), exactly; `shift` >= 0. Emitted C has the same in `targets/c/fixed.h`."""
    if mode is RoundingMode.HALF_EVEN and shift > 0:  # as below in fewer steps: an odd floor goes up at the tie, too
        return (value + (1 << (shift - 1)) - 1 + ((value >> shift) & 1)) >> shift
    return round_ratio(value, 1 << shift, mode)


def lowest_numerators(codes: Integers, shift: int, mode: RoundingMode = RoundingMode.HALF_EVEN) -> Integers:
    """The lowest n with round(n / 2^shift) >= code, for each code: the inverse of `round_shift`."""
    assert mode in (RoundingMode.HALF_EVEN, RoundingMode.FLOOR)
    if mode is RoundingMode.FLOOR or shift == 0:
        return codes << shift
    return (codes << shift) - (1 << (shift - 1)) + (codes & 1)


def round_fraction(value: Fraction, mode: RoundingMode = RoundingMode.HALF_EVEN) -> int:
    """round(value) of an exact rational."""
    return round_ratio(value.numerator, value.denominator, mode)


@dataclass(frozen=True, slots=True)
class LowerBound:
    """The set of reals y >= value (inclusive) or y > value."""

    value: Fraction
    inclusive: bool

    def contains(self, y: Fraction) -> bool:
        return y >= self.value if self.inclusive else y > self.value


def rounds_to_at_least(code: int, mode: RoundingMode) -> LowerBound:
    """The reals y with round(y) >= code. This is the inverse of `round_fraction`, from which staircases are made."""
    twice, inclusive = round_bounds(code, mode)
    return LowerBound(Fraction(twice, 2), bool(inclusive))


def round_bounds(code: Integers, mode: RoundingMode) -> tuple[Integers, bool | NDArray[np.bool_]]:
    """(twice, inclusive): round(y) >= code for 2 * y >= twice or, not inclusive, for 2 * y > twice.

    SIGN has such a bound for the codes 0 and 1 alone; its quantizer clips to [-1, 1] and asks for no other.
    """
    match mode:
        case RoundingMode.FLOOR:
            return 2 * code, True
        case RoundingMode.CEIL:
            return 2 * code - 2, False
        case RoundingMode.TO_ZERO:
            return 2 * (code - (code <= 0)), code > 0
        case RoundingMode.AWAY:
            return 2 * (code - (code > 0)), code <= 0
        case RoundingMode.HALF_EVEN:
            return 2 * code - 1, code % 2 == 0
        case RoundingMode.HALF_AWAY:
            return 2 * code - 1, code > 0
        case RoundingMode.HALF_TO_ZERO:
            return 2 * code - 1, code <= 0
        case RoundingMode.SIGN:
            return 0 * code, True
        case _:
            assert_never(mode)
