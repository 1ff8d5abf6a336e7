"""Requantization per channel: BatchNorm that is kept, float scales, negative gammas, as SIMD steps.

    Multiply by M1[c]    the accumulators, on a fine grid of their own in each channel
    Add        A[c]      where that grid begins
    Multiply by M2[c]    down to the codes
    (Multiply by 1       a factor of 2^-p more: M2 is wide then, and the product M1 * M2 takes many more values)
    Max, Min             the clip

Each step is monotone and so is the sequence. It is searched as in `numeric.requantize`: from the last step backwards
the words at which the codes change are known; with M1 each demands an A at least or at most so large; what is tried is
M1 (within the slopes that the staircase admits at all) and M2 (`channel_search`). What the sequence computes is then
asked of the machine's own arithmetic, and is again a staircase: equal to the model's, or the exact list of the
differing codes. It is judged in `group_placement`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.chain import blocks
from pefslc.numeric.format import saturate
from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_search import ChannelSearch, ChannelWords, compared_steps
from pefslc.targets.tensil.words.search_effort import Effort
from pefslc.targets.tensil.words.steps import ChannelAdd, RawStep, apply_steps, of_channels
from pefslc.targets.tensil.words.whole_grid import fills_word, on_whole_grid

__all__ = [
    "LARGEST_DEVIATION",
    "ChannelRequantization",
    "computed_by",
    "fit_channels",
    "fit_whole_grid",
    "may_be_straight",
    "words_of",
]

Words = NDArray[np.int64]

LARGEST_DEVIATION = 1  # what is further off is no implementation of its staircase

_TOGETHER = 1 << 16  # pairs of steps that are held at once, for the memory that it takes


@dataclass(frozen=True, slots=True, eq=False)
class ChannelRequantization:
    """Raw steps and the staircase that they compute, on the domain of the one that was wanted.

    searched  (candidates tried, candidates) where the budget ended the search before all were tried; else None
    bias      [channels]: what joins the bias of the sums, for these steps; None for nothing
    missed    how many steps of the staircase are not taken where they should be
    """

    steps: tuple[RawStep, ...]
    computed: Staircase
    searched: tuple[int, int] | None = None
    bias: Words | None = None
    missed: int = 0


def fit_channels(
    staircase: Staircase,
    low: Words,
    high: Words,
    exponent: int,
    data_type: DataType,
    effort: Effort | None = None,
    corners: Steps | None = None,
) -> ChannelRequantization | None:
    """Steps, the clip not among them, that compute `staircase` on accumulators placed at `exponent`, or nearly.

    low, high  [channels of the staircase]: the codes that can occur in each; others are not looked at
    effort     what the search may take, where others share it
    corners    the steps to look at in the search, where all are too many: those that bound lines
    result     with the fewest codes that differ among those tried; None where the data type holds no such steps
    """
    if staircase.step != 1:
        return None
    effort = effort or Effort.of(staircase.channels)
    before = effort.counts
    channels = staircase.channels
    parts = [(0, channels)] if corners is not None else list(blocks(channels, staircase.steps))

    def search(a: int, b: int) -> ChannelSearch:
        steps = Steps.of(staircase.of_channels(a, b), low[a:b], high[a:b]) if corners is None else corners
        return ChannelSearch(steps, exponent, data_type, effort.of_channels(a, b))

    found = _joined(search(*part).narrow() for part in parts)
    if found is None or found.differing:
        narrow = found
        wide = _joined(search(*part).wide(None if narrow is None else narrow.of_channels(*part)) for part in parts)
        if wide is not None and (found is None or wide.differing < found.differing):
            found = wide
    if found is None:
        return None
    steps = found.steps(staircase.direction, data_type)
    computed = computed_by(steps, staircase, low, high, exponent, data_type)
    tried, left_out = (now - then for now, then in zip(effort.counts, before, strict=True))
    searched = (tried, tried + left_out) if left_out and found.differing else None
    return ChannelRequantization(steps, computed, searched, missed=found.differing)


def fit_whole_grid(
    staircase: Staircase,
    low: Words,
    high: Words,
    exponent: int,
    data_type: DataType,
    room: tuple[Words, Words],
) -> ChannelRequantization | None:
    """`fit_channels` on a grid that fills the word (`whole_grid`), in which what joins the bias has `room`; None where
    the codes fill none.
    """
    if not fills_word(staircase, data_type):
        return None
    steps, bias, missed = on_whole_grid(staircase, low, high, exponent, room, data_type)
    biased = (ChannelAdd(tuple(bias.tolist())), *steps)
    computed = computed_by(biased, staircase, low, high, exponent, data_type)
    return ChannelRequantization(steps, computed, None, bias, missed)


def _joined(parts: Iterator[ChannelWords | None]) -> ChannelWords | None:
    """The words of all channels; None, at once, where those of some are missing."""
    found: list[ChannelWords] = []
    for part in parts:
        if part is None:
            return None
        found.append(part)
    return ChannelWords.joined(found)


def may_be_straight(
    staircase: Staircase, low: Words, high: Words, data_type: DataType, corners: Steps | None = None
) -> bool:
    """Whether steps, at any exponent, might compute the staircase and be off by at most LARGEST_DEVIATION: False only
    where a proof says that they cannot.

    What they compute is a straight line, rounded thrice and clamped. With D the largest deviation and E the most that
    rounding adds, the line must be at least level - D - E where a step is reached, and at most level - 1 + D + E before
    it, but for the levels where it may be clamped. Each pair of such demands bounds the slope; some pairs are compared.
    """
    e = (max(data_type.max_code / 4.0**data_type.binary_point, 1.0) + 2) / 2 + 2.0**-10  # the last for float64
    if corners is not None:
        return _slopes_remain(corners, e)
    parts = blocks(staircase.channels, staircase.steps)
    return all(_slopes_remain(Steps.of(staircase.of_channels(a, b), low[a:b], high[a:b]), e) for a, b in parts)


def _slopes_remain(steps: Steps, rounding: float) -> bool:
    levels = steps.levels.astype(np.float64)
    # Before the lowest step the code must be low: no lower clamp is above that, and what must be higher is not clamped.
    lowest = np.where(steps.is_before, levels, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    highest = np.where(steps.is_reached, levels, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    above = steps.is_reached & (levels - LARGEST_DEVIATION > lowest - 1 + LARGEST_DEVIATION)
    below = steps.is_before & (levels - 1 + LARGEST_DEVIATION < highest - LARGEST_DEVIATION)
    compared = compared_steps(steps.is_inner)
    at_once = max(_TOGETHER // max(compared.shape[1], 1) ** 2, 1)
    for first in range(0, len(compared), at_once):
        channels = np.arange(first, min(first + at_once, len(compared)))[:, None]
        chosen = compared[channels[:, 0]]
        demands = levels[chosen] if levels.ndim == 1 else levels[channels, chosen]
        run = steps.before[channels, chosen][:, None, :] - steps.reached[channels, chosen][:, :, None]
        rise = demands[:, None, :] - demands[:, :, None] + 2 * (LARGEST_DEVIATION + rounding) - 1
        both = above[channels, chosen][:, :, None] & below[channels, chosen][:, None, :]
        bound = rise / np.where(run == 0, 1, run)
        most = np.where(both & (run > 0), bound, np.inf).min(axis=(1, 2), initial=np.inf)
        least = np.where(both & (run < 0), bound, -np.inf).max(axis=(1, 2), initial=-np.inf)
        if (least > most).any() or (both & (run == 0) & (rise < 0)).any():
            return False
    return True


def computed_by(
    steps: tuple[RawStep, ...], staircase: Staircase, low: Words, high: Words, exponent: int, data_type: DataType
) -> Staircase:
    """The staircase that monotone `steps` and a clip to the codes of `staircase` compute, by bisection of each step.

    Its thresholds are those of `staircase` where they differ only outside of low, high.
    """
    ends, size = np.iinfo(np.int32), (staircase.channels, staircase.steps)
    small = ends.min < staircase.domain_low and staircase.domain_high < ends.max and staircase.has_many_steps
    thresholds = np.empty(size, dtype=np.int32 if small else np.int64)  # of millions half the memory
    for first, last in blocks(*size):
        own = [of_channels(step, np.arange(first, last)) for step in steps]
        part = staircase.of_channels(first, last)
        thresholds[first:last] = _thresholds(own, part, low[first:last], high[first:last], exponent, data_type)
    return Staircase(
        staircase.domain_low,
        staircase.domain_high,
        staircase.low,
        thresholds,
        staircase.direction.copy(),
        staircase.step,
    )


def _thresholds(
    steps: Sequence[RawStep], staircase: Staircase, low: Words, high: Words, exponent: int, data_type: DataType
) -> Words:
    """Most steps are taken where they should be, and that takes a look at both sides of each. The others are bisected:
    on codes in the mirror, where a channel falls.
    """
    sign = staircase.direction[:, None]
    wanted = Steps.of(staircase, low, high)

    def taken(some: Sequence[RawStep], signs: Words, codes: Words, levels: Words) -> NDArray[np.bool_]:
        return np.asarray(words_of(some, codes * signs, exponent, data_type) >= levels)

    late = wanted.is_reached & ~taken(steps, sign, wanted.reached, wanted.levels)
    early = wanted.is_before & taken(steps, sign, wanted.before, wanted.levels)
    rows, moved = np.nonzero(late | early)
    found = staircase.thresholds.copy()
    if len(rows):
        ends = np.sort(np.stack([low, high], axis=1) * sign, axis=1)[rows]
        first, last = ends[:, :1], ends[:, 1:] + 1
        own, signs, levels = [of_channels(step, rows) for step in steps], sign[rows], wanted.levels[moved, None]
        while (first < last).any():
            middle = (first + last) >> 1
            reached = taken(own, signs, middle, levels)
            last = np.where(reached, middle, last)
            first = np.where(reached | (first == last), first, middle + 1)
        found[rows, moved] = (first * signs)[:, 0]
    return found


def words_of(steps: Sequence[RawStep], codes: Words, exponent: int, data_type: DataType) -> Words:
    """What the steps make of accumulator codes, placed at `exponent`."""
    return apply_steps(steps, saturate(codes << exponent, data_type.min_code, data_type.max_code), data_type)
