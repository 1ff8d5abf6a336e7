"""A requantization by integers: multiply, add, shift with rounding, clamp."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.format import saturate
from pefslc.numeric.line import BentLine
from pefslc.numeric.rounding import RoundingMode, round_shift

__all__ = ["INT64_HEADROOM", "AffineShift", "affine_shift_of"]

Codes = NDArray[np.int64]

INT64_HEADROOM = 62  # the rounding doubles a remainder


@dataclass(frozen=True, slots=True, eq=False)
class AffineShift:
    """clamp(round((a * multiplier[c] + offset[c]) / 2^shift), low, high) for codes a in [domain_low, domain_high].

    multiplier, offset  [channels or 1]; a negative multiplier falls, 0 is constant
    rounding            HALF_EVEN or FLOOR
    """

    domain_low: int
    domain_high: int
    multiplier: Codes
    offset: Codes
    shift: int
    rounding: RoundingMode
    low: int
    high: int

    def __post_init__(self) -> None:
        assert self.rounding in (RoundingMode.HALF_EVEN, RoundingMode.FLOOR)
        assert self.multiplier.shape == self.offset.shape
        assert bits_for_range(*self.numerators) <= INT64_HEADROOM, "the products do not fit int64"
        self.multiplier.setflags(write=False)
        self.offset.setflags(write=False)

    def __call__(self, codes: Codes) -> Codes:
        """The output codes of `codes` [channels, points]."""
        products = codes * self.multiplier[:, None] + self.offset[:, None]
        return saturate(round_shift(products, self.shift, self.rounding), self.low, self.high)

    @property
    def channels(self) -> int:
        return len(self.multiplier)

    def of_channels(self, first: int, last: int) -> AffineShift:
        """The same for channels first .. last - 1; all have the same where there is one."""
        return (
            self
            if self.channels == 1
            else replace(self, multiplier=self.multiplier[first:last], offset=self.offset[first:last])
        )

    @property
    def is_shift(self) -> bool:
        """Whether neither multiplication nor addition is needed."""
        return bool((self.multiplier == 1).all() and (self.offset == 0).all())

    @property
    def numerators(self) -> tuple[int, int]:
        """The exact range of a * m + b over the domain, half an output code included: what rounding may form."""
        low, high = self._sums
        return low, high + (1 << self.shift) // 2

    @property
    def clamps(self) -> bool:
        """Whether the clamp ever acts on the domain."""
        low, high = (round_shift(end, self.shift, self.rounding) for end in self._sums)
        return low < self.low or high > self.high

    @property
    def _sums(self) -> tuple[int, int]:
        """The exact range of a * m + b over the domain."""
        ends = [
            a * m + b
            for m, b in zip(self.multiplier.tolist(), self.offset.tolist(), strict=True)
            for a in (self.domain_low, self.domain_high)
        ]
        return min(ends), max(ends)

    def __str__(self) -> str:
        shift = f"{'round' if self.rounding is RoundingMode.HALF_EVEN else 'floor'}-shift {self.shift}"
        if self.is_shift:
            return shift if self.shift else "copy"
        each = " per channel" if self.channels > 1 else ""
        if (self.multiplier == 1).all():
            return f"add{each}, {shift}"
        return f"multiply-add{each}, {shift}"


def affine_shift_of(line: BentLine, domain_low: int, domain_high: int) -> AffineShift | None:
    """The line on [domain_low, domain_high]; None where it bends, divides by no power of two, or leaves int64."""
    denominator = line.above.denominator
    straight = line.below == line.above or domain_low >= 0 or (line.below == 0 <= line.low)  # below 0, the clip acts
    if not straight or denominator & (denominator - 1):
        return None
    numerator, shift = line.above.numerator, denominator.bit_length() - 1
    largest = max(-domain_low, domain_high) * numerator + denominator
    if bits_for_range(-largest, largest) > INT64_HEADROOM:
        return None
    multiplier, offset = np.array([numerator], dtype=np.int64), np.zeros(1, dtype=np.int64)
    mode = RoundingMode.HALF_EVEN
    return AffineShift(domain_low, domain_high, multiplier, offset, shift, mode, line.low, line.high)
