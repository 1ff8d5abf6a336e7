"""Times several ways to do one thing in one process, in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["Samples", "call_in_turns"]

Samples = NDArray[np.float64]


def call_in_turns(ways: Mapping[str, Callable[[int], float]], rounds: int, turn_seconds: float) -> dict[str, Samples]:
    """Seconds of a call [rounds], by name. A way takes a number of calls, and returns the seconds of all of them.

    A turn is as many calls as take about `turn_seconds`, and one at least. Each round begins with another way.
    """
    calls = {name: _calls(way, turn_seconds) for name, way in ways.items()}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(ways[name](calls[name]) / calls[name])
    return {name: np.array(values) for name, values in samples.items()}


def _calls(way: Callable[[int], float], turn_seconds: float) -> int:
    """Also warms caches up."""
    calls = 1
    while True:
        seconds = way(calls)
        if seconds >= turn_seconds / 4:
            return max(1, math.ceil(calls * turn_seconds / seconds))
        calls *= 4
