"""Lines with ties to even on both sides of some steps: the floor that takes ties up, and a correction of odd ones.

    code(a) = n - (a * numerator[c] + addend[c] == n * denominator[c] and n is odd and n > low),  n = line(a)

Where the ratio of two scales is a fraction of small numbers, 1/6 or 15/14336, accumulators lie on ties, and every other
one of those goes down. No floor of a line does that. Whether a code is on a tie is a comparison of integers. It never
falls where the line does not: `ties_taken_up` has a step between a code on a tie and the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.affine_shift import INT64_HEADROOM, AffineShift
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.staircase import Staircase, agrees_in_blocks
from pefslc.numeric.wide import WideAffine, lines_of, ties_taken_up

__all__ = ["HalfEvenLine", "fit_half_even"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class HalfEvenLine:
    """numerator, addend, denominator  [channels]
    odd  0, or 1 where an even number is an odd code: the zero point lies between
    """

    line: AffineShift | WideAffine
    numerator: Codes
    addend: Codes
    denominator: Codes
    odd: int

    def __call__(self, codes: Codes) -> Codes:
        """The output codes of `codes` [channels, points]."""
        found = self.line(codes)
        ties = codes * self.numerator[:, None] + self.addend[:, None] == found * self.denominator[:, None]
        made: Codes = found - (ties & ((found & 1) != self.odd) & (found > self.line.low))
        return made

    def of_channels(self, first: int, last: int) -> HalfEvenLine:
        """The same for channels first .. last - 1."""
        part = slice(first, last)
        arrays = (self.numerator[part], self.addend[part], self.denominator[part])
        return HalfEvenLine(self.line.of_channels(first, last), *arrays, self.odd)

    @property
    def channels(self) -> int:
        return len(self.numerator)

    def __str__(self) -> str:
        return f"{self.line}, ties to even"


def fit_half_even(staircase: Staircase, *, below: bool = False, flat: bool = False) -> HalfEvenLine | None:
    """The certified line; None where the chain is none, or rounds otherwise, or the numbers do not fit 62 bits.

    below  which piece of a chain that bends at 0 the staircase is
    flat   see `lines_of`
    """
    chains = staircase.chains
    if chains is None or chains.quantizer.rounding is not RoundingMode.HALF_EVEN:
        return None
    lines = lines_of(staircase, below=below, flat=flat)
    if lines is None or any(part.coefficient for line in lines for part in line):
        return None
    rows, low, high = [], staircase.domain_low, staircase.domain_high
    for slope, offset in lines:
        denominator = lcm(slope.rational.denominator, offset.rational.denominator)
        numerator = int(slope.rational * denominator)
        rows.append((numerator, int(offset.rational * denominator) + staircase.low * denominator, denominator))
    formed = [v for n, b, _ in rows for a in (low, high) for v in (a * n, a * n + b, b)]
    formed += [code * d for _, _, d in rows for code in (staircase.low, staircase.high)]
    if bits_for_range(min(formed), max(formed)) > INT64_HEADROOM:
        return None
    arrays = np.array(rows, dtype=np.int64).T
    q = chains.quantizer
    rounded = chains.levels.start - 1 - (q.quantization.zero_point if q.adds_zero_point_last else 0)
    odd = (staircase.low - rounded) & 1
    for candidate in ties_taken_up(staircase, lines):
        found = HalfEvenLine(candidate, arrays[0], arrays[1], arrays[2], odd)
        if agrees_in_blocks(staircase, found):
            return found
    return None
