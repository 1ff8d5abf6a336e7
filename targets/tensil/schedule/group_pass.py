"""One group in instructions: for each rectangle of pixels and set of output blocks, fill the accumulators, apply the
steps, store the result. Inputs or results that live in DRAM0 pass through scratch in local memory.

Of several pictures in a pass, the accumulators hold block after block, and in each block picture after picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pefslc.targets.tensil.groups.group import MaxHead, TransposeHead
from pefslc.targets.tensil.groups.layout import Layout, Rect, View, rect_runs
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import MoveKind
from pefslc.targets.tensil.matrix.group_steps import leading_steps, trailing_steps
from pefslc.targets.tensil.matrix.matrix_steps import AddByMatrix
from pefslc.targets.tensil.matrix.step_choice import Choice
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Emitter
from pefslc.targets.tensil.schedule.matrix_pass import MatrixPass
from pefslc.targets.tensil.schedule.maxima import emit_maximum
from pefslc.targets.tensil.schedule.part import Part, PassSummary
from pefslc.targets.tensil.schedule.pass_order import sets_of_blocks
from pefslc.targets.tensil.schedule.pass_plan import Needs, PassPlan, Scratch, plan_passes
from pefslc.targets.tensil.schedule.pass_steps import PassSteps
from pefslc.targets.tensil.schedule.result_place import ResultPlace
from pefslc.targets.tensil.schedule.side import Side
from pefslc.targets.tensil.schedule.simd_steps import simd_operations
from pefslc.targets.tensil.schedule.stationary_emitter import StationaryLayer, shifted_ones, transpose
from pefslc.targets.tensil.schedule.tensor_memory import OfPicture
from pefslc.targets.tensil.schedule.tile_phases import Phase, TilePhases
from pefslc.targets.tensil.schedule.weight_stream import KeptWeights, WeightStream
from pefslc.targets.tensil.schedule.weights import Tile
from pefslc.targets.tensil.words.steps import Accumulate, AddHigh, RawStep, SimdStep
from pefslc.targets.tensil.words.word_group import WordGroup

__all__ = ["emit_group"]

Words = NDArray[np.int64]


def emit_group(
    group: WordGroup,
    needs: Needs,
    pictures: range,
    *,
    layouts: Mapping[str, Layout],
    architecture: Architecture,
    emitter: Emitter,
    capacity: int,
    tiles: list[list[Tile]],
    views: dict[OfPicture, View],
    local: set[OfPicture],
    scratch: Scratch,
    steps: PassSteps,
    constants: Constants,
    spare: range,
    stationary: StationaryLayer | None = None,
    kept: KeptWeights | None = None,
    batched: bool = False,
) -> PassSummary:
    """Append the instructions of one group for some pictures; what its passes are.

    capacity  accumulators that passes may use
    views     where tensors lie: in local memory those that `local` names, the others in DRAM0
    spare     accumulators that SIMD steps may overwrite
    kept      where its weights stay from run to run; None where they come from DRAM1 in each
    batched   whether the program is for several pictures
    """
    gathers = 0 if stationary is None else stationary.gathers(capacity)
    plan = plan_passes(group, layouts, needs, scratch, capacity - gathers, architecture)
    phases_of_set = TilePhases(group, needs, layouts, architecture.array_size, tiles, steps)
    blocks = group.layout.blocks(architecture.array_size)
    if stationary is None:
        is_read = not constants.resident and kept is None
        sets = sets_of_blocks(tiles, plan.blocks, architecture, is_read=is_read, fewest_first=batched)
    else:
        sets = [list(range(blocks))[i : i + plan.blocks] for i in range(0, blocks, plan.blocks)]
    choices = [steps.leading(chosen, plan.vectors) for chosen in sets]
    phases_of = [phases_of_set.of(c, choice, plan.input_blocks) for c, choice in zip(sets, choices, strict=True)]
    ordered = [tile for phases in phases_of for phase in phases for tile in phase.tiles]
    weights = WeightStream(
        ordered, plan.weight_base, plan.weight_size, emitter, constants, kept, whole=group.layout.pixels == 1
    )
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
        place=ResultPlace(group.result, views, local, plan.staging_base if needs.staging else None, emitter),
        weights=weights,
    )
    rects, parts = list(plan.rects(group.layout)), list(plan.pictures_of_passes(pictures))
    for part in parts:
        for rect in rects:
            for chosen, choice, phases in zip(sets, choices, phases_of, strict=True):
                work.emit(Part(rect, part), chosen, choice, phases)
    count, first = len(parts) * len(rects) * len(sets), choices[0]
    by_simd = first.first if leading_steps(group) else 0
    return PassSummary(
        count, plan.rows, plan.columns, plan.blocks, by_simd, first.steps, plan.pictures, weights.rows,
        len(parts) * len(rects),
    )  # fmt: skip


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
    views: dict[OfPicture, View]
    local: set[OfPicture]
    steps: PassSteps
    constants: Constants
    spare: range
    stationary: StationaryLayer | None
    plan: PassPlan
    place: ResultPlace
    weights: WeightStream
    ones: int | None = None  # where DRAM1 holds what transpositions need, once they are there

    @property
    def a(self) -> int:
        return self.architecture.array_size

    @property
    def strides(self) -> tuple[int, int]:
        return self.architecture.stride0_depth, self.architecture.stride1_depth

    # --- one pass ------------------------------------------------------------------------------------------------

    def emit(self, part: Part, chosen: Sequence[int], choice: Choice, phases: list[Phase]) -> None:
        """One pass: fill the accumulators, apply the steps, store."""
        steps = self.group.steps
        head = self.group.head
        if isinstance(head, MaxHead):
            self._maximum(head, part, chosen[0])
        elif isinstance(head, TransposeHead):
            self._transpose(head, part, chosen)
        else:
            leading = leading_steps(self.group)
            self.weights.expect_simd(waits=bool(leading) and choice.first > 0)
            if self.stationary is not None:
                self._stationary_sums(self.stationary, part, chosen, leading, choice.first)
            else:
                self._sums(part, chosen, phases, leading, choice.first)
            if choice.plan is not None:
                self.emitter.flush()
                matrix = self._matrix()
                if (high := self.group.add_high) is not None:
                    matrix.add_high(high, part, chosen)
                matrix.emit(choice.steps, part, chosen, choice.first)
            steps = () if any(isinstance(s, AddByMatrix) for s in choice.steps) else steps[len(leading) :]
        trailing, _ = self.steps.trailing(len(chosen), part.vectors)
        by_matrix = trailing if steps else None
        for step in steps[: len(steps) - len(trailing_steps(self.group))] if by_matrix else steps:
            if isinstance(step, Accumulate):
                self.emitter.flush()
                self._add(step.tensor, part, chosen, 0)
            elif isinstance(step, AddHigh):
                self._matrix().add_high(step, part, chosen)
            else:
                self._step_later(step, 0, part.vectors, chosen)
        self.emitter.flush()
        if by_matrix:
            self._matrix().emit(by_matrix.alone, part, chosen, 0)
        self.place.store(part, chosen)

    def _matrix(self) -> MatrixPass:
        return MatrixPass(
            group=self.group,
            place=self.place,
            emitter=self.emitter,
            steps=self.steps,
            weights=self.weights,
            add=self._add,
            positive_base=self.plan.positive_base,
            a=self.a,
        )

    def _sums(
        self,
        part: Part,
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
                offset=number * part.vectors * len(chosen) + begin,
                rect=part.rect,
                group=self.group,
                layouts=self.layouts,
                strides=self.strides,
                emitter=self.emitter,
                load=partial(self._input, part.rect, picture),
            )
            for number in range(len(self.group.sides))
            for picture, begin in part.each()
        ]
        for phase in phases:
            for side in sides if phase.term >= 0 and phase.tiles else ():
                side.read(phase)
            for tile in phase.tiles:
                self.weights.load(tile)
                accumulator = chosen.index(tile.out_block) * part.vectors
                for side in sides:
                    if tile.side in (None, side.number):
                        side.add(tile, accumulator)
                self._steps_after(tile, last, steps, accumulator, part.vectors)

    def _stationary_sums(
        self, layer: StationaryLayer, part: Part, chosen: Sequence[int], steps: Sequence[RawStep], by_simd: int
    ) -> None:
        """`_sums` where weights move: a row of the result is an output channel."""
        source, buffer = self.views[self.group.terms[0].tensor, part.picture].base, self.plan.weight_base
        layer.emit(
            source,
            range(part.rect.top, part.rect.bottom),
            chosen,
            range(buffer, buffer + self.plan.weight_size),
            self.gathers,
            self.emitter,
            self.constants,
        )
        for step in steps if by_simd else ():
            assert not isinstance(step, Accumulate | AddHigh)
            self._step_later(step, 0, part.vectors, chosen[:by_simd])

    def _transpose(self, head: TransposeHead, part: Part, chosen: Sequence[int]) -> None:
        if self.ones is None:
            self.ones = self.constants.store(shifted_ones(self.architecture))
        local = self.constants.fetch(self.emitter, self.plan.weight_base, self.ones, self.a + 1)
        source, width = self.views[head.tensor, part.picture].base, self.group.layout.width
        transpose(source, self.layouts[head.tensor], part.rect, width, chosen, local, self.architecture, self.emitter)

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

    def _input(self, rect: Rect, picture: int, side: int, t: int, blocks: range) -> tuple[View, int]:
        """Where the blocks of a term's input lie in local memory; reads them from DRAM0 if that is where they are."""
        tensor, window = self.group.sides[side][t], self.group.terms[t].window
        if (tensor, picture) in self.local:
            return self.views[tensor, picture], 0
        base = self.plan.input_base + side * self.plan.input_size
        under = rect.under(window, self.layouts[tensor])
        return self._load((tensor, picture), under, blocks, base), blocks[0]

    def _load(self, tensor: OfPicture, rect: Rect, blocks: Sequence[int], base: int) -> View:
        """Copy a rectangle of some blocks from DRAM0 to scratch."""
        view, source = View.part(base, rect), self.views[tensor]
        for i, block in enumerate(blocks):
            for run in rect_runs(rect, source, view):
                first, second = run.first + source.block(block), run.second + view.block(i)
                self.emitter.dram(MoveKind.DRAM0_TO_LOCAL, second, first, run.vectors)
        return view

    def _maximum(self, head: MaxHead, part: Part, block: int) -> None:
        layout, rect, tensor = self.layouts[head.tensor], part.rect, (head.tensor, part.picture)
        if tensor in self.local:
            view, offset = self.views[tensor], self.views[tensor].block(block)
        else:
            view, offset = self._load(tensor, rect.under(head.window, layout), [block], self.plan.input_base), 0
        if not head.window.always_sees(layout.height, layout.width):
            self._lowest(block, rect.area)
        source = View(view.base + offset, view.block_pitch, view.row_pitch, view.top, view.left)
        emit_maximum(head.window, layout, rect, source, self.capacity, self.strides, self.emitter)

    def _lowest(self, block: int, vectors: int) -> None:
        """Fill accumulators with what no maximum falls below: the data type's lowest word, as a bias row."""
        tile = self.tiles[block][0]
        self.weights.load(tile)
        self.emitter.matmul_zeroes(0, vectors)

    def _add(self, tensor: str, part: Part, chosen: Sequence[int], start: int, *, by_matmul: bool = False) -> None:
        """Add a tensor to the accumulators of chosen[start:]: by moves, or by MatMul with the weights in the array."""
        for picture, begin in part.each():
            if (tensor, picture) in self.local:
                view, blocks = self.views[tensor, picture], list(chosen)
            else:
                slot = self.needs.added.index(tensor) * part.vectors * len(chosen)
                view = self._load((tensor, picture), part.rect, chosen, self.plan.added_base + slot)
                blocks = list(range(len(chosen)))
            for i, block in enumerate(blocks[start:], start):
                for run in rect_runs(part.rect, view, View.part(begin, part.rect)):
                    first, second = run.first + view.block(block), run.second + i * part.vectors
                    if by_matmul:
                        self.emitter.matmul(first, second, run.vectors, 0, 0, accumulate=True)
                    else:
                        self.emitter.to_accumulators(first, second, run.vectors, accumulate=True)
