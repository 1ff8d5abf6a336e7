"""Where a rising or falling function reaches given values: brackets in float64 that hold the place for certain.

Deciding each of thousands of steps of a Tanh by digits takes minutes. Bounds of the function (`enclosure`) at float64
points, by bisection of all steps at once, leave of them those that come close to an accumulator's code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pefslc.numeric.enclosure import FloatArithmetic, Interval, enclose
from pefslc.numeric.expression import Expression

__all__ = ["inverse_bracket"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LARGEST = int(np.array(np.finfo(np.float64).max).view(np.int64))


def inverse_bracket(expression: Expression, direction: int | None, y: Floats, error: Floats) -> tuple[Floats, Floats]:
    """(low, high), each [levels]: below `low` the function is on one side of y +- error, above `high` on the other.

    low = high = inf: it is before y everywhere; -inf: nowhere. NaN: not known, also of what neither rises nor falls.

    direction  1 where the expression rises, -1 where it falls; 0 or None: no bracket is known
    y          [levels]
    error      [levels]: how far from the value that is meant each of them may be
    """
    return _bracket(expression, direction or 0, y.tobytes(), error.tobytes())


@lru_cache(maxsize=4)  # the same for each channel of a tensor
def _bracket(expression: Expression, direction: int, y_bytes: bytes, error_bytes: bytes) -> tuple[Floats, Floats]:
    y, error = np.frombuffer(y_bytes), np.frombuffer(error_bytes)
    if not direction:
        nothing = np.full(y.shape, np.nan)
        return nothing, nothing
    least, most = y * direction - error, y * direction + error

    def bounds(keys: NDArray[np.int64]) -> tuple[Floats, Interval[Floats]]:
        x = _of_keys(keys)
        found = enclose(expression, Interval(x, x), FloatArithmetic())
        low, high = (np.broadcast_to(end, x.shape) for end in (found.low, found.high))
        return x, Interval(low, high) if direction > 0 else Interval(-high, -low)

    low = _last(lambda keys: _is_before(*bounds(keys), least), len(y))
    high = _last(lambda keys: ~_is_after(*bounds(keys), most), len(y)) + 1
    with np.errstate(invalid="ignore"):
        x_low, at_low = bounds(np.clip(low, -_LARGEST, _LARGEST))
        x_high, at_high = bounds(np.clip(high, -_LARGEST, _LARGEST))
        x_low = np.where(at_low.high < least, x_low, np.nan)
        x_high = np.where(at_high.low > most, x_high, np.nan)
    everywhere, nowhere = (low == _LARGEST) & ~np.isnan(x_low), (high == -_LARGEST) & ~np.isnan(x_high)
    for ends in (x_low, x_high):
        ends[everywhere], ends[nowhere] = np.inf, -np.inf
    return x_low, x_high


def _is_before(x: Floats, value: Interval[Floats], least: Floats) -> Flags:
    """Whether the function is certainly before the level. Left of where it has values counts as before, too."""
    with np.errstate(invalid="ignore"):
        return (value.high < least) | (np.isnan(value.high) & (x <= 0))


def _is_after(x: Floats, value: Interval[Floats], most: Floats) -> Flags:
    with np.errstate(invalid="ignore"):
        return (value.low > most) | (np.isnan(value.low) & (x > 0))


def _last(holds: Callable[[NDArray[np.int64]], Flags], count: int) -> NDArray[np.int64]:
    """The last key of each for which the predicate holds; the one before all where it never does."""
    first, last = np.full(count, -_LARGEST - 1), np.full(count, _LARGEST)
    while (first < last).any():
        middle = (first | last) - ((first ^ last) >> 1)  # rounded up; the difference may not fit int64
        true = holds(middle)
        first, last = np.where(true, middle, first), np.where(true, last, middle - 1)
    return first


def _of_keys(keys: NDArray[np.int64]) -> Floats:
    """Float64 numbers in order: key 0 is 0, key 1 the least positive number, key -1 the one below 0."""
    magnitude = np.abs(keys).view(np.float64)
    return np.where(keys < 0, -magnitude, magnitude)
