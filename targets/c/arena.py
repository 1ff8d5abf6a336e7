"""The working memory: every buffer gets a place for as long as it lives.

One array per element width. Memory of one declared type must not be read as another in C99 (signedness aside), so
buffers of different widths do not share; almost everything is 8 bits wide anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pefslc.targets.c.steps import Program
from pefslc.targets.c.storage import Buffer, Place

__all__ = ["Arena", "Slot", "overlaps", "plan_arena"]

_ALIGNMENT = 64  # bytes: a cache line


@dataclass(frozen=True, slots=True)
class Slot:
    """A buffer's place: elements [offset, offset + elements) of the array of its width, in steps [first, last]."""

    buffer: Buffer
    offset: int
    first: int
    last: int

    @property
    def end(self) -> int:
        return self.offset + self.buffer.elements


@dataclass(frozen=True, slots=True)
class Arena:
    """`sizes`: bits -> elements of that array; `slots` by buffer name."""

    slots: dict[str, Slot]
    sizes: dict[int, int]

    @property
    def bytes(self) -> int:
        return sum(bits // 8 * count for bits, count in self.sizes.items())

    def bytes_in_use(self, step: int) -> int:
        """Of the places that hold something while this step runs."""
        total = 0
        for bits in self.sizes:
            end = 0
            alive = [s for s in self.slots.values() if s.first <= step <= s.last and s.buffer.type.bits == bits]
            for slot in sorted(alive, key=lambda s: s.offset):  # two lie in one place where a step works in place
                total += bits // 8 * max(slot.end - max(slot.offset, end), 0)
                end = max(end, slot.end)
        return total


@dataclass(slots=True)
class _Lifetime:
    buffer: Buffer
    first: int
    last: int


def plan_arena(program: Program) -> Arena:
    """Places for all buffers: in place where a step allows it, then the largest first, each as low as it can lie."""
    lives = _lifetimes(program)
    leaders = _in_place(program, lives)
    groups: dict[str, list[_Lifetime]] = {}
    for name, life in lives.items():
        groups.setdefault(leaders[name], []).append(life)

    def size(members: list[_Lifetime]) -> int:
        return max(m.buffer.elements * m.buffer.type.bytes for m in members)

    slots: dict[str, Slot] = {}
    sizes: dict[int, int] = {}
    placed: list[Slot] = []
    for leader, members in sorted(groups.items(), key=lambda g: (-size(g[1]), g[1][0].first, g[0])):
        bits = lives[leader].buffer.type.bits
        step = _ALIGNMENT * 8 // bits
        elements = max(m.buffer.elements for m in members)
        first, last = min(m.first for m in members), max(m.last for m in members)
        offset = 0
        for other in sorted(placed, key=lambda s: s.offset):
            together = other.first <= last and first <= other.last and other.buffer.type.bits == bits
            if together and other.offset < offset + elements and offset < other.end:
                offset = -(-other.end // step) * step
        for m in members:
            slots[m.buffer.name] = Slot(m.buffer, offset, m.first, m.last)
        whole = Buffer(leader, Place.ARENA, lives[leader].buffer.type, elements)
        placed.append(Slot(whole, offset, first, last))
        sizes[bits] = max(sizes.get(bits, 0), offset + elements)
    for bits in [b for b in sizes if b < max(sizes)]:  # so that the array behind it begins at a whole word
        sizes[bits] = -(-sizes[bits] // (32 // bits)) * (32 // bits)
    return Arena(slots, dict(sorted(sizes.items())))


def overlaps(arena: Arena, program: Program) -> Iterator[tuple[Slot, Slot]]:
    """Pairs of buffers that hold data at one time in one place, unless a step works in place there. None, ever."""
    allowed = {(t.buffer.name, step.result.buffer.name, i) for i, step in enumerate(program.steps) for t in step.shares}
    slots = list(arena.slots.values())
    for i, a in enumerate(slots):
        for b in slots[i + 1 :]:
            if a.buffer.type.bits != b.buffer.type.bits or a.last < b.first or b.last < a.first:
                continue
            if a.end <= b.offset or b.end <= a.offset:
                continue
            earlier, later = (a, b) if a.first <= b.first else (b, a)
            hand_over = (earlier.buffer.name, later.buffer.name, later.first) in allowed
            if not (hand_over and earlier.last == later.first and earlier.offset == later.offset):
                yield a, b


def _lifetimes(program: Program) -> dict[str, _Lifetime]:
    lives: dict[str, _Lifetime] = {}
    for i, step in enumerate(program.steps):
        for buffer in (*(t.buffer for t in step.reads), step.result.buffer, *step.scratch):
            if buffer.place is Place.ARENA:
                lives.setdefault(buffer.name, _Lifetime(buffer, i, i)).last = i
    return lives


def _in_place(program: Program, lives: dict[str, _Lifetime]) -> dict[str, str]:
    """Buffer name -> the buffer whose place it takes over (itself where it takes none)."""
    leaders = {name: name for name in lives}
    for i, step in enumerate(program.steps):
        result = lives.get(step.result.buffer.name)
        if result is None or result.first != i:
            continue
        for tensor in step.shares:
            source = lives.get(tensor.buffer.name)
            if source is not None and source.last == i and source.first < i:
                leaders[result.buffer.name] = leaders[source.buffer.name]
                break
    return leaders
