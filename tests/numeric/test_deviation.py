"""The list of differing codes against both staircases, evaluated code by code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.deviation import Deviation, Deviations, deviations_of, largest_deviation
from pefslc.numeric.staircase import Staircase

LOW, HIGH = -20, 20


@st.composite
def staircase_pairs(draw: st.DrawFn, channels: int | None = None) -> tuple[Staircase, Staircase]:
    """Two staircases of the same codes and directions."""
    channels, steps = draw(st.integers(1, 3)) if channels is None else channels, draw(st.integers(0, 5))
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
    assert found.largest == largest_deviation(wanted, computed, low, high)
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
    assert str(Deviations((*found.found, Deviation(1, 7, 7, 2)), 20, 2)).endswith("channel 1 at 7 (+2)")
    assert str(Deviations(found.found * 2, 20, 2)).endswith(
        "channel 0 at 6..7 (-1); channel 1 at 1 (+1); channel 0 at 6..7 (-1); and 1 more ranges"
    )
    assert str(Deviations((), 20, 2)) == "none of 20 accumulator codes differs"


@given(staircase_pairs(channels=1), st.integers(1, 4), st.data())
def test_channels_that_share_a_staircase_are_listed_each_within_its_range(
    pair: tuple[Staircase, Staircase], channels: int, data: st.DataObject
) -> None:
    wanted, computed = pair
    ends = [sorted(data.draw(st.tuples(st.integers(LOW, HIGH), st.integers(LOW, HIGH)))) for _ in range(channels)]
    low, high = np.array(ends, dtype=np.int64).T
    found = deviations_of(wanted, computed, low, high)
    listed = {(d.channel, a): d.by for d in found.found for a in range(d.first, d.last + 1)}
    codes = np.arange(LOW, HIGH + 1)
    by = dict(zip(codes.tolist(), (computed(codes[None])[0] - wanted(codes[None])[0]).tolist(), strict=True))
    true = {(c, a): by[a] for c, (first, last) in enumerate(ends) for a in range(first, last + 1) if by[a]}
    assert listed == true
    assert (found.differing, found.channels) == (len(true), channels)
    assert found.codes == sum(last - first + 1 for first, last in ends)
    assert f"in {len({c for c, _ in true})} of {channels} channels" in str(found) or not true


def test_what_all_channels_share_is_said_once() -> None:
    wanted = Staircase(0, 9, 0, np.array([[3, 6]]), np.array([1]))
    computed = Staircase(0, 9, 0, np.array([[3, 8]]), np.array([1]))
    found = deviations_of(wanted, computed, np.zeros(3, dtype=np.int64), np.array([9, 9, 9]))
    assert (
        str(found) == "6 of 30 accumulator codes differ, by at most 1, in 3 of 3 channels: every channel at 6..7 (-1)"
    )
    found = deviations_of(wanted, computed, np.zeros(3, dtype=np.int64), np.array([9, 5, 9]))
    assert str(found) == (
        "4 of 26 accumulator codes differ, by at most 1, in 2 of 3 channels: "
        "channel 0 at 6..7 (-1); channel 2 at 6..7 (-1)"
    )
    assert [*found.by_channel] == [0, 2]


@pytest.mark.parametrize("direction", [1, -1])
def test_the_side_of_a_threshold_follows_the_direction(direction: int) -> None:
    wanted = Staircase(-5, 5, 0, np.array([[2 * direction]]), np.array([direction]))
    computed = Staircase(-5, 5, 0, np.array([[0]]), np.array([direction]))
    found = deviations_of(wanted, computed, np.array([-5]), np.array([5]))
    (d,) = found.found
    assert (d.first, d.last, d.by) == ((0, 1, 1) if direction > 0 else (-1, 0, 1))
