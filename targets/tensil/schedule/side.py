"""The sums of one pass over one side's tensors (`WordGroup.sides`): MatMuls with the weights that are in the array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pefslc.targets.tensil.groups.layout import Layout, Rect, Run, View, missed_runs, tap_runs
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.tile_phases import Phase
from pefslc.targets.tensil.schedule.weights import Tile
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["Side"]


@dataclass(slots=True)
class Side:
    """Whose sums a pass makes: the terms' own, or the high ones.

    offset  of its accumulators, behind those of the other side
    load    (side, term, blocks) -> where these blocks of the term's input lie in local memory, and the first of them
    runs    by term and tap
    views   by term: what `load` said
    """

    number: int
    offset: int
    rect: Rect
    group: WordGroup
    layouts: Mapping[str, Layout]
    strides: tuple[int, int]
    emitter: Emitter
    load: Callable[[int, int, range], tuple[View, int]]
    runs: dict[tuple[int, tuple[int, int]], list[Run]] = field(default_factory=dict)
    views: dict[int, tuple[View, int]] = field(default_factory=dict)

    def read(self, phase: Phase) -> None:
        """Bring what a phase reads of this side's tensor to local memory."""
        self.views[phase.term] = self.load(self.number, phase.term, phase.blocks)
        self.runs = {key: runs for key, runs in self.runs.items() if key[0] != phase.term}

    def add(self, tile: Tile, accumulator: int) -> None:
        """Add what one tile makes of this side's tensor; `accumulator` is where the first side's sums are."""
        accumulator += self.offset
        if tile.tap is None:
            self.emitter.matmul_zeroes(accumulator, self.rect.area, accumulate=not tile.overwrites)
            return
        if tile.term not in self.views:
            self.views[tile.term] = self.load(self.number, tile.term, range(0))
        view, first_block = self.views[tile.term]
        for tap in (tile.tap, *tile.beside):
            if (tile.term, tap) not in self.runs:
                self.runs[tile.term, tap] = self._tap_runs(tile.term, tap, view)
        block_offset = (tile.in_block - first_block) * view.block_pitch
        for run in self.runs[tile.term, tile.tap]:
            self.emitter.matmul(
                run.first + block_offset,
                run.second + accumulator,
                run.vectors,
                run.first_stride,
                run.second_stride,
                accumulate=not tile.overwrites,
            )
        if (tile.overwrites or tile.has_bias) and tile.fills:
            overwritten = [run for tap in (tile.tap, *tile.beside) for run in self.runs[tile.term, tap]]
            for run in missed_runs(overwritten, self.rect, self.strides):
                self.emitter.matmul_zeroes(
                    run.second + accumulator, run.vectors, run.second_stride, accumulate=not tile.overwrites
                )

    def _tap_runs(self, t: int, tap: tuple[int, int], view: View) -> list[Run]:
        term, rect = self.group.terms[t], self.rect
        return tap_runs(term.window, tap, rect, view, self.layouts[term.tensor], View.part(0, rect), self.strides)
