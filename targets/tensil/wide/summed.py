"""Sums that are to be requantized, as words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pefslc.ir.value import Value
from pefslc.targets.tensil.machine.architecture import DataType
from pefslc.targets.tensil.wide.made_of_words import Word

__all__ = ["Summed"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """A sum to be requantized.

    value       what the estimate is made of: the sum / 2^coarser, rounded, saturated
    asked       thresholds of the estimate's value, [channels or 1, steps]
    words       the sum itself, of one or two words, the higher one first
    thresholds  its own
    """

    value: Value
    asked: Words
    words: tuple[Word, ...]
    thresholds: Words
    coarser: int = 0

    @property
    def passed(self) -> Words:
        """[channels]: how many steps are taken before the lowest sum that matters."""
        return np.asarray((self.thresholds <= self.value.type.codes.low << self.coarser).sum(axis=1))

    @property
    def inner(self) -> NDArray[np.bool_]:
        """[channels, steps]: those that are taken on the way."""
        codes, rows = self.value.type.codes, self.thresholds
        low, high = codes.low << self.coarser, codes.high << self.coarser
        return np.asarray((rows > low) & (rows <= high))

    def with_values(self, made: Callable[[Value], Value]) -> Summed:
        """With another tensor in place of each."""
        values = {v.name: v for v in (self.value, *(word.value for word in self.words))}
        new = {name: made(value) for name, value in values.items()}
        words = tuple(Word(new[word.value.name], word.up) for word in self.words)
        return replace(self, value=new[self.value.name], words=words)

    def may_be_negated(self, data_type: DataType) -> bool:
        """Whether every word is one with the other sign, too."""
        values = self.value, *(word.value for word in self.words)
        return all(value.type.codes.low > data_type.min_code for value in values)

    def mirrored(self, falls: NDArray[np.bool_]) -> Summed:
        """With thresholds of the negated sum where the code falls: a step taken up to there is taken from there on."""
        asked, thresholds = (np.where(falls[:, None], -rows, rows) for rows in (self.asked, self.thresholds))
        return replace(self, asked=asked, thresholds=thresholds)
