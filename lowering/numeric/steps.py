"""What a staircase demands of an implementation, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase

__all__ = ["Steps", "corner_steps", "may_be_line"]

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]

_SAMPLES = 16  # steps at which a channel is looked at to tell a curve from a line
_PRODUCT_BITS = 62  # of a product whose difference to another one int64 holds


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Of each channel and step: where it must have been taken, and where it must not yet. All [channels, steps].

    A falling channel is looked at in the mirror, a' = -a, where it rises.

    levels   [steps]: the code that each step leads to; [channels, steps] where some are left out
    reached  the first a' at which the step is taken, where `is_reached`: inside the domain
    before   the last a' at which it is not, where `is_before`
    """

    levels: Codes
    reached: Codes
    is_reached: Flags
    before: Codes
    is_before: Flags

    @classmethod
    def of(cls, staircase: Staircase, low: Codes | None = None, high: Codes | None = None) -> Steps:
        """The steps of a staircase; low, high [channels]: a domain per channel, narrower than the staircase's own."""
        sign = staircase.direction[:, None]
        thresholds = staircase.thresholds * sign
        ends = _domain(staircase, low, high)
        levels = staircase.low + staircase.step * (1 + np.arange(thresholds.shape[1], dtype=np.int64))
        return cls.between(levels, thresholds, ends)

    @classmethod
    def between(cls, levels: Codes, thresholds: Codes, ends: Codes, counts: Flags | bool = True) -> Steps:
        """Of rising thresholds, on a domain [channels, 2] whose ends are in any order; `counts`: those that exist."""
        first, last = ends.min(axis=1, keepdims=True), ends.max(axis=1, keepdims=True)
        return cls(
            levels, np.maximum(thresholds, first), (thresholds <= last) & counts, np.minimum(thresholds - 1, last),
            (thresholds > first) & counts,
        )  # fmt: skip

    @property
    def is_inner(self) -> Flags:
        """The steps that are taken inside the domain."""
        return self.is_reached & self.is_before


def _domain(staircase: Staircase, low: Codes | None, high: Codes | None) -> Codes:
    """[channels, 2]: the ends of the domain of each channel, in the mirror where it falls."""
    channels = (staircase.channels,)
    lows = np.broadcast_to(np.int64(staircase.domain_low), channels) if low is None else low
    highs = np.broadcast_to(np.int64(staircase.domain_high), channels) if high is None else high
    return np.stack([lows, highs], axis=1) * staircase.direction[:, None]


def corner_steps(staircase: Staircase, low: Codes | None = None, high: Codes | None = None) -> Steps:
    """Of each channel the steps that bound straight lines: one that satisfies these satisfies all. `levels` and the
    others are [channels, some of the steps]; where a channel has fewer of them, no step is reached or before.

    low, high  [channels]: a domain per channel, narrower than the staircase's own

    A line at or above all points (reached, level) is one at or above the corners of their upper hull; one at or below
    all points (before, level) is one at or below those of their lower hull. Of n steps these are few.
    """
    levels = np.arange(staircase.steps, dtype=np.int64)
    domain = _domain(staircase, low, high)
    kept, taken = [], []  # of each channel, the steps and where they are taken
    for c in range(staircase.channels):
        rising, (first, last) = staircase.rows(c, c + 1)[0] * staircase.direction[c], np.sort(domain[c])
        upper = _corners(np.maximum(rising, first), levels[: np.searchsorted(rising, last, "right")], turn=-1)
        lower = _corners(np.minimum(rising - 1, last), levels[np.searchsorted(rising, first, "right") :], turn=1)
        kept.append(np.union1d(upper, lower))
        taken.append(rising[kept[-1]])
    most = max(map(len, kept))
    index, thresholds = np.zeros((2, staircase.channels, most), dtype=np.int64)
    for c, (own, at) in enumerate(zip(kept, taken, strict=True)):
        index[c, : len(own)], thresholds[c, : len(own)] = own, at
    is_kept = np.arange(most) < np.array([[len(own)] for own in kept])
    # The same as Steps.of, of the kept steps alone.
    return Steps.between(staircase.low + staircase.step * (1 + index), thresholds, domain, is_kept)


def may_be_line(staircase: Staircase) -> bool:
    """Whether no two of some steps of the first channel contradict a line whose floor the codes are.

    With m its slope, the line is less than m above a level at the code that takes the step. So from step i to step j,
    which are `run` codes apart, m * (run - 1) < j - i < m * (run + 1).
    """
    rising = np.sort(staircase.rows(0, 1)[0] * staircase.direction[0])
    ends = sorted(int(end * staircase.direction[0]) for end in (staircase.domain_low, staircase.domain_high))
    inner = np.flatnonzero((rising > ends[0]) & (rising <= ends[1]))
    some = inner[np.linspace(0, len(inner) - 1, min(_SAMPLES, len(inner))).astype(np.int64)] if len(inner) else inner
    rise, run = np.diff(some).tolist(), np.diff(rising[some]).tolist()
    least = [Fraction(j, r + 1) for j, r in zip(rise, run, strict=True)]
    most = [Fraction(j, r - 1) for j, r in zip(rise, run, strict=True) if r > 1]
    return not least or not most or max(least) < min(most)


def _corners(x: Codes, points: Codes, *, turn: int) -> Codes:
    """Which of the points (x[i], i) for i in `points`, a range, are corners of their lower hull (turn 1) or upper hull
    (-1); x ascends.

    A point on the wrong side of the line through its neighbours, or on it, is none. Such points are left out until
    there are none; those of one round at once, for it takes only points to rule one out, no corners. A point whose
    products are too large for int64 is kept: more points than the corners do no harm.
    """
    if len(points) > 2:  # of neighbours, whose levels are 1 apart: the round of the most points
        turns = -np.diff(x[points[0] : points[-1] + 1], 2)
        points = points[np.concatenate([[True], turns * turn > 0, [True]])]
    while len(points) > 2:
        run, rise = np.diff(x[points]), np.diff(points)
        turns = run[:-1] * rise[1:] - rise[:-1] * run[1:]
        is_kept = turns * turn > 0
        if int(run.max()).bit_length() + int(rise.max()).bit_length() > _PRODUCT_BITS:
            largest = np.maximum(run[:-1].astype(np.float64) * rise[1:], rise[:-1] * run[1:].astype(np.float64))
            is_kept |= largest >= 2.0**_PRODUCT_BITS
        is_corner = np.concatenate([[True], is_kept, [True]])
        if is_corner.all():
            break
        points = points[is_corner]
    return points
