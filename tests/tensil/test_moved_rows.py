"""Which rows of weights move, and in which reads."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pefslc.targets.tensil.schedule.moved_rows import ranges_of, reads, worth_moving


@pytest.mark.parametrize("shortest", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_rows_that_add_nothing_are_left_out_where_they_are_many(seed: int, shortest: int) -> None:
    adding = np.random.default_rng(seed).random(40) < seed / 20
    moved = [i for _, rows in ranges_of(worth_moving(adding[None], shortest)) for i in rows]
    assert moved == sorted(set(moved))
    assert set(np.flatnonzero(adding)) <= set(moved)
    left_out = "".join(" " if i in moved else "0" for i in range(40)).split()
    assert all(len(gap) >= shortest for gap in left_out[1:-1])
    both = "".join("1" if some else "0" for some in adding).strip("0")
    assert sum(len(gap) for gap in both.split("1") if len(gap) >= shortest) == 40 - len(moved) - (40 - len(both))


@pytest.mark.parametrize("size", [1, 3, 8, 40])
def test_reads_take_whole_arrays_as_far_as_they_fit(size: int) -> None:
    r = np.random.default_rng(size)
    moved = [(i, range(first, first + int(r.integers(1, 4)))) for i in range(9) for first in range(0, 12, 4)]
    found = list(reads(moved, size))
    assert [(i, row) for read in found for i, rows in read for row in rows] == [
        (i, row) for i, rows in moved for row in rows
    ]
    for read, following in pairwise(found):
        assert 0 < sum(len(rows) for _, rows in read) <= size
        if read[-1][0] == following[0][0]:  # an array in parts: it does not fit as a whole
            assert sum(len(rows) for i, rows in moved if i == read[-1][0]) > size
