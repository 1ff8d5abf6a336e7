"""Windows over dilated inputs against their definition: zeros between the pixels, then an ordinary window."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pefslc.analysis.ranges import conv_bounds
from pefslc.geometry.dilation_phases import phases, taps_together
from pefslc.geometry.shapes import Window
from pefslc.ir.semantics import conv2d

pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def dilating_windows(draw: st.DrawFn) -> tuple[Window, tuple[int, int]]:
    """A window, maybe over a dilated input, and the size of an input that it fits into."""
    kernel, dilations, size = draw(pair), draw(pair), draw(pair)
    pads = tuple(draw(st.integers(-2, 4)) for _ in range(4))
    window = Window(kernel=kernel, dilations=dilations, pads=pads, input_dilations=draw(pair))  # type: ignore[arg-type]
    return window, size


def defined_output(window: Window, size: tuple[int, int]) -> list[tuple[int, int, list[tuple[int, int, int, int]]]]:
    """Each position of the output with the (tap row, tap column, row, column) of the pixels that it sees."""
    found = []
    spans = [
        (n - 1) * u + 1 + window.pads[a] + window.pads[a + 2] - (window.kernel[a] - 1) * window.dilations[a]
        for a, (n, u) in enumerate(zip(size, window.input_dilations, strict=True))
    ]
    for y, x in product(range(max(spans[0], 0)), range(max(spans[1], 0))):
        taps = []
        for i, j in product(*map(range, window.kernel)):
            v, h = y + i * window.dilations[0] - window.pads[0], x + j * window.dilations[1] - window.pads[1]
            (row, no_row), (column, no_column) = (
                divmod(v, window.input_dilations[0]),
                divmod(h, window.input_dilations[1]),
            )
            if not no_row and not no_column and 0 <= row < size[0] and 0 <= column < size[1]:
                taps.append((i, j, row, column))
        found.append((y, x, taps))
    return found


@given(dilating_windows())
@settings(deadline=None)
def test_positions_and_pixels_are_those_of_the_definition(given_window: tuple[Window, tuple[int, int]]) -> None:
    window, size = given_window
    defined = defined_output(window, size)
    output = window.output_size(*size)
    assert len(defined) == max(output[0], 0) * max(output[1], 0)
    if not defined:
        return
    for tap in product(*map(range, window.kernel)):
        expected = {(y, x): (r, c) for y, x, taps in defined for i, j, r, c in taps if (i, j) == tap}
        rows, columns = window.seen(tap, size, output)
        assert {(y, x): window.pixel(tap, y, x) for y in rows for x in columns} == expected
        assert window.reach(tap, size, output) == len(expected)


@given(dilating_windows())
@settings(deadline=None)
def test_phases_are_ordinary_windows_that_see_the_same_pixels(given_window: tuple[Window, tuple[int, int]]) -> None:
    window, size = given_window
    defined = {(y, x): set(taps) for y, x, taps in defined_output(window, size)}
    if not defined:
        return
    done = {}
    for phase in phases(window, *size):
        assert not phase.window.dilates_input
        assert phase.window.output_size(*size) == (len(phase.rows), len(phase.columns))
        inner = {(y, x): taps for y, x, taps in defined_output(phase.window, size)}
        for (m, y), (n, x) in product(enumerate(phase.rows), enumerate(phase.columns)):
            taps = inner[m, n] if phase.has_taps else []
            done[y, x] = {(phase.tap_rows[i], phase.tap_columns[j], r, c) for i, j, r, c in taps}
        if phase.has_taps:
            assert phase.taps in taps_as_given(window)
    assert done == defined


def taps_as_given(window: Window) -> list[tuple[slice, slice]]:
    """`taps_together` with the ends that `Phase.taps` has."""
    return [
        (slice(r.start, window.kernel[0], r.step), slice(c.start, window.kernel[1], c.step))
        for r, c in taps_together(window)
    ]


@given(dilating_windows(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_a_convolution_sums_the_pixels_seen_and_stays_within_its_bounds(
    given_window: tuple[Window, tuple[int, int]], seed: int
) -> None:
    window, size = given_window
    defined = defined_output(window, size)
    if not defined:
        return
    rng = np.random.default_rng(seed)
    x, weight = rng.integers(-3, 5, (1, 2, *size)), rng.integers(-4, 4, (3, 2, *window.kernel))
    found = conv2d(x, weight, None, window)
    for position in defined:
        y, z, taps = position
        expected = sum((weight[:, :, i, j] @ x[0, :, r, c] for i, j, r, c in taps), np.zeros(3, dtype=np.int64))
        np.testing.assert_array_equal(found[0, :, y, z], expected)
    low, high = conv_bounds(weight, window, -3, 4)
    assert (found.min(axis=(0, 2, 3)) >= low).all()
    assert (found.max(axis=(0, 2, 3)) <= high).all()


@pytest.mark.parametrize(("apart", "taps"), [(1, 16), (2, 4), (3, 4), (4, 1), (5, 1)])
def test_the_bounds_count_only_taps_that_see_pixels_together(apart: int, taps: int) -> None:
    """Four by four ones: with pixels `apart`, at most so many meet in one sum."""
    window = Window(kernel=(4, 4), input_dilations=(apart, apart))
    low, high = conv_bounds(np.ones((1, 1, 4, 4), dtype=np.int64), window, -2, 3)
    assert (low.tolist(), high.tolist()) == ([-2 * taps], [3 * taps])
