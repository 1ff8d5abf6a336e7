"""The Pareto front: what nothing else beats in both, cost and value."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["pareto_front"]


def pareto_front(points: Sequence[tuple[float, float]]) -> frozenset[int]:
    """The positions of the points (cost, value) for which no other has at most the cost and at least the value, and
    one of the two better. Of equal points all stay.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    found: list[int] = []
    for i in order:
        if not found or points[i][1] > points[found[-1]][1] or points[i] == points[found[-1]]:
            found.append(i)
    return frozenset(found)
