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
from pefslc.numeric.slope import enclose_slope

__all__ = ["inverse_bracket"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Keys = NDArray[np.int64]
Indices = NDArray[np.intp]

_THINNED = 64  # one in so many levels is found by bisection alone
_NEWTON_STEPS = 3
_DISTANCES = (1 << 14, 1 << 26)  # keys: 2^-38 of the number, 2^-26
_LARGEST = int(np.array(np.finfo(np.float64).max).view(np.int64))
_FINITE = (float(np.finfo(np.float64).min), float(np.finfo(np.float64).max))


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

    def bounds(keys: Keys) -> tuple[Floats, Interval[Floats]]:
        x = _of_keys(keys)
        found = enclose(expression, Interval(x, x), FloatArithmetic())
        low, high = (np.broadcast_to(end, x.shape) for end in (found.low, found.high))
        return x, Interval(low, high) if direction > 0 else Interval(-high, -low)

    def is_before(keys: Keys, levels: Indices) -> Flags:
        return _is_before(*bounds(keys), least[levels])

    def is_not_after(keys: Keys, levels: Indices) -> Flags:
        return ~_is_after(*bounds(keys), most[levels])

    some = np.arange(0, len(y), _THINNED)
    near = _near(expression, y, _of_keys(_last(is_before, some, None)), y[some])
    every = np.arange(len(y))
    low = _last(is_before, every, near)
    high = _last(is_not_after, every, near) + 1
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


def _near(expression: Expression, y: Floats, x_known: Floats, y_known: Floats) -> Keys:
    """[levels] about where the function is y, by Newton's method between places where it is about `y_known`."""
    order = np.argsort(y_known)
    x_known, y_known = np.clip(x_known[order], *_FINITE), y_known[order]
    x = np.interp(y, y_known, x_known)
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            at = Interval(x, x)
            value, slope = enclose(expression, at, FloatArithmetic()), enclose_slope(expression, at)
            moved = x - (value.low + value.high - 2 * y) / (slope.low + slope.high)
            x = np.clip(np.where(np.isfinite(moved), moved, x), x_known.min(), x_known.max())
    return _keys_of(x)


def _last(holds: Callable[[Keys, Indices], Flags], levels: Indices, near: Keys | None) -> Keys:
    """The last key of each level for which the predicate holds; the one before all where it never does.

    holds  of a key for each of some levels
    near   keys [levels] around which to look first
    """
    first, last = np.full(len(levels), -_LARGEST - 1), np.full(len(levels), _LARGEST)
    for distance in () if near is None else _DISTANCES:
        assert near is not None
        left = np.flatnonzero(last - distance > first + distance)  # no difference that int64 does not hold
        low, high = (np.clip(near[left] + by, -_LARGEST, _LARGEST) for by in (-distance, distance))
        found = holds(low, levels[left]) & ~holds(high, levels[left])
        first[left[found]], last[left[found]] = low[found], high[found] - 1
    left = np.flatnonzero(first < last)
    while len(left):
        a, b = first[left], last[left]
        middle = (a | b) - ((a ^ b) >> 1)  # rounded up; the difference may not fit int64
        true = holds(middle, levels[left])
        first[left], last[left] = np.where(true, middle, a), np.where(true, b, middle - 1)
        left = left[first[left] < last[left]]
    return first


def _of_keys(keys: Keys) -> Floats:
    """Float64 numbers in order: key 0 is 0, key 1 the least positive number, key -1 the one below 0."""
    magnitude = np.abs(keys).view(np.float64)
    return np.where(keys < 0, -magnitude, magnitude)


def _keys_of(x: Floats) -> Keys:
    keys = np.abs(x).view(np.int64)
    return np.where(x < 0, -keys, keys)
