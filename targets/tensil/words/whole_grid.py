"""Requantization per channel on a grid that fills the word: its lowest word is the lowest code.

    Add          b[c]     to the sums: it joins their bias
    Multiply by  M1[c]    onto a grid of 2^p words a code
    Add          A[c]     an even number
    Multiply by  1        2^-p: codes from -2^(w - 1 - p) on
    Add          centre   and Min, the upper clip

With p = 8 and words of w = 16 bits these are codes of 8 bits. The grid is twice as fine as one whose words are all
positive, or four times, so that fewer codes differ from the model's; what lies below the lowest code saturates, and
needs no clip; and with A even a MAC, which rounds the sum, gives the same as a product and an addition. So matrix
steps are three (`matrix.channel_plan`).

A SIMD product saturates before A is added. Where it does, A is near 0, and b brings the grid to where it begins:
b * M1 / 2^p + A is as near to what serves the most steps as these two integers allow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.rounding import lowest_numerators
from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.most_served import most_served
from pefslc.targets.tensil.words.steps import ChannelAdd, ChannelMultiply, Multiply, RawStep

__all__ = ["fills_word", "on_whole_grid"]

Words = NDArray[np.int64]

_SLOPES = 9  # first multipliers tried within those that two steps admit
_BIASES = 64  # tried for each
_WITHOUT_SLOPE = (1, 4, 16, 64, 256)  # where a channel takes one step at most
_FAR = np.int64(1) << 40  # beyond every demand


def fills_word(staircase: Staircase, data_type: DataType) -> bool:
    """Whether the codes of a staircase, 2^p words each, fill a word, and more than half of it. Not asked of data types
    whose products are beyond `_FAR`, and whose staircases would be long.
    """
    if 1 << 2 * data_type.width_bits >= _FAR:
        return False
    half = 1 << (data_type.width_bits - 1 - data_type.binary_point)
    return staircase.step == 1 and half <= staircase.high - staircase.low < 2 * half


def on_whole_grid(
    staircase: Staircase, low: Words, high: Words, exponent: int, room: tuple[Words, Words], data_type: DataType
) -> tuple[tuple[RawStep, ...], Words, int]:
    """Steps, the clip not among them, that compute `staircase` or nearly; what joins the bias of each channel; and how
    many steps of the staircase they miss.

    low, high  [channels]: the accumulators that can occur, in codes placed at `exponent`
    room       [channels], low and high: what may join the bias
    """
    wanted = Steps.of(staircase, low, high)
    point, sign = data_type.binary_point, staircase.direction
    centre = staircase.low + (1 << (data_type.width_bits - 1 - point))
    targets = lowest_numerators(wanted.levels - centre, point)
    ends = np.sort(np.stack(room, axis=1) * sign[:, None], axis=1)
    reach = np.maximum(np.abs(low), np.abs(high)) << exponent
    first, bias, addend, missed = np.zeros((4, staircase.channels), dtype=np.int64)
    missed += wanted.reached.shape[1] + 1
    for size in _candidates(wanted, exponent, targets, data_type).T:
        found = _offsets(wanted, exponent, size, targets, ends, reach, data_type)
        better = found[2] < missed
        first[better] = size[better]
        for kept, new in zip((bias, addend, missed), found, strict=True):
            kept[better] = new[better]
    words = tuple((first * sign).tolist())
    steps: list[RawStep] = [Multiply(words[0]) if len({*words}) == 1 else ChannelMultiply(words)]
    steps += [ChannelAdd(tuple(addend.tolist()))] if addend.any() else []
    steps += [Multiply(1)]
    steps += [ChannelAdd((centre,) * staircase.channels)] if centre else []
    return tuple(steps), bias * sign, int(missed.sum())


def _candidates(wanted: Steps, exponent: int, targets: Words, data_type: DataType) -> Words:
    """[channels, _SLOPES]: first multipliers, those first that a line through the outermost steps has."""
    inner = wanted.is_inner
    rows, last = np.arange(len(inner)), inner.shape[1] - 1
    i, j = inner.argmax(axis=1), last - inner[:, ::-1].argmax(axis=1)
    run = (wanted.reached[rows, j] - wanted.reached[rows, i]) << exponent
    rise = (targets[j] - targets[i]) << data_type.binary_point
    parts = sorted(np.linspace(-1, 1, _SLOPES), key=abs)
    codes = np.maximum(run, 1)[:, None] + np.array(parts) * (1 << exponent)
    slopes = np.rint(rise[:, None] / np.maximum(codes, 1)).astype(np.int64)
    others = np.resize(_WITHOUT_SLOPE, _SLOPES)
    return np.clip(np.where((inner.any(axis=1) & (i < j))[:, None], slopes, others), 1, data_type.max_code)


def _offsets(
    wanted: Steps, exponent: int, size: Words, targets: Words, room: Words, reach: Words, data_type: DataType
) -> tuple[Words, Words, Words]:
    """For the multipliers [channels], in the mirror where a channel falls: what joins the bias, the addend, and the
    steps missed; more than there are where no bias has room. `reach`: the largest magnitude of the sums.
    """
    point, one = data_type.binary_point, data_type.one
    edges = (targets << point) - (one >> 1)
    reached, before = (edges - (ends << exponent) * size[:, None] for ends in (wanted.reached, wanted.before))
    least = np.where(wanted.is_reached, reached + 1, -_FAR)
    most = np.where(wanted.is_before, before - 1, _FAR)
    low, high = least.max(axis=1), most.min(axis=1)
    best = np.where(low <= high, (low + high) // 2, 0)
    if len(wrong := np.flatnonzero(low > high)):
        first, _ = most_served(least[wrong], most[wrong])
        last = np.where(most[wrong] >= first[:, None], most[wrong], _FAR).min(axis=1)  # which serves as many
        best[wrong] = (first + last) // 2
    open_ended = (low == -_FAR) | (high == _FAR)  # a channel of the lowest code alone, or of the highest
    best = np.where(open_ended, np.clip(best, data_type.min_code << point, data_type.max_code << point), best)
    bias, addend, is_found = _parts(best, size, room, reach, data_type)
    total = (bias * size + (addend << point))[:, None]
    missed = np.count_nonzero((total < least) | (total > most), axis=1)
    return bias, addend, np.where(is_found, missed, edges.shape[-1] + 1)


def _parts(
    total: Words, size: Words, room: Words, reach: Words, data_type: DataType
) -> tuple[Words, Words, NDArray[np.bool_]]:
    """total / 2^p = bias * size / 2^p + addend, as nearly as may be; and whether a bias has room.

    Where a product may saturate, the lowest word plus the addend is still of the lowest code, the highest one plus the
    addend of the highest one.
    """
    half, point = data_type.one >> 1, data_type.binary_point
    saturates = (reach + _BIASES) * size >= data_type.max_code << point
    lowest = np.where(saturates, 2 - 3 * half, data_type.min_code)[:, None]
    highest = np.where(saturates, half - 2, data_type.max_code - 1)[:, None]  # even, both
    centre = np.where(saturates, (total - (-half << point)) // size, 0)
    bias = np.clip(centre, *room.T)[:, None] + np.arange(-_BIASES // 2, _BIASES // 2)
    addend = np.rint((total[:, None] - bias * size[:, None]) / (2 * data_type.one)).astype(np.int64) * 2
    fits = (room[:, :1] <= bias) & (bias <= room[:, 1:]) & (lowest <= addend) & (addend <= highest)
    error = np.abs(total[:, None] - bias * size[:, None] - (addend << point))
    place = np.where(fits, error, _FAR).argmin(axis=1)
    rows = np.arange(len(size))
    return bias[rows, place], addend[rows, place], fits[rows, place]
