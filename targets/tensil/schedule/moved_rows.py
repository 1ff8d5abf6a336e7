"""Rows of weights that move: those of zeros add nothing, and need not come from DRAM1 nor pass the array.

A gap ends one MatMul and begins another, which costs an instruction and no cycle ("MatMul accumulate n=1 back to back":
1.00, rtl_measurements.txt in tests/data/tcu). A row costs its beats on the bus, and a cycle for each frame of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

__all__ = ["Flags", "ranges_of", "reads", "shortest_gap", "worth_moving"]

Flags = NDArray[np.bool_]

_MANY_ROWS = 1 << 16  # of one layer: then gaps of one row, half of all gaps, would double the instructions of a program


def shortest_gap(rows: int) -> int:
    """How many rows of zeros that follow each other are left out, at least, of so many rows."""
    return 1 if rows <= _MANY_ROWS else 2


def worth_moving(adding: Flags, shortest: int) -> Flags:
    """The rows [arrays, rows] that are moved, given which of them add something: all but gaps between these of
    `shortest` rows or more, and what lies before the first and behind the last.
    """
    moved = adding.copy()
    for gap in range(1, shortest):
        filled = adding[:, : -gap - 1] & adding[:, gap + 1 :]
        for row in range(1, gap + 1):
            moved[:, row : row + filled.shape[1]] |= filled
    return moved


def ranges_of(moved: Flags) -> list[tuple[int, range]]:
    """(array, its rows that follow each other), all in order, of flags [arrays, rows]."""
    edges = np.diff(np.pad(moved, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (arrays, firsts), (_, ends) = np.nonzero(edges > 0), np.nonzero(edges < 0)
    return [(i, range(a, b)) for i, a, b in zip(arrays.tolist(), firsts.tolist(), ends.tolist(), strict=True)]


def reads(moved: Sequence[tuple[int, range]], size: int) -> Iterator[list[tuple[int, range]]]:
    """(array, its rows), all in order: whole arrays as far as they fit `size`; one that is larger in parts."""
    read: list[tuple[int, range]] = []
    room = size
    for index, same in groupby(moved, lambda each: each[0]):
        ranges = [own for _, own in same]
        needed = sum(map(len, ranges))
        if needed > room and read:
            yield read
            read, room = [], size
        if needed <= room:
            read += [(index, own) for own in ranges]
            room -= needed
            continue
        for own in ranges:
            while len(own) > room:
                yield [*read, (index, own[:room])] if room else read
                own, read, room = own[room:], [], size
            read.append((index, own))
            room -= len(own)
    if read:
        yield read
