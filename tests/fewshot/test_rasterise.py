"""The rasteriser against distances in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pefslc.fewshot.data.rasterise import coverage, integer_sqrt, sine

Point = tuple[int, int]


def squared_distance(p: Point, a: Point, b: Point) -> Fraction:
    dx, dy, wx, wy = b[0] - a[0], b[1] - a[1], p[0] - a[0], p[1] - a[1]
    length = dx * dx + dy * dy
    t = min(max(Fraction(wx * dx + wy * dy, length), Fraction(0)), Fraction(1)) if length else Fraction(0)
    return (wx - t * dx) ** 2 + (wy - t * dy) ** 2


def exact(points: list[Point], segments: list[Point], radius: int, size: int) -> list[list[Fraction]]:
    inner, outer = max(radius - 32, 0) ** 2, (radius + 32) ** 2
    rows = []
    for y in range(size):
        row = []
        for x in range(size):
            nearest = min(squared_distance((64 * x + 32, 64 * y + 32), points[a], points[b]) for a, b in segments)
            row.append(min(max((outer - nearest) * 255 / (outer - inner), Fraction(0)), Fraction(255)))
        rows.append(row)
    return rows


def drawn(points: list[Point], segments: list[Point], radius: int, size: int) -> list[list[int]]:
    return coverage(np.array([points]), np.array(segments), np.array([radius]), size)[0].tolist()


COORDINATE = st.integers(-300, 1300)


@settings(max_examples=25)
@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=2, max_size=5), st.integers(8, 160))
def test_coverage_is_the_exact_one_but_for_the_rounding_of_directions(points: list[Point], radius: int) -> None:
    segments = [(i, i + 1) for i in range(len(points) - 1)]
    found = drawn(points, segments, radius, 12)
    expected = exact(points, segments, radius, 12)
    # A distance is off by 4/64 pixel at most: two products cut off, a direction and a length rounded down.
    reach = Fraction(255 * ((radius + 36) ** 2 - (radius + 32) ** 2), (radius + 32) ** 2 - max(radius - 32, 0) ** 2)
    for row, exact_row in zip(found, expected, strict=True):
        for value, exact_value in zip(row, exact_row, strict=True):
            assert abs(value - exact_value) <= reach + 1


@pytest.mark.parametrize("segment", [((100, 224), (900, 224)), ((352, -80), (352, 700)), ((416, 416), (416, 416))])
@pytest.mark.parametrize("radius", [1, 32, 40, 130])
def test_level_and_upright_strokes_and_points_are_exact(segment: tuple[Point, Point], radius: int) -> None:
    expected = [[math.floor(value) for value in row] for row in exact(list(segment), [(0, 1)], radius, 16)]
    assert drawn(list(segment), [(0, 1)], radius, 16) == expected


def test_images_drawn_together_are_those_drawn_alone() -> None:
    rng = np.random.default_rng(1)
    points = rng.integers(0, 84 * 64, (23, 6, 2))
    segments, radius = np.array([(0, 1), (1, 2), (3, 4), (2, 5)]), rng.integers(20, 200, 23)
    together = coverage(points, segments, radius, 84)
    alone = [coverage(points[i : i + 1], segments, radius[i : i + 1], 84)[0] for i in range(23)]
    assert np.array_equal(together, np.stack(alone))
    assert together.any()


@given(st.lists(st.integers(0, 2**62 - 1), min_size=1))
def test_the_root_is_the_largest_integer_below(squares: list[int]) -> None:
    assert integer_sqrt(np.array(squares, np.int64)).tolist() == [math.isqrt(square) for square in squares]


def test_sines_are_rounded_to_nearest() -> None:
    for quarter in range(-360, 361):
        exact_value = 2**14 * math.sin(math.radians(quarter / 4))
        assert abs(sine(quarter) - exact_value) <= 0.5 + 1e-9  # of math.sin's own error
    assert [sine(angle) for angle in (-360, -120, 0, 120, 360)] == [-(2**14), -(2**13), 0, 2**13, 2**14]
