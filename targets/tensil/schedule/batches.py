"""How many pictures of a batch each group works on at once, and in which order the groups run for it.

A group that works on some pictures loads each tile of weights once for all of them. Groups of few pixels want many
pictures, for their weights cost most; groups of many pixels want few, for local memory must hold what they make. So
the batch goes through the network in parts: a group runs as soon as those before it have made the pictures that it
wants, and the last group that can run runs first. What waits for a later group waits for no more pictures than that
group works on at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["ONE_PICTURE", "Batches", "runs_of_chain"]


@dataclass(frozen=True, slots=True)
class Batches:
    """A program for `size` pictures.

    at_once  by the result of a group, on how many it works; on 1 where it is not there
    kept     groups whose weights stay in local memory from their first run to their last
    """

    size: int
    at_once: Mapping[str, int] = field(default_factory=dict, hash=False)
    kept: frozenset[str] = frozenset()

    @classmethod
    def uniform(cls, groups: Sequence[WordGroup], size: int) -> Batches:
        """Every group works on the whole batch."""
        return cls(size, {group.result: size for group in groups})

    def of(self, group: WordGroup) -> int:
        return self.at_once.get(group.result, 1)

    @property
    def in_order(self) -> tuple[int, ...]:
        """On how many pictures the groups work, one after the other; a number once for neighbours that share it."""
        return tuple(pictures for pictures, _ in groupby(self.at_once.values()))

    def text_of(self, tensors: Iterable[str]) -> str:
        """How the groups that make these tensors share the batch, behind what else is said of them; "" without one."""
        if self.size == 1:
            return ""
        names = [tensor for tensor in tensors if tensor in self.at_once]
        numbers = sorted({self.at_once[name] for name in names})
        stay = "; weights stay in local memory" if self.kept.intersection(names) else ""
        return f", {' or '.join(map(str, numbers))} of {self.size} pictures at once{stay}" if numbers else ""

    def runs(self, groups: Sequence[WordGroup]) -> Iterator[tuple[WordGroup, range]]:
        """The groups in the order in which they run, and the pictures of each run."""
        for i, pictures in runs_of_chain([self.of(group) for group in groups], self.size):
            yield groups[i], pictures


ONE_PICTURE = Batches(1)


def runs_of_chain(at_once: Sequence[int], size: int) -> Iterator[tuple[int, range]]:
    """Runs of the links of a chain, each on so many of `size` pictures at once: (link, pictures) in order.

    A link needs what all links before it made of its pictures; the last link that can run runs next.
    """
    done = [0] * len(at_once)
    last = len(at_once) - 1
    while last >= 0 and done[last] < size:
        for i in range(last, -1, -1):
            end = min(done[i] + at_once[i], size)
            if end > done[i] and (i == 0 or done[i - 1] >= end):
                yield i, range(done[i], end)
                done[i] = end
                break
