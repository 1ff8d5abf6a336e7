"""Where a sum matters: what is wanted is never the sum but its staircase, which is flat below and above.

A sum of words that saturates on its way is harmless where it can only end on the flat (`saturates_harmlessly`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase

__all__ = ["FAR", "ActiveRange", "saturates_harmlessly"]

Words = NDArray[np.int64]

FAR = 1 << 40  # beyond every sum: from there on, a bound is none


@dataclass(frozen=True, slots=True, eq=False)
class ActiveRange:
    """In each channel all codes up to `bottom` mean the same, and all codes from `top` on.

    bottom, top  [channels]; the bottom lies above the top where no code is told apart from another
    """

    bottom: Words
    top: Words

    @classmethod
    def of(cls, staircases: Iterable[Staircase], channels: int) -> ActiveRange:
        """What these staircases of one tensor tell apart."""
        bottom, top = np.full(channels, FAR), np.full(channels, -FAR)
        for staircase in staircases:
            thresholds, low, high = staircase.rows(0, staircase.channels), staircase.domain_low, staircase.domain_high
            # The first code on the far side of a step: where a channel falls, that above the threshold.
            beyond = thresholds + (staircase.direction < 0)[:, None]
            inner = (low < beyond) & (beyond <= high)
            bottom = np.minimum(bottom, np.where(inner, beyond - 1, FAR).min(axis=1, initial=FAR))
            top = np.maximum(top, np.where(inner, beyond, -FAR).max(axis=1, initial=-FAR))
        return cls(bottom, top)

    @property
    def is_told_apart(self) -> NDArray[np.bool_]:
        """[channels]: whether there is a step at all."""
        return np.asarray(self.bottom < self.top)

    def lies_in(self, low: int, high: int) -> bool:
        """Whether every step is taken inside of [low, high]."""
        apart = self.is_told_apart
        return bool((self.bottom[apart] >= low).all() and (self.top[apart] <= high).all())

    def middle(self) -> Words:
        """[channels]: the middle of the range; 0 without one."""
        return np.where(self.is_told_apart, (self.bottom + self.top) >> 1, 0)


def saturates_harmlessly(addends: Sequence[tuple[Words, Words]], active: ActiveRange, least: int, most: int) -> bool:
    """The certificate: whether sums that saturate to [least, most] after each addend mean what the true sums mean.

    addends  bounds (low, high) of each, [channels], in their order

    Let a sum saturate at `most`. What is added later takes it no lower than `most` and all that is negative of it: if
    that is not below the top, the sum ends on the flat. The true sum is not lower, for only the top cut it: it never
    came near `least` again. The same holds of the other end. Where neither end can be reached, nothing saturates.
    """
    lowest, highest = (np.zeros(len(active.top), dtype=np.int64) for _ in range(2))
    for i, (low, high) in enumerate(addends):
        lowest, highest = lowest + low, highest + high
        later = addends[i + 1 :]
        falls = sum((np.minimum(a, 0) for a, _ in later), start=np.zeros_like(lowest))
        rises = sum((np.maximum(b, 0) for _, b in later), start=np.zeros_like(lowest))
        if ((highest > most) & (most + falls < active.top)).any():
            return False
        if ((lowest < least) & (least + rises > active.bottom)).any():
            return False
        lowest, highest = np.maximum(lowest, least), np.minimum(highest, most)
    return True
