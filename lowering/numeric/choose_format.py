"""Choosing the power-of-two step of a number format for values that are known: by range, by share clipped, by error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import frexp

from pefslc.numeric.format import MAX_FORMAT_BITS, FixedPoint
from pefslc.numeric.rounding import round_fraction

__all__ = ["FEWEST_BITS", "AutoFormat", "Calibration", "Candidate", "candidates", "choose", "covering_format"]

FEWEST_BITS = 2  # of a tensor whose format is chosen
LARGEST_CLIPPED_SHARE = Fraction(1, 1000)
_FINER_STEPS = 5  # each halves the range
_AUTO = re.compile(r"auto:(\d{1,3})", re.ASCII)


class Calibration(Enum):
    """What makes one step better than another. The value is what --calibration takes."""

    MINMAX = "minmax"  # the finest step at which no value is clipped
    PERCENTILE = "percentile"  # the finest at which at most one value in a thousand is clipped
    MSE = "mse"  # the one with the least mean squared error, of rounding and clipping together


@dataclass(frozen=True, slots=True)
class AutoFormat:
    """auto:B - B bits everywhere, the binary point of each tensor chosen from data."""

    bits: int

    @classmethod
    def parse(cls, text: str) -> AutoFormat | None:
        """The request that `text` makes; None for what is no `auto`. Raises ValueError for an impossible width."""
        text = text.strip()
        if not text.startswith("auto"):
            return None
        match = _AUTO.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} names no width: write auto:8 for 8 bits")
        bits = int(match[1])
        if not FEWEST_BITS <= bits <= MAX_FORMAT_BITS:
            raise ValueError(f"{text!r}: between {FEWEST_BITS} and {MAX_FORMAT_BITS} bits are possible")
        return cls(bits)

    def __str__(self) -> str:
        return f"auto:{self.bits}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A format, and what it would do to the values seen so far: how many it clips, the sum of the squared errors."""

    fmt: FixedPoint
    clipped: int = 0
    squared_error: float = 0.0


def covering_format(low: float, high: float, bits: int, *, signed: bool) -> FixedPoint:
    """The finest step at which `low` and `high` round to codes of the format.

    Unsigned formats take low >= 0. Where every value is zero, the range is [-1, 1).
    """
    assert signed or low >= 0
    largest = max(-low, high)
    if not largest:
        return FixedPoint(int(signed), bits - int(signed), signed)
    # The finest step at which `largest`, or minus it, has a code of so many bits; each next is twice as coarse.
    exponent = frexp(largest)[1] - bits
    while True:
        fmt = FixedPoint(bits + exponent, -exponent, signed)
        q = fmt.quantization
        if all(q.low <= round_fraction(Fraction(v) / q.scale.step) <= q.high for v in (low, high)):
            return fmt
        exponent += 1


def candidates(low: float, high: float, bits: int, *, signed: bool) -> tuple[Candidate, ...]:
    """The formats worth measuring: the one that covers everything, and finer ones that clip, the finest last."""
    widest = covering_format(low, high, bits, signed=signed)
    return tuple(
        Candidate(FixedPoint(widest.integer_bits - i, widest.fraction_bits + i, signed)) for i in range(_FINER_STEPS)
    )


def choose(measured: Sequence[Candidate], count: int, method: Calibration) -> FixedPoint:
    """The best of `measured`, which begin with a format that clips nothing; `count` values were seen."""
    match method:
        case Calibration.MINMAX:
            best = measured[0]
        case Calibration.PERCENTILE:
            best = [c for c in measured if c.clipped <= LARGEST_CLIPPED_SHARE * count][-1]
        case Calibration.MSE:
            best = min(measured, key=lambda c: c.squared_error)
    return best.fmt
