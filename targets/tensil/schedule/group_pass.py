"""One group in instructions: for each rectangle of pixels and set of output blocks, fill the accumulators, apply the
steps, store the result. Inputs or results that live in DRAM0 pass through scratch in local memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.groups.group import MaxHead, TransposeHead
from pefslc.targets.tensil.groups.layout import Layout, Rect, View, rect_runs
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.matrix.group_steps import (
    added_tensors,
    leading_steps,
    trailing_steps,
)
from pefslc.targets.tensil.matrix.matrix_steps import (
    AddByMatrix,
    AddWord,
    ChannelAddWord,
    ChannelDiagonal,
    Diagonal,
    MatrixStep,
)
from pefslc.targets.tensil.matrix.resident_rows import scale_of
from pefslc.targets.tensil.matrix.step_choice import Choice
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.maxima import emit_maximum
from pefslc.targets.tensil.schedule.pass_plan import Needs, PassPlan, Scratch, plan_passes
from pefslc.targets.tensil.schedule.pass_steps import PassSteps
from pefslc.targets.tensil.schedule.side import Side
from pefslc.targets.tensil.schedule.simd_steps import simd_operations
from pefslc.targets.tensil.schedule.stationary_emitter import StationaryLayer, shifted_ones, transpose
from pefslc.targets.tensil.schedule.tile_phases import Phase, TilePhases
from pefslc.targets.tensil.schedule.weight_stream import WeightStream
from pefslc.targets.tensil.schedule.weights import Tile
from pefslc.targets.tensil.words.steps import Accumulate, AddHigh, RawStep, SimdStep
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["PassSummary", "emit_group"]

Words = NDArray[np.int64]


def emit_group(
    group: WordGroup,
    needs: Needs,
    *,
    layouts: Mapping[str, Layout],
    architecture: Architecture,
    emitter: Emitter,
    capacity: int,
    tiles: list[list[Tile]],
    views: dict[str, View],
    local: set[str],
    scratch: Scratch,
    steps: PassSteps,
    constants: Constants,
    spare: range,
    stationary: StationaryLayer | None = None,
) -> PassSummary:
    """Append the instructions of one group; what its passes are.

    capacity  accumulators that passes may use
    views     where tensors lie: in local memory those that `local` names, the others in DRAM0
    spare     accumulators that SIMD steps may overwrite
    """
    gathers = 0 if stationary is None else min(stationary.gathers, capacity // 2)
    plan = plan_passes(group, layouts, needs, scratch, capacity - gathers, architecture)
    phases_of_set = TilePhases(group, needs, layouts, architecture.array_size, tiles, steps)
    output_blocks = list(range(group.layout.blocks(architecture.array_size)))
    if stationary is None:  # those first that hide least SIMD: the last ones' tiles hide what was left before them
        output_blocks.sort(key=steps.hides)
    sets = [output_blocks[i : i + plan.blocks] for i in range(0, len(output_blocks), plan.blocks)]
    choices = [steps.leading(chosen, plan.rows * plan.columns) for chosen in sets]
    phases_of = [phases_of_set.of(c, choice, plan.input_blocks) for c, choice in zip(sets, choices, strict=True)]
    ordered = [tile for phases in phases_of for phase in phases for tile in phase.tiles]
    weights = WeightStream(ordered, plan.weight_base, plan.weight_size, emitter, constants)
    work = _GroupPass(
        group=group,
        needs=needs,
        layouts=layouts,
        architecture=architecture,
        emitter=emitter,
        capacity=capacity,
        gathers=range(capacity - gathers, capacity),
        tiles=tiles,
        views=views,
        local=local,
        steps=steps,
        constants=constants,
        spare=spare,
        stationary=stationary,
        plan=plan,
        weights=weights,
    )
    for rect in plan.rects(group.layout):
        for chosen, choice, phases in zip(sets, choices, phases_of, strict=True):
            work.emit(rect, chosen, choice, phases)
    count, first = len(list(plan.rects(group.layout))) * len(sets), choices[0]
    by_simd = first.first if leading_steps(group) else 0
    return PassSummary(count, plan.rows, plan.columns, plan.blocks, by_simd, first.steps)


@dataclass(frozen=True, slots=True)
class PassSummary:
    """The passes of one group: how many, how large the largest is, and how the leading steps of the first are done: of
    `simd_blocks` blocks by SIMD, of the others by `steps`.
    """

    count: int
    rows: int
    columns: int
    blocks: int
    simd_blocks: int
    steps: tuple[MatrixStep, ...]


@dataclass(slots=True, kw_only=True)
class _GroupPass:
    """Emits the passes of one group. `gathers` are accumulators through which pixels go on their way under taps."""

    group: WordGroup
    needs: Needs
    layouts: Mapping[str, Layout]
    architecture: Architecture
    emitter: Emitter
    capacity: int
    gathers: range
    tiles: list[list[Tile]]
    views: dict[str, View]
    local: set[str]
    steps: PassSteps
    constants: Constants
    spare: range
    stationary: StationaryLayer | None
    plan: PassPlan
    weights: WeightStream
    ones: int | None = None  # where DRAM1 holds what transpositions need, once they are there

    @property
    def a(self) -> int:
        return self.architecture.array_size

    @property
    def strides(self) -> tuple[int, int]:
        return self.architecture.stride0_depth, self.architecture.stride1_depth

    # --- one pass ------------------------------------------------------------------------------------------------

    def emit(self, rect: Rect, chosen: Sequence[int], choice: Choice, phases: list[Phase]) -> None:
        """One pass: fill the accumulators, apply the steps, store."""
        steps = self.group.steps
        head = self.group.head
        if isinstance(head, MaxHead):
            self._maximum(head, rect, chosen[0])
        elif isinstance(head, TransposeHead):
            self._transpose(head, rect, chosen)
        else:
            leading = leading_steps(self.group)
            self.weights.expect_simd(waits=bool(leading) and choice.first > 0)
            if self.stationary is not None:
                self._stationary_sums(self.stationary, rect, chosen, leading, choice.first)
            else:
                self._sums(rect, chosen, phases, leading, choice.first)
            if choice.plan is not None:
                self.emitter.flush()
                if (high := self.group.add_high) is not None:
                    self._add_high(high, rect, chosen)
                self._matrix_steps(choice.steps, rect, chosen, choice.first)
            steps = () if any(isinstance(s, AddByMatrix) for s in choice.steps) else steps[len(leading) :]
        trailing, _ = self.steps.trailing(len(chosen), rect.area)
        by_matrix = trailing if steps else None
        for step in steps[: len(steps) - len(trailing_steps(self.group))] if by_matrix else steps:
            if isinstance(step, Accumulate):
                self.emitter.flush()
                self._add(step.tensor, rect, chosen, 0)
            elif isinstance(step, AddHigh):
                self._add_high(step, rect, chosen)
            else:
                self._step_later(step, 0, rect.area, chosen)
        self.emitter.flush()
        if by_matrix:
            self._matrix_steps(by_matrix.alone, rect, chosen, 0)
        self._store_result(rect, chosen)

    def _matrix_steps(self, steps: Sequence[MatrixStep], rect: Rect, chosen: Sequence[int], first: int) -> None:
        """Matrix steps on the accumulators of chosen[first:]."""
        self.weights.forget_array()
        base = first * rect.area
        for step in steps:
            match step:
                case AddWord():
                    self.emitter.load_weights(self.steps.bring_rows(step), 1, has_bias=True)
                    self.emitter.matmul_zeroes(base, rect.area * len(chosen) - base, accumulate=True)
                case ChannelAddWord():
                    for i, block in enumerate(chosen[first:], first):
                        self.emitter.load_weights(self.steps.bring_rows(step) + block, 1, has_bias=True)
                        self.emitter.matmul_zeroes(i * rect.area, rect.area, accumulate=True)
                case Diagonal() | ChannelDiagonal():
                    self._diagonal(step, rect, chosen, first)
                case AddByMatrix():
                    (added,) = added_tensors(self.group)
                    if not step.moves:
                        self.emitter.load_weights(self.steps.bring_rows(step), self.a + 1, has_bias=True)
                    self._add(added.tensor, rect, chosen, first, by_matmul=not step.moves)

    def _diagonal(self, step: Diagonal | ChannelDiagonal, rect: Rect, chosen: Sequence[int], first: int) -> None:
        """Through where the result goes, or is staged, for a moment: the final codes overwrite it."""
        view = self._pass_through(rect, chosen, first)
        for i, block in enumerate(chosen[first:], first):
            by_channel = isinstance(step, ChannelDiagonal)
            if by_channel or i == first:
                matrix = self.steps.bring_rows(step) + (block * (self.a + 1) if by_channel else 0)
                self.emitter.load_weights(matrix, self.a + 1, has_bias=True)
            self._multiply(view, rect, i, block, accumulate=False)

    def _add_high(self, step: AddHigh, rect: Rect, chosen: Sequence[int]) -> None:
        """By way of where the result goes, or is staged: the high sums lie behind the others."""
        view = self._pass_through(rect, chosen, 0, behind=rect.area * len(chosen))
        self.weights.forget_array()
        self.emitter.load_weights(self.steps.bring_rows(scale_of(step)), self.a + 1, has_bias=True)
        for i, block in enumerate(chosen):
            self._multiply(view, rect, i, block, accumulate=True)

    def _pass_through(self, rect: Rect, chosen: Sequence[int], first: int, *, behind: int = 0) -> View:
        """Move the accumulators of chosen[first:], or what lies so many behind them, to where the result goes or is
        staged; where they are.
        """
        if not self.needs.staging:
            self._store_result(rect, chosen, first, behind=behind)
            return self.views[self.group.result]
        self.emitter.from_accumulators(behind, self.plan.staging_base, rect.area * len(chosen))
        return View.part(self.plan.staging_base, rect)

    def _multiply(self, view: View, rect: Rect, i: int, block: int, *, accumulate: bool) -> None:
        """What passes through there, of the i-th block of the pass, by the matrix in the array."""
        for run in rect_runs(rect, view, View.part(0, rect)):
            source = run.first + (i if self.needs.staging else block) * view.block_pitch
            self.emitter.matmul(source, run.second + i * rect.area, run.vectors, 0, 0, accumulate=accumulate)

    def _sums(
        self,
        rect: Rect,
        chosen: Sequence[int],
        phases: list[Phase],
        steps: Sequence[RawStep],
        by_simd: int,
    ) -> None:
        """Fill the accumulators. The SIMD `steps` of the first `by_simd` of the output blocks follow the block's last
        tile, in the gaps of the next blocks.
        """
        of_simd = chosen[:by_simd]
        last = {tile.out_block: tile for phase in phases for tile in phase.tiles if tile.out_block in of_simd}
        sides = [
            Side(
                number=number,
                offset=number * rect.area * len(chosen),
                rect=rect,
                group=self.group,
                layouts=self.layouts,
                strides=self.strides,
                emitter=self.emitter,
                load=lambda side, t, blocks: self._input(side, t, rect, blocks),
            )
            for number in range(len(self.group.sides))
        ]
        for phase in phases:
            for side in sides if phase.term >= 0 and phase.tiles else ():
                side.read(phase)
            for tile in phase.tiles:
                self.weights.load(tile)
                accumulator = chosen.index(tile.out_block) * rect.area
                for side in sides if tile.side is None else [sides[tile.side]]:
                    side.add(tile, accumulator)
                self._steps_after(tile, last, steps, accumulator, rect.area)

    def _stationary_sums(
        self, layer: StationaryLayer, rect: Rect, chosen: Sequence[int], steps: Sequence[RawStep], by_simd: int
    ) -> None:
        """`_sums` where weights move: a row of the result is an output channel."""
        source, buffer = self.views[self.group.terms[0].tensor].base, self.plan.weight_base
        layer.emit(
            source,
            range(rect.top, rect.bottom),
            chosen,
            range(buffer, buffer + self.plan.weight_size),
            self.gathers,
            self.emitter,
            self.constants,
        )
        for step in steps if by_simd else ():
            assert not isinstance(step, Accumulate | AddHigh)
            self._step_later(step, 0, rect.area, chosen[:by_simd])

    def _transpose(self, head: TransposeHead, rect: Rect, chosen: Sequence[int]) -> None:
        if self.ones is None:
            self.ones = self.constants.store(shifted_ones(self.architecture))
        local = self.constants.fetch(self.emitter, self.plan.weight_base, self.ones, self.a + 1)
        source, width = self.views[head.tensor].base, self.group.layout.width
        transpose(source, self.layouts[head.tensor], rect, width, chosen, local, self.architecture, self.emitter)

    def _steps_after(
        self, tile: Tile, last: dict[int, Tile], steps: Sequence[RawStep], accumulator: int, vectors: int
    ) -> None:
        if last.get(tile.out_block) is tile:
            for step in steps:
                assert not isinstance(step, Accumulate | AddHigh)
                self._step_later(step, accumulator, vectors, [tile.out_block])

    def _step_later(self, step: SimdStep, accumulator: int, vectors: int, blocks: Sequence[int]) -> None:
        """A step on so many vectors of each block, in the gaps of what follows."""
        machine = self.architecture
        self.emitter.simd_later(simd_operations(step, accumulator, vectors, blocks, self.spare, machine))

    def _input(self, side: int, t: int, rect: Rect, blocks: range) -> tuple[View, int]:
        """Where the blocks of a term's input lie in local memory; reads them from DRAM0 if that is where they are."""
        tensor, window = self.group.sides[side][t], self.group.terms[t].window
        if tensor in self.local:
            return self.views[tensor], 0
        base = self.plan.input_base + side * self.plan.input_size
        return self._load(tensor, rect.under(window, self.layouts[tensor]), blocks, base), blocks[0]

    def _load(self, tensor: str, rect: Rect, blocks: Sequence[int], base: int) -> View:
        """Copy a rectangle of some blocks from DRAM0 to scratch."""
        view, source = View.part(base, rect), self.views[tensor]
        for i, block in enumerate(blocks):
            for run in rect_runs(rect, source, view):
                first, second = run.first + block * source.block_pitch, run.second + i * view.block_pitch
                self.emitter.dram(MoveKind.DRAM0_TO_LOCAL, second, first, run.vectors)
        return view

    def _maximum(self, head: MaxHead, rect: Rect, block: int) -> None:
        layout = self.layouts[head.tensor]
        if head.tensor in self.local:
            view, offset = self.views[head.tensor], block * self.views[head.tensor].block_pitch
        else:
            view, offset = self._load(head.tensor, rect.under(head.window, layout), [block], self.plan.input_base), 0
        if not head.window.always_sees(layout.height, layout.width):
            self._lowest(block, rect.area)
        source = View(view.base + offset, view.block_pitch, view.row_pitch, view.top, view.left)
        emit_maximum(head.window, layout, rect, source, self.capacity, self.strides, self.emitter)

    def _lowest(self, block: int, vectors: int) -> None:
        """Fill accumulators with what no maximum falls below: the data type's lowest word, as a bias row."""
        tile = self.tiles[block][0]
        self.weights.load(tile)
        self.emitter.matmul_zeroes(0, vectors)

    def _add(self, tensor: str, rect: Rect, chosen: Sequence[int], start: int, *, by_matmul: bool = False) -> None:
        """Add a tensor to the accumulators of chosen[start:]: by moves, or by MatMul with the weights in the array."""
        if tensor in self.local:
            view, blocks = self.views[tensor], list(chosen)
        else:
            slot = self.needs.added.index(tensor) * rect.area * len(chosen)
            view, blocks = self._load(tensor, rect, chosen, self.plan.added_base + slot), list(range(len(chosen)))
        for i, block in enumerate(blocks[start:], start):
            for run in rect_runs(rect, view, View.part(0, rect)):
                first, second = run.first + block * view.block_pitch, run.second + i * rect.area
                if by_matmul:
                    self.emitter.matmul(first, second, run.vectors, 0, 0, accumulate=True)
                else:
                    self.emitter.to_accumulators(first, second, run.vectors, accumulate=True)

    def _store_result(self, rect: Rect, chosen: Sequence[int], start: int = 0, *, behind: int = 0) -> None:
        """Write the accumulators of chosen[start:], or what lies so many behind them, to where the result lies."""
        result = self.group.result
        view = self.views[result]
        if result in self.local:
            for i, block in enumerate(chosen[start:], start):
                for run in rect_runs(rect, View.part(0, rect), view):
                    self.emitter.from_accumulators(
                        run.first + behind + i * rect.area, run.second + block * view.block_pitch, run.vectors
                    )
            return
        assert not start, "only a result in local memory is written in parts"
        self.emitter.from_accumulators(0, self.plan.staging_base, rect.area * len(chosen))
        staged = View.part(self.plan.staging_base, rect)
        for i, block in enumerate(chosen):
            for run in rect_runs(rect, staged, view):
                first, second = run.first + i * rect.area, run.second + block * view.block_pitch
                self.emitter.dram(MoveKind.LOCAL_TO_DRAM0, first, second, run.vectors)
