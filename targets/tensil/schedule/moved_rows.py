"""Rows of weights that move: those of zeros add nothing, and need not come from DRAM1 nor pass the array.

A gap ends one MatMul and begins another, which costs an instruction and no cycle ("MatMul accumulate n=1 back to back":
1.00, rtl_measurements.txt in tests/data/tcu). A row costs its beats on the bus, and a cycle for each frame of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

__all__ = ["reads", "worth_moving"]

_SHORTEST_GAP = 2  # rows of zeros. Gaps of one are half of all gaps: they would double the instructions


def worth_moving(adding: NDArray[np.bool_]) -> list[range]:
    """The rows that are moved, given which of them add something: all but long gaps between these."""
    at = np.flatnonzero(adding)
    if not len(at):
        return []
    far = np.flatnonzero(np.diff(at) > _SHORTEST_GAP)
    firsts, lasts = [at[0], *at[far + 1].tolist()], [*at[far].tolist(), at[-1]]
    return [range(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def reads(moved: Sequence[tuple[int, range]], size: int) -> Iterator[list[tuple[int, range]]]:
    """(array, its rows), all in order: whole arrays as far as they fit `size`; one that is larger in parts."""
    read: list[tuple[int, range]] = []
    room = size
    for index, same in groupby(moved, lambda each: each[0]):
        ranges = [own for _, own in same]
        if sum(map(len, ranges)) > room and read:
            yield read
            read, room = [], size
        for own in ranges:
            while len(own) > room:
                yield [*read, (index, own[:room])] if room else read
                own, read, room = own[room:], [], size
            read.append((index, own))
            room -= len(own)
    if read:
        yield read
