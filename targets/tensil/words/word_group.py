"""A group in raw words: what placement makes of a group in codes, and the schedule reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.group import MaxHead, Stationary, TransposeHead
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.words.steps import Accumulate, AddHigh, RawStep

__all__ = ["SumHead", "WordGroup", "WordHead", "WordTerm"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class WordTerm:
    """A convolution in raw words: weight [C_out, C_in, KH, KW].

    offset  what the tensor is stored with (`WordTensor`): the convolution is of words without it
    """

    tensor: str
    weight: Words
    window: Window
    offset: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SumHead:
    """accumulators = the group's bias + the sum of its terms. `stationary`: see `groups.group.LinearHead`."""

    stationary: Stationary | None = None


WordHead: TypeAlias = SumHead | MaxHead | TransposeHead


@dataclass(frozen=True, slots=True, eq=False)
class WordGroup:
    """One pass through the accumulators, in raw words.

    terms    of a SumHead; of others none
    bias     [C]; of a MaxHead what no maximum is below
    words    bounds of the accumulators before the first step, biases included
    partial  per channel, the lowest (0 or less) and highest (0 or more) partial sum of the terms, without the bias
    sums     bounds of the accumulators after the last tensor, or high sum, was added; None without one
    carried  a constant that the stored sums carry, added by their last addition, which may saturate
    """

    result: str
    layout: Layout
    head: WordHead
    terms: tuple[WordTerm, ...]
    bias: Words
    steps: tuple[RawStep, ...]
    words: tuple[int, int]
    partial: tuple[Words, Words]
    sums: tuple[int, int] | None
    origin: Origin
    carried: int = 0

    @property
    def stationary(self) -> Stationary | None:
        """How activations stay in the array; None where weights do (`group_rewrites.stationary_activations`)."""
        return self.head.stationary if isinstance(self.head, SumHead) else None

    @property
    def add_high(self) -> AddHigh | None:
        """The step that adds sums of other tensors with the same weights; None without it."""
        return next((step for step in self.steps if isinstance(step, AddHigh)), None)

    @property
    def sides(self) -> tuple[tuple[str, ...], ...]:
        """The tensors that the terms' weights multiply: their own, and those of the high sums where there are some."""
        own = tuple(term.tensor for term in self.terms)
        return (own,) if self.add_high is None else (own, self.add_high.tensors)

    @property
    def reads_in_place(self) -> bool:
        """Whether what the group reads must be in local memory, as a whole."""
        return self.stationary is not None or isinstance(self.head, TransposeHead)

    @property
    def tensors(self) -> list[str]:
        """The stored tensors that the group reads, each once."""
        read = [t.tensor for t in self.terms] if isinstance(self.head, SumHead) else [self.head.tensor]
        if self.add_high is not None:
            read += self.add_high.tensors
        return list(dict.fromkeys([*read, *(s.tensor for s in self.steps if isinstance(s, Accumulate))]))
