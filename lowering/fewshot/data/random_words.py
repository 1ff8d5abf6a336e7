"""Random numbers that every machine and every version of NumPy draws alike: Philox, its raw words, and integers alone.

NumPy may change what `Generator` makes of the words; the words themselves it promises to keep.
"""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

__all__ = ["between", "random_bytes", "random_words"]

Integers = NDArray[np.int64]


def random_words(count: int, seed: int, *names: str) -> NDArray[np.uint64]:
    """uint64 [count], uniform. The stream depends on (seed, names) only; a longer one begins with the shorter."""
    # Every name with its length: ("a", "b") is another stream than ("ab",).
    text = "".join(f"{len(name)}:{name};" for name in (str(seed), *names))
    key = np.frombuffer(sha256(text.encode("utf-8", "surrogatepass")).digest()[:16], "<u8").astype(np.uint64)
    return np.random.Philox(key=key).random_raw(count)


def random_bytes(count: int, seed: int, *names: str) -> NDArray[np.uint8]:
    """uint8 [count], uniform: the words of `random_words`, the lowest byte first."""
    return random_words(-(-count // 8), seed, *names).astype("<u8").view(np.uint8)[:count]


def between(words: NDArray[np.uint64], low: int, high: int) -> Integers:
    """Integers low ... high, both included, of the upper half of each word. The range is below 2**20.

    A value is more likely than another by less than (high - low + 1) / 2**32: nothing that one could see.
    """
    span = high - low + 1
    assert 0 < span <= 1 << 20
    upper = (words >> np.uint64(32)).astype(np.int64)
    return (upper * span >> 32) + low
