"""Where the points of formats stand: a descent that moves one of them at a time. Knows neither networks nor formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["settle"]

Plan = TypeVar("Plan")
Name = TypeVar("Name")

_MOST_ROUNDS = 3


def settle(
    start: Plan,
    names: Sequence[Name],
    moved: Callable[[Plan, Name, int], Plan],
    loss: Callable[[Plan], float],
    rounds: int = _MOST_ROUNDS,
) -> Plan:
    """`start`, or a plan of less loss: name after name moves by one step down or up, and stays where the loss falls.

    moved   a plan in which one name is moved by -1 or 1
    rounds  over all names, at most; one that moves nothing is the last

    Ties leave everything where it is.
    """
    best, least = start, loss(start)
    for _ in range(rounds):
        before = least
        for name in names:
            for by in (-1, 1):
                other = moved(best, name, by)
                found = loss(other)
                if found < least:
                    best, least = other, found
                    break
        if least == before:
            break
    return best
