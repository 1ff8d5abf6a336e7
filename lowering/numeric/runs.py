"""Runs of equal codes: a table's row in short, however many accumulator codes it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase

__all__ = ["Runs", "staircase_of_runs"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """A row of a table as its runs of equal codes: where each begins, and its code. The last one ends at `end`."""

    starts: Codes
    codes: Codes
    end: int

    @classmethod
    def of(cls, row: Codes, domain_low: int) -> Runs:
        starts = np.concatenate([[0], np.flatnonzero(np.diff(row)) + 1])
        return cls(domain_low + starts, row[starts], domain_low + len(row) - 1)

    @property
    def direction(self) -> int | None:
        """1 where the codes rise (or are all one), -1 where they fall."""
        changes = np.diff(self.codes)
        return 1 if (changes >= 0).all() else -1 if (changes <= 0).all() else None

    def parts(self) -> tuple[Runs, Runs] | None:
        """Up to the lowest code, or the highest, and from there on: two monotone rows whose sum is this one."""
        for turn in (int(self.codes.argmin()), int(self.codes.argmax())):
            before = Runs(self.starts[: turn + 1], self.codes[: turn + 1], self.end)
            rest = np.concatenate([[0], self.codes[turn + 1 :] - self.codes[turn]])
            after = Runs(np.concatenate([self.starts[:1], self.starts[turn + 1 :]]), rest, self.end)
            if before.direction and after.direction:
                return before, after
        return None

    def thresholds(self, levels: Codes) -> Codes:
        """Of a monotone row: where each level is reached, as a `Staircase` has it."""
        ends = np.append(self.starts, self.end + 1)  # of run i: ends[i + 1] - 1
        if self.direction == 1:
            return ends[np.searchsorted(self.codes, levels, side="left")]
        return ends[len(self.codes) - np.searchsorted(self.codes[::-1], levels, side="left")] - 1


def staircase_of_runs(rows: Sequence[Runs]) -> Staircase | None:
    """One row per channel; None where one neither rises nor falls."""
    directions = [row.direction for row in rows]
    if None in directions:
        return None
    low, high = (int(pick(pick(row.codes) for row in rows)) for pick in (min, max))
    levels = np.arange(low + 1, high + 1, dtype=np.int64)
    thresholds = np.stack([row.thresholds(levels) for row in rows])
    return Staircase(int(rows[0].starts[0]), rows[0].end, low, thresholds, np.array(directions, dtype=np.int64))
