"""Number formats: what the codes of a tensor are and which values they stand for.

value = (code - zero_point) * scale. `Qm.n` counts the sign in m: Q2.3 has 5 bits, step 1/8, range [-2, 1.875].
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.scale import Scale, power_of_two_exponent

__all__ = ["MAX_FORMAT_BITS", "FixedPoint", "Quantization", "saturate"]

Integers = TypeVar("Integers", int, NDArray[np.int64])

MAX_FORMAT_BITS = 32
_FORMAT = re.compile(r"(U?)Q(-?\d{1,3})\.(-?\d{1,3})", re.ASCII)


def saturate(value: Integers, low: int, high: int) -> Integers:
    """The nearest integer to `value` in [low, high]."""
    if isinstance(value, np.ndarray):
        return np.minimum(np.maximum(value, low), high)
    return min(max(value, low), high)


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Qm.n (signed, m counts the sign) or UQm.n: m + n bits, step 2^-n. m or n may be negative."""

    integer_bits: int
    fraction_bits: int
    signed: bool = True

    @classmethod
    def parse(cls, text: str) -> FixedPoint:
        """The format that `text` names. Raises ValueError with the reason."""
        match = _FORMAT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a format: write Q2.3 (signed) or UQ3.4 (unsigned)")
        parsed = cls(int(match[2]), int(match[3]), signed=not match[1])
        if not 1 <= parsed.bits <= MAX_FORMAT_BITS:
            raise ValueError(f"{text!r} has {parsed.bits} bits: between 1 and {MAX_FORMAT_BITS} are possible")
        return parsed

    @property
    def bits(self) -> int:
        return self.integer_bits + self.fraction_bits

    @property
    def quantization(self) -> Quantization:
        return Quantization(bits=self.bits, signed=self.signed, scale=Scale.power_of_two(-self.fraction_bits))

    def __str__(self) -> str:
        return f"{'' if self.signed else 'U'}Q{self.integer_bits}.{self.fraction_bits}"

    def describe(self) -> str:
        """The format with its bits, step and range, for people."""
        q = self.quantization
        step = q.scale.step
        return (
            f"{self}: {self.bits} bits, step {float(step):g}, range [{float(q.low * step):g}, {float(q.high * step):g}]"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """A quantized tensor's type: codes of `bits` bits and the value of each.

    `narrow` drops the lowest signed (highest unsigned) code, as QONNX does.
    """

    bits: int
    signed: bool
    scale: Scale
    narrow: bool = False
    zero_point: int = 0

    @property
    def low(self) -> int:
        """The lowest code."""
        return -(1 << (self.bits - 1)) + self.narrow if self.signed else 0

    @property
    def high(self) -> int:
        """The highest code."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1 - self.narrow

    @property
    def fixed_point(self) -> FixedPoint | None:
        """The Qm.n whose width, step and signedness this has; None for other scales and for zero points."""
        if self.scale.per_channel or self.zero_point:
            return None
        exponent = power_of_two_exponent(self.scale.step)
        return None if exponent is None else FixedPoint(self.bits + exponent, -exponent, self.signed)

    def value(self, code: int, channel: int = 0) -> Fraction:
        """The value that `code` stands for."""
        return (code - self.zero_point) * self.scale.channel(channel)

    def __str__(self) -> str:
        fixed = self.fixed_point
        if fixed is not None:
            return f"{fixed}{'n' if self.narrow else ''}"
        sign = "i" if self.signed else "u"
        zero_point = f"+{self.zero_point}" if self.zero_point else ""
        return f"{sign}{self.bits}{'n' if self.narrow else ''}{zero_point}*({self.scale})"
