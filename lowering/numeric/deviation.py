"""Where two staircases differ: the exact list of codes, for what is bounded and not exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.chain import blocks
from pefslc.numeric.staircase import Staircase

__all__ = ["Deviation", "Deviations", "deviations_of", "ended_search", "largest_deviation"]

Codes = NDArray[np.int64]
Spans = tuple[Codes, Codes, Codes]  # first and last codes, and by how much these are off

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
    """All of one requantization. `codes` can occur, over all `channels` of the tensor.

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
        return ended_search(self.searched)

    def __str__(self) -> str:
        return self.text()

    def text(self, shown: int = _SHOWN) -> str:
        """How many of how many, by how much, and the first few ranges."""
        if not self.found:
            return f"none of {self.codes:,} accumulator codes differs"
        listed = self._listed()
        more = f"; and {len(listed) - shown:,} more ranges" if len(listed) > shown else ""
        return (
            f"{self.differing:,} of {self.codes:,} accumulator codes differ, by at most {self.largest}, in "
            f"{len(self.by_channel)} of {self.channels} channels: {'; '.join(listed[:shown])}{more}{self.search}"
        )

    def _listed(self) -> list[str]:
        """Every range; once, where several channels have the same ones and no channel has others."""
        by_channel = self.by_channel
        texts = {tuple(map(str, found)) for found in by_channel.values()}
        if self.channels > 1 and len(by_channel) == self.channels and len(texts) == 1:
            return [f"every channel at {text}" for text in texts.pop()]
        return [f"channel {d.channel} at {d}" for d in self.found]


def ended_search(searched: tuple[int, int] | None) -> str:
    """What is to be added to a sentence where a search was ended at (candidates tried, candidates); else nothing."""
    if searched is None:
        return ""
    tried, candidates = searched
    return f" (the search ended at its budget: {tried:,} of {candidates:,} candidates were tried)"


def deviations_of(wanted: Staircase, computed: Staircase, low: Codes, high: Codes) -> Deviations:
    """Where `computed` differs from `wanted`, which has the same codes and directions.

    low, high  [channels of the tensor]: the codes that can occur in each. A staircase of one channel is that of all of
               them: each has a list of its own, for its codes are its own

    A code that passed a threshold of one staircase and not of the other is off by one; where several do, by their sum.
    """
    found = [
        Deviation(channel, *span)
        for channel, spans in _spans(wanted, computed, low, high)
        for span in zip(*(ends.tolist() for ends in spans), strict=True)
    ]
    return Deviations(tuple(found), int((high - low + 1).sum()), len(low))


def largest_deviation(wanted: Staircase, computed: Staircase, low: Codes, high: Codes) -> int:
    """By how much `computed` is off at most: `deviations_of` without the list, which may be long."""
    return max((int(np.abs(by).max(initial=0)) for _, (_, _, by) in _spans(wanted, computed, low, high)), default=0)


def _spans(wanted: Staircase, computed: Staircase, low: Codes, high: Codes) -> Iterator[tuple[int, Spans]]:
    """By channel: the codes that can occur, on which both differ."""
    assert (wanted.channels, wanted.steps) == (computed.channels, computed.steps)
    assert (wanted.direction == computed.direction).all()
    assert (wanted.low, wanted.step) == (computed.low, computed.step)
    assert low.shape == high.shape
    assert wanted.channels in (1, len(low))
    by_row: dict[int, Spans] = {}
    for begin, end in blocks(wanted.channels, wanted.steps):
        ours, theirs = computed.rows(begin, end), wanted.rows(begin, end)
        for row in np.flatnonzero((ours != theirs).any(axis=1)).tolist():
            gain = int(wanted.direction[begin + row]) * wanted.step
            by_row[begin + row] = _ranges(ours[row], theirs[row], gain)
    for c, (lowest, highest) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        row = c if wanted.channels > 1 else 0
        if row in by_row:
            first, last, by = by_row[row]
            first, last = np.maximum(first, lowest), np.minimum(last, highest)
            occurs = first <= last
            yield c, (first[occurs], last[occurs], by[occurs])


def _ranges(computed: Codes, wanted: Codes, gain: int) -> Spans:
    """The codes, whether they can occur or not, on which two rows of thresholds differ.

    gain  what a step adds to the code, negative where the thresholds fall
    """
    changed = wanted != computed
    # From each threshold on (downwards to it, where the channel falls) the code is a step higher.
    ours, theirs = (row[changed].astype(np.int64) + (gain < 0) for row in (computed, wanted))
    points = np.concatenate([ours, theirs])
    change = np.concatenate([np.full(len(ours), gain), np.full(len(theirs), -gain)])
    edges, where = np.unique(points, return_inverse=True)
    by = np.cumsum(np.bincount(where, weights=change)).astype(np.int64)
    off = by[:-1] != 0
    return edges[:-1][off], edges[1:][off] - 1, by[:-1][off]
