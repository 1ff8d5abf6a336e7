"""Vectors that hold several pixels: the rewritten convolutions compute what the plain ones do."""

from __future__ import annotations

import itertools
from math import gcd

import numpy as np
import pytest

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.group_rewrites.pixel_groups import making_groups, reading_groups

HEIGHT, WIDTH = 12, 8


def plain(image: np.ndarray, weight: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
    """The convolution by its definition: for each position and tap, the pixel of the dilated input, if there is one."""
    result = np.zeros((len(weight), *size), dtype=np.int64)
    for (y, x), ky, kx in itertools.product(np.ndindex(*size), range(window.kernel[0]), range(window.kernel[1])):
        dy, dx = window.tap_offset(ky, kx)
        (row, off_row), (column, off_column) = (
            divmod(position, apart)
            for position, apart in zip(
                (y * window.strides[0] + dy, x * window.strides[1] + dx), window.input_dilations, strict=True
            )
        )
        if not off_row and not off_column and 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            result[:, y, x] += weight[:, :, ky, kx] @ image[:, row, column]
    return result


def grouped(image: np.ndarray, axis: int, pixels: int, before: int = 0) -> np.ndarray:
    """[C, H, W] with `pixels` neighbours along an axis as channels, the first pixel's channels first. The first group
    begins so many before the image, where there are zeros; the last one may end behind it.
    """
    edges = [(0, 0), (0, 0), (0, 0)]
    edges[1 + axis] = before, -(image.shape[1 + axis] + before) % pixels
    image = np.pad(image, edges)
    parts = [image[:, j::pixels] if axis == 0 else image[:, :, j::pixels] for j in range(pixels)]
    return np.concatenate(parts)


WINDOWS = [
    Window(kernel=(3, 3), pads=(1, 1, 0, 0)),
    Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 0, 0)),
    Window(kernel=(1, 1)),
    Window(kernel=(1, 1), strides=(2, 2)),
    Window(kernel=(2, 3), dilations=(2, 2), pads=(2, -1, 0, 0)),
    Window(kernel=(3, 2), strides=(4, 2), dilations=(1, 3), pads=(0, 3, 0, 0)),
    Window(kernel=(4, 3), input_dilations=(2, 2), pads=(2, 1, 0, 0)),
    Window(kernel=(3, 3), strides=(3, 1), pads=(1, 1, 0, 0)),
]


def is_one_window(window: Window, axis: int, stride: int, apart: int) -> bool:
    """Whether these are strides and dilations of the input that one window may have: not both along one axis."""
    strides, dilations = list(window.strides), list(window.input_dilations)
    strides[axis], dilations[axis] = stride // gcd(stride, apart), apart // gcd(stride, apart)
    return all(1 in pair for pair in zip(strides, dilations, strict=True))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_groups_are_made_as_if_the_pixels_were_put_together_afterwards(window: Window, axis: int, pixels: int) -> None:
    r = np.random.default_rng(1)
    image, weight = r.integers(-9, 9, (3, HEIGHT, WIDTH)), r.integers(-9, 9, (2, 3, *window.kernel))
    found = making_groups(weight, window, axis, pixels)
    assert (found is not None) == is_one_window(
        window, axis, window.strides[axis] * pixels, window.input_dilations[axis]
    )
    if found is not None:
        expected = grouped(plain(image, weight, window, (8, 4)), axis, pixels)
        assert np.array_equal(plain(image, *found, expected.shape[1:]), expected)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_groups_are_read_as_if_the_pixels_were_taken_apart_before(window: Window, axis: int, pixels: int) -> None:
    r = np.random.default_rng(2)
    image, weight = r.integers(-9, 9, (3, HEIGHT, WIDTH)), r.integers(-9, 9, (2, 3, *window.kernel))
    found = reading_groups(weight, window, axis, pixels)
    assert (found is not None) == is_one_window(
        window, axis, window.strides[axis], window.input_dilations[axis] * pixels
    )
    if found is not None:
        expected = plain(image, weight, window, (5, 4))
        assert np.array_equal(plain(grouped(image, axis, pixels), *found, expected.shape[1:]), expected)


@pytest.mark.parametrize("window", [*WINDOWS, Window(kernel=(2, 4), strides=(2, 2), pads=(0, 1, 0, 0))])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("pixels", "before"), [(2, 1), (3, 1), (4, 1), (4, 3)])
def test_the_first_group_may_begin_before_the_image(window: Window, axis: int, pixels: int, before: int) -> None:
    """Sizes that no group divides. Of what is made, groups inside of the image are compared; so no pad is needed."""
    r = np.random.default_rng(3)
    image, weight = r.integers(-9, 9, (3, 11, 9)), r.integers(-9, 9, (2, 3, *window.kernel))
    read = reading_groups(weight, window, axis, pixels, before)
    if read is not None:
        expected = plain(image, weight, window, (5, 4))
        assert np.array_equal(plain(grouped(image, axis, pixels, before), *read, expected.shape[1:]), expected)
    made = making_groups(weight, window, axis, pixels, before)
    if made is not None:
        expected = grouped(plain(image, weight, window, (5, 4)), axis, pixels, before)
        found = plain(image, *made, expected.shape[1:])
        whole = [slice(None)] * 3
        whole[1 + axis] = slice(1, (before + (5, 4)[axis]) // pixels)
        assert np.array_equal(found[tuple(whole)], expected[tuple(whole)])
    assert (read is None) == (reading_groups(weight, window, axis, pixels) is None)
    assert (made is None) == (making_groups(weight, window, axis, pixels) is None)


def test_every_second_pixel_is_read_in_groups_of_four() -> None:
    """What lies between two strides is never under a tap: a window of stride 2 over groups of 4 is one of stride 1 over
    groups that are 2 apart.
    """
    found = reading_groups(np.ones((1, 1, 1, 4), dtype=np.int64), Window(kernel=(1, 4), strides=(1, 2)), 1, 4)
    assert found is not None
    assert (found[1].strides, found[1].input_dilations) == ((1, 1), (1, 2))
