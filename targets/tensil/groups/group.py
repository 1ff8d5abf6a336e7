"""A group: operations that one pass through the accumulators computes, in codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.errors import Origin
from pefslc.geometry.shapes import Window
from pefslc.numeric.line import BentLine
from pefslc.numeric.staircase import Staircase
from pefslc.targets.tensil.groups.layout import Layout

__all__ = [
    "AddTensor",
    "Group",
    "Limit",
    "LinearHead",
    "MaxHead",
    "Requantization",
    "Rounding",
    "Stationary",
    "Step",
    "Term",
    "TransposeHead",
    "Weights",
    "is_copy",
]

Weights = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One convolution of a stored tensor: weight codes [C_out, C_in, KH, KW], groups expanded to zeros."""

    tensor: str
    weight: Weights
    window: Window

    def is_copy(self, factor: int = 1) -> bool:
        """Whether it is the tensor times `factor`: channel by channel and pixel by pixel, as it lies."""
        return is_copy(self.weight, self.window, factor)


def is_copy(weight: Weights, window: Window, factor: int = 1) -> bool:
    """Whether a convolution [C_out, C_in, KH, KW] is its input times `factor`."""
    if window != Window(kernel=(1, 1)):
        return False
    return np.array_equal(weight, np.eye(len(weight), dtype=np.int64)[:, :, None, None] * factor)


@dataclass(frozen=True, slots=True, eq=False)
class Stationary:
    """How a layer keeps activations in the array while its weights move (`group_rewrites.stationary_activations`).

    A *frame* is up to A output pixels, one in each lane. The first frames are the blocks of the result. The others hold
    the pixels for which some taps lie inside of the input, where they are fewer frames than the blocks that have them;
    their sums are spread over the blocks.

    taps    per frame, the taps whose products it sums, each for the pixels for which it lies inside
    pixels  a matrix of ones that brings input pixels under these taps [A lanes for each tap, input pixel]; None where
            the pixels lie so
    spread  per frame that is no block, matrices of ones that take its lanes to those of the blocks [.., blocks, A, A]
    """

    taps: tuple[tuple[int, ...], ...]
    pixels: Weights | None
    spread: Weights | None = None

    @property
    def slots(self) -> int:
        """Sums of each output channel that are held at once: the blocks, and one frame that is no block."""
        extra = 0 if self.spread is None else len(self.spread)
        return len(self.taps) - extra + min(extra, 1)


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """accumulators = bias + the sum of the terms. `bias` [C_out] in codes of the result.

    stationary  where weights move, and activations stay in the array; else None
    """

    terms: tuple[Term, ...]
    bias: Weights
    stationary: Stationary | None = None


@dataclass(frozen=True, slots=True)
class MaxHead:
    """accumulators = the maximum over each window."""

    tensor: str
    window: Window


@dataclass(frozen=True, slots=True)
class TransposeHead:
    """accumulators = the tensor with lanes and vectors exchanged: pixels in the lanes, channels as rows, or back."""

    tensor: str


@dataclass(frozen=True, slots=True)
class Requantization:
    """accumulators = staircase(accumulators).

    channels  of the tensor, on axis 1: more than the staircase tells apart, where they share it
    pixels    that share a vector: the group has all channels of one, then those of the next
    """

    staircase: Staircase
    channels: int
    pixels: int = 1


@dataclass(frozen=True, slots=True)
class Rounding:
    """accumulators = line(accumulators): a requantization of more codes than a staircase lists.

    low, high  the accumulators before it, in codes
    """

    line: BentLine
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Limit:
    """accumulators = min(max(accumulators, low), high), in codes."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class AddTensor:
    """accumulators += a stored tensor of the same layout.

    within  where the sum is known to lie, for what interval arithmetic does not see; None where it sees all
    """

    tensor: str
    within: tuple[int, int] | None = None


Step: TypeAlias = Requantization | Rounding | Limit | AddTensor


@dataclass(frozen=True, slots=True)
class Group:
    """One pass through the accumulators. `ops` are the results, by name, of the operations that it computes."""

    result: str
    layout: Layout
    head: LinearHead | MaxHead | TransposeHead
    steps: tuple[Step, ...]
    ops: tuple[str, ...]
    origin: Origin

    @property
    def tensors(self) -> list[str]:
        """The stored tensors that the group reads, each once."""
        head = [t.tensor for t in self.head.terms] if isinstance(self.head, LinearHead) else [self.head.tensor]
        return list(dict.fromkeys([*head, *(s.tensor for s in self.steps if isinstance(s, AddTensor))]))
