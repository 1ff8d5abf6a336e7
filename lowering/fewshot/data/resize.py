"""Pictures to one size, exactly: the middle, then the mean over the area of each new pixel.

An area mean in integers is a definition that any language can repeat; what a library calls "bilinear" or "Lanczos"
depends on its version, its tables and its SIMD code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["centre_crop", "resize"]

_VALUES_AT_ONCE = 1 << 24


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
    of_rows, of_columns, area = _shares(rows, height), _shares(columns, width), rows * columns
    result = np.empty((len(images), height, width, 3), np.uint8)
    step = max(1, _VALUES_AT_ONCE // (area * 3))
    for i in range(0, len(images), step):
        part = images[i : i + step]
        # float64 for its fast product: every sum is an integer below 255 * area < 2**53, so in any order exact.
        means = of_rows @ part.reshape(len(part), rows, columns * 3).astype(np.float64)
        sums = (
            means.reshape(len(part), height, columns, 3).transpose(0, 1, 3, 2) @ of_columns.T
        )  # [n, height, 3, width]
        result[i : i + step] = ((2 * sums.astype(np.int64) + area) // (2 * area)).transpose(0, 1, 3, 2)
    return result


def _shares(side: int, size: int) -> NDArray[np.float64]:
    """[size, side]: the length that each new pixel has of each old one, in 1/size of an old pixel. Rows sum to side."""
    new, old = np.arange(size)[:, None], np.arange(side)[None, :]
    overlap = np.minimum((new + 1) * side, (old + 1) * size) - np.maximum(new * side, old * size)
    shares: NDArray[np.float64] = np.maximum(overlap, 0).astype(np.float64)
    return shares
