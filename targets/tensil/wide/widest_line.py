"""The straight line that keeps furthest away from bounds on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["WidestLine", "widest_line"]

Words = NDArray[np.int64]
Reals = NDArray[np.float64]

_STEEPEST, _MOST_TURNS = float(1 << 22), 64


@dataclass(frozen=True, slots=True, eq=False)
class WidestLine:
    """value(j) = slope * j + start, [channels]; `width` is how far apart parallels are that keep the bounds, too: below
    0 where no line does.
    """

    slope: Reals
    start: Reals
    width: Reals


def widest_line(codes: Words, least: Words, most: Words, far: int) -> WidestLine:
    """Between bounds [channels, codes] on the value at each code; at `far` or beyond there is none.

    The width is concave in the slope. Each slope has one highest lower bound and one lowest upper bound, whose distance
    is a tangent: between a tangent that rises and one that falls, the next slope is where they meet.
    """
    lower, upper = (np.where(np.abs(ends) < far, ends, sign * np.inf) for sign, ends in ((-1, least), (1, most)))
    rows = np.arange(len(least))

    def tangent(slope: Reals) -> tuple[Reals, Reals, Reals]:
        """The width at slope 0, and how it rises with the slope, of the tangent; the middle of both bounds."""
        line = slope[:, None] * codes
        at_low, at_high = (lower - line).argmax(axis=1), (upper - line).argmin(axis=1)
        low, high, own, other = lower[rows, at_low], upper[rows, at_high], codes[at_low], codes[at_high]
        return high - low, (own - other).astype(np.float64), (low + high - slope * (own + other)) / 2

    bounded = np.isfinite(lower).any(axis=1) & np.isfinite(upper).any(axis=1)
    lower[~bounded], upper[~bounded] = 0, 0
    left, right = tangent(np.full(len(rows), -_STEEPEST)), tangent(np.full(len(rows), _STEEPEST))
    slope = np.zeros(len(rows))
    for _ in range(_MOST_TURNS):
        bend = left[1] - right[1]
        met = (left[1] > 0) & (right[1] < 0)
        following = np.where(met, (right[0] - left[0]) / np.where(met, bend, 1.0), slope)
        now = tangent(following)
        better = met & (now[0] + now[1] * following < left[0] + left[1] * following - 1e-9)
        slope = following
        if not better.any():
            break
        rises = now[1] >= 0
        left = (
            np.where(better & rises, now[0], left[0]),
            np.where(better & rises, now[1], left[1]),
            left[2],
        )
        right = (
            np.where(better & ~rises, now[0], right[0]),
            np.where(better & ~rises, now[1], right[1]),
            right[2],
        )
    distance, rise, start = tangent(slope)
    return WidestLine(slope, start, np.where(bounded, distance + rise * slope, np.inf))
