"""Tensors of few channels: 16 channels on 32 lanes leave half of the array idle, so a vector holds two pixels of a row.

The tensor is one of 32 channels, then, and half as wide (`pixel_groups`). Of a 3 x 3 convolution between two such
tensors, a MatMul makes two pixels, and still nine tiles are enough: half the MatMuls, and half the vectors to
requantize and to store.

How many pixels share a vector is chosen for all tensors together, by cost, for a convolution costs what both of its
tensors cost: two that are added lie alike, one that is read by a layer of many channels may rather stay as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from pefslc.targets.tensil.group_rewrites.convolution_cost import tiles_of_few_lanes
from pefslc.targets.tensil.group_rewrites.pixel_groups import between_groups
from pefslc.targets.tensil.groups.group import AddTensor, Group, LinearHead, Requantization, Term
from pefslc.targets.tensil.groups.group_program import GroupProgram, Role
from pefslc.targets.tensil.groups.layout import Layout
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.timing import streaming_cycles
from pefslc.targets.tensil.rewriting.rewrite import LOG, Context

__all__ = ["GroupPixels"]

_AXIS = 1  # along rows, whose pixels are consecutive vectors
# Cycles a vector of a result: its requantization by MatMuls, and its way to local memory twice; else once.
_REQUANTIZED, _STORED = 5, 1
# Weights that take no more than one part in so many of local memory surely stay there: no run reads them.
_SURELY_RESIDENT = 4

Choice = Mapping[str, int]  # by tensor, the pixels that share a vector


class GroupPixels:
    """Tensors between convolutions whose channels fill half of the lanes or less have several pixels in a vector."""

    name: ClassVar[str] = "group-pixels"
    needs: ClassVar[str] = "nothing; after the rewrites that look at single pixels"
    ensures: ClassVar[str] = "such a tensor has that many times the channels, and columns so many times fewer"

    def run(self, program: GroupProgram, context: Context) -> GroupProgram:
        candidates = _Candidates(program, context.architecture)
        if not candidates.options:
            LOG.debug("%s: no tensor has so few channels", self.name)
            return program
        chosen = candidates.cheapest()
        for leader, most in candidates.options.items():
            LOG.debug("%s: %s has %d pixels a vector, of up to %d", self.name, leader, chosen[leader], most[-1])
        pixels = candidates.of_all(chosen)
        if set(pixels.values()) == {1}:
            return program
        groups = [_grouped(group, candidates, pixels) for group in program.groups]
        tensors = (
            replace(stored, layout=_wider(stored.layout, pixels[name]))
            for name, stored in program.tensors.items()
            if pixels[name] > 1
        )
        return program.with_groups(groups, tensors)


def _wider(layout: Layout, pixels: int) -> Layout:
    return Layout(layout.channels * pixels, layout.height, layout.width // pixels)


def _is_plain(group: Group) -> bool:
    return isinstance(group.head, LinearHead) and group.head.stationary is None


@dataclass
class _Candidates:
    """Which tensors may have several pixels in a vector, and what each choice costs.

    leaders  of each tensor, the one whose name stands for all that lie as it does: those that are added to it
    options  of each leader that has a choice, how many pixels may share a vector; 1 first
    """

    program: GroupProgram
    architecture: Architecture
    leaders: dict[str, str] = field(default_factory=dict)
    options: dict[str, list[int]] = field(default_factory=dict)
    terms: dict[tuple[int, int, int], Term | None] = field(default_factory=dict)
    costs: dict[tuple[int, int, int], tuple[int, int] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.leaders = {name: name for name in self.program.tensors}
        for group in self.program.groups:
            for step in group.steps:
                if isinstance(step, AddTensor):
                    self._join(group.result, step.tensor)
        bound = {self.leaders[name] for name in self._bound()}
        for name, leader in self.leaders.items():
            layout, a = self.program.layout(name), self.architecture.array_size
            fitting = [n for n in range(1, a // layout.channels + 1) if layout.width % n == 0]
            if name == leader and leader not in bound and len(fitting) > 1:
                self.options[leader] = fitting

    def _join(self, one: str, other: str) -> None:
        kept, gone = self.leaders[one], self.leaders[other]
        self.leaders = {name: kept if leader == gone else leader for name, leader in self.leaders.items()}

    def _bound(self) -> Iterator[str]:
        """Tensors that must lie as they do: what the host reads or writes, and what others than convolutions do."""
        yield from self.program.output_tensors
        made = {group.result for group in self.program.groups}
        yield from (name for name in self.program.tensors if name not in made)
        # Packing may requantize what it packs (`word_rewrites.sums_in_packing`), pixel by pixel.
        yield from (stored.of for stored in self.program.tensors.values() if stored.role is Role.PACKED)
        for group in self.program.groups:
            is_mean = self.program.tensors[group.result].role is Role.MEAN  # the taps of its window count
            if not _is_plain(group) or is_mean:
                yield group.result
                yield from group.tensors

    def of_all(self, chosen: Choice) -> dict[str, int]:
        """The pixels of a vector of each tensor."""
        return {name: chosen.get(leader, 1) for name, leader in self.leaders.items()}

    def cheapest(self) -> dict[str, int]:
        """From several choices of one number for all, changed leader by leader as long as that is cheaper."""
        most = max(options[-1] for options in self.options.values())
        starts = [
            {leader: max(n for n in options if n <= bound) for leader, options in self.options.items()}
            for bound in range(1, most + 1)
        ]
        found = [self._improved(start) for start in {tuple(start.items()): start for start in starts}.values()]
        return min(found, key=self._order)

    def _improved(self, chosen: dict[str, int]) -> dict[str, int]:
        while True:
            before = self._order(chosen)
            for leader, options in self.options.items():
                chosen = min(({**chosen, leader: n} for n in options), key=self._order)
            if self._order(chosen) >= before:
                return chosen

    def _order(self, chosen: Choice) -> tuple[int, int, int]:
        """How many convolutions have no window, the cycles of the others, and the pixels: least is best."""
        pixels, none, cycles, rows = self.of_all(chosen), 0, 0, 0
        for group in self.program.groups:
            if not _is_plain(group):
                continue
            made = pixels[group.result]
            cycles += self._result_cycles(group, made)
            assert isinstance(group.head, LinearHead)
            for term in group.head.terms:
                cost = self._cost(term, group, pixels[term.tensor], made)
                if cost is None:
                    none += 1
                else:
                    cycles, rows = cycles + cost[0], rows + cost[1]
        if _SURELY_RESIDENT * rows > self.architecture.local_depth:
            cycles += streaming_cycles(self.architecture, rows)
        return none, cycles, sum(pixels.values())

    def _result_cycles(self, group: Group, made: int) -> int:
        vectors = _wider(group.layout, made).vectors(self.architecture.array_size)
        return vectors * (_REQUANTIZED if group.steps else _STORED)

    def _cost(self, term: Term, group: Group, read: int, made: int) -> tuple[int, int] | None:
        """Cycles without the reads of weights, and their rows."""
        key = id(term), read, made
        if key not in self.costs:
            changed, cost = self.term(term, read, made), None
            if changed is not None:
                source, output = _wider(self.program.layout(term.tensor), read), _wider(group.layout, made)
                cost = tiles_of_few_lanes(changed.weight, changed.window, source, output, self.architecture)
            self.costs[key] = cost
        return self.costs[key]

    def term(self, term: Term, read: int, made: int) -> Term | None:
        """The convolution that reads `read` pixels a vector, and makes `made`; None where no window does that."""
        key = id(term), read, made
        if key not in self.terms:
            self.terms[key] = _convolution(term, read, made)
        return self.terms[key]


def _convolution(term: Term, read: int, made: int) -> Term | None:
    if read == made == 1:
        return term
    found = between_groups(term.weight, term.window, _AXIS, read, made)
    return found and Term(term.tensor, *found)


def _grouped(group: Group, candidates: _Candidates, pixels: Mapping[str, int]) -> Group:
    made, head = pixels[group.result], group.head
    if not isinstance(head, LinearHead) or head.stationary is not None:
        return group
    terms = tuple(candidates.term(term, pixels[term.tensor], made) for term in head.terms)
    if made == 1 and all(new is old for new, old in zip(terms, head.terms, strict=True)):
        return group
    kept = [term for term in terms if term is not None]
    assert len(kept) == len(terms), "a choice without a window is never the cheapest"
    changed = replace(head, terms=tuple(kept), bias=np.tile(head.bias, made))
    steps = tuple(replace(s, pixels=made) if isinstance(s, Requantization) else s for s in group.steps)
    return replace(group, layout=_wider(group.layout, made), head=changed, steps=steps)
