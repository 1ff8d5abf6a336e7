"""Multiples of an estimate, -factor * j + offset in each channel, as sums of words: no weight is as wide as a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.value import CodeRange
from pefslc.targets.tensil.machine.architecture import DataType

__all__ = ["MOST_PARTS", "Shares", "bits_up", "divided", "scaled_shares", "shares"]

Words = NDArray[np.int64]
Shares = list[tuple[Words, Words]]

MOST_PARTS = 4  # sums that one factor is made of


def divided(words: Words, bits: int) -> tuple[Words, Words]:
    """Quotients by 2^bits, the nearest, and what they leave."""
    half = (1 << bits) >> 1
    quotient = (words + half) >> bits
    return quotient, words - (quotient << bits)


def shares(factor: Words, offset: Words, low: int, high: int, data_type: DataType) -> Shares | None:
    """-factor * j + offset as a sum of few such, with words for weights: each is a word for all codes j in [low, high],
    and so are its product and its offset alone, for nobody says which comes first.
    """
    largest, least, most = data_type.max_code // data_type.one, data_type.min_code, data_type.max_code
    for count in range(1, MOST_PARTS + 1):
        left, bias, parts = factor.copy(), offset.copy(), Shares()
        for i in range(count, 0, -1):
            share = left // i
            at = np.sort(np.stack([-share * low, -share * high]), axis=0)
            lowest, highest = np.maximum(least - at[0], least), np.minimum(most - at[1], most)
            if (at[0] < least).any() or (at[1] > most).any() or (lowest > highest).any():
                break
            own = np.clip(bias if i == 1 else bias // i, lowest, highest)
            parts.append((share, own))
            left, bias = left - share, bias - own
        fits = len(parts) == count and not left.any() and not bias.any()
        if fits and all(int(np.abs(share).max()) <= largest for share, _ in parts):
            return parts
    return None


def bits_up(factor: Words, codes: CodeRange, data_type: DataType) -> int:
    """How far the codes are to be moved up so that factors / 2^bits are weights; 0 where that is no help."""
    largest = data_type.max_code // data_type.one
    bits = max(int(np.abs(factor).max()) // largest, 1).bit_length()
    fits = data_type.min_code <= codes.low << bits and codes.high << bits <= data_type.max_code
    return bits if fits and (1 << bits) - 1 <= largest else 0


def scaled_shares(most: Words, rest: Words, offset: Words, low: int, high: int, data_type: DataType) -> Shares | None:
    """Two shares, one of all of a factor but its last bits, which may saturate where no code occurs."""
    ends = np.sort(np.stack([-rest * low, -rest * high]), axis=0)
    if (ends[0] + offset < data_type.min_code).any() or (ends[1] + offset > data_type.max_code).any():
        return None
    return [(most, np.zeros_like(offset)), (rest, offset)]
