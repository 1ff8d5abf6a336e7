"""What a nearest-class-mean head is to the evaluation of episodes: a name, and decisions on many episodes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Decide", "Decisions", "NearestClassMean"]


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """Of the queries of E episodes.

    positions  [E, queries] int64, which class of the episode; the first of those with the best score
    tied       [E, queries] bool, whether several classes have the best score
    """

    positions: NDArray[np.int64]
    tied: NDArray[np.bool_]


# (supports [E, ways, shots], queries [E, queries]), indices of features
Decide = Callable[[NDArray[np.int64], NDArray[np.int64]], Decisions]


class NearestClassMean(Protocol):
    """A head. Its `name` tells the arithmetic, the order of averaging and the centre: no accuracy stands without it."""

    @property
    def name(self) -> str: ...

    def prepare(self, features: NDArray[np.generic], shots: int) -> Decide:
        """What decides on episodes of the features [N, D] with that many shots. Raises CompileError."""
        ...
