"""Of many intervals in each of many rows: a number that lies in the most of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["most_served"]

Words = NDArray[np.int64]

_ROWS = 1 << 16  # in one ascending list
_APART = np.int64(1) << 42  # what the rows are moved apart: more than any two ends


def most_served(least: Words, most: Words) -> tuple[Words, Words]:
    """Per row, a number that lies in the most of the intervals [least, most], and how many it lies outside of.

    The number is the lowest beginning of an interval where that is so. How many have begun there, and how many have
    ended, are places in the sorted ends. Up to the lowest end none has ended, and above the highest beginning none
    begins: so of the beginnings only those above the lowest end are looked at, with one more, and of the ends only
    those below the highest beginning.
    """
    rows, count = least.shape
    contradicts = least > most.min(axis=1, keepdims=True), most < least.max(axis=1, keepdims=True)
    begins, ends = (int(some.sum(axis=1).max(initial=0)) for some in contradicts)
    begins = min(begins + 1, count)
    firsts, lasts = np.sort(least, axis=1)[:, count - begins :], np.sort(most, axis=1)[:, :ends]
    row = np.arange(rows, dtype=np.int64)
    apart = (row % _ROWS)[:, None] * _APART  # all rows in one ascending list
    ended = np.empty_like(firsts)
    for start in range(0, rows, _ROWS):
        some = slice(start, start + _ROWS)
        places = np.searchsorted((lasts + apart)[some].ravel(), (firsts + apart)[some].ravel())
        ended[some] = places.reshape(-1, begins) - (row % _ROWS)[some, None] * ends
    served = np.arange(1, begins + 1) - ended
    best = served.argmax(axis=1)
    return firsts[row, best], begins - served[row, best]
