"""Whether a residual of words is below 0 just where the estimate is one too many: for every sum that can occur.

The words are summed in one order, and each sum saturates:

    one word   ((sum + part) + part ...) + c(j)
    two words  (((high + part) + part ...) * 2^up + lower(j)) + low + c(j)

A part is -factor * j + offset, saturated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.machine.arithmetic import saturate
from pefslc.targets.tensil.wide.active_range import FAR
from pefslc.targets.tensil.wide.residual import Demands, Residual
from pefslc.targets.tensil.wide.shares import Shares

__all__ = ["Certificate", "Lower"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Lower:
    """What is added to 2^up times the high word: -factor * j + offset, [channels], and a low word within `ends`."""

    up: int
    factor: Words
    offset: Words
    ends: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """Of a residual whose estimates are the codes j.

    codes  all j
    parts  of the multiple of the estimate that the (high) word is compared with
    left   c(j) [channels or 1, codes]
    """

    codes: Words
    parts: Shares
    left: Words
    data_type: DataType

    def of_one_word(self, demands: Demands) -> bool:
        """Whether it answers right, asked on both sides of each step."""
        return demands.answered(lambda sums: self._word(self._with_parts(sums) + self.left))

    def of_two_words(self, demands: Demands, residual: Residual, lower: Lower) -> bool:
        """Whether the steps are where they are to be without saturation, and what comes after the parts does not take
        what has saturated to the other side.

        What is made of a high word never falls while that rises, so the furthest words on either side say it of all.
        """
        line = lower.offset[:, None] - lower.factor[:, None] * self.codes
        falls = np.minimum(line, 0) + min(lower.ends[0], 0) + np.minimum(self.left, 0)
        rises = np.maximum(line, 0) + max(lower.ends[1], 0) + np.maximum(self.left, 0)
        ends = (np.full(demands.own.shape, end) for end in (-FAR, FAR))
        least, most = (self._word(self._with_parts(end) << lower.up) for end in ends)
        reaches = ((least + rises < 0) & (most + falls >= 0)) | (demands.first > demands.last)
        steps = residual.factor[:, None] * self.codes - residual.offset[:, None] - self.left
        return bool(reaches.all() and demands.met(steps).all())

    def _with_parts(self, sums: Words) -> Words:
        """Of sums [channels, codes]."""
        for factor, offset in self.parts:
            rows = slice(0, len(sums))  # of channels that share a staircase all are alike
            sums = self._word(sums + self._word(offset[rows, None] - factor[rows, None] * self.codes))
        return sums

    def _word(self, words: Words) -> Words:
        return saturate(words, self.data_type)[0]
