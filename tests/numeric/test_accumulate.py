"""Accumulator bounds, by brute force over all inputs and all orders of tiny sums."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from pefslc.numeric.accumulate import bits_for_range, dot_bounds, fits_int64, largest_magnitude


@pytest.mark.parametrize("weights", [(1, -1), (3, -2, 1), (0, 0), (-3, -1, 0), (2, 5, 1), (-4,)])
@pytest.mark.parametrize("bounds", [(-2, 1), (0, 3), (-3, -1), (2, 2), (1, 3)])
def test_every_partial_sum_in_any_order_is_within_the_bounds_and_they_are_reached(
    weights: tuple[int, ...], bounds: tuple[int, int]
) -> None:
    low, high = bounds
    (lowest,), (highest,) = dot_bounds(np.array([weights]), low, high)
    sums = {0}
    for inputs in product(range(low, high + 1), repeat=len(weights)):
        terms = [w * x for w, x in zip(weights, inputs, strict=True)]
        for order in permutations(terms):
            sums.update(np.cumsum(order).tolist())
    assert (min(sums), max(sums)) == (lowest, highest)


def test_outputs_are_bounded_one_by_one() -> None:
    lowest, highest = dot_bounds(np.array([[1, 2], [-1, 0], [0, 0]]), -4, 3)
    assert lowest.tolist() == [-12, -3, 0]
    assert highest.tolist() == [9, 4, 0]


def test_the_width_of_a_range_is_the_narrowest_that_holds_it() -> None:
    for low in range(-40, 41):
        for high in range(low, 41):
            bits = bits_for_range(low, high)
            assert -(2 ** (bits - 1)) <= low
            assert high <= 2 ** (bits - 1) - 1
            narrower = bits - 1
            assert narrower == 0 or low < -(2 ** (narrower - 1)) or high > 2 ** (narrower - 1) - 1


def test_a_bound_beyond_64_bits_is_an_error_not_a_wrap() -> None:
    weight = np.array([[2**40, 2**40]])
    assert dot_bounds(weight, 0, 2**21)[1].tolist() == [2**62]
    with pytest.raises(OverflowError):
        dot_bounds(weight, 0, 2**22)
    assert fits_int64(2**63 - 1)
    assert not fits_int64(2**63)


def test_the_lowest_int64_is_no_hole_in_the_overflow_check() -> None:
    """np.abs of the lowest int64 is negative."""
    with pytest.raises(OverflowError):
        dot_bounds(np.array([[np.iinfo(np.int64).min]]), -4, 3)


def test_no_inputs_sum_to_zero() -> None:
    lowest, highest = dot_bounds(np.zeros((2, 0), dtype=np.int64), -4, 3)
    assert lowest.tolist() == highest.tolist() == [0, 0]


@pytest.mark.parametrize(
    "codes", [[], [0], [0, 0], [-1], [1], [-3, 2], [3, -2], [2**62, 1], [np.iinfo(np.int64).min, 5]]
)
def test_the_largest_magnitude_is_that_of_the_integers(codes: list[int]) -> None:
    assert largest_magnitude(np.array(codes, dtype=np.int64)) == max((abs(code) for code in codes), default=0)


@pytest.mark.parametrize(("low", "high"), [(-(2**40), 0), (0, 2**40), (-(2**40), 3), (-3, 2**40)])
def test_either_end_of_the_inputs_may_leave_64_bits(low: int, high: int) -> None:
    """A product of 2^63 no longer fits, one of 2^63 - 2^40 does."""
    assert dot_bounds(np.array([[2**23 - 1]]), low, high)
    with pytest.raises(OverflowError):
        dot_bounds(np.array([[2**23]]), low, high)
