"""Pictures to squares of one size, exactly: the middle, then the mean over the area of each new pixel.

An area mean in integers is a definition that any language can repeat; what a library calls "bilinear" or "Lanczos"
depends on its version, its tables and its SIMD code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["centre_crop", "resize"]

_VALUES_AT_ONCE = 1 << 24


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
    shares = _shares(side, size)
    result = np.empty((len(images), size, size, 3), np.uint8)
    step = max(1, _VALUES_AT_ONCE // (side * side * 3))
    for i in range(0, len(images), step):
        part = images[i : i + step]
        # float64 for its fast product: every sum is an integer below 255 * side**2 < 2**53, so in any order exact.
        rows = shares @ part.reshape(len(part), side, side * 3).astype(np.float64)
        sums = rows.reshape(len(part), size, side, 3).transpose(0, 1, 3, 2) @ shares.T  # [n, size, 3, size]
        area = side * side
        result[i : i + step] = ((2 * sums.astype(np.int64) + area) // (2 * area)).transpose(0, 1, 3, 2)
    return result


def _shares(side: int, size: int) -> NDArray[np.float64]:
    """[size, side]: the length that each new pixel has of each old one, in 1/size of an old pixel. Rows sum to side."""
    new, old = np.arange(size)[:, None], np.arange(side)[None, :]
    overlap = np.minimum((new + 1) * side, (old + 1) * size) - np.maximum(new * side, old * size)
    shares: NDArray[np.float64] = np.maximum(overlap, 0).astype(np.float64)
    return shares
