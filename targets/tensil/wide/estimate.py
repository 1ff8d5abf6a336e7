"""Estimates of codes by two multiplications per channel: cheap to find, and off by less than a step.

    code = rhe((rhe(t * M1 / 2^p) + A) * M2 / 2^p), clipped

is to be the code itself, or one more: half a step early. What rounds on its way may take up the other half. A word M1 is
seldom near enough to what a channel wants; of many M2, one makes M1 * M2 near enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_requantize import ChannelRequantization, computed_by
from pefslc.targets.tensil.words.channel_search import ChannelWords

__all__ = ["Line", "estimated", "slopes"]

Words = NDArray[np.int64]
Reals = NDArray[np.float64]

_SECONDS = 192  # second multipliers that are tried


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


def slopes(thresholds: Words, inner: NDArray[np.bool_]) -> Reals:
    """[channels]: the middle of the slopes of lines that take all inner steps; 0 without two of them.

    Of a step that is taken at t the line is in (t - 1, t]: each pair of steps bounds the slope. Least squares would do for
    an estimate, but not where a slope is nearly an integer: what rounding leaves is no noise then.
    """
    found = np.zeros(len(thresholds))
    for c, (row, taken) in enumerate(zip(thresholds, inner, strict=True)):
        at = np.flatnonzero(taken)
        if len(at) < 2:
            continue
        rise, run = row[at][None, :] - row[at][:, None], at[None, :] - at[:, None]
        later = run > 0
        most, least = (rise[later] + 1) / run[later], (rise[later] - 1) / run[later]
        found[c] = (least.max() + most.min()) / 2
    return found


def estimated(
    thresholds: Words, codes: tuple[int, int], ends: tuple[int, int], data_type: DataType, inner: NDArray[np.bool_]
) -> ChannelRequantization | None:
    """Steps on words in `ends`, and what they compute: codes [low, high], about half a step before the `thresholds`.

    thresholds  [channels, steps], rising; steps = high - low
    inner       those that are taken on the way
    None where no words come near.
    """
    words = _words(Line.through(thresholds, inner), thresholds, codes, ends, data_type)
    if words is None:
        return None
    steps = words.steps(np.ones(len(thresholds), dtype=np.int64), data_type)
    wanted = Staircase(*ends, codes[0], np.clip(thresholds, ends[0], ends[1] + 1), np.ones(len(thresholds), int))
    low, high = (np.full(len(thresholds), end, dtype=np.int64) for end in ends)
    return ChannelRequantization(steps, computed_by(steps, wanted, low, high, 0, data_type))


def _words(
    line: Line, thresholds: Words, codes: tuple[int, int], ends: tuple[int, int], data_type: DataType
) -> ChannelWords | None:
    one, most = data_type.one, data_type.max_code
    # Code low + i + 1 from half a step before the i-th threshold; a channel with one step, or none, keeps to one code.
    is_line = np.isfinite(line.slope) & (line.slope > 0)
    passed = np.where(line.first <= line.last, line.first + 1, (thresholds <= ends[0]).sum(axis=1))
    slope = np.where(is_line, 1 / np.where(is_line, line.slope, 1.0), 0.0)
    run = np.where(is_line, line.last - line.first, 0)
    middle = np.where(is_line, line.start + run / np.where(is_line, 2 * slope, 1.0), 0.0)
    code = codes[0] + passed + run / 2  # at the middle
    largest = max(abs(codes[0]), abs(codes[1]), 1)
    furthest = np.abs(np.stack([line.start, middle * 2 - line.start])).max(axis=0) * slope + 1
    least = np.ceil(one * np.maximum(largest + 1, furthest) / most)
    second = least[:, None] + np.arange(_SECONDS)
    first = np.rint(slope[:, None] * one * one / second)
    addend = np.rint(one / second * code[:, None] - middle[:, None] * first / one)
    error = np.abs(first * second / one**2 - slope[:, None]) * (run / (2 * np.where(is_line, slope, 1.0)))[:, None]
    error = error + second / one
    error = np.where((first > most) | (np.abs(addend) > most) | (second > most), np.inf, error)
    best = error.argmin(axis=1)
    rows = np.arange(len(best))
    if not (error[rows, best] < 0.5).all():
        return None
    chosen = [part[rows, best].astype(np.int64) for part in (first, addend, second)]
    return ChannelWords(chosen[0], chosen[1], chosen[2], np.zeros(len(best), dtype=np.int64), wide=False)
