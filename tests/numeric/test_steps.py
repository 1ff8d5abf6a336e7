"""The steps that bound lines, against all steps and against hulls by their definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pefslc.numeric.staircase import Staircase
from pefslc.numeric.steps import Steps, corner_steps

_UNIT = 8  # numerators of one code
_SLOPES, _OFFSETS = np.arange(0, 50, 3)[:, None, None], np.arange(-240, 240, 7)[None, :, None]


def _lines(steps: Steps, channel: int) -> np.ndarray:
    """[slopes, offsets]: which lines are at or above each code where it is reached, and below it just before."""
    levels = np.broadcast_to(steps.levels, steps.reached.shape)[channel] * _UNIT
    after, before = (_SLOPES * at[channel] + _OFFSETS for at in (steps.reached, steps.before))
    serves = (after >= levels) | ~steps.is_reached[channel]
    serves &= (before < levels) | ~steps.is_before[channel]
    return np.asarray(serves.all(axis=2))


@st.composite
def staircases(draw: st.DrawFn) -> Staircase:
    directions = draw(st.lists(st.sampled_from([1, -1]), min_size=1, max_size=3))
    steps, rows = draw(st.integers(1, 7)), []
    for direction in directions:
        slope, offset = draw(st.integers(4, 40)), draw(st.integers(-140, 60))
        shaken = [slope * n // 8 + offset // 8 + draw(st.integers(-1, 1)) for n in range(steps)]
        rows.append(sorted((max(min(t, 14), -14) for t in shaken), reverse=direction < 0))
    return Staircase(-14, 14, draw(st.integers(-3, 3)), np.array(rows), np.array(directions), draw(st.integers(1, 2)))


@given(staircases(), st.data())
def test_a_line_that_serves_the_corners_serves_every_step(s: Staircase, data: st.DataObject) -> None:
    """On the whole domain, and on a narrower one of each channel: there some steps are taken before it or never."""
    low = np.array([data.draw(st.integers(-14, 4)) for _ in range(s.channels)])
    high = low + np.array([data.draw(st.integers(0, 10)) for _ in range(s.channels)])
    for domain in ((), (low, high)):
        corners, every = corner_steps(s, *domain), Steps.of(s, *domain)
        for c in range(s.channels):
            np.testing.assert_array_equal(_lines(corners, c), _lines(every, c))


def _corners(x: list[int], is_outside: Callable[[int, int], bool]) -> set[int]:
    """By definition, in Python's integers: the points (x[i], i) outside of every line between two others."""
    points = range(len(x))
    return {
        i
        for i in points
        if all(
            is_outside((i - j) * (x[k] - x[j]), (x[i] - x[j]) * (k - j))
            for j in points[:i]
            for k in points[i + 1 :]
            if x[j] < x[k]
        )
    }


_LAST = 1 << 61
_FLAT_THEN_STEEP = [-_LAST, *(_LAST // 2 + t for t in (0, 1, 3, 7))]
_STEEP_THEN_FLAT = [-t for t in reversed(_FLAT_THEN_STEEP)]
_ANYWHERE = [np.sort(np.random.default_rng(seed).integers(-_LAST, _LAST, 48)).tolist() for seed in range(4)]


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("x", [_FLAT_THEN_STEEP, _STEEP_THEN_FLAT, *_ANYWHERE])
def test_no_corner_is_lost_where_products_exceed_int64(x: list[int], direction: int) -> None:
    """Thresholds apart by up to 2^62, and levels by dozens: a product that wraps would tell corners wrongly."""
    last, rising = _LAST, np.array(x)
    s = Staircase(-last, last, 0, (rising * direction)[None], np.array([direction]))
    steps = corner_steps(s)
    kept = set((steps.levels - 1)[steps.is_reached | steps.is_before].tolist())
    assert kept >= _corners(x, lambda rise, line: rise > line) | _corners(x, lambda rise, line: rise < line)
    assert len(kept) < len(x)
