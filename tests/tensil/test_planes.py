"""Layouts, runs and the allocator, against plain enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.layout import (
    Layout,
    Rect,
    Run,
    View,
    from_vectors,
    merged,
    missed_runs,
    rect_runs,
    tap_runs,
    to_vectors,
)
from pefslc.targets.tensil.schedule.allocator import Allocator


@pytest.mark.parametrize(("channels", "array_size"), list(itertools.product((1, 3, 4, 5, 9), (2, 4, 7))))
def test_vectors_hold_every_code_once(channels: int, array_size: int) -> None:
    codes = np.arange(1, channels * 6 + 1, dtype=np.int64).reshape(channels, 2, 3)
    vectors = to_vectors(codes, array_size)
    layout = Layout(channels, 2, 3)
    assert vectors.shape == (layout.vectors(array_size), array_size)
    assert np.array_equal(from_vectors(vectors, layout), codes)
    assert np.count_nonzero(vectors) == codes.size
    # Spot check of the formula in the docstring: block b, row y, column x, lane c mod A.
    assert vectors[(channels - 1) // array_size * 6 + 1 * 3 + 2, (channels - 1) % array_size] == codes[-1, 1, 2]


def pairs(runs: list[Run]) -> list[tuple[int, int]]:
    return [
        (run.first + (i << run.first_stride), run.second + (i << run.second_stride))
        for run in runs
        for i in range(run.vectors)
    ]


GEOMETRIES = list(itertools.product((1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 2), (1, 2, 8)))


@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation", "strides"), GEOMETRIES)
def test_tap_runs_reach_every_pixel_under_the_tap(
    kernel: int, stride: int, pad: int, dilation: int, strides: int
) -> None:
    window = Window(kernel=(kernel, kernel), strides=(stride,) * 2, dilations=(dilation,) * 2, pads=(pad,) * 4)
    layout = Layout(1, 6, 5)
    rows, columns = window.output_size(layout.height, layout.width)
    source, target = View.whole((100,), layout), View.part(0, Rect(0, rows, 0, columns))
    for rect in (Rect(0, rows, 0, columns), Rect(rows // 2, rows, columns // 2, columns)):
        for tap in itertools.product(range(kernel), repeat=2):
            dy, dx = tap[0] * dilation - pad, tap[1] * dilation - pad
            expected = [
                (100 + (y * stride + dy) * layout.width + x * stride + dx, y * columns + x)
                for y in range(rect.top, rect.bottom)
                for x in range(rect.left, rect.right)
                if 0 <= y * stride + dy < layout.height and 0 <= x * stride + dx < layout.width
            ]
            runs = tap_runs(window, tap, rect, source, layout, target, (strides, strides))
            assert sorted(pairs(runs)) == sorted(expected)
            assert all(max(run.first_stride, run.second_stride) < strides for run in runs)


DILATED = list(itertools.product((1, 2, 4), (1, 2, 3, 4), (-1, 0, 2), (1, 2), (1, 2, 8)))


@pytest.mark.parametrize(("kernel", "apart", "pad", "dilation", "strides"), DILATED)
def test_taps_over_a_dilated_input_reach_its_pixels_alone(
    kernel: int, apart: int, pad: int, dilation: int, strides: int
) -> None:
    window = Window(
        kernel=(kernel,) * 2, dilations=(dilation,) * 2, pads=(pad,) * 4, input_dilations=(apart, max(apart - 1, 1))
    )
    layout = Layout(1, 4, 5)
    rows, columns = window.output_size(layout.height, layout.width)
    source, target = View.whole((100,), layout), View.part(0, Rect(0, rows, 0, columns))
    ups = window.input_dilations
    for rect in (Rect(0, rows, 0, columns), Rect(rows // 2, rows, columns // 2, columns)):
        seen = rect.under(window, layout)
        for tap in itertools.product(range(kernel), repeat=2):
            expected = {}
            for y, x in itertools.product(range(rect.top, rect.bottom), range(rect.left, rect.right)):
                v, h = y + tap[0] * dilation - pad, x + tap[1] * dilation - pad
                if v % ups[0] == h % ups[1] == 0 and 0 <= v // ups[0] < 4 and 0 <= h // ups[1] < 5:
                    expected[100 + v // ups[0] * 5 + h // ups[1]] = y * columns + x
                    assert seen.top <= v // ups[0] < seen.bottom
                    assert seen.left <= h // ups[1] < seen.right
            runs = tap_runs(window, tap, rect, source, layout, target, (strides, strides))
            assert sorted(pairs(runs)) == sorted(expected.items())
            assert all(max(run.first_stride, run.second_stride) < strides for run in runs)


UNDER = list(itertools.product((2, 3), (1, 2), (-1, 0, 2, 6), (1, 2), (1, 3)))


@pytest.mark.parametrize(("kernel", "stride", "pad", "dilation", "apart"), UNDER)
def test_a_part_of_the_output_sees_the_pixels_between_its_first_and_its_last_tap(
    kernel: int, stride: int, pad: int, dilation: int, apart: int
) -> None:
    """And no more, rows and columns alike; where they are all padding, none."""
    stride = 1 if apart > 1 else stride
    window = Window(
        kernel=(kernel,) * 2, strides=(stride,) * 2, dilations=(dilation,) * 2, pads=(pad,) * 4,
        input_dilations=(apart,) * 2,
    )  # fmt: skip
    layout = Layout(1, 6, 5)
    rows, columns = window.output_size(layout.height, layout.width)
    down, across = (list(itertools.combinations(range(n + 1), 2)) for n in (rows, columns))
    for (top, bottom), (left, right) in zip(down, itertools.cycle(across)):  # of columns there are fewer
        seen = Rect(top, bottom, left, right).under(window, layout)
        ends = ((top, bottom, 6, (seen.top, seen.bottom)), (left, right, 5, (seen.left, seen.right)))
        for first, last, size, found in ends:
            positions = range(first * stride - pad, (last - 1) * stride - pad + window.extent[0])
            assert list(range(*found)) == [pixel for pixel in range(size) if pixel * apart in positions]


@pytest.mark.parametrize("strides", [(1, 1), (1, 3), (3, 1), (3, 3), (2, 2)])
@pytest.mark.parametrize(("reads", "writes"), [(1, 4), (4, 1), (4, 4), (2, 1), (3, 1), (1, 1)])
def test_single_vectors_at_even_distances_are_one_run_where_both_sides_may_have_that_stride(
    reads: int, writes: int, strides: tuple[int, int]
) -> None:
    apart = [Run(7 + i * reads, 90 + i * writes, 1) for i in range(5)]
    found = merged(apart, strides)
    assert pairs(found) == pairs(apart)
    allowed = [{1 << exponent for exponent in range(limit)} for limit in strides]
    assert len(found) == (1 if reads in allowed[0] and writes in allowed[1] else 5)


def test_full_rows_become_one_run() -> None:
    layout = Layout(1, 8, 8)
    rect = Rect(0, 8, 0, 8)
    assert rect_runs(rect, View.whole((5,), layout), View.whole((90,), layout)) == [Run(5, 90, 64)]
    assert len(rect_runs(Rect(0, 8, 0, 7), View.whole((5,), layout), View.whole((90,), layout))) == 8


def test_the_allocator_reuses_and_merges() -> None:
    memory = Allocator(10, 110)
    a, b, c = memory.allocate(30), memory.allocate(30), memory.allocate(40)
    assert (a, b, c) == (10, 40, 70)
    assert memory.allocate(1) is None
    memory.release(10, 30)
    memory.release(70, 40)
    assert memory.largest_gap() == (70, 40)
    assert memory.largest_gap_without([]) == 40
    assert memory.largest_gap_without([(50, 60)]) == 40
    assert memory.largest_gap_without([(60, 70), (50, 60)]) == 60
    assert memory.largest_gap_without([(40, 50), (50, 70)]) == 100
    assert memory.largest_gap() == (70, 40), "it was a question"
    memory.release(40, 30)
    assert memory.largest_gap() == (10, 100)


@pytest.mark.parametrize("seed", range(5))
def test_the_allocator_gives_the_smallest_gap_that_fits_and_loses_none(seed: int) -> None:
    """Against a memory of single vectors, each free or not."""
    r = np.random.default_rng(seed)
    memory, free, given = Allocator(3, 63), np.ones(60, dtype=bool), []
    for _ in range(300):
        if given and r.random() < 0.45:
            base, vectors = given.pop(int(r.integers(len(given))))
            memory.release(base, vectors)
            free[base - 3 : base - 3 + vectors] = True
        else:
            vectors, at_end = int(r.integers(1, 9)), bool(r.integers(2))
            ends = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]])))
            gaps = [(high - low, low, high) for low, high in zip(ends[::2], ends[1::2], strict=True)]
            gap = min((gap for gap in gaps if gap[0] >= vectors), default=None)
            base = memory.allocate(vectors, at_end=at_end)
            assert base == (None if gap is None else 3 + (gap[2] - vectors if at_end else gap[1]))
            if base is not None:
                given.append((base, vectors))
                free[base - 3 : base - 3 + vectors] = False


@pytest.mark.parametrize("strides", [(1, 1), (3, 3), (8, 8)])
@pytest.mark.parametrize("tap", [(0, 0), (0, 1), (1, 1), (2, 0), (2, 2)])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 3), (1, 8)])
def test_missed_runs_are_the_rest_of_the_rectangle(
    height: int, width: int, tap: tuple[int, int], strides: tuple[int, int]
) -> None:
    layout, rect = Layout(1, height, width), Rect(0, height, 0, width)
    window = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    runs = tap_runs(window, tap, rect, View.whole((0,), layout), layout, View.part(0, rect), strides)
    missed = missed_runs(runs, rect, strides)
    assert all(run.second_stride < strides[1] for run in missed)
    found = sorted(r.second + (i << r.second_stride) for r in (*runs, *missed) for i in range(r.vectors))
    assert found == list(range(rect.area))


@pytest.mark.parametrize(("height", "width"), [(1, 8), (2, 4), (4, 2)])
def test_whatever_vectors_runs_write_missed_runs_are_the_others_once(height: int, width: int) -> None:
    rect = Rect(0, height, 0, width)
    for written in itertools.product((False, True), repeat=rect.area):
        runs = [Run(0, address, 1) for address, yes in enumerate(written) if yes]
        found = sorted(second for _, second in pairs(missed_runs(runs, rect, (2, 2))))
        assert found == [address for address, yes in enumerate(written) if not yes]
