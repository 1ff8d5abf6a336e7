"""Addresses: a best-fit allocator for one memory, counted in vectors."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Allocator"]


class Allocator:
    """Free intervals of [first, end), sorted. Deterministic: the smallest that fits, of these the lowest."""

    def __init__(self, first: int, end: int) -> None:
        self._free: list[tuple[int, int]] = [(first, end)] if end > first else []

    @property
    def intervals(self) -> list[tuple[int, int]]:
        """[first, end) of what is free."""
        return list(self._free)

    def allocate(self, vectors: int, *, at_end: bool = False) -> int | None:
        """The base of a new interval, or None when no gap is large enough. `at_end`: of the gap that fits."""
        sizes = [(high - low, i) for i, (low, high) in enumerate(self._free) if high - low >= vectors]
        if not sizes:
            return None
        _, i = min(sizes)
        low, high = self._free[i]
        rest = (low, high - vectors) if at_end else (low + vectors, high)
        self._free[i : i + 1] = [rest] if rest[0] < rest[1] else []
        return rest[1] if at_end else low

    def release(self, base: int, vectors: int) -> None:
        """Give back what `allocate` gave."""
        self._free = _merged([*self._free, (base, base + vectors)])

    def largest_gap(self) -> tuple[int, int]:
        """(base, vectors) of the largest free interval."""
        if not self._free:
            return 0, 0
        low, high = max(self._free, key=lambda gap: gap[1] - gap[0])
        return low, high - low

    def largest_gap_without(self, taken: Iterable[tuple[int, int]]) -> int:
        """The vectors of the largest free interval, were these intervals free, too, each [base, end)."""
        return max((high - low for low, high in _merged([*self._free, *taken])), default=0)


def _merged(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, neighbours as one."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(intervals):
        if merged and merged[-1][1] == low:
            merged[-1] = (merged[-1][0], high)
        else:
            assert not merged or merged[-1][1] < low, "released twice"
            merged.append((low, high))
    return merged
