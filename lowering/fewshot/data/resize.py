"""Pictures to one size, exactly: the middle, then the mean over the area of each new pixel.

An area mean in integers is a definition that any language can repeat; what a library calls "bilinear" or "Lanczos"
depends on its version, its tables and its SIMD code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.rounding import RoundingMode, round_ratio

__all__ = ["centre_crop", "resize"]

_VALUES_AT_ONCE = 1 << 22


def centre_crop(images: NDArray[np.uint8], height: int = 1, width: int = 1) -> NDArray[np.uint8]:
    """The largest middle part of [..., H, W, 3] that is as wide to its height as height : width, down to whole pixels.

    Of an odd rest the larger part goes at the right and below.
    """
    rows, columns = images.shape[-3:-1]
    kept_rows = max(1, min(rows, columns * height // width))
    kept_columns = max(1, min(columns, rows * width // height))
    top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
    return images[..., top : top + kept_rows, left : left + kept_columns, :]


def resize(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """uint8 [N, H, W, 3] to [N, height, width, 3]: the mean over the area that each new pixel covers, ties rounded up.

    The same formula enlarges: a new pixel then lies within one old one, or on the border of two.
    """
    rows, columns = images.shape[1:3]
    if (rows, columns) == (height, width):
        return np.ascontiguousarray(images)
    assert 255 * rows * height < 1 << 31, "int32 holds the sums of a column"
    area = rows * columns
    result = np.empty((len(images), height, width, 3), np.uint8)
    step = max(1, _VALUES_AT_ONCE // (area * 3))
    for i in range(0, len(images), step):
        part = images[i : i + step]
        n = len(part)
        down = _area_sums(part.reshape(n, rows, columns * 3), height, np.int32).reshape(n, height, columns, 3)
        turned = np.ascontiguousarray(down.transpose(0, 2, 1, 3)).reshape(n, columns, height * 3)
        sums = _area_sums(turned, width, np.int64).reshape(n, width, height, 3).transpose(0, 2, 1, 3)
        result[i : i + step] = round_ratio(sums, area, RoundingMode.HALF_AWAY)
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
