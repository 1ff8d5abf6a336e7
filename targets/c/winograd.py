"""Winograd's F(2x2, 3x3): four results of a 3 x 3 convolution by 16 multiplications rather than 36, in integers.

A *square* is 2 x 2 results side by side, which see 4 x 4 taps d. Of one channel, with the weights g, they are

    A' ((G g G') * (B' d B)) A,     where * multiplies element by element (Lavin and Gray, arXiv:1509.09308, 4.1).

So the sums over channels are 16 dot products, one for each *point*. G has halves: with 2 G, all are integers, and the
results four times as large.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["OF_RESULTS", "OF_TAPS", "POINTS", "largest_results", "point_ranges", "point_weights"]

Codes = NDArray[np.int64]

POINTS = 16
OF_TAPS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B'
OF_RESULTS = ((1, 1, 1, 0), (0, 1, -1, -1))  # A'
_OF_WEIGHTS = ((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2))  # 2 G


def point_weights(weight: Codes) -> Codes:
    """[outputs, channels, 3, 3] as [points, outputs, channels]: what taps are multiplied by."""
    g = np.array(_OF_WEIGHTS)
    points: Codes = np.einsum("ia,jb,ocab->ijoc", g, g, weight)
    return points.reshape(POINTS, *weight.shape[:2])


def point_ranges(low: int, high: int) -> tuple[Codes, Codes]:
    """([points], [points]): the least and the most that taps from `low` to `high` become."""
    by = np.kron(OF_TAPS, OF_TAPS)
    above, below = np.maximum(by, 0).sum(axis=1), np.minimum(by, 0).sum(axis=1)
    return above * low + below * high, above * high + below * low


def largest_results(sums: Codes) -> Codes:
    """[results of a square, ...]: four times the most that each may be, where [points, ...] are at most +-`sums`."""
    largest: Codes = np.abs(np.kron(OF_RESULTS, OF_RESULTS)) @ sums
    return largest
