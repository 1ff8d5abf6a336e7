"""Whether words come near a staircase, by less work than the search for the best ones (`channel_requantize`).

Channels are searched each for itself: so what one channel lacks, all lack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.words.channel_requantize import (
    LARGEST_DEVIATION,
    ChannelRequantization,
    computed_by,
    words_of,
)
from pefslc.targets.tensil.words.channel_search import ChannelSearch, ChannelWords
from pefslc.targets.tensil.words.search_effort import Effort

__all__ = ["Channels"]

Words = NDArray[np.int64]

_PROBED = 3  # channels


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """Channels whose accumulators, placed at `exponent`, are to be requantized.

    low, high  [channels]: the codes that can occur in each
    """

    staircase: Staircase
    low: Words
    high: Words
    exponent: int
    data_type: DataType

    def may_be_close(self, effort: Effort) -> bool:
        """Whether `fit_channels` may find steps that are off by at most LARGEST_DEVIATION: False where it finds none
        for one of a few channels, with what is left of each one's budget: those whose slopes are the least like a
        multiplier's.
        """
        if self.staircase.channels <= _PROBED or self.staircase.has_many_steps:
            return True
        for c in self._search(effort).roughest(_PROBED):
            one = self._some(np.array([c]))
            search = one._search(effort.copy_of_channel(c))
            narrow = search.narrow()
            if len(one._far(narrow)) and len(one._far(search.wide(narrow))):
                return False
        return True

    def short_look(self) -> tuple[bool, ChannelRequantization | None]:
        """Whether `fit_channels` may find steps that are off by at most LARGEST_DEVIATION, and some that are so.

        Of each channel the middle of the slopes is tried, and more only where that does not do. Without steps, and
        with True, that does not say.
        """
        staircase = self.staircase
        if staircase.step != 1 or staircase.has_many_steps:
            return True, None
        words = self._search(Effort.of(staircase.channels)).narrow(slopes=0)
        far = self._far(words)
        for some in (far[:_PROBED], far[_PROBED:]):  # of those that none does for, a few are enough
            narrow, is_close = self._some(some)._best(staircase.channels) if len(some) else (None, True)
            if not is_close:
                return False, None
            if words is None or (narrow is None and len(some)):
                words = None
            elif narrow is not None:
                words.replace(some, narrow)
        if words is None:
            return True, None
        steps = words.steps(staircase.direction, self.data_type)
        computed = computed_by(steps, staircase, self.low, self.high, self.exponent, self.data_type)
        return True, ChannelRequantization(steps, computed)

    def _best(self, of: int) -> tuple[ChannelWords | None, bool]:
        """The best words with a power of two as the second multiplier, where these are close in all channels; whether
        in each channel these or others are. The budget is that of channels of so many.
        """
        narrow = self._search(Effort.of(of).of_channels(0, self.staircase.channels)).narrow()
        far = self._far(narrow)
        if not len(far):
            return narrow, True
        others = self._some(far)
        search = others._search(Effort.of(of).of_channels(0, len(far)))
        wide = search.wide(None if narrow is None else narrow.chosen(far))
        return None, not len(others._far(wide))

    def _some(self, channels: Words) -> Channels:
        whole = self.staircase
        thresholds, direction = whole.thresholds[channels], whole.direction[channels]
        own = Staircase(whole.domain_low, whole.domain_high, whole.low, thresholds, direction)
        return Channels(own, self.low[channels], self.high[channels], self.exponent, self.data_type)

    def _search(self, effort: Effort) -> ChannelSearch:
        return ChannelSearch(Steps.of(self.staircase, self.low, self.high), self.exponent, self.data_type, effort)

    def _far(self, words: ChannelWords | None) -> Words:
        """The channels where some code is off by more than LARGEST_DEVIATION; all of them without words.

        All is monotone. So none is off so far where no step is taken so many codes too late, where it should be taken
        last, or too early, where it should not be taken yet.
        """
        staircase, d = self.staircase, LARGEST_DEVIATION
        if words is None:
            return np.arange(staircase.channels, dtype=np.int64)
        steps = words.steps(staircase.direction, self.data_type)
        wanted, signs = Steps.of(staircase, self.low, self.high), staircase.direction[:, None]

        def code(codes: Words) -> Words:
            return np.clip(words_of(steps, codes * signs, self.exponent, self.data_type), staircase.low, staircase.high)

        late = wanted.is_reached & (code(wanted.reached) < wanted.levels - d)
        early = wanted.is_before & (code(wanted.before) > wanted.levels - 1 + d)
        return np.flatnonzero((late | early).any(axis=1))
