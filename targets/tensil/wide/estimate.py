"""Estimates of codes by two or three multiplications per channel: cheap to find, and off by less than a step.

    code = rhe((rhe(t * M1 / 2^p) + A) * M2 / 2^p), clipped

is to be the code itself, or one more: half a step early. What rounds on its way may take up the other half. A word
M1 is seldom near enough to what a channel wants; of many M2, one makes M1 * M2 near enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_requantize import ChannelRequantization, computed_by
from pefslc.targets.tensil.words.steps import ChannelAdd, ChannelMultiply, Multiply, RawStep

__all__ = ["Line", "estimated"]

Words = NDArray[np.int64]
Reals = NDArray[np.float64]

_SECONDS, _FEW_SECONDS = 192, 12  # last multipliers that are tried: of two, of three


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Where a channel's steps are taken, about: the i-th at t = slope * (i - first) + start, all [channels].

    inner        [channels, steps]: the steps that are taken on the way
    first, last  the first and the last inner step; first > last without one
    """

    inner: NDArray[np.bool_]
    first: Words
    last: Words
    start: Reals
    slope: Reals

    @classmethod
    def through(cls, thresholds: Words, inner: NDArray[np.bool_]) -> Line:
        """Through those of the rising `thresholds` [channels, steps] that are inner."""
        some, steps = inner.any(axis=1), thresholds.shape[1]
        first = np.where(some, inner.argmax(axis=1), steps)
        last = np.where(some, steps - 1 - inner[:, ::-1].argmax(axis=1), -1)
        # By least squares: a step that is taken at t lies somewhere in (t - 1, t].
        count = np.maximum(inner.sum(axis=1), 1)
        places = np.where(inner, np.arange(steps), 0)
        taken = np.where(inner, thresholds, 0) - 0.5 * inner
        mean_place, mean = places.sum(axis=1) / count, taken.sum(axis=1) / count
        away = np.where(inner, places - mean_place[:, None], 0)
        spread = (away * away).sum(axis=1)
        slope = np.where(spread > 0, (away * taken).sum(axis=1) / np.where(spread > 0, spread, 1), np.inf)
        start = np.where(spread > 0, mean + np.where(spread > 0, slope, 0) * (first - mean_place), mean)
        return cls(inner, first, last, start, slope)


def estimated(
    thresholds: Words,
    codes: tuple[int, int],
    ends: tuple[int, int],
    data_type: DataType,
    inner: NDArray[np.bool_],
    passed: Words,
) -> ChannelRequantization | None:
    """Steps on words in `ends`, and what they compute: codes [low, high], about half a step before the `thresholds`.

    thresholds  [channels, steps], rising; steps = high - low
    inner       those that are taken on the way
    passed      [channels]: how many are, where none is taken on the way
    None where no words come near.
    """
    steps = _steps(Line.through(thresholds, inner), passed, codes, data_type)
    if steps is None:
        return None
    wanted = Staircase(*ends, codes[0], np.clip(thresholds, ends[0], ends[1] + 1), np.ones(len(thresholds), int))
    low, high = (np.full(len(thresholds), end, dtype=np.int64) for end in ends)
    return ChannelRequantization(steps, computed_by(steps, wanted, low, high, 0, data_type))


def _steps(line: Line, passed: Words, codes: tuple[int, int], data_type: DataType) -> tuple[RawStep, ...] | None:
    one, most = data_type.one, data_type.max_code
    # Code low + i + 1 from half a step before the i-th threshold; a channel with one step, or none, keeps to one code.
    is_line = np.isfinite(line.slope) & (line.slope > 0)
    passed = np.where(line.first <= line.last, line.first + 1, passed)
    slope = np.where(is_line, 1 / np.where(is_line, line.slope, 1.0), 0.0)
    run = np.where(is_line, line.last - line.first, 0)
    reach = run / (2 * np.where(is_line, slope, 1.0))  # from the middle to either end
    middle = np.where(is_line, line.start + reach, 0.0)
    code = codes[0] + passed + run / 2  # at the middle
    largest = max(abs(codes[0]), abs(codes[1]), 1)
    furthest = (np.abs(middle) + reach) * slope + 1
    least = np.ceil(one * np.maximum(largest + 1, furthest) / most)
    rows = np.arange(len(slope))
    for between in (np.array([one]), np.arange(one // 2 + 1, one)):  # a third multiplier, where two are too coarse
        second = (least[:, None] + np.arange(_SECONDS if len(between) == 1 else _FEW_SECONDS))[:, :, None]
        first = np.rint(slope[:, None, None] * one**3 / second / between)
        product = first * between / one  # of both
        error = np.abs(product * second / one**2 - slope[:, None, None]) * reach[:, None, None]
        error = error + second / one * (1 if len(between) == 1 else 1.5)
        product_too_wide = first * (np.abs(middle) + reach)[:, None, None] > one * most  # the first one is the widest
        error = np.where((first > most) | (second > most) | product_too_wide, np.inf, error)
        best = error.reshape(len(rows), -1).argmin(axis=1)
        at = np.unravel_index(best, error.shape[1:])
        if not (error[rows, at[0], at[1]] < 0.5).all():
            continue
        last, chosen = second[rows, at[0], 0], first[rows, at[0], at[1]]
        wanted = one / last * code - middle * chosen * between[at[1]] / one**2
        # An even one costs no step of its own in a diagonal matrix, and may be one off.
        may_be_even = error[rows, at[0], at[1]] + last / one / 2 < 0.5
        addend = np.where(may_be_even, 2 * np.rint(wanted / 2), np.rint(wanted))
        if (np.abs(addend) > most).any():
            continue
        words = [part.astype(np.int64) for part in (chosen, between[at[1]], addend, last)]
        made = [_multiply(words[0])]
        made += [] if len(between) == 1 else [_multiply(words[1])]
        return *made, ChannelAdd(tuple(words[2].tolist())), _multiply(words[3])
    return None


def _multiply(words: Words) -> Multiply | ChannelMultiply:
    return Multiply(int(words[0])) if (words == words[0]).all() else ChannelMultiply(tuple(words.tolist()))
