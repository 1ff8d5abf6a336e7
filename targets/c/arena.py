"""The working memory: every buffer gets a place for as long as it lives.

It is a union of an array for each element width: C99 lets bytes hold one type after another there, and every buffer is
read as what was written to it. What lies over another buffer while a step runs has that buffer's width.

Two buffers that are alive at one time lie apart, but for what a step reads for the last time and its result: `units`
says how far the result may lie over it. In fast mode only steps that work element by element do that.

Which buffer is placed first decides how small the whole is. Several orders are tried, always the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pefslc.targets.c.cpus import FAST, SMALL
from pefslc.targets.c.steps import MapStep, Program, Step
from pefslc.targets.c.storage import Buffer, Place, round_up
from pefslc.targets.c.units import distances, units_of

__all__ = ["Arena", "Slot", "overlaps", "plan_arena"]

_ALIGNMENT = {FAST: 64, SMALL: 4}  # bytes: a cache line; a word
_TRIALS = 24  # orders that begin with what was in the way before


@dataclass(frozen=True, slots=True)
class Slot:
    """A buffer's place: bytes [offset, end) of the arena, in steps [first, last]."""

    buffer: Buffer
    offset: int
    first: int
    last: int

    @property
    def end(self) -> int:
        return self.offset + self.buffer.bytes

    @property
    def address(self) -> str:
        """The C expression of where it begins, of an `arena`."""
        kind = self.buffer.type
        address = f"arena->memory{kind.bits} + {self.offset // kind.bytes}"
        return address if kind.signed else f"({kind} *)({address})"


@dataclass(frozen=True, slots=True)
class Arena:
    """`slots` by buffer name."""

    slots: dict[str, Slot]

    @property
    def widths(self) -> list[int]:
        """Bytes of an element, of all buffers, each once."""
        return sorted({slot.buffer.type.bytes for slot in self.slots.values()})

    @property
    def bytes(self) -> int:
        """Whole elements of every width."""
        return round_up(max((slot.end for slot in self.slots.values()), default=0), max(self.widths, default=1))

    def overlaid(self, step: Step) -> bool:
        """Whether the step's result lies over a part of what it reads."""
        result = self.slots.get(step.result.buffer.name)
        read = [self.slots[t.buffer.name] for t in step.reads if t.buffer.name in self.slots]
        return result is not None and any(_touch(result, slot) for slot in read)

    def bytes_in_use(self, step: int) -> int:
        """Of the places that hold something while this step runs."""
        total = end = 0
        alive = [s for s in self.slots.values() if s.first <= step <= s.last]
        for slot in sorted(alive, key=lambda s: s.offset):  # a result may lie over what is read
            total += max(slot.end - max(slot.offset, end), 0)
            end = max(end, slot.end)
        return total


@dataclass(frozen=True, slots=True)
class _Life:
    buffer: Buffer
    first: int
    last: int


def plan_arena(program: Program, memory: str = FAST, *, inputs: bool | None = False) -> Arena:
    """Places for all buffers, and for the inputs: so the caller needs no arrays for them.

    memory  SMALL lays results over what is read
    inputs  whether they have places; None where that takes no more memory
    """
    if inputs is None:
        without, found = (_Planner(program, memory, having).arena() for having in (False, True))
        return found if found.bytes <= without.bytes else without
    return _Planner(program, memory, inputs).arena()


class _Planner:
    """One plan's buffers, and how far results may lie over what they are made of: (source, result) -> bytes."""

    def __init__(self, program: Program, memory: str, inputs: bool) -> None:
        self.alignment = _ALIGNMENT[memory]
        self.lives = _lifetimes(program, inputs)
        self.allowed: dict[tuple[str, str], int] = {}
        for i, step in enumerate(program.steps):
            result = self.lives.get(step.result.buffer.name)
            if result is None or result.first != i or not (memory == SMALL or isinstance(step, MapStep)):
                continue
            for name, distance in distances(step).items():
                read = self.lives.get(name)
                width = result.buffer.type.bytes
                if read is None or read.last != i or name == result.buffer.name or read.buffer.type.bytes != width:
                    continue
                self.allowed[name, result.buffer.name] = distance * width

    def arena(self) -> Arena:
        """The smallest plan of those that are tried."""
        lives = list(self.lives.values())
        return Arena({slot.buffer.name: slot for slot in self._best(lives)} if lives else {})

    def _best(self, lives: list[_Life]) -> list[Slot]:
        needed = self._needed(lives)
        least = max(needed)
        largest = sorted(lives, key=lambda life: (-life.buffer.bytes, life.first, life.buffer.name))
        latest = sorted(largest, key=lambda life: -life.last)
        # Those beside which least is free, first.
        orders = [
            largest,
            *(sorted(o, key=lambda life: -max(needed[life.first : life.last + 1])) for o in (latest, largest)),
            latest,
        ]
        best: list[Slot] = []
        for order in orders:
            for _ in range(_TRIALS):
                slots = self._placed(order)
                size = max(slot.end for slot in slots)
                if not best or size < max(slot.end for slot in best):
                    best = slots
                if size == least:
                    return best
                highest = next(i for i, slot in enumerate(slots) if slot.end == size)
                if highest == 0:
                    break
                order = [order[highest], *order[:highest], *order[highest + 1 :]]
        return best

    def _needed(self, lives: list[_Life]) -> list[int]:
        """Bytes that no plan can do with less than, for each step."""
        found = []
        for step in range(max(life.last for life in lives) + 1):
            alive = {life.buffer.name: life for life in lives if life.first <= step <= life.last}
            total, saved = sum(life.buffer.bytes for life in alive.values()), 0
            for (read, result), distance in self.allowed.items():
                if read in alive and result in alive:
                    s, r = alive[read].buffer.bytes, alive[result].buffer.bytes
                    saved += max(s + r - max(r, s + max(distance, 0)), 0)
            found.append(total - saved)
        return found

    def _placed(self, order: list[_Life]) -> list[Slot]:
        """Each as low as it can lie beside those before it."""
        slots: list[Slot] = []
        for life in order:
            step = max(self.alignment, life.buffer.type.bytes)
            barred = sorted(
                self._barred(life, slot) for slot in slots if life.first <= slot.last and slot.first <= life.last
            )
            offset = 0
            for begin, end in barred:  # in ascending order, so one pass is enough
                if begin < offset < end:
                    offset = round_up(end, step)
            slots.append(Slot(life.buffer, offset, life.first, life.last))
        return slots

    def _barred(self, life: _Life, slot: Slot) -> tuple[int, int]:
        """The offsets strictly between which `life` must not begin."""
        size = life.buffer.bytes
        begin, end = slot.offset - size, slot.end
        as_result = self.allowed.get((slot.buffer.name, life.buffer.name))
        if as_result is not None:
            begin = max(begin, slot.offset - as_result)
        as_source = self.allowed.get((life.buffer.name, slot.buffer.name))
        if as_source is not None:
            end = min(end, slot.offset + as_source)
        return begin, end


def overlaps(arena: Arena, program: Program) -> Iterator[tuple[Slot, Slot]]:
    """Pairs of buffers of which one spoils what the other holds. None, ever.

    Proven by addresses, unit by unit, whatever the plan was made of.
    """
    slots = list(arena.slots.values())
    for i, a in enumerate(slots):
        for b in slots[i + 1 :]:
            if a.last < b.first or b.last < a.first or not _touch(a, b):
                continue
            step = program.steps[max(a.first, b.first)]
            earlier, later = (b, a) if step.result.buffer == a.buffer else (a, b)
            is_result = step.result.buffer == later.buffer and earlier.last == later.first
            if not is_result or not _reads_in_time(step, earlier, later):
                yield a, b


def _reads_in_time(step: Step, source: Slot, result: Slot) -> bool:
    """Whether each element of `source` is read before the result is written there."""
    units = units_of(step)
    if units is None:
        return False
    as_source, as_added = step.source.buffer == source.buffer, source.buffer in {t.buffer for t in step.added}
    width = result.buffer.type.bytes
    if (not as_source and not as_added) or source.buffer.type.bytes != width:
        return False
    if as_added and any(t.buffer == source.buffer and t.shape != step.result.shape for t in step.added):
        return False  # a gate is read again
    if (as_added or not units.whole) and result.offset > source.offset:
        return False  # the element that is written is ahead of the one that is read
    written = 0  # no element before this one is there any more
    for read, begin, end in zip(units.reads.tolist(), units.writes.tolist(), units.ends.tolist(), strict=True):
        if units.passes:
            written = max(written, result.offset + end * width)
        if as_source and source.offset + read * width < written:
            return False
        if as_added and source.offset + begin * width < written:
            return False
        written = max(written, result.offset + end * width)
    return True


def _touch(a: Slot, b: Slot) -> bool:
    return a.offset < b.end and b.offset < a.end


def _lifetimes(program: Program, inputs: bool) -> dict[str, _Life]:
    lives: dict[str, _Life] = {}
    places = {Place.ARENA, Place.INPUT} if inputs else {Place.ARENA}
    if inputs:
        lives = {t.buffer.name: _Life(t.buffer, 0, 0) for t in program.inputs}
    for i, step in enumerate(program.steps):
        for buffer in (*(t.buffer for t in step.reads), step.result.buffer, *step.scratch):
            if buffer.place in places:
                lives[buffer.name] = _Life(buffer, lives[buffer.name].first if buffer.name in lives else i, i)
    return lives
