"""Certified multiplications of several words, for slopes that a product of 64 bits is too coarse for.

    code(a) = clamp(floor((a * multiplier[c] + offset[c]) / 2^shift), low, high)

Where BatchNorm stands before 16-bit codes, some accumulator code comes so close to a bound that the slope must be known
to 60 bits. Several 64-bit products hold that, since floors nest: with multiplier = high * 2^30 + low, and the offset
alike, floor((a * m + b) / 2^shift) = floor((a * m_high + b_high + floor((a * m_low + b_low) / 2^30)) / 2^(shift - 30)).
Accumulators of more than 32 bits (16-bit weights and activations) leave words of fewer bits, and more of them.

Slope and offset are those of the chain that the staircase was made of. That is a guess; the certificate decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.accumulate import bits_for_range
from pefslc.numeric.affine_shift import INT64_HEADROOM, AffineShift
from pefslc.numeric.format import saturate
from pefslc.numeric.rounding import RoundingMode
from pefslc.numeric.stages import Root
from pefslc.numeric.staircase import Staircase, agrees_in_blocks

__all__ = ["WideAffine", "fit_line", "flat_channels", "lines_of", "ties_taken_up", "word_bits_of"]

Codes = NDArray[np.int64]
Line = tuple[Root, Root]

_LONGEST_WORD, _SHORTEST_WORD, _MOST_WORDS = 30, 12, 6
_MULTIPLIER_BITS = 32 + _LONGEST_WORD  # whose high word is an int32_t: a first try, for the shorter constants


def word_bits_of(domain_low: int, domain_high: int) -> int:
    """Of all words but the highest: times a code of the domain, and a sum, they stay below 64 bits."""
    return min(INT64_HEADROOM - bits_for_range(domain_low, domain_high), _LONGEST_WORD)


@dataclass(frozen=True, slots=True, eq=False)
class WideAffine:
    """clamp(floor((a * m[c] + b[c]) / 2^shift), low, high) for codes a in [domain_low, domain_high].

    multipliers, offsets  [words, channels]: m and b, the lowest word first; a negative multiplier falls. All words but
                          the highest have `word_bits` bits and are not negative
    """

    domain_low: int
    domain_high: int
    multipliers: Codes
    offsets: Codes
    word_bits: int
    shift: int
    low: int
    high: int

    @classmethod
    def of(
        cls, domain: tuple[int, int], codes: tuple[int, int], multipliers: list[int], offsets: list[int], shift: int
    ) -> WideAffine | None:
        """In as few words as do, two at least, from `domain` to `codes`; None where none do."""
        low, high = domain
        bits = word_bits_of(low, high)
        if bits < _SHORTEST_WORD:
            return None
        for words in range(2, _MOST_WORDS + 1):
            above = bits * (words - 1)
            if above > shift:
                return None
            highest = [(m >> above, b >> above) for m, b in zip(multipliers, offsets, strict=True)]
            formed = [v for m, b in highest for a in (low, high) for v in (m, b, a * m, a * m + b)]
            carried = (1 << (INT64_HEADROOM - bits)) + 1
            if bits_for_range(min(formed) - carried, max(formed) + carried) > INT64_HEADROOM:
                continue
            mask = (1 << bits) - 1
            parts = [
                [[v >> bits * i & mask for v in values] for i in range(words - 1)] for values in (multipliers, offsets)
            ]
            m, b = (
                np.array([*part, top], dtype=np.int64)
                for part, top in zip(parts, zip(*highest, strict=True), strict=True)
            )
            return cls(low, high, m, b, bits, shift, *codes)
        return None

    @property
    def channels(self) -> int:
        return int(self.multipliers.shape[1])

    @property
    def words(self) -> int:
        return len(self.multipliers)

    @property
    def last_shift(self) -> int:
        """What the sum of the highest words is shifted by."""
        return self.shift - self.word_bits * (self.words - 1)

    @property
    def numerators(self) -> tuple[int, int]:
        """A range that holds a * highest word + highest offset + carry."""
        lines = list(zip(self.multipliers[-1].tolist(), self.offsets[-1].tolist(), strict=True))
        ends = [a * m + b for m, b in lines for a in (self.domain_low, self.domain_high)]
        return min(ends) + min(self.domain_low, 0), max(ends) + max(self.domain_high, 0) + 1

    def of_channels(self, first: int, last: int) -> WideAffine:
        """The same for channels first .. last - 1."""
        part = slice(first, last)
        return replace(self, multipliers=self.multipliers[:, part], offsets=self.offsets[:, part])

    def __call__(self, codes: Codes) -> Codes:
        """The output codes of `codes` [channels, points]."""
        total = np.zeros_like(codes)
        for m, b in zip(self.multipliers, self.offsets, strict=True):
            total = codes * m[:, None] + b[:, None] + (total >> self.word_bits)
        return saturate(total >> self.last_shift, self.low, self.high)

    def __str__(self) -> str:
        each = " per channel" if self.channels > 1 else ""
        return f"multiply-add{each} in {_NUMERALS[self.words]} words, floor-shift {self.shift}"


_NUMERALS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def fit_line(staircase: Staircase, *, below: bool = False, flat: bool = False) -> AffineShift | WideAffine | None:
    """A certified multiplication, addition and floor, in one word or else in several; None where none is the staircase.

    below  which piece of a chain that bends at 0 the staircase is
    flat   see `lines_of`
    """
    lines = lines_of(staircase, below=below, flat=flat)
    if lines is None:
        return None
    for shift, nudge in _attempts(staircase, lines):
        candidate = _candidate(staircase, lines, shift, nudge)
        if candidate is not None and agrees_in_blocks(staircase, candidate):
            return candidate
    return None


def lines_of(staircase: Staircase, *, below: bool = False, flat: bool = False) -> list[Line] | None:
    """(slope, offset) of each channel's chain; None where it is not known, or no line.

    flat  channels that take no step have slope 0: where a clip keeps them from going on, at a code where others do
    """
    chains = staircase.chains
    if staircase.step != 1 or chains is None or not staircase.steps:
        return None
    found = [chains.line(c, below=below) for c in range(staircase.channels)]
    lines = [line for line in found if line is not None]
    if len(lines) < len(found):
        return None
    if flat:
        for c, taken in flat_channels(staircase).items():
            lines[c] = (Root(Fraction(0)), Root(taken + Fraction(1, 2)))
    return lines


def flat_channels(staircase: Staircase) -> dict[int, int]:
    """The channels that take no step on the domain, and how many steps they have taken."""
    ends = staircase(np.array([[staircase.domain_low, staircase.domain_high]] * staircase.channels, dtype=np.int64))
    codes = ((ends - staircase.low) // staircase.step).tolist()
    return {c: low for c, (low, high) in enumerate(codes) if low == high}


def ties_taken_up(staircase: Staircase, lines: list[Line]) -> Iterator[AffineShift | WideAffine]:
    """Rational lines that are moved up a little, so that what hits a bound exactly reaches it, and no code before it.

    They are moved by less than the way from one code to the next.
    """
    steepness = min((abs(slope.rational) for slope, _ in lines if slope.rational), default=Fraction(0))
    for shift, nudge in _attempts(staircase, lines):
        if nudge > 0 and steepness * (1 << shift) > 2 * (_moved(staircase) + 1):
            candidate = _candidate(staircase, lines, shift, nudge)
            if candidate is not None:
                yield candidate


def _attempts(staircase: Staircase, lines: list[Line]) -> list[tuple[int, int]]:
    """(shift, nudge): the largest shift of one word, of a short high word, of two words and, where words are short, of
    more; and to which side to move.

    Where the line is rational, codes may hit a bound exactly, and all of them must fall to one side of it.
    """
    largest = max(abs(staircase.domain_low), abs(staircase.domain_high), 1)
    slopes = [_magnitude(slope) for slope, _ in lines]
    reach = max(slope * largest + _magnitude(offset) for slope, (_, offset) in zip(slopes, lines, strict=True))
    code = max(abs(staircase.low), abs(staircase.high))
    one_word = INT64_HEADROOM - 2 - _bits(reach + code)
    bits = word_bits_of(staircase.domain_low, staircase.domain_high)
    several = [one_word + bits * more for more in range(1, 2 if bits == _LONGEST_WORD else _MOST_WORDS)]
    short = min(_MULTIPLIER_BITS - 1 - _bits(max(slopes)), several[0])
    irrational = any(part.coefficient for line in lines for part in line)
    shifts = sorted({shift for shift in (one_word, short, *several) if shift >= 0})
    return [(shift, nudge) for shift in shifts for nudge in ((0,) if irrational else (1, -1))]


def _magnitude(x: Root) -> float:
    return abs(float(x.rational)) + abs(float(x.coefficient)) * sqrt(x.radicand)


def _bits(x: float) -> int:
    """How many bits the integer part of x needs, or one more."""
    return int(x).bit_length() + 1


def _candidate(staircase: Staircase, lines: list[Line], shift: int, nudge: int) -> AffineShift | WideAffine | None:
    """The line at that precision, moved by what rounding the slope may cost."""
    factor = Fraction(1 << shift)
    moved = nudge * _moved(staircase)
    lowest = staircase.low << shift
    multipliers, offsets = [], []
    for slope, offset in lines:
        multipliers.append(slope.scaled(factor).nearest())
        offsets.append(offset.scaled(factor).nearest() + moved + lowest)
    s = staircase
    ends = [a * m + b for m, b in zip(multipliers, offsets, strict=True) for a in (s.domain_low, s.domain_high)]
    products = [a * m for m in multipliers for a in (s.domain_low, s.domain_high)]
    formed = [*ends, *products, *offsets]
    if shift < 2 * _LONGEST_WORD and bits_for_range(min(formed), max(formed) + (1 << shift)) <= INT64_HEADROOM:
        m, b = (np.array(values, dtype=np.int64) for values in (multipliers, offsets))
        return AffineShift(s.domain_low, s.domain_high, m, b, shift, RoundingMode.FLOOR, s.low, s.high)
    return WideAffine.of((s.domain_low, s.domain_high), (s.low, s.high), multipliers, offsets, shift)


def _moved(staircase: Staircase) -> int:
    """What rounding costs twice: half a unit of the slope for each code, and half a unit of the offset."""
    return max(abs(staircase.domain_low), abs(staircase.domain_high)) + 1
