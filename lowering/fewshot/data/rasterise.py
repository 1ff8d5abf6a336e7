"""Strokes to pixels in integers: the same bytes on every machine.

No float and no libm: sin and cos may differ in the last bit between machines, and a compiler may fuse a multiplication
and an addition. Positions are in 1/64 pixel, directions in 1/2**14.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIRECTION_BITS", "SUBPIXELS", "coverage", "integer_sqrt", "sine"]

Integers = NDArray[np.int64]

SUBPIXELS = 64
DIRECTION_BITS = 14

_PIXELS_AT_ONCE = 1 << 16  # of all images together: the working arrays stay in the cache
_PI = Fraction(314159265358979323846264338327950288, 10**35)


def coverage(points: Integers, segments: Integers, radius: Integers, size: int) -> NDArray[np.uint8]:
    """[n, size, size]: how much of each pixel the strokes cover, 0 to 255.

    points    [n, P, 2], (x, y) in 1/64 pixel from the upper left corner, within 4 images of it
    segments  [S, 2], the two points of each, for all images
    radius    [n], half of the stroke's width in 1/64 pixel, at least 1

    A pixel whose centre is at distance d of the nearest segment has 1 for d <= radius - 1/2, 0 for d >= radius + 1/2
    pixel, and in between what is linear in d squared: it needs no root. Ends and joints are round.
    """
    per_pass = max(1, _PIXELS_AT_ONCE // (size * size))
    parts = [
        _coverage(points[i : i + per_pass], segments, radius[i : i + per_pass], size)
        for i in range(0, len(points), per_pass)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, size, size), np.uint8)


def _coverage(points: Integers, segments: Integers, radius: Integers, size: int) -> NDArray[np.uint8]:
    n = len(points)
    start, end = points[:, segments[:, 0]], points[:, segments[:, 1]]  # [n, S, 2]
    along = end - start
    length = integer_sqrt((along**2).sum(2))
    unit = (along << DIRECTION_BITS) // np.maximum(length, 1)[:, :, None]
    unit[length == 0] = (1 << DIRECTION_BITS, 0)  # a point is a segment of length 0, in any direction
    centres = np.arange(size, dtype=np.int64) * SUBPIXELS + SUBPIXELS // 2
    dx, dy = centres - start[:, :, :1], centres - start[:, :, 1:]  # [n, S, size]
    ux, uy = unit[:, :, :1], unit[:, :, 1:]
    # Both coordinates of a pixel in the segment's own system are sums of one part for its column, one for its row.
    t_column, t_row = _shifted(dx * ux), _shifted(dy * uy)
    s_column, s_row = _shifted(dx * uy), _shifted(-dy * ux)
    length32 = length.astype(np.int32)
    nearest = np.full((n, size, size), np.iinfo(np.int32).max, np.int32)
    for s in range(len(segments)):
        across = s_column[:, s, None, :] + s_row[:, s, :, None]
        t = t_column[:, s, None, :] + t_row[:, s, :, None]
        beyond = np.maximum(-t, t - length32[:, s, None, None])
        np.maximum(beyond, 0, out=beyond)
        across *= across
        beyond *= beyond
        across += beyond
        np.minimum(nearest, across, out=nearest)
    inner = np.maximum(radius - SUBPIXELS // 2, 0) ** 2
    outer = (radius + SUBPIXELS // 2) ** 2
    scaled: Integers = (outer[:, None, None] - nearest) * 255 // (outer - inner)[:, None, None]
    return scaled.clip(0, 255).astype(np.uint8)


def _shifted(products: Integers) -> NDArray[np.int32]:
    return (products >> DIRECTION_BITS).astype(np.int32)


def integer_sqrt(squares: Integers) -> Integers:
    """floor(sqrt(x)) of each x, 0 <= x < 2**62: digit by digit, in integers."""
    root = np.zeros_like(squares)
    highest = int(squares.max(initial=0)).bit_length() // 2
    for bit in range(highest, -1, -1):
        higher = root | (1 << bit)
        root = np.where(higher * higher <= squares, higher, root)
    return root


@lru_cache(maxsize=1024)
def sine(quarter_degrees: int) -> int:
    """2**14 sin(angle), rounded to nearest; the angle in quarters of a degree, of magnitude 360 at most.

    By its series in exact fractions, to far more digits than are kept.
    """
    assert abs(quarter_degrees) <= 360
    x = _PI * quarter_degrees / 720
    term, total = x, x
    for k in range(1, 16):
        term = -term * x * x / ((2 * k) * (2 * k + 1))
        total += term
    return round(total * (1 << DIRECTION_BITS))
