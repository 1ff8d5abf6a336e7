"""Words for the last bits of a residual, between bounds for each code j.

    c(j) = rhe((rhe(j * M1 / 2^p) + A) * M2 / 2^p)

With M1 and M2, each code bounds A on both sides: no A is tried. M2 are tried from the finest grid on, each with the M1
whose product with it is next to the slope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.rounding import lowest_numerators, round_shift
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.arithmetic import simd
from pefslc.targets.tensil.machine.instructions import SimdOperation
from pefslc.targets.tensil.wide.active_range import FAR
from pefslc.targets.tensil.words.channel_search import ChannelWords

__all__ = ["FineWords", "coarseness", "find_words"]

Words = NDArray[np.int64]

_BLOCKS, _BLOCK = 24, 16  # second multipliers that are tried, and at once
_BESIDE = np.arange(-2, 3, dtype=np.int64)  # first multipliers, beside the nearest
_LOOKED_AT, _TRIED = 64, 100  # codes; pairs of multipliers of a channel, of each block
_AT_ONCE = 1 << 21  # words, for the memory that it takes


@dataclass(frozen=True, slots=True, eq=False)
class FineWords:
    """What was found. All [channels].

    found    whether there are words
    divided  whether 2^p divides once more, at the end: then the product M1 * M2 takes many more values
    """

    found: NDArray[np.bool_]
    first: Words
    addend: Words
    second: Words
    divided: bool

    def merged(self, other: FineWords) -> FineWords:
        """These, and those of the other where there were none."""
        own = self.found
        pairs = ((self.first, other.first), (self.addend, other.addend), (self.second, other.second))
        first, addend, second = (np.where(own, a, b) for a, b in pairs)
        return FineWords(own | other.found, first, addend, second, self.divided)

    def values(self, codes: Words, data_type: DataType) -> Words:
        """c(j) [channels, codes], as the machine computes it."""
        y, _ = simd(SimdOperation.MULTIPLY, codes, self.first[:, None], data_type)
        y, _ = simd(SimdOperation.ADD, y, self.addend[:, None], data_type)
        y, _ = simd(SimdOperation.MULTIPLY, y, self.second[:, None], data_type)
        return simd(SimdOperation.MULTIPLY, y, np.ones_like(y), data_type)[0] if self.divided else y

    def computed(self, low: int, high: int, data_type: DataType) -> Staircase:
        """c as a staircase of codes in [low, high]."""
        values = self.values(np.arange(low, high + 1, dtype=np.int64), data_type)
        direction = np.where(values[:, -1] >= values[:, 0], 1, -1).astype(np.int64)
        least, most = int(values.min()), int(values.max())
        wanted, rows = np.arange(least + 1, most + 1), np.empty((len(values), most - least), dtype=np.int64)
        for c, row in enumerate(values):
            if direction[c] > 0:
                rows[c] = low + np.searchsorted(row, wanted, side="left")
            else:  # the last code with so high a c
                rows[c] = high - np.searchsorted(row[::-1], wanted, side="left")
        return Staircase(low, high, least, rows, direction)

    def words(self) -> ChannelWords:
        """As words of a requantization."""
        return ChannelWords(self.first, self.addend, self.second, np.zeros_like(self.first), wide=self.divided)


def coarseness(slope: NDArray[np.float64], codes: Words, data_type: DataType) -> NDArray[np.float64]:
    """[channels]: by how much words of that slope round before their last multiplication, at least."""
    reach = np.abs(slope) * np.abs(codes).max()
    return np.asarray(np.maximum(np.ceil(data_type.one * (reach + 1) / data_type.max_code), 1) / data_type.one)


def find_words(
    codes: Words,
    least: Words,
    most: Words,
    slope: NDArray[np.float64],
    data_type: DataType,
    *,
    divided: bool = False,
    blocks: int = _BLOCKS,
    tried: int = _TRIED,
) -> FineWords:
    """Words with least <= c(j) <= most [channels, codes] for each code j; +-2^40 or more is no bound.

    slope  [channels]: about that of c
    """
    unit = data_type.one if divided else 1  # of what the second multiplication makes
    channels, one, top = len(slope), data_type.one, data_type.max_code
    some = np.zeros(channels, dtype=np.int64)
    result = FineWords(np.zeros(channels, dtype=np.bool_), some, some.copy(), some.copy(), divided)
    is_bound = np.abs(least) < FAR, np.abs(most) < FAR
    furthest = np.maximum(np.where(is_bound[0], np.abs(least), 0), np.where(is_bound[1], np.abs(most), 0)).max(axis=1)
    # What is multiplied last must be a word, and the product of the first multiplication, too.
    reach = np.abs(slope) * max(int(np.abs(codes).max()), 1)
    finest = np.maximum(np.ceil(one * unit * (np.maximum(furthest, reach) + 1) / top), 1).astype(np.int64)
    some_codes = np.unique(np.linspace(0, len(codes) - 1, _LOOKED_AT).astype(np.int64))
    for block in range(blocks):
        rows = np.flatnonzero(~result.found)
        if not len(rows):
            break
        second = finest[rows, None] + block * _BLOCK + np.arange(_BLOCK)
        near = np.rint(slope[rows, None] * one * one * unit / second).astype(np.int64)
        pairs = near[:, :, None] + _BESIDE, np.broadcast_to(second[:, :, None], (*second.shape, len(_BESIDE)))
        m1, m2 = (part.reshape(len(rows), -1) for part in pairs)
        bounds = least[np.ix_(rows, some_codes)], most[np.ix_(rows, some_codes)]
        low, high = _addends(codes[some_codes], *bounds, (m1, m2), data_type, divided=divided)
        good = (low <= high) & (m2 <= top) & (np.abs(m1) <= top)
        # What a look at some codes leaves, a few for each channel, is tried at all of them.
        channel, place = np.nonzero(good & (np.cumsum(good, axis=1) <= tried))
        at_once = max(_AT_ONCE // len(codes), 1)
        for first in range(0, len(channel), at_once):
            own, at = channel[first : first + at_once], place[first : first + at_once]
            multipliers = m1[own, at, None], m2[own, at, None]
            low, high = (
                end[:, 0]
                for end in _addends(codes, least[rows[own]], most[rows[own]], multipliers, data_type, divided=divided)
            )
            fits = low <= high
            chosen, addend = own[fits], _even_between(low[fits], high[fits])
            words = multipliers[0][fits, 0], addend, multipliers[1][fits, 0]
            found = FineWords(np.ones(len(chosen), dtype=np.bool_), *words, divided)
            values = found.values(codes, data_type)
            right = ((least[rows[chosen]] <= values) & (values <= most[rows[chosen]])).all(axis=1)
            for is_taken in (right & (addend & 1 == 1), right & (addend & 1 == 0)):  # the latter over the former
                for part, new in zip((result.first, result.addend, result.second), words, strict=True):
                    part[rows[chosen[is_taken]]] = new[is_taken]
                result.found[rows[chosen[is_taken]]] = True
    return result


def _even_between(low: Words, high: Words) -> Words:
    """The middle, or an even number next to it: a diagonal matrix adds that to a product as SIMD does."""
    middle = (low + high) >> 1
    return np.where(low < high, middle + (middle & 1), middle)


def _addends(
    codes: Words, least: Words, most: Words, multipliers: tuple[Words, Words], data_type: DataType, *, divided: bool
) -> tuple[Words, Words]:
    """The lowest and the highest A for each pair of multipliers, [channels, pairs]; the lowest is above without one."""
    (first, second), point = multipliers, data_type.binary_point
    y = round_shift(codes * first[:, :, None], point)

    def lowest(values: Words, bounds: NDArray[np.bool_]) -> Words:
        """The lowest word that gives at least so much."""
        numbers = lowest_numerators(np.where(bounds, values, 0), point)
        numbers = lowest_numerators(numbers, point) if divided else numbers
        return -(-numbers[:, None, :] // second[:, :, None])

    is_least, is_most = np.abs(least) < FAR, np.abs(most) < FAR
    low = np.where(is_least[:, None, :], lowest(least, is_least) - y, -FAR).max(axis=2)
    high = np.where(is_most[:, None, :], lowest(most + 1, is_most) - 1 - y, FAR).min(axis=2)
    return np.maximum(low, -data_type.max_code), np.minimum(high, data_type.max_code)
