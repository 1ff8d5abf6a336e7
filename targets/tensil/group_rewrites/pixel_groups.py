"""Convolutions between tensors whose vectors hold several neighbouring pixels, as channels: a few channels of one pixel
leave lanes empty.

A group of m pixels along an axis is one pixel of an image that is m times smaller there; lane j * C + c of its vector
holds channel c of the group's j-th pixel. A convolution that makes groups steps m pixels at a time. One that reads
groups finds its pixels m apart, as a transposed convolution does, unless it steps over whole groups itself.

The first group may begin `before` pixels before the image: then a window that begins as many pixels to the left of an
even place lies in fewer groups. A pixel outside of the image is 0 for who reads it; that it is 0 is for the caller to
see to.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from pefslc.geometry.shapes import Window

__all__ = ["between_groups", "making_groups", "reading_groups"]

Weights = NDArray[np.int64]


def between_groups(weight: Weights, window: Window, axis: int, read: int, made: int) -> tuple[Weights, Window] | None:
    """The convolution that reads groups of `read` pixels along an axis, and makes groups of `made`; None where no
    window does that. First as it makes them: then its strides are whole groups of what it reads, where any are.
    """
    found = making_groups(weight, window, axis, made)
    return found and reading_groups(*found, axis, read)


def making_groups(
    weight: Weights, window: Window, axis: int, pixels: int, before: int = 0
) -> tuple[Weights, Window] | None:
    """The convolution [pixels * C_out, C_in, KH', KW'] that makes groups of `pixels` of its results along an axis; None
    where no window does that.
    """
    stride, apart = window.strides[axis], window.input_dilations[axis]
    outputs = len(weight)
    taps: dict[int, Weights] = {}
    for offset, matrix in _taps(weight, window, axis).items():
        for j in range(pixels):
            at = offset + (j - before) * stride
            taps.setdefault(at, np.zeros((pixels * outputs, *matrix.shape[1:]), dtype=np.int64))
            taps[at][j * outputs : (j + 1) * outputs] += matrix
    return _convolution(taps, window, axis, stride * pixels, apart)


def reading_groups(
    weight: Weights, window: Window, axis: int, pixels: int, before: int = 0
) -> tuple[Weights, Window] | None:
    """The convolution [C_out, pixels * C_in, KH', KW'] that reads its input in groups of `pixels` along an axis; None
    where no window does that.
    """
    stride, apart = window.strides[axis], window.input_dilations[axis]
    inputs = weight.shape[1]
    taps: dict[int, Weights] = {}
    for offset, matrix in _taps(weight, window, axis).items():
        for j in range(pixels):
            at = offset - (j - before) * apart
            taps.setdefault(at, np.zeros((len(weight), pixels * inputs, matrix.shape[2]), dtype=np.int64))
            taps[at][:, j * inputs : (j + 1) * inputs] += matrix
    return _convolution(taps, window, axis, stride, apart * pixels)


def _taps(weight: Weights, window: Window, axis: int) -> dict[int, Weights]:
    """Along an axis, the offset of each tap from the output's position, and its weights [C_out, C_in, other axis]."""
    dilation, pad = window.dilations[axis], window.pads[axis]
    return {k * dilation - pad: np.take(weight, k, 2 + axis) for k in range(weight.shape[2 + axis])}


def _convolution(
    taps: dict[int, Weights], window: Window, axis: int, stride: int, apart: int
) -> tuple[Weights, Window] | None:
    """The weights and the window with these taps along an axis; that on both sides of the image, all the padding that
    they need is there, is for the caller to see to. Of a window whose strides have a divisor in common with how far
    apart its pixels are, only taps at multiples of it ever lie on one.
    """
    common = gcd(stride, apart)
    taps = {offset // common: matrix for offset, matrix in taps.items() if offset % common == 0}
    stride, apart = stride // common, apart // common
    if not taps:
        return None
    first, last = min(taps), max(taps)
    dilation = gcd(*(offset - first for offset in taps)) or 1
    some = taps[first]
    columns = [taps.get(offset, np.zeros_like(some)) for offset in range(first, last + 1, dilation)]

    def along(pair: tuple[int, int], number: int) -> tuple[int, int]:
        return (number, pair[1]) if axis == 0 else (pair[0], number)

    changed = replace(
        window,
        kernel=along(window.kernel, len(columns)),
        strides=along(window.strides, stride),
        dilations=along(window.dilations, dilation),
        pads=(*along(window.pads[:2], -first), *along(window.pads[2:], 0)),
        input_dilations=along(window.input_dilations, apart),
    )
    if any(step > 1 and apart > 1 for step, apart in zip(changed.strides, changed.input_dilations, strict=True)):
        return None
    return np.stack(columns, 2 + axis), changed
