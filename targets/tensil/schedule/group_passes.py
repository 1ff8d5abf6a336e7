"""What is known of the passes of a program's groups before memory is given out: weight tiles, accumulators, order."""

from __future__ import annotations

from pefslc.targets.tensil.groups.group import MaxHead
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.schedule.accumulators import Accumulators
from pefslc.targets.tensil.schedule.pass_order import PassOrder
from pefslc.targets.tensil.schedule.pass_plan import Needs
from pefslc.targets.tensil.schedule.stationary_emitter import StationaryLayer
from pefslc.targets.tensil.schedule.weights import Tile, tiles_of
from pefslc.targets.tensil.words.steps import Accumulate, AddOffset, Maximum, Minimum
from pefslc.targets.tensil.words.word_group import WordGroup
from pefslc.targets.tensil.words.word_program import WordProgram

__all__ = ["GroupPasses"]


class GroupPasses:
    """Made when it is asked for.

    keeps  whether it is kept, for groups that run several times; a large network's is as much memory as its program
    """

    def __init__(self, program: WordProgram, architecture: Architecture, *, keeps: bool) -> None:
        self.accumulators = Accumulators.of(program, architecture)
        self._layouts, self._architecture, self._keeps = program.layouts, architecture, keeps
        self._unclean = _unclean_tensors(program)
        self._tiles: dict[tuple[str, bool], list[list[Tile]]] = {}  # not kept: the last ones, asked for twice
        self._rows: dict[str, tuple[int, int]] = {}
        self._orders: dict[tuple[str, int, bool], PassOrder | None] = {}

    def tiles(self, group: WordGroup, *, bias_alone: bool) -> list[list[Tile]]:
        """The tiles of each output block; with `bias_alone`, every bias by one of its own."""
        key = group.result, bias_alone
        if key in self._tiles:
            return self._tiles[key]
        if not self._keeps:
            self._tiles.clear()
        a, one = self._architecture.array_size, self._architecture.data_type.one
        found = tiles_of(group, self._layouts, a, self._unclean, one, bias_alone=bias_alone)
        self._tiles[key] = found
        return found

    def stationary(self, group: WordGroup) -> StationaryLayer | None:
        """How a group's weights move past its activations; None where they do not."""
        if group.stationary is None:
            return None
        source, architecture = self._layouts[group.terms[0].tensor], self._architecture
        return StationaryLayer(group, group.stationary, source, architecture.array_size, architecture.data_type.one)

    def weight_rows(self, group: WordGroup) -> tuple[int, int]:
        """Rows of all weights of a group, and of those that local memory must hold at once."""
        if group.result not in self._rows:
            stationary, tile = self.stationary(group), self._architecture.array_size + 1
            rows = sum(len(t.rows) for block in self.tiles(group, bias_alone=False) for t in block) or tile
            moving = None if stationary is None else (stationary.rows, stationary.least)
            self._rows[group.result] = moving or (rows, min(rows, tile))
        return self._rows[group.result]

    def order(self, group: WordGroup, pictures: int, *, is_read: bool) -> PassOrder | None:
        """The order of the passes over so many pictures, if all that they read and make lies in local memory; None
        where there is none. `is_read`: whether weights come from DRAM1.
        """
        key = group.result, pictures, is_read
        if key not in self._orders:
            rows, least = self.weight_rows(group)
            needs = Needs.of(
                group, self._layouts, self._architecture, set(), result_in_dram=False,
                weight_rows=rows, tile_rows=least, pictures=pictures,
            )  # fmt: skip
            capacity, tiles = self.accumulators.capacity_of(group), self.tiles(group, bias_alone=False)
            self._orders[key] = PassOrder.of(
                group, self._layouts, tiles, needs, pictures, capacity, self._architecture, is_read=is_read
            )
        return self._orders[key]


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
