"""From placed groups to instructions: which tensors live where, tiles of the output, bursts of weights.

Tensors live in local memory while they fit, else in DRAM0. A group computes its output in *passes*: a rectangle of
pixels and some output blocks, as many as the accumulators hold. Weights stream from DRAM1 in the order of use, in
bursts as long as the free local memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError
from pefslc.ir.graph import Graph
from pefslc.targets.tensil.groups.group import MaxHead, Selection
from pefslc.targets.tensil.machine.architecture import Architecture
from pefslc.targets.tensil.machine.instructions import Segment
from pefslc.targets.tensil.matrix.group_steps import addend_plan, leading_plan, trailing_plan
from pefslc.targets.tensil.matrix.matrix_steps import MatrixStep
from pefslc.targets.tensil.merge.addends import fold_addends
from pefslc.targets.tensil.merge.sums_in_addition import requantize_while_adding
from pefslc.targets.tensil.program.encoding import encode
from pefslc.targets.tensil.rewrite.convolution_cost import tile_count
from pefslc.targets.tensil.schedule.channel_rows import ChannelRows
from pefslc.targets.tensil.schedule.constants import Constants
from pefslc.targets.tensil.schedule.emitter import Constant, Emitter
from pefslc.targets.tensil.schedule.group_pass import GroupPass
from pefslc.targets.tensil.schedule.pass_plan import Needs, Scratch
from pefslc.targets.tensil.schedule.pass_steps import PassSteps
from pefslc.targets.tensil.schedule.simd_steps import SPARE_VECTORS, needs_spare, simd_words
from pefslc.targets.tensil.schedule.stationary_emitter import MovingWeights
from pefslc.targets.tensil.schedule.tensor_memory import Entry, Residence, no_local_memory
from pefslc.targets.tensil.schedule.weights import least_rows, tiles_of
from pefslc.targets.tensil.words.placed_group import Placed, PlacedGroup
from pefslc.targets.tensil.words.steps import Accumulate, ChannelAdd, ChannelMultiply, Maximum, Minimum, block_words

__all__ = ["Entry", "Schedule", "Stored", "schedule"]

Words = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor, whole: from `base` on in local memory, or in DRAM0, before instruction `before`."""

    tensor: str
    local: bool
    base: int
    before: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The program: encoded instructions, DRAM1 contents [vectors, A], DRAM0 entries, whom which instructions serve.

    resident  the constants lie in local memory, at the same addresses, before every run
    groups    as they were scheduled
    stored    where and when their results are complete, in the same order
    channel_rows  how many of the constants are for MatMuls that requantize per channel
    """

    code: bytes
    constants: Words
    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...]
    segments: tuple[Segment, ...]
    resident: bool
    groups: tuple[PlacedGroup, ...]
    stored: tuple[Stored, ...]
    channel_rows: int


def schedule(
    graph: Graph,
    selection: Selection,
    placed: Placed,
    architecture: Architecture,
    progress: Callable[[int, int, str], None] | None = None,
    resident: int = 0,
    *,
    by_matrix: bool = True,
) -> Schedule:
    """The instructions of a whole network. Raises CompileError that names the resource that is too small.

    resident  vectors at the start of local memory for the constants, which the driver puts there once; 0: DRAM1 holds
              them, and the schedule's own `constants` say how many there are
    by_matrix whether MatMuls may requantize per channel, where DRAM1 holds their rows, which are constants, too
    """
    for with_rows in (True, False) if by_matrix else (False,):
        scheduler = _Scheduler(graph, selection, placed, architecture, resident, by_matrix=with_rows)
        if scheduler.made(progress):
            return scheduler.finish()
        del scheduler  # half a million instructions, before there are as many again
    raise AssertionError("without rows of channels, all is made")


class _Scheduler:
    def __init__(
        self,
        graph: Graph,
        selection: Selection,
        placed: Placed,
        architecture: Architecture,
        resident: int,
        *,
        by_matrix: bool,
    ) -> None:
        self.architecture, self.selection, self.placed = architecture, selection, placed
        self.a = architecture.array_size
        self.residence = Residence(architecture, selection.layouts, resident)
        if architecture.local_depth < self.a + 1:
            raise no_local_memory(self.architecture, "one tile of weights", self.a + 1)
        self.resident = resident
        self.by_matrix, self.channel_rows = by_matrix, 0
        self.constants = Constants(resident=resident > 0)
        self.stored: list[Stored] = []
        residence, storage = self.residence, selection.storage
        residence.add(dict.fromkeys(storage.values()))
        residence.inputs = tuple(residence.entry(i.name, storage[i.value.name], i.value.origin) for i in graph.inputs)
        for entry in residence.inputs:
            residence.tensors[entry.tensor].dram = entry.base
        residence.outputs = tuple(residence.entry(o.name, storage[o.value.name], o.value.origin) for o in graph.outputs)
        self._load_constants()
        self.unclean = _unclean_tensors(self.placed)
        self._count_readers(graph)

    # --- the frame of the program --------------------------------------------------------------------------------

    def _count_readers(self, graph: Graph) -> None:
        for placed in self.placed.groups:
            for tensor in placed.tensors:
                self.residence.tensors[tensor].readers += 1
        for output in graph.outputs:
            self.residence.tensors[self.selection.storage[output.value.name]].readers += 1

    def _load_constants(self) -> None:
        """Every word that a SIMD step uses, as a vector at the top of the accumulators, for the whole program."""
        words = {1 << self.architecture.data_type.binary_point: None}  # one at least: the hazard guard reads it
        data_type = self.architecture.data_type
        steps = [step for group in self.placed.groups for step in group.steps]
        for step in steps:
            words |= dict.fromkeys(simd_words(step, data_type))
        first = self.architecture.accumulator_depth - len(words)
        least = 3 if any(map(needs_spare, steps)) else 2
        if first < least:
            raise CompileError(
                Code.TCU_ACCUMULATORS,
                f"the accumulators have {self.architecture.accumulator_depth} vectors, {len(words)} constants and "
                f"{'three' if least == 3 else 'two'} lanes of work need {len(words) + least}",
                hint="use an architecture with a larger accumulator_depth",
            )
        if len(words) > self.architecture.local_depth:
            raise no_local_memory(self.architecture, "one copy of the constants of all layers", len(words))
        spare = min(SPARE_VECTORS, first // 2) if any(map(needs_spare, steps)) else 0
        self.capacity = first - spare
        self.spare = range(self.capacity, first)
        constants: dict[Constant, int] = {word: first + i for i, word in enumerate(words)}
        self.emitter = self.residence.emitter = Emitter(self.architecture, constants)
        address = self.constants.store(np.repeat(np.array(list(words), dtype=np.int64)[:, None], self.a, axis=1))
        local = self.constants.fetch(self.emitter, 0, address, len(words))
        self.emitter.to_accumulators(local, first, len(words))
        self.emitter.clear_weights()
        self.matrix_rows = self._fold_addends_and_load_rows()

    def _load_channel_words(self, placed: PlacedGroup) -> int:
        """The words per channel of one group, below the other constants; how many accumulators are left."""
        steps = [s for s in placed.steps if isinstance(s, ChannelMultiply | ChannelAdd)]
        blocks = range(placed.group.layout.blocks(self.a))
        words = list(dict.fromkeys(block_words(step, block, self.a) for step in steps for block in blocks))
        first = self.capacity - len(words)
        if not words:
            return first
        there = self.architecture.accumulator_depth
        if first < 2:
            raise CompileError(
                Code.TCU_ACCUMULATORS,
                f"the accumulators have {there} vectors, the constants of this requantization per channel and two "
                f"lanes of work need {there - first + 2}",
                at=placed.group.origin,
                hint="use an architecture with a larger accumulator_depth or array_size",
            )
        address = self.constants.store(np.array(words, dtype=np.int64))
        scratch, gap = self.residence.local.largest_gap()
        assert gap, "a pass needs some of it, too"
        for start in range(0, len(words), gap):
            count = min(gap, len(words) - start)
            local = self.constants.fetch(self.emitter, scratch, address + start, count)
            self.emitter.to_accumulators(local, first + start, count)
        self.emitter.use_constants({w: first + i for i, w in enumerate(words)})
        return first

    def _fold_addends_and_load_rows(self) -> dict[MatrixStep, int]:
        """The rows of all matrix steps, kept in local memory for the whole program; none where it is small.

        Where they fit, clamps and shifts of addends are left to the additions, which need them.
        """
        data_type = self.architecture.data_type
        outputs = {entry.tensor for entry in self.residence.outputs}
        folded = fold_addends(self.placed, outputs, data_type)
        if folded.native is None:
            folded = requantize_while_adding(folded, outputs, self.architecture)
        kinds = leading_plan, trailing_plan, addend_plan
        plans = [plan(group, data_type) for group in folded.groups for plan in kinds]
        steps = list(dict.fromkeys(step for plan in plans if plan is not None for step in plan.alone))
        rows = [step.rows(self.a, data_type.one) for step in steps]
        total = sum(map(len, rows))
        if not rows or total > self.architecture.local_depth // 16:
            return {}
        self.placed = folded
        address = self.constants.store(np.concatenate(rows))
        place = 0 if self.constants.resident else self.residence.local.allocate(total)
        assert place is not None
        base = self.constants.fetch(self.emitter, place, address, total)
        starts = np.cumsum([0, *map(len, rows)]).tolist()
        return {step: base + start for step, start in zip(steps, starts, strict=False)}

    def made(self, progress: Callable[[int, int, str], None] | None) -> bool:
        """Whether all groups are scheduled: not where rows for channels are more than DRAM1 holds."""
        groups = self.placed.groups
        self.require_dram1()
        for i, group in enumerate(groups):
            if progress is not None:
                progress(i, len(groups), "scheduling")
            self.group(group)
            if self.channel_rows and self.constants.size > self.architecture.dram1_depth:
                return False
        return True

    def require_dram1(self) -> None:
        """Raise CompileError where the weights alone are more than DRAM1 holds: before the program is made."""
        tiles = sum(tile_count(term.weight, self.a) for group in self.placed.groups for term in group.terms)
        if tiles * self.a <= self.architecture.dram1_depth:
            return  # few; whether they fit is known in the end
        least = sum(
            least_rows(tiles_of(group, self.selection.layouts, self.a, self.unclean, bias_alone=False))
            for group in self.placed.groups
        )
        if least > self.architecture.dram1_depth:
            raise self._no_dram1(f"the weights alone need {least}")

    def _no_dram1(self, need: str) -> CompileError:
        return CompileError(
            Code.TCU_DRAM1,
            f"DRAM1 has {self.architecture.dram1_depth} vectors, {need}",
            hint="use an architecture with a larger dram1_depth or array_size, or a smaller network",
        )

    def finish(self) -> Schedule:
        if self.constants.size > self.architecture.dram1_depth:  # only now is it known how many it takes
            raise self._no_dram1(f"the weights and constants need {self.constants.size}")
        if self.resident and self.constants.size > self.resident:
            raise no_local_memory(self.architecture, "all weights and constants", self.constants.size)
        self.emitter.serve("")
        for entry in self.residence.outputs:
            self.residence.write_output(entry)
        return Schedule(
            encode(self.architecture, self.emitter.instructions),
            self.constants.rows(),
            self.residence.inputs,
            self.residence.outputs,
            self.emitter.segments(),
            resident=self.constants.resident,
            groups=self.placed.groups,
            stored=tuple(self.stored),
            channel_rows=self.channel_rows,
        )

    # --- one group -----------------------------------------------------------------------------------------------

    def group(self, placed: PlacedGroup) -> None:
        """Place the result, make room, and emit the passes."""
        self.emitter.serve(placed.group.result)
        result = self.residence.tensors[placed.group.result]
        reads = [self.residence.tensors[name] for name in placed.tensors]
        tiles = tiles_of(placed, self.selection.layouts, self.a, self.unclean, bias_alone=False)
        for tensor in reads:
            self.residence.fetch(tensor)
        moving = self._moving(placed)
        weight_rows = sum(len(t.rows) for block in tiles for t in block) or self.a + 1
        least = min(weight_rows, self.a + 1)
        if moving is not None:
            weight_rows, least = moving.rows, moving.least
        needs = self.residence.settle(placed, result, reads, weight_rows, least)
        if needs.streamed_terms:
            tiles = tiles_of(placed, self.selection.layouts, self.a, self.unclean, bias_alone=True)
        capacity = self._load_channel_words(placed)
        scratch = Scratch(*self.residence.local.largest_gap())
        rows = self._channel_rows(placed, scratch, needs)
        steps = PassSteps(
            placed, self.selection.layouts, tiles, needs, self.architecture, self.emitter, self.constants,
            self.matrix_rows, rows,
        )  # fmt: skip
        names = *placed.tensors, placed.group.result
        work = GroupPass(
            placed=placed,
            layouts=self.selection.layouts,
            architecture=self.architecture,
            emitter=self.emitter,
            capacity=capacity,
            tiles=tiles,
            views={name: self.residence.view(name) for name in names},
            local={name for name in names if self.residence.is_local(name)},
            scratch=scratch if rows is None else rows.beside(scratch, self.constants),
            steps=steps,
            constants=self.constants,
            spare=self.spare,
            moving=moving,
        )
        work.emit(needs)
        name = placed.group.result
        where = self.residence.view(name).base
        self.stored.append(Stored(name, self.residence.is_local(name), where, len(self.emitter)))
        for tensor in reads:
            tensor.readers -= 1
            if tensor.readers == 0:
                self.residence.release(tensor)

    def _channel_rows(self, placed: PlacedGroup, scratch: Scratch, needs: Needs) -> ChannelRows | None:
        if not self.by_matrix:
            return None
        before = self.constants.size
        rows = ChannelRows.of(placed, self.architecture, self.constants, scratch, needs)
        self.channel_rows += self.constants.size - before
        return rows

    def _moving(self, placed: PlacedGroup) -> MovingWeights | None:
        if not placed.weights_move:
            return None
        source = self.selection.layouts[placed.terms[0].tensor]
        return MovingWeights(placed, source, self.a, self.architecture.data_type.one)


def _unclean_tensors(placed: Placed) -> set[str]:
    """Tensors whose lanes without a channel may not hold 0: a clip moved them off it, or what they are made from."""
    found: set[str] = set()
    for group in placed.groups:
        if group.carried or group.weights_move:
            found.add(group.group.result)
        for step in group.steps:
            moved = (isinstance(step, Maximum) and step.word > 0) or (isinstance(step, Minimum) and step.word < 0)
            if moved or (isinstance(step, Accumulate) and step.word is None and step.tensor in found):
                found.add(group.group.result)
        if isinstance(group.group.head, MaxHead) and group.group.head.tensor in found:
            found.add(group.group.result)
    return found
