"""What a staircase demands of an implementation, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase

__all__ = ["Steps"]

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Of each channel and step: where it must have been taken, and where it must not yet. All [channels, steps].

    A falling channel is looked at in the mirror, a' = -a, where it rises.

    levels   [steps]: the code that each step leads to
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
        channels = (staircase.channels,)
        lows = np.broadcast_to(np.int64(staircase.domain_low), channels) if low is None else low
        highs = np.broadcast_to(np.int64(staircase.domain_high), channels) if high is None else high
        ends = np.stack([lows, highs], axis=1) * sign
        first, last = ends.min(axis=1, keepdims=True), ends.max(axis=1, keepdims=True)
        levels = staircase.low + staircase.step * (1 + np.arange(thresholds.shape[1], dtype=np.int64))
        return cls(
            levels, np.maximum(thresholds, first), thresholds <= last, np.minimum(thresholds - 1, last),
            thresholds > first,
        )  # fmt: skip

    @property
    def is_inner(self) -> Flags:
        """The steps that are taken inside the domain."""
        return self.is_reached & self.is_before
