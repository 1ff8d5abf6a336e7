"""Words for the last bits of a residual by long multiplication, where three words are too coarse.

    c(j) = rhe((2 f j + 2 g + 1 + 2 c'(j)) / 2^(bits + 1)),    and c' in the same way, or by three words

A factor f is a digit of the slope, and c' is what the lower digits carry to it: it may be anywhere in bounds that are
2^bits times as far apart. So each digit makes words for what is left easier to find, and no factor is tried: the line
says what it is. An odd number is no tie: a step is not taken early at one code and late at the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.rounding import lowest_numerators, round_shift
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.wide.active_range import FAR
from pefslc.targets.tensil.wide.fine_words import FineWords, find_words
from pefslc.targets.tensil.wide.widest_line import widest_line

__all__ = ["Digit", "LongWords", "find_long_words"]

Words = NDArray[np.int64]

_MOST_DIGITS = 3
_BLOCKS, _TRIED = 2, 8  # of words: what more of them find, one more digit finds at once


@dataclass(frozen=True, slots=True, eq=False)
class Digit:
    """factor * j + offset, [channels], to which 2 c' is added before it is divided by 2^(bits + 1).

    factor  even
    offset  odd
    """

    factor: Words
    offset: Words
    bits: int


@dataclass(frozen=True, slots=True, eq=False)
class LongWords:
    """The digits, the highest one first, and what computes the lowest c'."""

    digits: tuple[Digit, ...]
    last: FineWords

    def values(self, codes: Words, data_type: DataType, without: int = 0) -> Words:
        """c(j) [channels, codes], as the machine computes it; or what is carried to the digits before."""
        values = self.last.values(codes, data_type)
        for digit in reversed(self.digits[without:]):
            values = round_shift(np.sum(_addends(digit, codes, values), axis=0), digit.bits + 1)
        return values

    def fits(self, codes: Words, data_type: DataType) -> bool:
        """Whether the addends of each digit are summed without saturation, in whatever order: by interval arithmetic,
        for that is what checks the program.
        """
        values = self.last.values(codes, data_type)
        for digit in reversed(self.digits):
            addends = _addends(digit, codes, values)
            least = sum(np.minimum(a.min(axis=1), 0) for a in addends)
            most = sum(np.maximum(a.max(axis=1), 0) for a in addends)
            if (least < data_type.min_code).any() or (most > data_type.max_code).any():
                return False
            values = round_shift(np.sum(addends, axis=0), digit.bits + 1)
        return True


def _addends(digit: Digit, codes: Words, values: Words) -> tuple[Words, Words, Words]:
    return digit.factor[:, None] * codes, np.broadcast_to(digit.offset[:, None], values.shape), 2 * values


def find_long_words(codes: Words, least: Words, most: Words, data_type: DataType) -> LongWords | None:
    """Words with least <= c(j) <= most [channels, codes] for each code j, with as few digits as will do; None where
    none were found. Bounds of `FAR` or more are none; those in the middle of the codes should be about 0.
    """
    digits: list[Digit] = []
    bits = _bits(codes, data_type)
    while bits and len(digits) < _MOST_DIGITS:
        line = widest_line(codes, least, most, FAR)
        factor = np.rint(line.slope * (1 << bits)).astype(np.int64)
        middle = line.slope * codes[len(codes) // 2] + line.start
        offset = np.rint(middle * (1 << bits)).astype(np.int64) - factor * codes[len(codes) // 2]
        digit = Digit(2 * factor, 2 * offset + 1, bits)
        digits.append(digit)
        least, most = _carried(codes, least, most, digit)
        line = widest_line(codes, least, most, FAR)
        near = np.rint(line.slope[:, None] * codes + line.start[:, None]).astype(np.int64)
        beside = 1 << bits  # no word need be as large as the furthest bound
        bounds = np.maximum(least, near - beside), np.minimum(most, near + beside)
        last = find_words(codes, *bounds, line.slope, data_type, blocks=_BLOCKS, tried=_TRIED)
        if last.found.all():
            found = LongWords(tuple(digits), last)
            return found if found.fits(codes, data_type) else None
    return None


def _bits(codes: Words, data_type: DataType) -> int:
    """How many bits a digit may have: twice its multiples of codes are words with room for what is added to them."""
    largest, middle = int(np.abs(codes).max()), abs(int(codes[len(codes) // 2]))
    bits = 0
    while 2 << bits <= data_type.max_code // data_type.one:
        factor = 2 << bits  # of one bit more
        if factor * (largest + middle) + 2 * largest + 4 * factor > data_type.max_code:
            break
        bits += 1
    return bits


def _carried(codes: Words, least: Words, most: Words, digit: Digit) -> tuple[Words, Words]:
    """Bounds of c', where c is within bounds."""
    own = digit.factor[:, None] * codes + digit.offset[:, None]
    is_least, is_most = np.abs(least) < FAR, np.abs(most) < FAR
    low = lowest_numerators(np.where(is_least, least, 0), digit.bits + 1) - own
    high = lowest_numerators(np.where(is_most, most, 0) + 1, digit.bits + 1) - 1 - own
    return np.where(is_least, -(-low >> 1), -FAR), np.where(is_most, high >> 1, FAR)
