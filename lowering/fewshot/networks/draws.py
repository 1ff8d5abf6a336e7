"""What training draws: numbers that are a function of the seed and their names, such as ("order", epoch).

So an epoch's draws need no state of the epochs before, and equal seeds give equal bits on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.fewshot.data.random_words import between, random_words

__all__ = ["LARGEST_SEED", "in_twos", "integers", "permutation", "uniform"]

LARGEST_SEED = 2**63 - 1


def uniform(count: int, seed: int, what: str, *indices: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1), multiples of 2^-53."""
    return (_words(count, seed, what, indices) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(count: int, seed: int, what: str, *indices: int) -> NDArray[np.int64]:
    """The integers 0 to count - 1 in any order. Equal words, one in 2^64 pairs, keep theirs."""
    return np.argsort(_words(count, seed, what, indices), kind="stable")


def in_twos(labels: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """All positions of `labels` in an order in which two of a class follow each other; the odd one is by itself."""
    count = len(labels)
    mixed = permutation(count, seed, "order", epoch)
    by_class = mixed[np.argsort(labels[mixed], kind="stable")]  # within a class as they were mixed
    classes = labels[by_class]
    place = np.arange(count) - np.searchsorted(classes, classes)  # within the class
    first = np.flatnonzero(place % 2 == 0)
    twos = np.split(by_class, first[1:])
    return np.concatenate([twos[i] for i in permutation(len(twos), seed, "twos", epoch)])


def integers(low: int, high: int, count: int, seed: int, what: str, *indices: int) -> NDArray[np.int64]:
    """`count` integers low ... high, both included."""
    return between(_words(count, seed, what, indices), low, high)


def _words(count: int, seed: int, what: str, indices: tuple[int, ...]) -> NDArray[np.uint64]:
    return random_words(count, seed, "training", what, *map(str, indices))
