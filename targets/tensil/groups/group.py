"""What selection makes of a graph: groups, each of which one pass through the accumulators computes."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    "Selection",
    "Step",
    "Term",
    "TransposeHead",
    "Weights",
]

Weights = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One convolution of a stored tensor: weight codes [C_out, C_in, KH, KW], groups expanded to zeros."""

    tensor: str
    weight: Weights
    window: Window


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """accumulators = bias + the sum of the terms. `bias` [C_out] in codes of the result.

    stationary  where weights move and activations stay in the array (`few_pixels`): per block of pixels, the taps
                that lie inside of the input for one of them
    pixels      a matrix of ones that brings input pixels there [A lanes for each of these, pixel]; None where the
                pixels lie so
    """

    terms: tuple[Term, ...]
    bias: Weights
    stationary: tuple[tuple[int, ...], ...] = ()
    pixels: Weights | None = None


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
    """

    staircase: Staircase
    channels: int


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
    """accumulators += a stored tensor of the same layout."""

    tensor: str


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


@dataclass(frozen=True, slots=True)
class Selection:
    """All groups in order, the layouts and code ranges of stored tensors, where each value is stored, and the lane
    offsets of inputs that the host packs (see `packing`).
    """

    groups: tuple[Group, ...]
    layouts: dict[str, Layout]
    ranges: dict[str, tuple[int, int]]
    storage: dict[str, str]
    packings: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
