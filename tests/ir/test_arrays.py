"""Constant arrays: what they hold, whatever memory they take."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pefslc.ir.value import IntArray, RealArray

_LARGE = 20_000


@pytest.mark.parametrize("count", [1, _LARGE])
@pytest.mark.parametrize(
    "number", [0.1, float(np.float32(0.1)), -0.0, 2.0**-1074, 2.0**300, float(np.nextafter(1, 2)), 3.0]
)
def test_a_real_array_gives_the_float64_numbers_that_it_was_given(count: int, number: float) -> None:
    given = np.full(count, number)
    array = RealArray(given.copy())
    assert array.data.dtype == np.float64
    assert array.data.tobytes() == given.tobytes()
    assert array.shape == (count,)
    with pytest.raises(ValueError, match="read-only"):
        array.data[0] = 1


def test_a_large_array_of_the_files_float32_takes_half_the_memory() -> None:
    def kept(number: float) -> int:
        before = tracemalloc.get_traced_memory()[0]
        arrays = [RealArray(np.full(_LARGE, number)) for _ in range(10)]
        return (tracemalloc.get_traced_memory()[0] - before) // len(arrays)

    tracemalloc.start()
    try:
        sizes = [kept(0.5), kept(0.1)]
    finally:
        tracemalloc.stop()
    assert sizes == [pytest.approx(4 * _LARGE, rel=0.1), pytest.approx(8 * _LARGE, rel=0.1)]


def test_arrays_compare_by_content_and_type() -> None:
    ones = np.ones(_LARGE)
    assert RealArray(ones.copy()) == RealArray(ones.copy())
    assert hash(RealArray(ones.copy())) == hash(RealArray(ones.copy()))
    assert RealArray(ones.copy()) != RealArray(ones + 1)
    assert RealArray(ones.copy()) != IntArray(ones.astype(np.int64))
