"""The list of differing codes against both staircases, evaluated code by code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.deviation import Deviations, deviations_of
from pefslc.numeric.staircase import Staircase

LOW, HIGH = -20, 20


@st.composite
def staircase_pairs(draw: st.DrawFn) -> tuple[Staircase, Staircase]:
    """Two staircases of the same codes and directions."""
    channels, steps = draw(st.integers(1, 3)), draw(st.integers(0, 5))
    direction = np.array(draw(st.lists(st.sampled_from([1, -1]), min_size=channels, max_size=channels)))
    step = draw(st.sampled_from([1, 2]))

    def one() -> Staircase:
        row = st.lists(st.integers(LOW - 1, HIGH + 1), min_size=steps, max_size=steps).map(sorted)
        rows = np.array([draw(row) for _ in range(channels)], dtype=np.int64).reshape(channels, steps)
        return Staircase(LOW, HIGH, -3, ordered(rows, direction), direction, step)

    return one(), one()


def ordered(rows: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Along the steps, thresholds rise where the direction is 1 and fall where it is -1."""
    return np.where(direction[:, None] > 0, rows, rows[:, ::-1])


@given(staircase_pairs(), st.data())
def test_the_list_is_the_difference_code_by_code(pair: tuple[Staircase, Staircase], data: st.DataObject) -> None:
    wanted, computed = pair
    ends = [sorted(data.draw(st.tuples(st.integers(LOW, HIGH), st.integers(LOW, HIGH)))) for _ in wanted.direction]
    low, high = np.array(ends, dtype=np.int64).T
    found = deviations_of(wanted, computed, low, high)
    differing = 0
    for c in range(wanted.channels):
        codes = np.arange(low[c], high[c] + 1)
        every = np.tile(codes, (wanted.channels, 1))
        by = (computed(every) - wanted(every))[c]
        listed = np.zeros_like(codes)
        for d in found.by_channel.get(c, ()):
            assert not listed[d.first - low[c] : d.last - low[c] + 1].any(), "ranges do not overlap"
            listed[d.first - low[c] : d.last - low[c] + 1] = d.by
        assert np.array_equal(listed, by)
        differing += int((by != 0).sum())
        assert np.abs(by).max() <= found.largest
    assert (found.differing, found.codes) == (differing, int((high - low + 1).sum()))
    assert (found.largest == 0) == (differing == 0)


def test_a_difference_reads_as_a_sentence() -> None:
    wanted = Staircase(0, 9, 0, np.array([[3, 6], [2, 4]]), np.array([1, 1]))
    computed = Staircase(0, 9, 0, np.array([[3, 8], [1, 4]]), np.array([1, 1]))
    found = deviations_of(wanted, computed, np.array([0, 0]), np.array([9, 9]))
    assert str(found) == (
        "3 of 20 accumulator codes differ, by at most 1, in 2 of 2 channels: "
        "channel 0 at 6..7 (-1); channel 1 at 1 (+1)"
    )
    assert found.text(1).endswith("channel 0 at 6..7 (-1); and 1 more ranges")
    assert str(Deviations((), 20, 2)) == "none of 20 accumulator codes differs"


@pytest.mark.parametrize("direction", [1, -1])
def test_the_side_of_a_threshold_follows_the_direction(direction: int) -> None:
    wanted = Staircase(-5, 5, 0, np.array([[2 * direction]]), np.array([direction]))
    computed = Staircase(-5, 5, 0, np.array([[0]]), np.array([direction]))
    found = deviations_of(wanted, computed, np.array([-5]), np.array([5]))
    (d,) = found.found
    assert (d.first, d.last, d.by) == ((0, 1, 1) if direction > 0 else (-1, 0, 1))
