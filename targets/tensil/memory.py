"""Addresses: a first-fit allocator for one memory, counted in vectors."""

from __future__ import annotations

__all__ = ["Memory"]


class Memory:
    """Free intervals of [first, end), sorted. Deterministic: the lowest address that fits."""

    def __init__(self, first: int, end: int) -> None:
        self._free: list[tuple[int, int]] = [(first, end)] if end > first else []

    def allocate(self, vectors: int) -> int | None:
        """The base of a new interval, or None when no gap is large enough."""
        for i, (low, high) in enumerate(self._free):
            if high - low >= vectors:
                self._free[i : i + 1] = [(low + vectors, high)] if high - low > vectors else []
                return low
        return None

    def release(self, base: int, vectors: int) -> None:
        """Give back what `allocate` gave."""
        self._free.append((base, base + vectors))
        self._free.sort()
        merged: list[tuple[int, int]] = []
        for low, high in self._free:
            if merged and merged[-1][1] == low:
                merged[-1] = (merged[-1][0], high)
            else:
                assert not merged or merged[-1][1] < low, "released twice"
                merged.append((low, high))
        self._free = merged

    def largest_gap(self) -> tuple[int, int]:
        """(base, vectors) of the largest free interval."""
        if not self._free:
            return 0, 0
        low, high = max(self._free, key=lambda gap: gap[1] - gap[0])
        return low, high - low
