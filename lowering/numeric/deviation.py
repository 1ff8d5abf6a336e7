"""Where two staircases differ: the exact list of codes, for what is bounded and not exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase

__all__ = ["Deviation", "Deviations", "deviations_of"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Deviation:
    """In one channel, accumulator codes first..last give a code that is `by` higher than the model's."""

    channel: int
    first: int
    last: int
    by: int

    @property
    def codes(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        """For example 40 (+1), -12..-10 (-1)."""
        span = f"{self.first}..{self.last}" if self.first != self.last else f"{self.first}"
        return f"{span} ({self.by:+})"


@dataclass(frozen=True, slots=True)
class Deviations:
    """All of one requantization. `codes` can occur, over all channels; `channels` are told apart.

    searched  (candidates tried, candidates) where a budget ended the search for a better one; else None
    """

    found: tuple[Deviation, ...]
    codes: int
    channels: int
    searched: tuple[int, int] | None = None

    @property
    def differing(self) -> int:
        return sum(d.codes for d in self.found)

    @property
    def largest(self) -> int:
        return max((abs(d.by) for d in self.found), default=0)

    @property
    def by_channel(self) -> dict[int, tuple[Deviation, ...]]:
        """The channels that differ anywhere, in order."""
        result: dict[int, list[Deviation]] = {}
        for d in self.found:
            result.setdefault(d.channel, []).append(d)
        return {channel: tuple(found) for channel, found in result.items()}

    @property
    def search(self) -> str:
        """What is to be added to a sentence where the search was ended; else nothing."""
        if self.searched is None:
            return ""
        tried, candidates = self.searched
        return f" (the search ended at its budget: {tried:,} of {candidates:,} candidates were tried)"

    def __str__(self) -> str:
        return self.text()

    def text(self, shown: int = _SHOWN) -> str:
        """How many of how many, by how much, and the first few ranges."""
        if not self.found:
            return f"none of {self.codes:,} accumulator codes differs"
        ranges = "; ".join(f"channel {d.channel} at {d}" for d in self.found[:shown])
        more = f"; and {len(self.found) - shown:,} more ranges" if len(self.found) > shown else ""
        return (
            f"{self.differing:,} of {self.codes:,} accumulator codes differ, by at most {self.largest}, in "
            f"{len(self.by_channel)} of {self.channels} channels: {ranges}{more}{self.search}"
        )


def deviations_of(
    wanted: Staircase, computed: Staircase, low: NDArray[np.int64], high: NDArray[np.int64]
) -> Deviations:
    """Where `computed` differs from `wanted`, which has the same codes and directions, on codes low..high [channels].

    A code that passed a threshold of one staircase and not of the other is off by one; where several do, by their sum.
    """
    assert wanted.thresholds.shape == computed.thresholds.shape
    assert (wanted.direction == computed.direction).all()
    assert (wanted.low, wanted.step) == (computed.low, computed.step)
    found: list[Deviation] = []
    for c in np.flatnonzero((wanted.thresholds != computed.thresholds).any(axis=1)).tolist():
        sign = int(wanted.direction[c])
        changed = wanted.thresholds[c] != computed.thresholds[c]
        # From each threshold on (downwards to it, where the channel falls) the code is a step higher.
        ours, theirs = (s.thresholds[c][changed] + (sign < 0) for s in (computed, wanted))
        gain = sign * wanted.step
        points = np.concatenate([ours, theirs])
        change = np.concatenate([np.full(len(ours), gain), np.full(len(theirs), -gain)])
        edges, where = np.unique(points, return_inverse=True)
        by = np.cumsum(np.bincount(where, weights=change)).astype(np.int64)
        for first, end, off in zip(edges[:-1].tolist(), edges[1:].tolist(), by[:-1].tolist(), strict=True):
            first, last = max(first, int(low[c])), min(end - 1, int(high[c]))
            if off and first <= last:
                found.append(Deviation(c, first, last, off))
    return Deviations(tuple(found), int((high - low + 1).sum()), wanted.channels)
