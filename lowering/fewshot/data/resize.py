"""Pictures to squares of one size, exactly: the middle, then the mean over the area of each new pixel.

An area mean in integers is a definition that any language can repeat; what a library calls "bilinear" or "Lanczos"
depends on its version, its tables and its SIMD code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["centre_crop", "resize"]

_VALUES_AT_ONCE = 1 << 22


def centre_crop(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[..., H, W, 3] to [..., s, s, 3], s = min(H, W). Of an odd rest the larger part goes at the right and below."""
    height, width = images.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side, :]


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 [N, s, s, 3] to [N, size, size, 3]: the mean over the area that each new pixel covers, ties rounded up.

    The same formula enlarges: a new pixel then lies within one old one, or on the border of two.
    """
    side = images.shape[1]
    assert images.shape[2] == side, "crop first"
    if side == size:
        return np.ascontiguousarray(images)
    assert 255 * side * size < 1 << 31, "int32 holds the sums of a row"
    result = np.empty((len(images), size, size, 3), np.uint8)
    step = max(1, _VALUES_AT_ONCE // (side * side * 3))
    for i in range(0, len(images), step):
        part = images[i : i + step]
        n = len(part)
        rows = _area_sums(part.reshape(n, side, side * 3), size, np.int32).reshape(n, size, side, 3)
        columns = np.ascontiguousarray(rows.transpose(0, 2, 1, 3)).reshape(n, side, size * 3)
        sums = _area_sums(columns, size, np.int64).reshape(n, size, size, 3).transpose(0, 2, 1, 3)
        area = side * side
        result[i : i + step] = (2 * sums + area) // (2 * area)
    return result


def _area_sums(values: NDArray[Any], size: int, dtype: type[np.signedinteger[Any]]) -> NDArray[Any]:
    """[n, side, k] to [n, size, k]: over each new pixel, the sum of values times lengths in 1/size of an old pixel.

    By differences of the running sum, which between two borders of old pixels is linear: each value is read once.
    """
    side = values.shape[1]
    running = np.zeros((len(values), side + 1, values.shape[2]), dtype)
    np.cumsum(values, axis=1, dtype=dtype, out=running[:, 1:])
    borders = np.arange(size + 1) * side  # of new pixels, in 1/size of an old one
    whole, rest = borders // size, (borders % size).astype(dtype)
    cut = values[:, np.minimum(whole, side - 1)].astype(dtype)  # the old pixel that a border cuts; at the end none
    at_border: NDArray[Any] = running[:, whole] * dtype(size) + cut * rest[:, None]
    return np.diff(at_border, axis=1)
