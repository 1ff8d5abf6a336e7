"""Vectors that hold several pixels: the rewritten convolutions compute what the plain ones do."""

from __future__ import annotations

import itertools

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


def grouped(image: np.ndarray, axis: int, pixels: int) -> np.ndarray:
    """[C, H, W] with `pixels` neighbours along an axis as channels, the first pixel's channels first."""
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
    reduced = stride % apart == 0
    strides[axis], dilations[axis] = (stride // apart, 1) if reduced else (stride, apart)
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
