"""The weight tiles of all groups of a program (`weights`), made when they are asked for."""

from __future__ import annotations

from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.weights import Tile, tiles_of
from pefslc.targets.tensil.words.steps import Accumulate, AddOffset, Maximum, Minimum
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["GroupTiles"]


class GroupTiles:
    """keeps  tiles once made, for groups that run several times; a large network's are as much memory as its program"""

    def __init__(self, program: WordProgram, architecture: Architecture, *, keeps: bool) -> None:
        self._layouts, self._architecture = program.layouts, architecture
        self._unclean = _unclean_tensors(program)
        self._kept: dict[tuple[str, bool], list[list[Tile]]] | None = {} if keeps else None

    def of(self, group: WordGroup, *, bias_alone: bool) -> list[list[Tile]]:
        """The tiles of each output block; with `bias_alone`, every bias by one of its own."""
        key = group.result, bias_alone
        if self._kept is not None and key in self._kept:
            return self._kept[key]
        a, one = self._architecture.array_size, self._architecture.data_type.one
        found = tiles_of(group, self._layouts, a, self._unclean, one, bias_alone=bias_alone)
        if self._kept is not None:
            self._kept[key] = found
        return found


def _unclean_tensors(program: WordProgram) -> set[str]:
    """Tensors whose lanes without a channel may not hold 0: a clip moved them off it, or what they are made from."""
    found: set[str] = set()
    for group in program.groups:
        if group.carried or group.stationary is not None:
            found.add(group.result)
        for step in group.steps:
            moved = (isinstance(step, Maximum) and step.word > 0) or (isinstance(step, Minimum) and step.word < 0)
            moved |= isinstance(step, AddOffset)
            if moved or (isinstance(step, Accumulate) and step.word is None and step.tensor in found):
                found.add(group.result)
        if isinstance(group.head, MaxHead) and group.head.tensor in found:
            found.add(group.result)
    return found
