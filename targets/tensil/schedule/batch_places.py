"""Places of a batch's tensors in local memory: of all pictures that a group works on, what it reads and makes.

Only then do the pictures share passes, and with them the weights. So what others wait for makes room. Blocks lie where
there is room, and results where nothing reads any more what lay there (`PassOrder`): the last pass of a group has its
sums in the accumulators when all that it was made from is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pefslc.targets.tensil.schedule.allocator import Allocator
from pefslc.targets.tensil.schedule.pass_order import PassOrder
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.schedule.tensor_memory import SHORT_LIVED, OfPicture, Tensor, TensorMemory
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["BatchPlaces"]


@dataclass(slots=True, kw_only=True)
class BatchPlaces:
    """The places of one run.

    reads        what it reads, of all pictures
    order        of its passes; None where there is none that helps
    next_use     when a tensor is read next, as the number of a run
    weight_rows  rows of all its weights; `tile_rows` those of one tile
    waits        whether a later group reads the results together with those of other pictures
    """

    memory: TensorMemory
    group: WordGroup
    reads: Sequence[Tensor]
    pictures: range
    order: PassOrder | None
    next_use: Callable[[OfPicture], int]
    weight_rows: int
    tile_rows: int
    waits: bool
    _dead: list[tuple[int, int]] = field(default_factory=list)  # [begin, end) of what is free after the run

    def settle(self) -> Needs | None:
        """Places for all that the group reads and makes, beside a tile of weights; None where there is no room for
        them, whatever else leaves.
        """
        if not self._bring():
            return None
        while not self._place_results():
            if not self._spill():
                return None
        return self.memory.needs_of(self.group, self.pictures, self.weight_rows, self.tile_rows)

    def end(self) -> None:
        """After the run: what lay in shared places and was not overwritten is free."""
        for begin, end in self._dead:
            self.memory.local.release(begin, end - begin)

    @property
    def _results(self) -> list[Tensor]:
        return [self.memory.tensors[self.group.result, picture] for picture in self.pictures]

    def _bring(self) -> bool:
        """Whether all that the group reads is in local memory now."""
        brought: list[Tensor] = []
        for tensor in (tensor for tensor in self.reads if tensor.local is None):
            while (places := self.memory.allocate(tensor, apart=True)) is None and self._spill():
                pass
            if places is None:
                break
            tensor.local = places
            brought.append(tensor)
        self.memory.load(brought)
        return all(tensor.local is not None for tensor in self.reads)

    def _place_results(self) -> bool:
        return self._in_free_memory() or self._over_the_dead()

    def _in_free_memory(self) -> bool:
        for result in self._results:
            # Helpers live shortly, and what waits must not lie where others come and go: both at the other end.
            at_end = self.waits or result.role in SHORT_LIVED
            result.local = self.memory.allocate(result, at_end=at_end, apart=True)
        return self._is_enough()

    def _over_the_dead(self) -> bool:
        """Results where blocks lay that no later pass reads; in free memory those that find none."""
        if self.order is None or any(result.whole for result in self._results):
            return False
        dying = [tensor for tensor in self.reads if tensor.readers == 1]
        pool, taken = _taken(self.order, dying, self.pictures.start, self.group.layout.pixels)
        found: list[int] = []
        for result in self._results:
            blocks = [taken.get((result.picture, block)) for block in range(result.vectors // result.layout.pixels)]
            own = [self.memory.local.allocate(result.layout.pixels, at_end=self.waits) for b in blocks if b is None]
            found += [place for place in own if place is not None]
            places = [place if place is not None else own.pop(0) for place in blocks]
            result.local = tuple(place for place in places if place is not None)
            if len(result.local) < len(places):
                result.local = None
        if not self._is_enough(found):
            return False
        for tensor in dying:
            tensor.lent = True
        self._dead = pool.intervals
        return True

    def _is_enough(self, found: Sequence[int] | None = None) -> bool:
        """Whether all results have places, beside one tile of weights; if not, they have none.

        found  of blocks that have places of their own; None: all have
        """
        memory, pixels, least = self.memory, self.group.layout.pixels, min(self.weight_rows, self.tile_rows)
        if all(result.local is not None for result in self._results) and memory.local.largest_gap()[1] >= least:
            return True
        if found is None:
            found = [place for result in self._results for place in result.local or ()]
        memory.give_back(found, pixels)
        for result in self._results:
            result.local = None
        return False

    def _spill(self) -> bool:
        """Move a tensor out of local memory that does not take part: of those that are read last the largest."""
        others = self.memory.bystanders(self._results, self.reads)
        if not others:
            return False
        chosen = max(others, key=lambda t: (self.next_use((t.name, t.picture)), t.vectors))
        self.memory.spill(chosen, self.group.origin)
        return True


def _taken(
    order: PassOrder, dying: Sequence[Tensor], first: int, pixels: int
) -> tuple[Allocator, dict[tuple[int, int], int]]:
    """What is left of the places of what dies; and by (picture, block), where results may lie. `first`: the picture."""
    sets = len(order.sets)
    part_of = {picture: number for number, part in enumerate(order.parts) for picture in part}
    free: dict[int, list[tuple[int, int]]] = {}  # by the time: pass after pass
    for tensor in dying:
        for block, place in enumerate(tensor.local or ()):
            time = part_of[tensor.picture - first] * sets + order.free_from.get((tensor.name, block), 0)
            free.setdefault(time, []).append((place, tensor.layout.pixels))
    pool, taken = Allocator(0, 0), {}
    for time in range(len(order.parts) * sets + 1):
        for place, vectors in free.get(time, ()):
            pool.release(place, vectors)
        part, number = divmod(time, sets)
        for picture in order.parts[part] if part < len(order.parts) else ():
            for block in order.sets[number]:
                found = pool.allocate(pixels)
                if found is not None:
                    taken[first + picture, block] = found
    return pool, taken
