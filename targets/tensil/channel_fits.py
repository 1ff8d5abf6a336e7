"""The requantizations per channel of one placement: searched once, within one budget for each operation.

Placement tries one exponent of the accumulators after the other, and starts again where a tensor must be moved. What
was searched is kept, and what a search took is not given again to the next one of the same operation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.channel_search import Effort
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_requantize import ChannelRequantization, fit_channels, may_be_straight

__all__ = ["ChannelFits"]

Words = NDArray[np.int64]


@dataclass(eq=False)
class ChannelFits:
    """What was searched before.

    efforts  by staircase: what is left of its budget
    """

    data_type: DataType
    efforts: dict[Staircase, Effort] = field(default_factory=dict)
    straight: dict[tuple[Staircase, bytes, bytes], bool] = field(default_factory=dict)
    found: dict[tuple[Staircase, bytes, bytes, int], ChannelRequantization | None] = field(default_factory=dict)

    def is_straight(self, staircase: Staircase, low: Words, high: Words) -> bool:
        """Whether any words might compute the staircase and be off by 1 at most: no search is needed to say no."""
        key = staircase, low.tobytes(), high.tobytes()
        if key not in self.straight:
            self.straight[key] = may_be_straight(staircase, low, high, self.data_type)
        return self.straight[key]

    def fit(self, staircase: Staircase, low: Words, high: Words, exponent: int) -> ChannelRequantization | None:
        """`fit_channels`, within what is left of the operation's budget."""
        key = staircase, low.tobytes(), high.tobytes(), exponent
        if key not in self.found:
            effort = self.efforts.setdefault(staircase, Effort.of(staircase.channels))
            self.found[key] = fit_channels(staircase, low, high, exponent, self.data_type, effort)
        return self.found[key]
