"""What a staircase demands of an implementation, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase

__all__ = ["Steps", "takes_the_steps"]

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


def takes_the_steps(staircase: Staircase, implementation: Callable[[Codes], Codes]) -> bool:
    """The certificate: whether a *monotone* implementation equals the staircase on its whole domain.

    implementation  accumulator codes [channels, points] -> codes from staircase.low to staircase.high, monotone in
                    each channel

    It does where each level is reached at the code at which the staircase reaches it, and not one code earlier: the set
    of codes that reach a level is then the same for both. Both have the same codes at the ends of the domain too, so
    that an implementation that falls where the staircase rises is noticed: it would have to be constant.
    """
    steps, sign = Steps.of(staircase), staircase.direction[:, None]
    ends = np.sort(np.array([[staircase.domain_low, staircase.domain_high]]) * sign, axis=1)
    reached, before = (np.clip(codes, ends[:, :1], ends[:, 1:]) * sign for codes in (steps.reached, steps.before))
    reaches, early = (implementation(codes) >= steps.levels for codes in (reached, before))
    if not (reaches | ~steps.is_reached).all() or (early & steps.is_before).any():
        return False
    taken = np.stack([(~steps.is_before).sum(axis=1), steps.is_reached.sum(axis=1)], axis=1)
    return bool((implementation(ends * sign) == staircase.low + staircase.step * taken).all())
