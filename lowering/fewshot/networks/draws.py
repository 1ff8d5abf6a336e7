"""Random numbers that are a function of their place: (seed, stream, index) and nothing else.

Philox counts: its raw words are the same on every machine and in every release of NumPy, and an epoch's draws need no
state of the epochs before. That is what makes a training that was stopped go on to the same bits.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_SEED", "Draws", "Stream"]

LARGEST_SEED = 2**63 - 1


class Stream(IntEnum):
    """What is drawn. Two purposes never share numbers, and a new purpose changes none of the others."""

    WEIGHTS = 0
    HEAD = 1
    ORDER = 2
    SHIFTS = 3
    MIXUP = 4


class Draws:
    """The numbers of one stream, one after the other.

    seed   0 to 2^63 - 1
    index  of the epoch, the layer, or whatever the stream counts
    """

    def __init__(self, seed: int, stream: Stream, index: int = 0) -> None:
        assert 0 <= seed <= LARGEST_SEED
        assert index >= 0
        self._bits = np.random.Philox(key=[seed, int(stream)], counter=[0, 0, 0, index])

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` raw words of 64 bits."""
        return np.asarray(self._bits.random_raw(count), dtype=np.uint64)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` numbers in [0, 1), multiples of 2^-53."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def order(self, count: int) -> NDArray[np.int64]:
        """A permutation of `count`. Equal words, one in 2^64 pairs, keep their order."""
        return np.argsort(self.words(count), kind="stable")

    def below(self, bound: int, count: int) -> NDArray[np.int64]:
        """`count` integers in [0, bound). Uneven by less than bound / 2^64."""
        return (self.words(count) % np.uint64(bound)).astype(np.int64)
