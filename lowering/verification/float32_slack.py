"""How far an expected output is off the exact one, and how much of that float32 arithmetic explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pefslc.evaluation.float32_radius import Radius
from pefslc.ir.output_function import OutputFunction
from pefslc.verification.comparison import function_noise

__all__ = ["float32_slack"]

Floats = NDArray[np.float64]

_STORED = 2.0**-23  # of a value that was stored as a float32


def float32_slack(
    values: Radius, function: OutputFunction | None, expected: NDArray[np.generic]
) -> tuple[Floats, Floats]:
    """(off, explained), of the shape of `expected`: explained is what is off by no more than float32 explains.

    values    of the output before its function
    function  that the host computes of them, if any. Of an ArgMax: how far the value at the expected index lies below
              the largest, and by how much float32 may err between the two
    """
    wanted = expected.astype(np.float64)
    if function is None:
        return np.abs(wanted - values.exact), values.radius + np.abs(values.exact) * _STORED
    low, high = values.exact - values.radius, values.exact + values.radius
    if not function.makes_values:
        return _below_largest(values, function, wanted)
    exact = function(values.exact)
    least, most = function.bounds(low, high, function_noise(expected) * np.maximum(np.abs(exact), 1))
    return np.abs(wanted - exact), np.where(wanted < exact, exact - least, most - exact)


def _below_largest(values: Radius, function: OutputFunction, index: Floats) -> tuple[Floats, Floats]:
    """Of indices along the function's axis. Another number than an index is off by infinity."""
    axis, size = function.axis, values.exact.shape[function.axis]
    at = index if function.keepdims else np.expand_dims(index, axis)
    is_index = (at == np.rint(at)) & (at >= 0) & (at < size)
    chosen = np.where(is_index, at, 0).astype(np.int64)
    rival = (values.exact - values.radius).argmax(axis=axis, keepdims=True)

    def of(array: Floats, places: NDArray[np.int64]) -> Floats:
        return np.take_along_axis(array, places, axis)

    off = np.where(is_index, of(values.exact, rival) - of(values.exact, chosen), np.inf)
    explained = of(values.radius, rival) + of(values.radius, chosen)
    return (off, explained) if function.keepdims else (off.squeeze(axis), explained.squeeze(axis))
