"""Groups in raw words: what placement makes of a selection, and the schedule reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window
from pefslc.numeric.deviation import Deviations
from pefslc.numeric.format import FixedPoint
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.groups.group import Group, LinearHead, TransposeHead
from pefslc.targets.tensil.words.steps import Accumulate, RawStep

__all__ = ["Bounded", "Placed", "PlacedGroup", "PlacedTerm"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PlacedTerm:
    """A convolution in raw words: weight [C_out, C_in, KH, KW]."""

    tensor: str
    weight: Words
    window: Window


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """A requantization that is not certified: what it computes, and where that differs."""

    computed: Staircase
    deviations: Deviations


@dataclass(frozen=True, slots=True, eq=False)
class PlacedGroup:
    """A group in raw words. `terms` is empty but for a LinearHead; `implementation` says how each of its ops is done.

    words    bounds of the accumulators before the first step, biases included
    partial  per channel, the lowest (0 or less) and highest (0 or more) partial sum of the terms, without the bias
    sums     the same after the last tensor was added; None without one
    bounded  by operation, the requantizations that are not certified
    carried  a constant that the stored sums carry, added by their last addition, which may saturate
    """

    group: Group
    terms: tuple[PlacedTerm, ...]
    bias: Words
    steps: tuple[RawStep, ...]
    words: tuple[int, int]
    partial: tuple[Words, Words]
    sums: tuple[int, int] | None
    implementation: dict[str, str]
    exact: bool
    bounded: dict[str, Bounded] = field(default_factory=dict)
    carried: int = 0

    @property
    def weights_move(self) -> bool:
        """Whether the terms' activations stay in the array, and their weights move (`few_pixels`)."""
        return isinstance(self.group.head, LinearHead) and bool(self.group.head.stationary)

    @property
    def reads_in_place(self) -> bool:
        """Whether what the group reads must be in local memory, as a whole."""
        return self.weights_move or isinstance(self.group.head, TransposeHead)

    @property
    def tensors(self) -> list[str]:
        """The stored tensors that the group reads, each once."""
        head = self.group.head
        read = [t.tensor for t in self.terms] if isinstance(head, LinearHead) else [head.tensor]
        return list(dict.fromkeys([*read, *(s.tensor for s in self.steps if isinstance(s, Accumulate))]))


@dataclass(frozen=True, slots=True)
class Placed:
    """All groups in raw words, and the exponent of each stored tensor: code * 2^exponent = word.

    finer  in native arithmetic, of tensors whose codes are no multiples of words: code = word * finer / 2^exponent
    native the format of the words in native arithmetic, but for inputs; else None
    """

    groups: tuple[PlacedGroup, ...]
    exponents: dict[str, int]
    finer: dict[str, int] = field(default_factory=dict)
    native: FixedPoint | None = None
