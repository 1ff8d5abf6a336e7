"""The budget of a search for requantizations per channel: counted work, so that the same input gives the same words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Effort"]

Words = NDArray[np.int64]

# The budget of an operation, in steps compared: some seconds for all its channels, or, where they are many, what all
# rounds take of a channel of 8-bit codes. A channel's first candidate is tried in any case.
_BUDGET = 1 << 23
_BUDGET_OF_CHANNEL = 1 << 18


@dataclass(eq=False)
class Effort:
    """What the searches for one operation may take, and what they took.

    left       [channels] steps that may still be compared
    tried      [channels] candidates that were tried
    left_out   [channels] candidates that the budget left out
    """

    left: Words
    tried: Words
    left_out: Words

    @classmethod
    def of(cls, channels: int) -> Effort:
        """The budget of an operation of so many channels."""
        none = np.zeros(channels, dtype=np.int64)
        return cls(none + max(_BUDGET // channels, _BUDGET_OF_CHANNEL), none.copy(), none.copy())

    @property
    def counts(self) -> tuple[int, int]:
        """Candidates tried, and left out."""
        return int(self.tried.sum()), int(self.left_out.sum())

    def copy_of_channel(self, channel: int) -> Effort:
        """That of one channel, to be spent apart."""
        one = slice(channel, channel + 1)
        return Effort(self.left[one].copy(), self.tried[one].copy(), self.left_out[one].copy())

    def of_channels(self, first: int, last: int) -> Effort:
        """That of channels first .. last - 1: what is spent of it is spent here."""
        return Effort(self.left[first:last], self.tried[first:last], self.left_out[first:last])
