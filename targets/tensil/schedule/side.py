"""The sums of one pass over one side's tensors (`WordGroup.sides`): MatMuls with the weights that are in the array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from pefslc.geometry.shapes import Window
from pefslc.targets.tensil.groups.layout import Layout, Rect, Run, View, missed_runs, tap_runs
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.tile_phases import Phase
from pefslc.targets.tensil.schedule.weights import Tile
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["Side"]

Tap = tuple[int, int]


@dataclass(slots=True)
class Side:
    """Whose sums a pass makes: the terms' own, or the high ones.

    offset  of its accumulators, behind those of the other side
    load    (side, term, blocks) -> where these blocks of the term's input lie in local memory, and the first of them
    runs    by term and tap, from the view's base on
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
    runs: dict[tuple[int, Tap], tuple[Run, ...]] = field(default_factory=dict)
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
                term, pitch = self.group.terms[tile.term], (view.row_pitch, view.top, view.left)
                layout = self.layouts[term.tensor]
                self.runs[tile.term, tap] = _runs(term.window, tap, self.rect, pitch, layout, self.strides)
        first = view.base + view.block(tile.in_block - first_block)
        self.emitter.matmuls(self.runs[tile.term, tile.tap], first, accumulator, accumulate=not tile.overwrites)
        if (tile.overwrites or tile.has_bias) and tile.fills:
            overwritten = tuple(self.runs[tile.term, tap] for tap in (tile.tap, *tile.beside))
            for run in _missed(overwritten, self.rect, self.strides):
                self.emitter.matmul_zeroes(
                    run.second + accumulator, run.vectors, run.second_stride, accumulate=not tile.overwrites
                )


# Asked again for each picture of a batch, each block of channels, and each schedule that is tried.


@lru_cache(maxsize=4096)
def _runs(
    window: Window, tap: Tap, rect: Rect, pitch: tuple[int, int, int], layout: Layout, strides: tuple[int, int]
) -> tuple[Run, ...]:
    """`tap_runs` from local memory, address 0 on, to the accumulators. `pitch`: row pitch, top, left of the view."""
    row_pitch, top, left = pitch
    return tuple(tap_runs(window, tap, rect, View(0, 0, row_pitch, top, left), layout, View.part(0, rect), strides))


@lru_cache(maxsize=4096)
def _missed(overwritten: tuple[tuple[Run, ...], ...], rect: Rect, strides: tuple[int, int]) -> tuple[Run, ...]:
    """`missed_runs` of several taps' runs."""
    return tuple(missed_runs([run for runs in overwritten for run in runs], rect, strides))
